"""Observations -> the points that both steps are fitted to."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from predict.laws import Array
from predict.methods import Method

NEAR = 0.01
"""Difference of logarithms below which params or tokens are the same: reruns end within a few steps
of each other."""


END = 0.9
"""Share of a run's tokens from which on a checkpoint shows its end: before, a loss still falls. The
last five of every rung of the published ladder begin at 0.908 or later, so that they are all
taken; of checkpoints at every tenth of a run only the last two are."""


@dataclass(frozen=True)
class RungPoint:
    """What step 1 sees of a run: means over its last checkpoints, all in its last tenth."""

    run: str
    params: float
    tokens: float
    loss: float
    """Of the feature, in its unit."""
    accuracy: float | None
    loss_sd: float | None = None
    """Standard deviation over the same checkpoints; None for a single one."""
    accuracy_sd: float | None = None
    chance: float | None = None
    """Accuracy of guessing; None where the table has none."""
    seed: int | None = None
    """Training seed; None where the table has none."""


@dataclass(frozen=True)
class TaskPoints:
    """The points of one task: a mean a run for step 1, smoothed checkpoints for step 2."""

    rungs: tuple[RungPoint, ...]
    link_loss: Array
    link_accuracy: Array
    link_rung: NDArray[np.intp]
    """Which rung each of step 2's points comes from."""


def task_points(rows: pd.DataFrame, method: Method, feature: str) -> TaskPoints:
    """The points of one task's rows, sorted by run and step; rows without the feature drop out."""
    none = np.zeros(0)
    empty = TaskPoints((), none, none, none.astype(np.intp))
    return next(iter(points_by_task(rows.assign(task=""), method, feature).values()), empty)


def points_by_task(table: pd.DataFrame, method: Method, feature: str) -> dict[str, TaskPoints]:
    """The points of every task of a table whose rows are sorted by run and step.

    Tasks come in the order of their first rows; a row without the feature drops out. No run or
    task is looked at alone: those with as many checkpoints are the rows of one array.
    """
    codes, tasks = pd.factorize(table["task"])
    order = codes.argsort(kind="stable")
    edges = np.bincount(codes, minlength=len(tasks)).cumsum().tolist()
    chance = _numbers(table, "chance")[order]
    chances = [_mean(chance[a:b]) for a, b in itertools.pairwise([0, *edges])]
    order = order[np.isfinite(_numbers(table, feature)[order])]
    values, accuracy = (_numbers(table, name)[order] for name in (feature, "accuracy"))
    task, runs = codes[order], pd.factorize(table["run"])[0][order]
    is_first = np.ones(len(order), dtype=bool)
    is_first[1:] = (np.diff(runs) != 0) | (np.diff(task) != 0)
    starts = np.flatnonzero(is_first)
    stops = np.append(starts[1:], len(order)).astype(np.intp)[: len(starts)]
    ends_at = _numbers(table, "tokens")[order]
    is_end = ends_at >= END * np.repeat(ends_at[stops - 1], stops - starts)
    at_end = np.add.reduceat(is_end, starts, dtype=np.intp) if len(starts) else starts
    windows = (stops - np.minimum(at_end, method.window), stops)
    last, owner = order[stops - 1], task[starts].tolist()
    losses, loss_sd = _statistics(values, *windows)
    scores, score_sd = _statistics(accuracy, *windows)
    columns = (
        map(str, table["run"].to_numpy(dtype=object)[last]),
        _numbers(table, "params")[last].tolist(),
        _numbers(table, "tokens")[last].tolist(),
        losses,
        scores,
        loss_sd,
        score_sd,
        [chances[i] for i in owner],
        [None if s is None else int(s) for s in _known(_numbers(table, "seed")[last])],
    )
    rungs = tuple(itertools.starmap(RungPoint, zip(*columns, strict=True)))
    link_loss, link_accuracy, link_owner = _link_points(values, accuracy, starts, stops, method)
    ends = np.searchsorted(owner, np.arange(len(tasks) + 1))
    link_ends = np.searchsorted(link_owner, ends)
    return {
        str(name): TaskPoints(
            rungs=rungs[ends[i] : ends[i + 1]],
            link_loss=link_loss[link_ends[i] : link_ends[i + 1]],
            link_accuracy=link_accuracy[link_ends[i] : link_ends[i + 1]],
            link_rung=link_owner[link_ends[i] : link_ends[i + 1]] - ends[i],
        )
        for i, name in enumerate(tasks)
    }


def _numbers(table: pd.DataFrame, column: str) -> Array:
    """A column as floats, NaN where it is empty or there is none."""
    if column not in table:
        return np.full(len(table), np.nan)
    return np.asarray(table[column].to_numpy(dtype=float, na_value=np.nan))


def _known(values: Array) -> list[float | None]:
    """The values, None for NaN."""
    return [None if value != value else value for value in values.tolist()]


def _statistics(
    values: Array, firsts: NDArray[np.intp], stops: NDArray[np.intp]
) -> tuple[list[float | None], list[float | None]]:
    """Mean and standard deviation of the finite values of every stretch; None for too few."""
    finite = np.isfinite(values)
    before = np.append(0, finite.cumsum())
    means, deviations = np.full((2, len(firsts)), np.nan)
    for those, places in _by_length(before[firsts], before[stops]):
        block = values[finite][places]
        means[those] = block.mean(axis=1)
        if block.shape[1] > 1:
            deviations[those] = block.std(axis=1, ddof=1)
    return _known(means), _known(deviations)


def end_mean(tokens: Array, values: Array, window: int) -> float:
    """What a `RungPoint` holds of a run's checkpoints (n,), by step; NaN where none is finite."""
    at_end = values[tokens >= END * tokens[-1]][-window:]
    known = at_end[np.isfinite(at_end)]
    return float(known.mean()) if len(known) else math.nan


def _link_points(
    values: Array,
    accuracy: Array,
    starts: NDArray[np.intp],
    stops: NDArray[np.intp],
    method: Method,
) -> tuple[Array, Array, NDArray[np.intp]]:
    """Smoothed checkpoints of every run that have an accuracy, and which run each is of."""
    measured = np.isfinite(accuracy)
    before = np.append(0, measured.cumsum())
    starts, stops = before[starts], before[stops]
    values, accuracy = values[measured], accuracy[measured]
    # A run with one checkpoint keeps it: final results alone are a ladder too.
    skipped = np.minimum(np.ceil((stops - starts) * method.skip), stops - starts - 1)
    starts = starts + np.maximum(skipped, 0).astype(np.intp)
    used = np.zeros(len(values), dtype=bool)
    for _, places in _by_length(starts, stops):
        values[places] = trailing_mean(values[places], method.smoothing)
        accuracy[places] = trailing_mean(accuracy[places], method.smoothing)
        used[places] = True
    return values[used], accuracy[used], np.repeat(np.arange(len(starts)), stops - starts)


def _by_length(
    firsts: NDArray[np.intp], stops: NDArray[np.intp]
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """For each length but 0: which stretches have it, and their positions, a row a stretch."""
    length = stops - firsts
    for width in np.unique(length[length > 0]):
        those = np.flatnonzero(length == width)
        yield those, firsts[those, None] + np.arange(width)


def trailing_mean(values: Array, window: int) -> Array:
    """Mean of each value and the `window` - 1 before it along the last axis, fewer at the start."""
    total = np.zeros((*values.shape[:-1], values.shape[-1] + 1))
    values.cumsum(axis=-1, out=total[..., 1:])
    last = np.arange(1, values.shape[-1] + 1)
    first = np.maximum(last - window, 0)
    return np.asarray((total[..., last] - total[..., first]) / (last - first))


def rung_weights(rungs: Sequence[RungPoint], method: Method) -> list[float]:
    """1 a rung; where reruns share, one over the number of rungs of the same params and tokens."""
    if not method.reruns_share:
        return [1.0] * len(rungs)
    sizes = np.log([r.params for r in rungs])
    lengths = np.log([r.tokens for r in rungs])
    near = (np.abs(sizes[:, None] - sizes) < NEAR) & (np.abs(lengths[:, None] - lengths) < NEAR)
    return [1 / int(count) for count in near.sum(axis=1)]


def mean_of_seeds(rungs: Sequence[RungPoint]) -> list[RungPoint]:
    """The rungs, those of the same params and tokens that differ in their seeds as their mean.

    Its noise is less than a run's, which only the scatter of the means can tell a fit.
    """
    if all(rung.seed is None for rung in rungs):
        return list(rungs)
    groups: list[list[RungPoint]] = []
    # Groups by the cell of a grid that their first rung lies in; the next cells are as near.
    cells: dict[tuple[int, int], list[int]] = {}
    for rung in rungs:
        x, y = (math.floor(math.log(size) / NEAR) for size in (rung.params, rung.tokens))
        close = (cells.get((x + i, y + j), ()) for i in (-1, 0, 1) for j in (-1, 0, 1))
        for number in sorted(itertools.chain.from_iterable(close)):
            first = groups[number][0]
            if (
                rung.seed is not None
                and first.seed is not None
                and rung.seed not in [other.seed for other in groups[number]]
                and _are_near(rung, first)
            ):
                groups[number].append(rung)
                break
        else:
            cells.setdefault((x, y), []).append(len(groups))
            groups.append([rung])
    return [group[0] if len(group) == 1 else _mean_rung(group) for group in groups]


def _are_near(one: RungPoint, other: RungPoint) -> bool:
    """Whether two runs are of the same params and tokens."""
    return (
        abs(math.log(one.params / other.params)) < NEAR
        and abs(math.log(one.tokens / other.tokens)) < NEAR
    )


def _mean_rung(group: Sequence[RungPoint]) -> RungPoint:
    known = [rung.accuracy for rung in group if rung.accuracy is not None]
    return replace(
        group[0],
        loss=float(np.mean([rung.loss for rung in group])),
        accuracy=float(np.mean(known)) if len(known) == len(group) else None,
        loss_sd=None,
        accuracy_sd=None,
        seed=None,
    )


def padded(lists: Sequence[Sequence[float] | Array]) -> Array:
    """Lists of unequal length as one array, NaN behind the shorter ones."""
    result = np.full((len(lists), max(map(len, lists))), np.nan)
    for row, values in zip(result, lists, strict=True):
        row[: len(values)] = values
    return result


def _mean(values: Array) -> float | None:
    found = values[np.isfinite(values)]
    return float(found.mean()) if len(found) else None
