"""How much a score moves without reason: between last checkpoints, and between reruns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evaluation.records import InputError
from predict.points import NEAR, RungPoint, points_by_task
from predict.shared import WEAK
from predict.two_stage import TwoStage, finished, partial

EARLY = 0.8
"""Share of a run's tokens before which its last checkpoints should not begin, if they are to show
its noise; the ten of the published ladder's costliest rung begin at 0.95."""

LEAST_CLIMB = 3.0
"""Range of the rungs' accuracies, in checkpoint SDs, below which a task is too noisy."""


@dataclass(frozen=True)
class TaskNoise:
    """One task's noise; SDs over the last checkpoints of one run, without smoothing (ddof 0).

    Signal to noise is (largest difference of two rungs / mean of the rungs) over (SD / mean of the
    checkpoints), as in arXiv 2508.13144.
    """

    task: str
    run: str
    checkpoints: int
    begins: float | None
    """The first of these checkpoints, as a share of the last one's tokens; None without any. Far
    from 1 the SD is of what the run still learns, too."""
    loss_sd: float | None
    """None for a run with a single checkpoint."""
    loss_relative_sd: float | None
    loss_signal_to_noise: float | None
    accuracy_sd: float | None
    accuracy_relative_sd: float | None
    accuracy_signal_to_noise: float | None
    rerun_loss: float | None
    """Mean relative difference of two runs of the same params and tokens; None without a pair."""
    rerun_accuracy: float | None
    """Mean difference, in accuracy."""
    rerun_pairs: int
    verdict: str
    """Empty, or why the task is too noisy to predict."""


def task_noise(
    model: TwoStage, observations: pd.DataFrame, run: str | None = None, last: int = 10
) -> list[TaskNoise]:
    """Noise of every task over the `last` checkpoints of `run`, by default the costliest rung.

    `model` says which rungs, tasks and feature, and need not be fitted; reruns among all runs but
    targets count. Raises InputError for a run that is not there, or `last` below 2.
    """
    if last < 2:
        raise InputError(f"--last {last}: a standard deviation needs at least 2 checkpoints")
    table = model.fitted_rows(observations)
    if run is None:
        run = str(table.loc[(table["params"] * table["tokens"]).idxmax(), "run"])
    chosen = observations[observations["run"] == run].sort_values("step", kind="stable")
    if not len(chosen):
        raise InputError(f"--run {run}: no such run in the observations")
    known = observations[(observations["role"] != "target") & finished(observations)]
    known = known[(known[model.feature] > 0) & (known["tokens"] > 0)]
    # Half a run is no rerun of one of half its length.
    known = known[~partial(known)]
    known = known.sort_values(["run", "step"], kind="stable")
    every = points_by_task(known, model.method, model.feature)
    result = []
    measured = dict(list(chosen[chosen[model.feature].notna()].groupby("task", sort=False)))
    nothing = chosen.iloc[:0]
    for task, points in points_by_task(table, model.method, model.feature).items():
        own = measured.get(task, nothing).tail(last)
        result.append(_noise(task, run, own, model.feature, points.rungs, every[task].rungs))
    return result


def _noise(
    task: str,
    run: str,
    own: pd.DataFrame,
    feature: str,
    rungs: Sequence[RungPoint],
    all_runs: Sequence[RungPoint],
) -> TaskNoise:
    losses, seen = (own[name].to_numpy(dtype=float) for name in (feature, "tokens"))
    scores = own["accuracy"].to_numpy(dtype=float) if "accuracy" in own else np.zeros(0)
    scores = scores[np.isfinite(scores)]
    loss_sd, accuracy_sd = _sd(losses), _sd(scores)
    accuracies = [r.accuracy for r in rungs if r.accuracy is not None]
    first, second = _reruns(all_runs)
    losses_of = np.array([r.loss for r in all_runs])
    one, two = losses_of[first], losses_of[second]
    scores_of = np.array([np.nan if r.accuracy is None else r.accuracy for r in all_runs])
    gaps = np.abs(scores_of[first] - scores_of[second])
    loss_snr = _signal_to_noise([r.loss for r in rungs], losses, loss_sd)
    accuracy_snr = _signal_to_noise(accuracies, scores, accuracy_sd)
    return TaskNoise(
        task=task,
        run=run,
        checkpoints=len(losses),
        begins=float(seen[0] / seen[-1]) if len(seen) and seen[-1] else None,
        loss_sd=loss_sd,
        loss_relative_sd=None if loss_sd is None else loss_sd / float(losses.mean()),
        loss_signal_to_noise=loss_snr,
        accuracy_sd=accuracy_sd,
        accuracy_relative_sd=(
            None if accuracy_sd is None or not scores.mean() else accuracy_sd / float(scores.mean())
        ),
        accuracy_signal_to_noise=accuracy_snr,
        rerun_loss=_mean((np.abs(one - two) / ((one + two) / 2)).tolist()),
        rerun_accuracy=_mean(gaps[np.isfinite(gaps)].tolist()),
        rerun_pairs=len(first),
        verdict=_verdict(loss_snr, accuracy_snr, accuracies, accuracy_sd),
    )


def _reruns(runs: Sequence[RungPoint]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Every pair of runs of the same params and tokens, as the places of both."""
    near = np.triu(np.ones((len(runs), len(runs)), dtype=bool), 1)
    for sizes in ([r.params for r in runs], [r.tokens for r in runs]):
        logs = np.log(sizes)
        near &= np.abs(logs[:, None] - logs) < NEAR
    first, second = np.nonzero(near)
    return first, second


def _verdict(
    loss: float | None, accuracy: float | None, accuracies: list[float], sd: float | None
) -> str:
    reasons = []
    if loss is not None and loss < WEAK:
        reasons.append(f"loss moves {loss:.1f} times its noise")
    if accuracy is not None and sd:
        climb = (max(accuracies) - min(accuracies)) / sd
        if climb < LEAST_CLIMB:
            reasons.append(f"accuracy moves {climb:.1f} times its noise")
    return "; ".join(reasons)


def _sd(values: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> float | None:
    return float(values.std()) if len(values) > 1 else None


def _signal_to_noise(
    models: list[float],
    checkpoints: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
    sd: float | None,
) -> float | None:
    if not sd or len(models) < 2 or not np.mean(models):
        return None
    signal = (max(models) - min(models)) / float(np.mean(models))
    return signal / (sd / float(checkpoints.mean()))


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None


def early_checkpoints(found: Sequence[TaskNoise]) -> str:
    """Why these SDs are of more than noise, without a full stop; empty where they are not."""
    begins = min((n.begins for n in found if n.begins is not None), default=1.0)
    if begins >= EARLY:
        return ""
    return (
        f"These checkpoints begin at {begins:.0%} of the run, so that the SDs hold what it "
        "still learned"
    )
