"""Two recipes' rows of a comparison, from the posterior gap of each task."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from predict.comparison import MEAN, Difference, Leaning, PairRow, ParameterRow
from predict.gain import Curve, compute_gain
from predict.gaps import PARAMETERS, TaskGap, scaled
from predict.intervals import LEVEL80, Interval, interval
from predict.laws import Array
from predict.paired import Gap, Runs, chance_below, quantile
from predict.task_fit import Target
from predict.two_stage import TwoStage

LIKENESS = 0.5
"""Correlation of two tasks' gaps that is thought likely before the rungs are seen."""

LIKENESS_RUNGS = 4
"""How many rungs that thought counts as."""

SHARES = (0.1, 0.9, 0.025, 0.975)
"""Where the 80% and the 95% interval end."""

Actual = Mapping[str, Mapping[str, tuple[float, float | None]]]
"""What a target scored, loss and accuracy, by recipe and task."""


def pair_rows(
    models: Mapping[str, TwoStage],
    pair: tuple[str, str],
    gaps: Mapping[str, TaskGap],
    target: Target,
    actual: Actual,
) -> list[PairRow]:
    """Two recipes on every task and on the mean over tasks, from the gaps between them."""
    rows, curves = [], {}
    for task, gap in gaps.items():
        fitted = [scaled(models[name].fits_[task].step1) for name in pair]
        # The second recipe's law: the mean of both fits, and half their difference from it.
        theta = np.mean(fitted, axis=0) - gap.parameters.mean / 2
        theta[4] = max(theta[4], 0.0)
        measured = _measured(actual, pair, task)
        loss = _loss_difference(gap, measured[0])
        accuracy = _accuracy_difference(gap.accuracy, measured[1])
        level = math.exp(gap.log_loss - float(gap.loss_only.mean[0]) / 2)
        curves[task] = Curve(theta, level)
        quiet = [
            _of_log(quantile(gap.loss_only, 0, share, noise=False), gap.log_loss)
            for share in (0.9, 0.1)
        ]
        row = _row(pair, task, target, loss, accuracy, [curves[task]], quiet)
        without = _of_log(gap.lean.without, gap.log_loss)
        lean = Leaning(gap.lean.params, gap.lean.tokens, without, gap.lean.shift)
        rows.append(replace(row, leaning=lean))
    if len(gaps) > 1:
        rows.append(_mean_row(models, pair, gaps, target, rows, curves))
    return rows


def _row(
    pair: tuple[str, str],
    task: str,
    target: Target,
    loss: Difference,
    accuracy: Difference | None,
    curves: Sequence[Curve],
    limits: Sequence[float],
) -> PairRow:
    """`limits` are the least and the greatest gain, as differences of losses without noise."""
    gain, low, high = (compute_gain(curves, target, v) for v in (loss.value, *limits))
    return PairRow(
        first=pair[0],
        second=pair[1],
        task=task,
        target=target.name,
        params=target.params,
        tokens=target.tokens,
        loss=loss,
        accuracy=accuracy,
        gain=gain,
        gain_lower80=low,
        gain_upper80=high,
    )


def _measured(
    actual: Actual, pair: tuple[str, str], task: str
) -> tuple[float | None, float | None]:
    one, two = (actual[name].get(task) for name in pair)
    if one is None or two is None:
        return None, None
    scored = one[1] is not None and two[1] is not None
    return one[0] - two[0], (one[1] or 0.0) - (two[1] or 0.0) if scored else None


def _of_log(gap: float, level: float) -> float:
    """The difference of losses that goes with a gap of log losses about a level."""
    return 2 * math.exp(level) * math.sinh(gap / 2)


def _loss_difference(gap: TaskGap, actual: float | None) -> Difference:
    found = gap.loss_only
    bounds = Interval(*(_of_log(quantile(found, 0, share), gap.log_loss) for share in SHARES))
    return Difference(
        _of_log(float(found.mean[0]), gap.log_loss),
        bounds,
        chance_below(found, 0),
        chance_below(found, 0, noise=False),
        actual,
    )


def _accuracy_difference(gap: Gap | None, actual: float | None) -> Difference | None:
    if gap is None:
        return None
    bounds = Interval(*(float(np.clip(quantile(gap, 0, share), -1, 1)) for share in SHARES))
    return Difference(
        float(np.clip(gap.mean[0], -1, 1)),
        bounds,
        1 - chance_below(gap, 0),
        1 - chance_below(gap, 0, noise=False),
        actual,
    )


def _mean_row(
    models: Mapping[str, TwoStage],
    pair: tuple[str, str],
    gaps: Mapping[str, TaskGap],
    target: Target,
    rows: Sequence[PairRow],
    curves: Mapping[str, Curve],
) -> PairRow:
    """The mean over tasks; of losses over those with an accuracy, if any, in the commonest unit."""
    units = {row.task: models[pair[0]].fits_[row.task].loss_unit for row in rows if row.accuracy}
    units = units or {task: models[pair[0]].fits_[task].loss_unit for task in gaps}
    counts = Counter(units.values())
    chosen = [row for row in rows if units.get(row.task) == counts.most_common(1)[0][0]]
    scored = [(row, row.accuracy) for row in rows if row.accuracy is not None]
    alike = likeness([gaps[row.task] for row in rows])
    levels_ = np.array([math.exp(gaps[row.task].log_loss) for row in chosen])
    posteriors = [gaps[row.task].loss_only for row in chosen]
    loss, quiet = _mean_difference(
        [row.loss for row in chosen],
        levels_ * [math.sqrt(p.covariance[0, 0]) for p in posteriors],
        levels_ * [p.noise for p in posteriors],
        alike,
        lower_wins=True,
    )
    accuracy = None
    if scored:
        found = [g for row, _ in scored if (g := gaps[row.task].accuracy) is not None]
        accuracy, _ = _mean_difference(
            [difference for _, difference in scored],
            np.array([math.sqrt(g.covariance[0, 0]) for g in found]),
            np.array([g.noise for g in found]),
            alike,
            lower_wins=False,
        )
    half = LEVEL80 * quiet
    return _row(
        pair,
        MEAN,
        target,
        loss,
        accuracy,
        [curves[row.task] for row in chosen],
        (loss.value + half, loss.value - half),
    )


def _mean_difference(
    found: Sequence[Difference], errors: Array, noises: Array, alike: float, lower_wins: bool
) -> tuple[Difference, float]:
    """The mean of differences whose errors are alike, and its standard error without noise."""

    def spread(deviations: Array) -> float:
        total = (1 - alike) * float((deviations**2).sum()) + alike * float(deviations.sum()) ** 2
        return math.sqrt(total) / len(deviations)

    value = float(np.mean([d.value for d in found]))
    quiet = spread(errors)
    error = math.hypot(quiet, spread(noises))
    sign = -1.0 if lower_wins else 1.0

    def above(sd: float) -> float:
        return 0.5 * math.erfc(-sign * value / max(sd, 1e-300) / math.sqrt(2))

    known = [d.actual for d in found if d.actual is not None]
    return (
        Difference(
            value,
            interval(value, error, -math.inf, math.inf),
            above(error),
            above(quiet),
            float(np.mean(known)) if len(known) == len(found) else None,
        ),
        quiet,
    )


def likeness(gaps: Sequence[TaskGap]) -> float:
    """Correlation between tasks of what the rungs' gaps leave, about LIKENESS if there are few.

    Runs are shared by all tasks, and so is much of their noise.
    """
    residuals = []
    for gap in gaps:
        runs = gap.runs
        fitted = dict(zip(runs.rung.tolist(), gap.loss.mean[: gap.target].tolist(), strict=True))
        one, two = (_by_rung(runs, side) for side in (1, -1))
        residuals.append({r: one[r] - two[r] - fitted[r] for r in one if r in two})
    common = sorted(set.intersection(*(set(r) for r in residuals)))
    if len(residuals) < 2 or len(common) < 3:
        return LIKENESS
    values = np.array([[r[rung] for rung in common] for r in residuals])
    values = values / np.sqrt((values**2).mean(axis=1, keepdims=True) + 1e-30)
    count = len(values)
    found = (float((values.mean(axis=0) ** 2).mean()) * count - 1) / (count - 1)
    weight = len(common) / (len(common) + LIKENESS_RUNGS)
    return float(np.clip(weight * found + (1 - weight) * LIKENESS, 0, 1))


def _by_rung(runs: Runs, side: int) -> dict[int, float]:
    """The mean of one recipe's runs at every rung that it has."""
    own = runs.side == side
    return {int(r): float(runs.values[own & (runs.rung == r)].mean()) for r in set(runs.rung[own])}


def parameter_rows(
    models: Mapping[str, TwoStage], pair: tuple[str, str], gaps: Mapping[str, TaskGap]
) -> list[ParameterRow]:
    """How the recipes' step 1 differ, task by task."""
    rows = []
    for task, gap in gaps.items():
        alone = scaled(models[pair[0]].fits_[task].step1) - scaled(
            models[pair[1]].fits_[task].step1
        )
        for i, name in enumerate(PARAMETERS):
            rows.append(
                ParameterRow(
                    *pair,
                    task,
                    name,
                    float(gap.parameters.mean[i]),
                    quantile(gap.parameters, i, 0.1, noise=False),
                    quantile(gap.parameters, i, 0.9, noise=False),
                    float(alone[i]),
                )
            )
    return rows
