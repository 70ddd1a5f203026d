"""The command that chooses the next runs: next."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tyro import conf

from evaluation.files import InputError
from ladder.commands.options import (
    Flag,
    Maps,
    Names,
    parse_count,
    parse_run,
    parse_target,
    read_table,
)

if TYPE_CHECKING:
    import pandas as pd

    from predict.next_result import Candidate, NextRuns, Stage


def next_run(
    observations: conf.Positional[Path | None] = None,
    target: str | None = None,
    candidate: conf.UseAppendAction[Names] = (),
    config: str | None = None,
    budget: str | None = None,
    rungs: Names = (),
    recipe: str | None = None,
    map: Maps = (),
    tasks: Names = (),
    feature: str = "loss",
    seed: int = 0,
    json: Flag = False,
    out: Path | None = None,
) -> None:
    """The runs that most narrow a target's interval per FLOP.

    Example: ladder next obs.parquet --target 7B-4T:6.89e9:3.95T --budget 1e21 --config olmo2
    --rungs '190M-*' '370M-*'

    Args:
        observations: A table of observations, .parquet or .csv, of the rungs trained so far.
            Without one, priors choose.
        target: NAME:PARAMS:TOKENS, such as 7B-4T:6.89e9:3.95T.
        candidate: NAME:PARAMS:TOKENS of a run that could be trained, at 6ND FLOPs.
        config: A config whose rungs, those not in the table, are candidates too, at their planned
            FLOPs.
        budget: FLOPs to spend, such as 1e21.
        rungs: Patterns of runs that are fitted; by default those of role ladder.
        recipe: Only the runs of this recipe, or of those that match a pattern, of the table and of
            the config.
        map: OURS=THEIRS, such as params=n_params, where the table has names of its own.
        tasks: Patterns of tasks that count; by default all with an accuracy.
        feature: Column that links the two steps, above 0 and lower for a better model.
        seed: Of the plausible parameters that are drawn.
        json: Print one JSON document.
        out: Write a .json or .csv file.
    """
    from ladder import tables
    from predict.next_run import next_runs

    tables.check_out(out, observations)
    if target is None:
        raise InputError("--target: is missing; name the model to predict, NAME:PARAMS:TOKENS")
    flops = parse_count(budget, "--budget")
    if flops is None:
        raise InputError("--budget: is missing; give the FLOPs to spend, such as 1e21")
    table = None if observations is None else read_table(observations, recipe, rungs, map)
    trained = set() if table is None else _trained(table, rungs)
    planned = _planned(config, trained, recipe)
    if table is not None:
        # What --rungs takes for untrained is a candidate, and not known.
        table = table[~table["run"].isin([run.name for run in planned])]
    found = next_runs(
        table,
        parse_target(target),
        [*_named(candidate), *planned],
        flops,
        rungs,
        tasks,
        feature,
        seed=seed,
    )
    for line in found.notes:
        tables.note(f"note: {line}")
    document = found.document()
    rows = [{k: v for k, v in row.items() if k != "tasks"} for row in document["runs"]]
    tables.emit(document, rows, json, out)
    if not json:
        _show(found)


def _named(texts: Names) -> list[Candidate]:
    from predict.next_result import Candidate

    runs = [parse_run(text, "--candidate") for text in texts]
    return [Candidate(name, n, d, 6 * n * d) for name, n, d in runs]


def _trained(table: pd.DataFrame, rungs: Names) -> set[str]:
    """Runs that are no candidates any more: with patterns of rungs, those that match."""
    runs = table.loc[table["final"], "run"].unique()
    return {run for run in runs if not rungs or any(fnmatchcase(run, p) for p in rungs)}


def _planned(config: str | None, trained: set[str], recipe: str | None) -> list[Candidate]:
    """The rungs of a config, of one recipe, that are not trained."""
    from ladder.config import load_config
    from ladder.plan import make_plan
    from predict.next_result import Candidate

    if config is None:
        return []
    planned = make_plan(load_config(config, ()))
    if len(planned.recipes) > 1 and recipe is None:
        names = ", ".join(planned.recipes)
        raise InputError(f"--config {config}: has several recipes, {names}; choose with --recipe")
    rungs = planned.rungs
    if len(planned.recipes) > 1:
        rungs = tuple(r for r in rungs if fnmatchcase(r.recipe, recipe or ""))
    left = [Candidate(r.name, r.params, r.tokens, r.flops) for r in rungs if r.name not in trained]
    if not left:
        raise InputError(f"--config {config}: every rung is in the observations already")
    return left


def _show(found: NextRuns) -> None:
    from ladder import tables

    target = found.target
    rows = [("no further run", found.now), *((_name(s), s) for s in found.runs)]
    rows.append(("all candidates", found.everything))
    tables.show(
        f"what to expect of {target.name}'s prediction, mean over tasks; accuracy in points",
        ("run", "FLOPs", "together", "loss +-", "accuracy +-", "80% interval"),
        [(name, *_cells(stage)) for name, stage in rows],
    )
    if not found.runs:
        tables.say("no candidate within the budget narrows it")


def _name(stage: Stage) -> str:
    return "" if stage.run is None else stage.run.name


def _cells(stage: Stage) -> tuple[Any, ...]:
    from ladder import tables

    return (
        "" if stage.run is None else f"{stage.run.flops:.3g}",
        f"{stage.cumulative_flops:.3g}" if stage.cumulative_flops else "",
        f"{stage.loss_sd:.1%}",
        tables.points(stage.accuracy_sd),
        tables.points(stage.accuracy_width80),
    )
