"""An experiment from start to end: train, gather, predict, audit, report; resumes where it was."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import pandas as pd

from evaluation.files import InputError, write_json, write_text
from evaluation.records import write_observations
from ladder.config import Experiment
from ladder.corpora import open_corpus
from ladder.grid_exponents import grid_exponents, is_grid, known_of
from ladder.plan import Plan, Rung, make_plan
from ladder.progress import is_first_rank
from ladder.recipes_result import RecipesResult, write_recipes_report
from ladder.report import write_report
from ladder.report_provenance import Origin, origin_of_runs
from ladder.result import Result
from ladder.runs import RunsFolder
from ladder.tracker import check_tracking
from ladder.truth import check_truth
from predict.audit import Audit, audit, targets_of
from predict.chains import least_rungs
from predict.compare import compare, measured_targets
from predict.comparison import Comparison
from predict.methods import get_method
from predict.task_fit import Target
from predict.two_stage import TwoStage, predictions_document


@dataclass(frozen=True)
class Trained:
    """A runs folder and what was left to train in it."""

    runs: RunsFolder
    rungs: tuple[Rung, ...]


def check(config: Experiment, plan: Plan, workers: int | None = None) -> None:
    """Raise InputError, before anything is written, for what would fail later on."""
    check_tracking(config)
    if workers is not None and workers < 1:
        raise InputError(f"--workers {workers}: must be at least 1")
    needed = least_rungs(get_method(config.predict.method).chains[0])
    # Another seed of a rung is no other place; recipes have the same ones.
    places = len({rung.place for rung in plan.rungs})
    if places < needed:
        raise InputError(
            f"{config.name}: {places} rungs, and method {config.predict.method} needs "
            f"{needed}; add sizes or multiples"
        )


def analyse(
    model: TwoStage,
    observations: pd.DataFrame,
    targets: Sequence[Target] = (),
    known: tuple[str, float | None] = ("", None),
) -> Result:
    """Fit, predict `targets` and every run of role target, and audit those that were measured.

    `known` names the held-out loss, and the loss that no model can fall below, where it is known.
    """
    model.fit(observations)
    measured = targets_of(observations) if (observations["role"] == "target").any() else []
    names = {target.name for target in measured}
    wanted = [*measured, *(target for target in targets if target.name not in names)]
    checked = audit(model, observations) if measured else None
    task, floor = known
    truth = None if floor is None else check_truth(model, checked, task, floor)
    return Result(model, tuple(model.predict_targets(wanted)), tuple(wanted), checked, truth)


def analyse_runs(
    config: Experiment,
    plan: Plan,
    runs: RunsFolder,
    figures: Path | None = None,
    full: bool = False,
) -> Result:
    """Write what follows from the runs that have finished; returns it.

    `figures` and `full` are the report's, see ladder.report.
    """
    with runs.tables():
        return _analyse_runs(config, plan, runs, figures, full)


def _analyse_runs(
    config: Experiment, plan: Plan, runs: RunsFolder, figures: Path | None, full: bool
) -> Result:
    # Before they are read: a run that ends meanwhile is in none of what follows.
    scores = runs.score_digests(plan)
    observations = runs.gather(plan)
    write_observations(observations, runs.observations)
    model, known = TwoStage(config.predict.method), _known(config, runs)
    result = analyse(model, observations, plan.as_targets(), known)
    result = _with_exponents(result, config, plan, runs, observations)
    origin = _origin(config, plan, runs)
    _write(result, observations, origin, runs, figures or runs.figures, full)
    # Written last: it vouches for the other files, see RunsFolder.is_complete.
    document = predictions_document(result.model, result.predictions)
    made_from = scores | runs.made_digests(plan)
    write_json(runs.predictions, {**document, "made_from": made_from}, sealed=True)
    return result


def analyse_recipes(
    config: Experiment,
    plan: Plan,
    runs: RunsFolder,
    figures: Path | None = None,
    full: bool = False,
) -> RecipesResult:
    """Write what follows from the runs of several recipes that have finished; returns it.

    A ladder of each recipe is fitted by itself, then all are compared. `figures`, with a folder
    for each recipe in it, and `full` are the reports'. InputError where no recipe can be fitted.
    """
    with runs.tables():
        return _analyse_recipes(config, plan, runs, figures, full)


def _analyse_recipes(
    config: Experiment, plan: Plan, runs: RunsFolder, figures: Path | None, full: bool
) -> RecipesResult:
    # Before they are read: a run that ends meanwhile is in none of what follows.
    scores = runs.score_digests(plan)
    observations = runs.gather(plan)
    write_observations(observations, runs.observations)
    known = _known(config, runs)
    tables = {str(name): own for name, own in observations.groupby("recipe", sort=False)}
    results: dict[str, Result] = {}
    left_out = {name: "no run has finished" for name in plan.recipes if name not in tables}
    for name, table in tables.items():
        model = TwoStage(config.predict.method)
        try:
            result = analyse(model, table, plan.of_recipe(name).as_targets(), known)
        except InputError as error:
            left_out[name] = str(error)
            continue
        results[name], own = result, runs.recipe(name)
        own.path.mkdir(parents=True, exist_ok=True)
        origin = _origin(config, plan.of_recipe(name), runs, name)
        _write(result, table, origin, own, own.figures if figures is None else figures / name, full)
        write_json(own.predictions, predictions_document(model, result.predictions))
    if not results:
        raise InputError("; ".join(f"{name}: {why}" for name, why in left_out.items()))
    comparison = None
    if len(results) > 1:
        comparison = _compare(config, plan, {name: tables[name] for name in results})
        write_json(runs.comparison, comparison.document())
    found = RecipesResult(results, comparison, left_out)
    write_text(runs.audit, found.audit().to_csv(index=False))
    write_recipes_report(found, f"task-ladder: {config.name}", runs.report)
    made_from = scores | runs.made_digests(plan)
    write_json(runs.predictions, {**found.document(), "made_from": made_from}, sealed=True)
    return found


def _known(config: Experiment, runs: RunsFolder) -> tuple[str, float | None]:
    """The held-out loss by name, and the one that no model can fall below, where it is known."""
    corpus = open_corpus(config.corpus, runs.corpus)
    return corpus.validation, corpus.floor(config.model.sequence_length)


def _with_exponents(
    result: Result, config: Experiment, plan: Plan, runs: RunsFolder, observations: pd.DataFrame
) -> Result:
    """With the exponents of a ladder that is a grid, which are written too."""
    if not is_grid(plan.rungs):
        return result
    corpus = open_corpus(config.corpus, runs.corpus)
    known = known_of(corpus, config.model.sequence_length)
    found = grid_exponents(observations, corpus.validation, config.name, runs.path, known)
    if found.found is None:
        # What an earlier state of the runs said would be read as theirs.
        runs.exponents.unlink(missing_ok=True)
    else:
        write_json(runs.exponents, found.document())
    return replace(result, exponents=found)


def _origin(config: Experiment, plan: Plan, runs: RunsFolder, recipe: str = "") -> Origin:
    folders = {r.name: runs.rung(r.name).path for r in plan.runs if runs.rung(r.name).finished}
    name = f"{config.name}, {recipe}" if recipe else config.name
    return origin_of_runs(name, runs.config, folders)


def _write(
    result: Result,
    observations: pd.DataFrame,
    origin: Origin,
    runs: RunsFolder,
    figures: Path,
    full: bool,
) -> None:
    rows = (result.audit or Audit(())).frame()
    write_text(runs.audit, rows.to_csv(index=False))
    title = f"task-ladder: {origin.name}"
    write_report(
        result, observations, title, runs.report, origin=origin, figures=figures, full=full
    )


def _compare(config: Experiment, plan: Plan, tables: dict[str, pd.DataFrame]) -> Comparison:
    """At the targets that were measured, as `ladder compare --by recipe`, then at the others."""
    measured = any((own["role"] == "target").any() for own in tables.values())
    targets = measured_targets(tables) if measured else []
    known = {target.name for target in targets}
    for planned in plan.targets:
        if planned.place not in known:
            known.add(planned.place)
            targets.append(Target(planned.place, planned.params, planned.tokens))
    return compare(tables, targets, lambda: TwoStage(config.predict.method))


def train(
    config: Experiment,
    path: Path,
    rungs: Sequence[str] = (),
    workers: int | None = None,
    watch: Callable[[RunsFolder, Plan], None] | None = None,
    engine: Literal["local", "here"] = "local",
) -> Trained:
    """Train every run that has not finished, or those that match a pattern.

    Side by side, or one after another in this process.
    """
    if engine == "local" and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise InputError(
            "torchrun: its ranks train a rung together by `ladder train CONFIG --engine here`; "
            "without that leave torchrun out"
        )
    plan, runs = make_plan(config), RunsFolder(path)
    check(config, plan, workers)
    wanted = plan.matching(rungs) if rungs else list(plan.runs)
    runs.prepare(config)
    # Slurm's jobs, each for a rung, share the folder; a rung has a lock of its own too.
    with runs.lock(shared=bool(rungs)) if is_first_rank() else nullcontext():
        runs.check_config(config)
        return _train(config, plan, runs, wanted, workers, watch, engine)


def _train(
    config: Experiment,
    plan: Plan,
    runs: RunsFolder,
    wanted: Sequence[Rung],
    workers: int | None,
    watch: Callable[[RunsFolder, Plan], None] | None,
    engine: Literal["local", "here"],
) -> Trained:
    pending = [rung for rung in wanted if not runs.rung(rung.name).complete]
    # A rung that was named needs its trunk too, where that has not come so far.
    trunks = [rung.trunk for rung in pending if rung.trunk and not runs.has_trunk(rung)]
    pending = list(dict.fromkeys([*trunks, *pending]))
    if pending:
        from ladder.cluster import train_here, train_local

        # Other processes train the others, and tell of them.
        told = Plan(tuple(pending), ()) if engine == "here" else plan

        def tell() -> None:
            if watch:
                watch(runs, told)

        # Once, with its progress shown, rather than in every worker.
        open_corpus(config.corpus, runs.corpus).prepare()
        if engine == "here":
            train_here(config, pending, runs, tell)
        else:
            train_local(config, pending, runs, tell, workers)
    return Trained(runs, tuple(pending))
