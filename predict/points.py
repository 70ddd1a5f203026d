"""Observations -> the points that both steps are fitted to."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from predict.laws import Array
from predict.methods import Method


@dataclass(frozen=True)
class RungPoint:
    """What step 1 sees of a run: means over its last checkpoints."""

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
    values = rows[feature].to_numpy(dtype=float)
    if "accuracy" in rows:
        accuracy = rows["accuracy"].to_numpy(dtype=float)
    else:
        accuracy = np.full(len(rows), np.nan)
    kept = np.isfinite(values)
    chance = _mean(rows["chance"].to_numpy(dtype=float)) if "chance" in rows else None
    runs = rows["run"].to_numpy()[kept]
    seeds = rows["seed"].to_numpy()[kept] if "seed" in rows else None
    values, accuracy = values[kept], accuracy[kept]
    params = rows["params"].to_numpy(dtype=float)[kept]
    tokens = rows["tokens"].to_numpy(dtype=float)[kept]
    changes = np.flatnonzero(runs[1:] != runs[:-1]) + 1
    edges = [0, *changes.tolist(), len(runs)] if len(runs) else []
    rungs, losses, accuracies, origin = [], [], [], []
    for start, stop in itertools.pairwise(edges):
        first = max(start, stop - method.window)
        rungs.append(
            RungPoint(
                run=str(runs[start]),
                params=float(params[stop - 1]),
                tokens=float(tokens[stop - 1]),
                loss=float(values[first:stop].mean()),
                accuracy=_mean(accuracy[first:stop]),
                loss_sd=_sd(values[first:stop]),
                accuracy_sd=_sd(accuracy[first:stop]),
                chance=chance,
                seed=None if seeds is None or pd.isna(seeds[stop - 1]) else int(seeds[stop - 1]),
            )
        )
        measured = np.isfinite(accuracy[start:stop])
        x, y = values[start:stop][measured], accuracy[start:stop][measured]
        # A run with one checkpoint keeps it: final results alone are a ladder too.
        skipped = max(min(math.ceil(len(x) * method.skip), len(x) - 1), 0)
        losses.append(trailing_mean(x[skipped:], method.smoothing))
        accuracies.append(trailing_mean(y[skipped:], method.smoothing))
        origin.append(np.full(len(x) - skipped, len(rungs) - 1))
    empty = [np.zeros(0)]
    return TaskPoints(
        rungs=tuple(rungs),
        link_loss=np.concatenate(losses or empty),
        link_accuracy=np.concatenate(accuracies or empty),
        link_rung=np.concatenate(origin or empty).astype(np.intp),
    )


def trailing_mean(values: Array, window: int) -> Array:
    """Mean of each value and the `window` - 1 before it, of fewer at the start."""
    total = np.cumsum(np.r_[0.0, values])
    last = np.arange(1, len(values) + 1)
    first = np.maximum(last - window, 0)
    return np.asarray((total[last] - total[first]) / (last - first))


def rung_weights(rungs: Sequence[RungPoint], method: Method) -> list[float]:
    """1 a rung; where reruns share, one over the number of rungs of the same params and tokens."""
    if not method.reruns_share:
        return [1.0] * len(rungs)
    sizes = np.log([r.params for r in rungs])
    lengths = np.log([r.tokens for r in rungs])
    # Reruns end within a few steps of each other.
    near = (np.abs(sizes[:, None] - sizes) < 0.01) & (np.abs(lengths[:, None] - lengths) < 0.01)
    return [1 / int(count) for count in near.sum(axis=1)]


def mean_of_seeds(rungs: Sequence[RungPoint]) -> list[RungPoint]:
    """The rungs, those of the same params and tokens that differ in their seeds as their mean.

    Its noise is less than a run's, which only the scatter of the means can tell a fit.
    """
    groups: list[list[RungPoint]] = []
    for rung in rungs:
        for group in groups:
            first = group[0]
            if (
                rung.seed is not None
                and first.seed is not None
                and rung.seed not in [other.seed for other in group]
                and abs(math.log(rung.params / first.params)) < 0.01
                and abs(math.log(rung.tokens / first.tokens)) < 0.01
            ):
                group.append(rung)
                break
        else:
            groups.append([rung])
    return [group[0] if len(group) == 1 else _mean_rung(group) for group in groups]


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


def _sd(values: Array) -> float | None:
    found = values[np.isfinite(values)]
    return float(found.std(ddof=1)) if len(found) > 1 else None
