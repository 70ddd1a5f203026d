"""An experiment from start to end: train, gather, predict, audit, report; resumes where it was."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from evaluation.files import atomic_write, write_json
from evaluation.records import write_observations
from ladder.config import Experiment
from ladder.corpora.walks import Walks
from ladder.plan import Plan, Rung, make_plan
from ladder.report import Result, write_report
from ladder.runs import RunsFolder
from ladder.truth import check_truth
from predict.audit import audit, targets_of
from predict.two_stage import Target, TwoStage


def predictions_document(model: TwoStage, predictions: Sequence[Any]) -> dict[str, Any]:
    """The JSON that `ladder predict` promises."""
    return {
        "version": 1,
        "method": model.method.name,
        "rows": [asdict(p) for p in predictions],
        "left_out": model.left_out_,
        "warnings": model.warnings(),
    }


def analyse(
    model: TwoStage,
    observations: pd.DataFrame,
    targets: Sequence[Target] = (),
    entropy_rate: float | None = None,
) -> Result:
    """Fit, predict and, where the targets were measured, audit."""
    model.fit(observations)
    measured = bool((observations["role"] == "target").any())
    wanted = list(targets) or (targets_of(observations) if measured else [])
    checked = audit(model, observations) if measured and not targets else None
    truth = None if entropy_rate is None else check_truth(model, checked, entropy_rate)
    return Result(model, tuple(model.predict_targets(wanted)), checked, truth)


def analyse_runs(config: Experiment, plan: Plan, runs: RunsFolder) -> Result:
    """Write what follows from the runs that have finished; returns it."""
    observations = runs.gather(plan)
    write_observations(observations, runs.observations)
    measured = set(observations["run"])
    # Targets that are not trained are predicted all the same.
    unmeasured = [t for t in plan.as_targets() if t.name not in measured]
    result = analyse(
        TwoStage(config.predict.method),
        observations,
        unmeasured if len(unmeasured) == len(plan.targets) else (),
        Walks(config.corpus).entropy_rate,
    )
    write_json(runs.predictions, predictions_document(result.model, result.predictions))
    rows = result.audit.frame() if result.audit else pd.DataFrame()
    atomic_write(runs.audit, lambda temporary: rows.to_csv(temporary, index=False))
    write_report(result, observations, f"task-ladder: {config.name}", runs.report)
    return result


def train(
    config: Experiment,
    path: Path,
    rungs: Sequence[str] = (),
    workers: int | None = None,
    watch: Callable[[RunsFolder, Plan], None] | None = None,
) -> tuple[RunsFolder, list[Rung]]:
    """Train every run that has not finished, or those named; returns what was left to train."""
    plan, runs = make_plan(config), RunsFolder(path)
    wanted = [plan.run(name) for name in rungs] if rungs else list(plan.runs)
    runs.prepare(config)
    pending = [rung for rung in wanted if not runs.rung(rung.name).finished]
    if pending:
        from ladder.cluster import train_local

        train_local(config, pending, runs, lambda: watch(runs, plan) if watch else None, workers)
    return runs, pending
