"""The command `ladder compare`: which of several recipes wins at the target, and how sure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tyro import conf

from evaluation.files import InputError
from ladder.commands.options import (
    NO_OPTIONS,
    Fitting,
    Flag,
    Names,
    Options,
    of_recipe,
    parse_targets,
    read_mapped,
)

if TYPE_CHECKING:
    import pandas as pd

    from predict.comparison import Comparison, Difference, PairRow, ParameterRow
    from predict.gain import Gain


MOST_PAIRS = 6
"""Pairs of recipes that are shown task by task."""

MOST_FOOTNOTES = 6
"""Pairs that a footnote tells of, a line each."""


def compare(
    observations: conf.Positional[tuple[Path, ...]],
    target: conf.UseAppendAction[Names] = (),
    by: str | None = None,
    against: str | None = None,
    fitting: Options = NO_OPTIONS,
    json: Flag = False,
    out: Path | None = None,
) -> None:
    """Which recipe wins at a target, by how much, how sure.

    Example: ladder compare adamw.parquet muon.parquet --target 7B-4T:6.89e9:3.95T

    Args:
        observations: Tables of observations, .parquet or .csv, one a recipe; or a single one with
            --by.
        target: NAME:PARAMS:TOKENS, such as 7B-4T:6.89e9:3.95T; by default
            the runs of role target.
        by: Column of a single table that names the recipe of every run, such as recipe.
        against: Tell of the pairs with this recipe only, as B.
        fitting: Method, rungs, tasks and feature; --recipe takes some of the recipes only.
        json: Print one JSON document.
        out: Write a .json file, or the pairs as .csv.
    """
    from ladder import tables
    from predict.compare import compare as compare_recipes
    from predict.compare import measured_targets

    for path in observations:
        tables.check_out(out, path)
    recipes = _recipes(observations, by, fitting)
    wanted = parse_targets(target) or measured_targets(recipes)
    found = compare_recipes(recipes, wanted, fitting.model, against)
    tables.emit(found.document(), [row.flat() for row in found.pairs], json, out)
    tell(found, not json)


def tell(found: Comparison, tables_too: bool = True) -> None:
    """Print a comparison's tables, and its warnings on standard error."""
    from ladder import tables

    for line in found.warnings:
        tables.note(f"warning: {line}")
    for task, why in found.left_out.items():
        tables.note(f"left out, {why}: {task}")
    if tables_too:
        _show(found)


def _recipes(paths: tuple[Path, ...], by: str | None, fitting: Fitting) -> dict[str, pd.DataFrame]:
    """The tables by recipe: those of several files by their names, or one's by a column."""
    if by is None:
        if len(paths) < 2:
            raise InputError(
                f"{' '.join(map(str, paths)) or 'no table'}: a comparison needs two tables or "
                "more, or one and --by COLUMN"
            )
        names = [path.stem for path in paths]
        if len(set(names)) < len(names):
            names = [str(path) for path in paths]
        if doubled := next((n for n in names if names.count(n) > 1), None):
            raise InputError(f"{doubled}: is given twice")
        return {name: fitting.read(path) for name, path in zip(names, paths, strict=True)}
    if len(paths) != 1:
        raise InputError(f"--by {by}: takes one table, not {len(paths)}")
    table = read_mapped(paths[0], fitting.map)
    if fitting.recipe is not None:
        table = of_recipe(table, fitting.recipe, paths[0])
    if by not in table.columns:
        raise InputError(
            f"--by {by}: {paths[0]} has no such column; it has {', '.join(table.columns)}"
        )
    if table[by].isna().any():
        row = int(table[by].isna().to_numpy().argmax()) + 1
        raise InputError(f"{paths[0]}, row {row}: column {by} is empty; name its recipe")
    return {str(name): part for name, part in table.groupby(by, sort=False)}


def _show(found: Comparison) -> None:
    from ladder import tables

    pairs, laws, more = _shown(found)

    tables.show(
        f"recipes at the target, method {found.method}; accuracy in points",
        (
            "task",
            "target",
            "recipe",
            "loss",
            "80%",
            "actual",
            "accuracy",
            "80%",
            "actual",
            "status",
        ),
        [
            (
                row.task,
                row.target,
                row.recipe,
                f"{row.loss:.4f}",
                tables.loss_span(row.loss_lower80, row.loss_upper80),
                "" if row.loss_actual is None else f"{row.loss_actual:.4f}",
                tables.points(row.accuracy),
                tables.span(row.lower80, row.upper80),
                tables.points(row.accuracy_actual),
                row.status,
            )
            for row in found.scores
        ],
        keys=3,
        breaks=("accuracy",),
    )
    tables.show(
        "which one wins: probability that a run of A beats one of B, differences A - B; accuracy "
        "in points",
        (
            "task",
            "target",
            "A",
            "B",
            "loss",
            "80%",
            "A wins",
            "compute gain",
            "80%",
            "accuracy",
            "80%",
            "A wins",
        ),
        [_pair(row) for row in pairs],
        keys=4,
        breaks=("compute gain", "accuracy"),
    )
    _say_poorly_determined(found.pairs)
    for row in pairs:
        if row.gain.why:
            tables.say(
                f"{row.task}, {row.target}: the loss of {row.first} is {row.gain.why} of "
                f"{row.second}'s compute"
                if "times" in row.gain.why
                else f"{row.task}, {row.target}: {row.second} does not reach the loss of "
                f"{row.first}, which is {row.gain.why}"
            )
    tables.show(
        "differences A - B of the fitted laws, N in 1e9 and D in 1e11",
        ("task", "A", "B", "log A", "alpha", "log B", "beta", "E"),
        _laws(laws),
        keys=3,
    )
    if more:
        tables.say(more)
    for decision in found.decisions:
        tables.say(
            f"{decision.measure}: the called winner won {decision.right} of {decision.cases} "
            f"measured cases ({decision.right / decision.cases:.0%}), {decision.expected:.1f} were "
            f"expected; Brier score {decision.brier:.3f}"
        )


def _shown(found: Comparison) -> tuple[Sequence[PairRow], Sequence[ParameterRow], str]:
    """The pairs and parameters that a terminal holds, and where the others are."""
    from predict.comparison import MEAN

    count = len({(row.first, row.second) for row in found.pairs})
    if count <= MOST_PAIRS or len({row.second for row in found.pairs}) == 1:
        return found.pairs, found.parameters, ""
    means = [row for row in found.pairs if row.task == MEAN]
    first = found.recipes[0]
    laws = [row for row in found.parameters if first in (row.first, row.second)]
    return (
        means or found.pairs,
        laws,
        f"{count} pairs: shown are their means over tasks, and the laws against {first}; all is in "
        "--json, and what one recipe is against the others in --against NAME",
    )


def _say_poorly_determined(pairs: Sequence[PairRow]) -> None:
    """A footnote to the pairs whose difference should not be believed, the worst first."""
    from ladder import tables

    poor = [(row.leaning.shift, row) for row in pairs if row.leaning and row.doubt]
    for _, row in sorted(poor, key=lambda own: -own[0])[:MOST_FOOTNOTES]:
        tables.say(f"! {row.task}, {row.target}, {row.doubt}")
    if len(poor) > MOST_FOOTNOTES:
        tables.say(f"! {len(poor)} in all, which --json names by poorly_determined")


def _pair(row: PairRow) -> tuple[str, ...]:
    loss, accuracy = row.loss, row.accuracy
    return (
        row.task,
        row.target,
        row.first,
        row.second,
        f"{loss.value:+.4f}",
        f"{loss.bounds.lower80:+.4f} to {loss.bounds.upper80:+.4f}",
        _chance(loss) + ("!" if row.is_poorly_determined else ""),
        _gain(row.gain),
        f"{_gain(row.gain_lower80)} to {_gain(row.gain_upper80)}",
        "" if accuracy is None else f"{100 * accuracy.value:+.1f}",
        ""
        if accuracy is None
        else f"{100 * accuracy.bounds.lower80:+.1f} to {100 * accuracy.bounds.upper80:+.1f}",
        "" if accuracy is None else _chance(accuracy),
    )


def _chance(difference: Difference) -> str:
    share = difference.probability
    return ">99.5%" if share > 0.995 else "<0.5%" if share < 0.005 else f"{share:.0%}"


def _gain(gain: Gain) -> str:
    if gain.factor is not None:
        return f"{gain.factor:.3g}x"
    return "unreachable" if gain.why.startswith("below") else gain.why


def _laws(found: Sequence[ParameterRow]) -> list[tuple[str, ...]]:
    rows: dict[tuple[str, str, str], list[str]] = {}
    for p in found:
        cell = f"{p.difference:+.3g} ({p.lower80:+.3g} to {p.upper80:+.3g})"
        rows.setdefault((p.task, p.first, p.second), []).append(cell)
    return [(*key, *cells) for key, cells in rows.items()]
