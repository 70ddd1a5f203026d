"""An experiment from start to end: train, gather, predict, audit, report; resumes where it was."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pandas as pd

from evaluation.files import InputError, write_json, write_text
from evaluation.records import write_observations
from ladder.config import Experiment
from ladder.corpora import open_corpus
from ladder.plan import Plan, Rung, make_plan
from ladder.report import write_report
from ladder.report_provenance import origin_of_runs
from ladder.result import Result
from ladder.runs import RunsFolder
from ladder.tracker import check_tracking
from ladder.truth import check_truth
from predict.audit import Audit, audit, targets_of
from predict.chains import least_rungs
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
    if len(plan.rungs) < needed:
        raise InputError(
            f"{config.name}: {len(plan.rungs)} rungs, and method {config.predict.method} needs "
            f"{needed}; add sizes or multiples"
        )


def analyse(
    model: TwoStage,
    observations: pd.DataFrame,
    targets: Sequence[Target] = (),
    entropy_rate: float | None = None,
) -> Result:
    """Fit, predict `targets` and every run of role target, and audit those that were measured."""
    model.fit(observations)
    measured = targets_of(observations) if (observations["role"] == "target").any() else []
    names = {target.name for target in measured}
    wanted = [*measured, *(target for target in targets if target.name not in names)]
    checked = audit(model, observations) if measured else None
    truth = None if entropy_rate is None else check_truth(model, checked, entropy_rate)
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
    observations = runs.gather(plan)
    write_observations(observations, runs.observations)
    result = analyse(
        TwoStage(config.predict.method),
        observations,
        plan.as_targets(),
        open_corpus(config.corpus, runs.corpus).entropy_rate,
    )
    rows = (result.audit or Audit(())).frame()
    write_text(runs.audit, rows.to_csv(index=False))
    folders = {r.name: runs.rung(r.name).path for r in plan.runs if runs.rung(r.name).finished}
    write_report(
        result,
        observations,
        f"task-ladder: {config.name}",
        runs.report,
        origin=origin_of_runs(config.name, runs.config, folders),
        figures=figures or runs.figures,
        full=full,
    )
    # Written last: it vouches for the other files, see RunsFolder.is_complete.
    document = predictions_document(result.model, result.predictions)
    write_json(runs.predictions, {**document, "made_from": runs.digests(plan)})
    return result


def train(
    config: Experiment,
    path: Path,
    rungs: Sequence[str] = (),
    workers: int | None = None,
    watch: Callable[[RunsFolder, Plan], None] | None = None,
    engine: Literal["local", "here"] = "local",
) -> Trained:
    """Train every run that has not finished, or those named: side by side, or in this process."""
    plan, runs = make_plan(config), RunsFolder(path)
    check(config, plan, workers)
    wanted = [plan.run(name) for name in rungs] if rungs else list(plan.runs)
    runs.prepare(config)
    pending = [rung for rung in wanted if not runs.rung(rung.name).finished]
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
