"""What a back-test's rows say of a method: errors, coverage, interval scores, differences."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from predict.intervals import LEVEL80, LEVEL95


@dataclass(frozen=True)
class BacktestRow:
    """One held-out rung's prediction by one method; errors are predicted minus actual."""

    method: str
    split: str
    task: str
    run: str
    predicted: float | None
    actual: float | None
    error: float | None
    lower80: float | None
    upper80: float | None
    lower95: float | None
    upper95: float | None
    loss_predicted: float
    loss_actual: float
    loss_lower80: float | None
    loss_upper80: float | None
    status: str
    climb: float | None
    spread: float | None
    parameters: float | None
    noise: float | None
    """The parts of the standard error, see predict.intervals."""
    standard_error: float | None


@dataclass(frozen=True)
class MethodScore:
    """How one method did; accuracies in [0, 1], NaN where there is nothing to measure."""

    method: str
    mean_abs_error: float
    standard_error: float
    """Of the mean, between tasks."""
    loss_error: float
    """Mean |log(predicted / actual)| of the loss."""
    coverage80: float
    coverage95: float
    left_out80: float
    left_out95: float
    """Coverage with widths rescaled on the other tasks' back-tests."""
    width80: float
    """Mean half-width."""
    winkler80: float
    winkler80_constant: float
    """The interval score of one width for all, calibrated on the other tasks' back-tests."""
    loss_coverage80: float


@dataclass(frozen=True)
class Comparison:
    """A paired difference of mean absolute errors, `method` minus `against`."""

    method: str
    against: str
    difference: float
    standard_error: float
    """Between tasks; between splits where there is one task."""

    @property
    def clear(self) -> bool:
        """Whether the difference is more than its standard error."""
        return abs(self.difference) > self.standard_error


def compare(rows: Sequence[BacktestRow], method: str, against: str) -> Comparison:
    """The paired difference of two methods on the rows that both predicted."""
    errors: dict[str, dict[tuple[str, str, str], float]] = {method: {}, against: {}}
    for row in rows:
        if row.method in errors and row.error is not None:
            errors[row.method][row_key(row)] = abs(row.error)
    both = sorted(set(errors[method]) & set(errors[against]))
    level = 0 if len({key[0] for key in both}) > 1 else 1
    groups: dict[str, list[float]] = {}
    for key in both:
        groups.setdefault(key[level], []).append(errors[method][key] - errors[against][key])
    means = np.array([np.mean(values) for values in groups.values()])
    difference = float(means.mean()) if len(means) else math.nan
    return Comparison(method, against, difference, _standard_error(means))


def row_key(row: BacktestRow) -> tuple[str, str, str]:
    """The task, split and held-out rung that a row is of."""
    return row.task, row.split, row.run


def method_score(method: str, rows: list[BacktestRow]) -> MethodScore:
    """How the method did on its rows."""
    scored = [r for r in rows if r.error is not None]
    by_task: dict[str, list[float]] = {}
    for row in scored:
        by_task.setdefault(row.task, []).append(abs(row.error or 0.0))
    means = np.array([np.mean(values) for values in by_task.values()])
    bounded = [r for r in scored if r.lower80 is not None]
    size = np.array([abs(r.error or 0.0) for r in bounded])
    tasks = np.array([r.task for r in bounded])
    # An interval is cut at 0 and 1; what is rescaled is the width before.
    wide = np.array([max(r.standard_error or 0.0, 1e-12) for r in bounded])
    half80, half95 = LEVEL80 * wide, LEVEL95 * wide
    constant = left_out_quantile(size, tasks, 0.8)
    losses = [r for r in rows if r.loss_lower80 is not None]
    return MethodScore(
        method=method,
        mean_abs_error=float(means.mean()) if len(means) else math.nan,
        standard_error=_standard_error(means),
        loss_error=float(np.mean([abs(math.log(r.loss_predicted / r.loss_actual)) for r in rows])),
        coverage80=_share(_inside(r.actual, r.lower80, r.upper80) for r in bounded),
        coverage95=_share(_inside(r.actual, r.lower95, r.upper95) for r in bounded),
        left_out80=_share(size <= half80 * left_out_quantile(size / half80, tasks, 0.8)),
        left_out95=_share(size <= half95 * left_out_quantile(size / half95, tasks, 0.95)),
        width80=_mean([((r.upper80 or 0) - (r.lower80 or 0)) / 2 for r in bounded]),
        winkler80=_mean(
            [interval_score(r.actual or 0, r.lower80 or 0, r.upper80 or 0, 0.8) for r in bounded]
        ),
        winkler80_constant=winkler(size, constant, 0.8),
        loss_coverage80=_share(
            _inside(r.loss_actual, r.loss_lower80, r.loss_upper80) for r in losses
        ),
    )


def interval_score(actual: float, lower: float, upper: float, level: float) -> float:
    """Winkler's score of one interval: its width, and 2 / (1 - level) times what it misses by."""
    return upper - lower + 2 / (1 - level) * max(lower - actual, actual - upper, 0.0)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan


def winkler(error: np.ndarray[Any, Any], half: np.ndarray[Any, Any], level: float) -> float:
    """Mean interval score of intervals of these half-widths: width, and 2 / (1 - level) a miss."""
    if not len(error):
        return math.nan
    outside = np.maximum(np.abs(error) - half, 0)
    return float((2 * half + 2 / (1 - level) * outside).mean())


def left_out_quantile(
    values: np.ndarray[Any, Any], tasks: np.ndarray[Any, Any], level: float
) -> np.ndarray[Any, Any]:
    """For every row the quantile of the values of all other tasks; of all where there is one."""
    result = np.full(len(values), np.nan)
    order = values.argsort(kind="stable")
    ranked, rank = values[order], order.argsort()
    by_task: dict[str, list[int]] = {}
    for row, task in enumerate(tasks.tolist()):
        by_task.setdefault(task, []).append(row)
    for own in by_task.values():
        gone = np.sort(rank[own]).tolist() if len(by_task) > 1 else []
        last = len(values) - len(gone) - 1
        spot = level * last
        low = int(spot)
        below, above = (ranked[_rank_without(gone, k)] for k in (low, min(low + 1, last)))
        result[own] = below + (above - below) * (spot - low)
    return result


def _rank_without(gone: Sequence[int], rank: int) -> int:
    """The rank among all of what has this rank where some ranks, rising, are gone."""
    for other in gone:
        rank += other <= rank
    return rank


def _inside(value: float | None, lower: float | None, upper: float | None) -> bool:
    return value is not None and lower is not None and upper is not None and lower <= value <= upper


def _share(flags: Iterable[Any]) -> float:
    found = list(flags)
    return sum(map(bool, found)) / len(found) if found else math.nan


def _standard_error(means: np.ndarray[Any, Any]) -> float:
    return float(means.std(ddof=1) / math.sqrt(len(means))) if len(means) > 1 else math.nan
