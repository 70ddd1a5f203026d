"""What follows from a ladder of each of several recipes: documents, audits and one report."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ladder.report_page import Head, write_page
from ladder.report_parts import Cell, Section, Table, number, plural, points, span
from ladder.result import Result
from ladder.tables import loss_span
from predict.audit import Audit
from predict.comparison import MEAN, Comparison, ScoreRow


@dataclass(frozen=True)
class RecipesResult:
    """Every recipe's own result, and the comparison of all."""

    results: dict[str, Result]
    comparison: Comparison | None
    """None where fewer than two recipes could be fitted."""
    left_out: dict[str, str]
    """Recipes that could not be fitted yet, and why."""

    def document(self) -> dict[str, Any]:
        """The JSON of `ladder predict`, its rows with the recipe that they are of."""
        left_out: dict[str, list[str]] = {}
        for name, result in self.results.items():
            for task, why in result.model.left_out_.items():
                left_out.setdefault(task, []).append(f"{name}: {why}")
        return {
            "version": 1,
            "method": next(iter(self.results.values())).model.method.name,
            "rows": [
                {"recipe": name, **asdict(row)}
                for name, result in self.results.items()
                for row in result.predictions
            ],
            "left_out": {task: "; ".join(why) for task, why in left_out.items()},
            "recipes_left_out": self.left_out,
            "warnings": [
                f"{name}: {line}"
                for name, result in self.results.items()
                for line in result.model.warnings()
            ],
        }

    def audit(self) -> pd.DataFrame:
        """All recipes' audits, the recipe in front."""
        frames = {n: (result.audit or Audit(())).frame() for n, result in self.results.items()}
        parts = [frame.assign(recipe=name) for name, frame in frames.items()]
        whole = pd.concat([p for p in parts if len(p)] or parts[:1], ignore_index=True)
        return whole[["recipe", *(c for c in whole.columns if c != "recipe")]]


def write_recipes_report(result: RecipesResult, title: str, path: Path) -> None:
    """Write the comparison as one HTML file that links to every recipe's own, atomically."""
    found = result.comparison
    links = tuple((name, f"recipes/{name}/report.html") for name in result.results)
    head = Head(
        title=title,
        method=f"Method {result.document()['method']}, a ladder of each recipe",
        lead=f"{plural(len(links), 'recipe')} compared."
        if found
        else "Fewer than two recipes could be fitted: there is nothing to compare yet.",
        misses=(
            *(f"{name}: left out, {why}" for name, why in result.left_out.items()),
            *(found.warnings if found else ()),
        ),
    )
    own = Section("Reports of the recipes", links=links)
    write_page(head, [own, *(_sections(found) if found else [])], path)


def _sections(found: Comparison) -> list[Section]:
    """A task at a target each, the mean over tasks first: scores and duels, best first."""
    keys = dict.fromkeys((row.target, row.task) for row in found.pairs)
    return [
        _section(found, target, task)
        for target, task in sorted(keys, key=lambda key: (key[0], key[1] != MEAN))
    ]


def _section(found: Comparison, target: str, task: str) -> Section:
    pairs = [row for row in found.pairs if (row.target, row.task) == (target, task)]
    won = dict.fromkeys(found.recipes, 0.0)
    cells: dict[tuple[str, str], str] = {}
    for row in pairs:
        chance = row.loss.probability
        won[row.first] += chance
        won[row.second] += 1 - chance
        gain = row.gain.factor
        cells[row.first, row.second] = f"{chance:.0%}" + ("" if gain is None else f", {gain:.3g}x")
        back = "" if gain is None else f", {1 / gain:.3g}x"
        cells[row.second, row.first] = f"{1 - chance:.0%}{back}"
    names = sorted(won, key=lambda name: -won[name])
    rows = {s.recipe: s for s in found.scores if (s.target, s.task) == (target, task)}
    scores = Table(
        ("recipe", "loss", "80%", "actual", "accuracy", "80%", "actual", "status"),
        tuple(_score(rows[name]) for name in names if name in rows),
    )
    duels = Table(
        ("", *names),
        tuple((one, *(cells.get((one, two), "") for two in names)) for one in names),
    )
    text = (
        "Below the scores: how often a run of the row's recipe has a lower loss than one of the "
        "column's, and the compute that the column's recipe needs to reach the row's loss.",
        *(row.doubt for row in pairs if row.doubt),
    )
    return Section(f"{target}, {task}", text, tables=(scores, duels) if scores.rows else (duels,))


def _score(row: ScoreRow) -> tuple[Cell | str, ...]:
    return (
        row.recipe,
        number(row.loss, ".4f"),
        loss_span(row.loss_lower80, row.loss_upper80),
        number(row.loss_actual, ".4f"),
        points(row.accuracy),
        span(row.lower80, row.upper80),
        points(row.accuracy_actual),
        row.status,
    )
