"""The page that compares recipes: links to each, scores and duels, what was left out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import synthetic

from evaluation.records import validate
from ladder.commands.comparing import tell
from ladder.pipeline import analyse
from ladder.recipes_result import RecipesResult, write_recipes_report
from predict import TwoStage
from predict.compare import compare, measured_targets
from predict.comparison import Leaning

NAMES = ("adamw", "<b>muon")


@pytest.fixture(scope="module")
def found() -> RecipesResult:
    tables = {}
    for index, name in enumerate(NAMES):
        rng = np.random.default_rng(index)
        table = validate(synthetic().assign(recipe=name))
        table["loss"] *= (1 - 0.02 * index) * np.exp(0.003 * rng.standard_normal(len(table)))
        tables[name] = table
    results = {name: analyse(TwoStage("published"), table) for name, table in tables.items()}
    targets = measured_targets(tables)
    comparison = compare(tables, targets, lambda: TwoStage("published"))
    return RecipesResult(results, comparison, {"slow": "no run has finished"})


def test_it_links_to_every_recipe_and_says_who_wins_and_who_was_left_out(
    found: RecipesResult, tmp_path: Path
) -> None:
    write_recipes_report(found, "title", tmp_path / "x.html")
    html = (tmp_path / "x.html").read_text()
    assert 'href="recipes/adamw/report.html"' in html
    assert 'href="recipes/%3Cb%3Emuon/report.html"' in html
    assert "<b>muon" not in html
    assert "slow: left out, no run has finished" in html
    assert "2 recipes compared." in html
    assert html.count("<table>") + html.count('<table class="prose">') == 2
    # The better recipe is in the first row and column.
    body = html[html.index("<main>") :]
    assert body.index("&lt;b&gt;muon</td>") < body.index("adamw</td>")


def test_a_difference_that_rests_on_one_rung_has_a_footnote(
    found: RecipesResult, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert found.comparison is not None
    (row, *_) = found.comparison.pairs
    assert not row.doubt
    poor = replace(row, leaning=Leaning(2824.0, 56640.0, -0.0031, 2.4))
    tell(replace(found.comparison, pairs=(poor,)))
    said = " ".join(capsys.readouterr().out.split())
    assert f"! {row.task}, {row.target}, adamw - <b>muon: poorly determined, do not" in said
    assert f"{row.loss.value:+.4f} rests on the rung of 2,824 params and 56,640 tokens" in said
    assert "without that it is -0.0031, 2.4 standard deviations away" in said
    tell(replace(found.comparison, pairs=(poor,) * 9))
    said = capsys.readouterr().out
    assert said.count("poorly determined, do not") == 6
    assert "! 9 in all, which --json names" in said
    write_recipes_report(
        replace(found, comparison=replace(found.comparison, pairs=(poor,))),
        "x",
        tmp_path / "x.html",
    )
    assert "rests on the rung of 2,824 params" in (tmp_path / "x.html").read_text()


def test_a_single_recipe_has_nothing_to_be_compared_with(
    found: RecipesResult, tmp_path: Path
) -> None:
    one = {NAMES[0]: found.results[NAMES[0]]}
    write_recipes_report(RecipesResult(one, None, {}), "title", tmp_path / "x.html")
    html = (tmp_path / "x.html").read_text()
    assert "there is nothing to compare yet" in html
    assert "<table" not in html
