"""`ladder exponents`: its JSON, its tables within 80 columns, one clear line for a mistake."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from command_line import fails

from evaluation.records import write_observations
from ladder.cli import main

ENTROPY = 1.7
FAST = ("--replicates", "20", "--slices-only")


def observations(seeds: int = 1, tasks: tuple[str, ...] = ("walks",)) -> pd.DataFrame:
    rng, rows = np.random.default_rng(0), []
    for params in np.geomspace(1e4, 1e6, 5):
        for tokens in np.geomspace(1e6, 1e8, 5):
            for seed in range(seeds):
                for task in tasks:
                    loss = ENTROPY + 0.3 * (params / 1e5) ** -1.028 + 0.3 * (tokens / 1e7) ** -0.749
                    rows.append(
                        {
                            "run": f"{params:.0f}-{tokens:.0f}-{seed}",
                            "role": "ladder",
                            "params": params,
                            "tokens": tokens,
                            "step": 10,
                            "final": True,
                            "task": task,
                            "loss": loss * np.exp(0.001 * rng.standard_normal()),
                            "loss_unit": "nats/token",
                        }
                    )
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("grid") / "obs.csv"
    write_observations(observations(), path)
    return path


def test_runs_of_two_recipes_are_no_seeds_of_one_another(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, one = tmp_path / "two.csv", observations()
    other = one.assign(run="muon-" + one["run"], loss=one["loss"] - 0.2, recipe="muon")
    write_observations(pd.concat([one.assign(recipe="adamw"), other]), path)
    said = fails(capsys, "exponents", path)
    assert "its rungs are of 2 recipes, adamw, muon; choose one with --recipe" in said
    arguments = ("--recipe", "muon", "--slices-only", "--replicates", "0", "--json")
    assert main(["exponents", str(path), *arguments]) == 0
    assert json.loads(capsys.readouterr().out)["points"] == 25


def test_the_json_has_the_promised_shape(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--replicates", "20", "--entropy", str(ENTROPY), "--json"]
    assert main(["exponents", str(table), *arguments]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["version"], found["task"], found["points"]) == (1, "walks", 25)
    size, data = found["means"]
    assert size["name"] == "alpha_D"
    assert size["mean"] == pytest.approx(1.028, abs=0.05)
    assert data["mean"] == pytest.approx(0.749, abs=0.05)
    first = found["slices"][0]
    assert set(first["fit"]["forms"]) == {"power", "exponential", "no_floor"}
    assert first["fit"]["lead"]["mse_ratio"] > 1
    methods = {m["name"]: m for m in found["two_variable"]["methods"]}
    assert list(methods) == ["parametric", "neural", "kernel", "envelope", "isoflop"]
    true = 0.749 / (1.028 + 0.749)
    for name in ("parametric", "neural", "kernel"):
        assert methods[name]["exponent"]["value"] == pytest.approx(true, abs=0.05)
        assert methods[name]["held_out_run"] > 0
        assert methods[name]["held_out_largest"] > 0
    assert found["entropy"]["holds"] is True
    assert found["entropy"]["points_below"] == 0


def test_the_tables_fit_80_columns(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["exponents", str(table), *FAST]) == 0
    said = capsys.readouterr().out
    lines = said.splitlines()
    assert max(map(len, lines)) <= 80
    assert any(line.startswith("L(N) D=1M") for line in lines)
    assert any(line.startswith("L(D) N=1M") for line in lines)
    assert "alpha_D: power 5 of 5 slices" in said


def test_an_entropy_above_the_floor_is_told(
    table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["exponents", str(table), *FAST, "--entropy", "1.9"]) == 0
    said = capsys.readouterr().out
    assert "points lie below the entropy" in said
    assert "slices lie below the entropy (95%)" in said
    assert "no two-variable law was fitted" in said


def test_a_csv_holds_one_line_a_slice_and_a_method(table: Path, tmp_path: Path) -> None:
    out = tmp_path / "rows.csv"
    assert main(["exponents", str(table), *FAST, "--out", str(out)]) == 0
    rows = pd.read_csv(out)
    assert list(rows["kind"]) == ["alpha_D"] * 5 + ["beta_N"] * 5
    assert {"exponent_lower95", "floor", "mse_ratio", "verdict", "aicc_power"} <= set(rows.columns)


def test_the_best_of_seeds_is_lower_than_their_mean(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "obs.csv"
    write_observations(observations(seeds=2), path)
    losses = {}
    for seeds in ("mean", "best"):
        assert main(["exponents", str(path), *FAST, "--seeds", seeds, "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["points"] == 25
        losses[seeds] = np.sum([s["losses"] for s in found["slices"]])
    assert losses["best"] < losses["mean"]


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("--replicates", "-1"), "must be 0 or more"),
        (("--holdout", "-1"), "must be 0 or more"),
        (("--tolerance", "0.5"), "must be a ratio above 1"),
        (("--entropy", "-2"), "must be above 0"),
        (("--entropy", "99"), "below the greatest loss"),
        (("--seeds", "worst"), "see `ladder exponents --help`"),
        (("--task", "c4"), "matches no task"),
        (("--out", "x.txt"), "must end in .json or .csv"),
    ],
)
def test_a_mistake_is_one_line(
    table: Path, arguments: tuple[str, ...], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert why in fails(capsys, "exponents", table, *arguments)


def test_runs_that_make_no_slice_and_no_surface_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "obs.csv"
    write_observations(observations().iloc[::6], path)
    said = fails(capsys, "exponents", path)
    assert "no 4 sizes share a token count" in said
    assert "lie on one line" in said
