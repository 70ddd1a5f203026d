"""The coordinate check: known slopes, a broken rule seen, and the command."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from command_line import fails

from evaluation.files import InputError
from ladder import mup
from ladder.cli import main
from ladder.config import load_config
from ladder.coordinates import CoordinateCheck, check_coordinates, scaled, slope
from ladder.corpora import open_corpus
from ladder.shapes import Shape, StateSpace

WIDTHS = (16, 32, 64, 128)
BASE = "{base: {layers: 2, width: 16, heads: 1, hidden: 40}}"
SETS = (
    "targets=[]",
    f"model.sizes={BASE}",
    "ladder.sizes=[base]",
    "model.init_std=0.25",
    "recipe.learning_rate_base=0.04",
)
CHANGED = ("attention", "feed-forward", "residual", "final norm", "logits")


def checked(*more: str) -> CoordinateCheck:
    config = load_config("quickstart", (*SETS, *more))
    shapes = {f"{w}": scaled(config.model.shape("base"), w) for w in WIDTHS}
    corpus = open_corpus(config.corpus, Path("unused"))
    return check_coordinates(config, shapes, corpus, steps=8, seeds=2, sequences=8)


@pytest.mark.parametrize("init", ["fan_in", "normal"])
@pytest.mark.parametrize(
    "optimizer",
    ["{optimizer: adamw", "{optimizer: muon", "{optimizer: muon, muon: {adjust_lr_fn: original}"],
)
def test_under_mup_nothing_grows_with_width(optimizer: str, init: str) -> None:
    found = checked(
        f"model.init={init}",
        f"recipe={optimizer}, parametrisation: mup, learning_rate_base: 0.04}}",
    )
    for row in found.rows:
        # Those of the initial head fall, and with them what they do to changes.
        low = -0.6 if row.module == "logits" else -0.25
        assert low < row.slope < 0.25, (row.module, row.quantity)
    assert found.slope("logits", "initial") == pytest.approx(-0.5, abs=0.1)


def test_under_mup_a_state_space_moves_as_much_at_every_width() -> None:
    base = "{base: {layers: 1, width: 16, ssm: {head_width: 8, state: 16}}}"
    sets = ("model.architecture=mamba2", f"model.sizes={base}", "recipe.parametrisation=mup")
    found = checked(*sets)
    assert found.slope("mixer", "change") == pytest.approx(0, abs=0.25)
    assert found.slope("logits", "initial") == pytest.approx(-0.5, abs=0.1)


def test_under_standard_parametrisation_changes_grow_with_width() -> None:
    found = checked()
    # The rate falls as the square root of the width, which is half of what muP takes off.
    assert found.learning_rates[-1] == pytest.approx(found.learning_rates[0] / 8**0.5)
    assert found.slope("embedding", "change") == pytest.approx(-0.5, abs=0.1)
    assert found.slope("logits", "initial") == pytest.approx(0, abs=0.1)
    assert min(found.slope(kind, "change") for kind in ("attention", "logits")) > 0.3


@pytest.mark.parametrize(
    ("rule", "quantity", "optimizer"),
    [
        ("adamw_learning_rate", "change", "adamw"),
        ("muon_learning_rate", "change", "muon"),
        ("initial_std", "initial", "adamw"),
    ],
)
def test_a_broken_rule_is_seen(
    rule: str, quantity: str, optimizer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mup, rule, lambda *given: 1.0)
    found = checked("recipe.parametrisation=mup", f"recipe.optimizer={optimizer}")
    assert found.slope("attention", quantity) > 0.3


def test_the_slope_is_the_exponent_of_a_power_law() -> None:
    assert slope(WIDTHS, [3 * w**-0.7 for w in WIDTHS]) == pytest.approx(-0.7)


def test_a_wider_shape_grows_in_all_but_its_heads_width() -> None:
    base = Shape(layers=3, width=16, heads=4, kv_heads=2, hidden=40)
    assert scaled(base, 48) == Shape(layers=3, width=48, heads=12, kv_heads=6, hidden=120)
    mixer = Shape(layers=1, width=16, ssm=StateSpace(heads=4))
    assert scaled(mixer, 64).mixer == replace(mixer.mixer, heads=16)
    with pytest.raises(InputError, match=r"--widths 20: kv_heads 2 of width 16 would be 2\.5"):
        scaled(base, 20)


def command(*more: str) -> list[str]:
    sets = [word for each in SETS for word in ("--set", each)]
    fast = ["--steps", "2", "--seeds", "1", "--sequences", "2"]
    return ["coordinates", "quickstart", *sets, *fast, *more]


def test_the_command_prints_one_document_and_writes_a_figure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figure, table = tmp_path / "c.svg", tmp_path / "c.csv"
    assert main([*command("--widths", "32", "16"), "--json", "--out", str(figure)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["version"] == 1
    assert found["widths"] == [16, 32]
    assert {row["module"] for row in found["rows"]} == {*CHANGED, "embedding"}
    assert "slope" in figure.read_text()
    assert main([*command("--widths", "16", "32"), "--out", str(table)]) == 0
    assert len(pd.read_csv(table)) == 2 * len(found["rows"])
    printed = capsys.readouterr().out
    assert "adamw, standard: output at the first step" in printed


def test_one_of_several_recipes_is_checked(capsys: pytest.CaptureFixture[str]) -> None:
    fast = ["--steps", "1", "--seeds", "1", "--sequences", "2", "--widths", "16", "32", "--json"]
    assert main(["coordinates", "recipes", "--recipe", "muon-lrm-mup", *fast]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["optimizer"], found["parametrisation"]) == ("muon", "mup")


def test_mistakes_are_told_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert "needs two widths" in fails(capsys, *command("--widths", "16"))
    assert "--widths 24: heads 1 of width 16" in fails(capsys, *command("--widths", "16", "24"))
    assert "no such size" in fails(capsys, *command("--sizes", "huge"))
    assert "give one of them" in fails(capsys, *command("--sizes", "base", "--widths", "16"))
    assert "--steps 0" in fails(capsys, *command("--steps", "0"))
    assert "the config has one only" in fails(capsys, *command("--recipe", "x"))
    assert "--recipe: is missing" in fails(capsys, "coordinates", "recipes")
    assert "no such recipe" in fails(capsys, "coordinates", "recipes", "--recipe", "x")
    assert "must end in" in fails(capsys, *command("--out", "x.png"))
    rate = command("--set", "recipe.learning_rate_base=1e9", "--widths", "16", "32")
    assert "width 16, step 2: loss is" in fails(capsys, *rate)
