"""Chinchilla's first two approaches: which size is best at each budget, by curves alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evaluation.records import InputError
from predict.flops import Flops
from predict.laws import Array
from predict.numbers import levels
from predict.run_curves import (
    RunCurve,
    finished_losses_at,
    losses_at,
    size_index,
    sizes_of,
)

BUDGETS = 1500
"""FLOP counts at which the envelope is read: Hoffmann et al. 2022, section 3.1."""

SAME_BUDGET = 1.02
"""Ratio of FLOPs up to which finished runs stand on one isoFLOP line."""

LEAST_SIZES = 3
"""Sizes that a parabola needs."""

WINDOW = math.log(8)
"""Distance in log params from the best size beyond which a parabola does not look."""

BETWEEN = 2**0.25
"""Ratio of neighbouring budgets where losses are read between finished runs."""


@dataclass(frozen=True)
class Optima:
    """Budgets and the params that are best at each, and how many had none inside the sizes."""

    flops: Array
    params: Array
    outside: int
    how: str
    """What they were read from."""


@dataclass(frozen=True)
class PowerFit:
    """params = exp(intercept) C^slope through optima."""

    intercept: float
    slope: float

    def params(self, flops: float) -> float:
        """N of C."""
        return math.exp(self.intercept + self.slope * math.log(flops))


class LossTable:
    """The loss of every size at many budgets, from any choice of the runs.

    With `checkpoints` those of every run count as well as its result.
    """

    def __init__(
        self, runs: Sequence[RunCurve], flops: Flops, checkpoints: bool, ratio: float | None = None
    ) -> None:
        self.runs, self.flops = list(runs), flops
        self.budgets = _budgets(runs, flops, checkpoints, ratio)
        self.sizes = sizes_of(runs)
        self.size = size_index(runs)
        self._own = None
        if checkpoints:
            self._own = np.array([losses_at(c, flops, self.budgets) for c in runs])
        self._finished: dict[tuple[int, ...], Array] = {}

    def losses(self, chosen: Sequence[int]) -> Array:
        """Lowest loss (sizes, budgets) among the runs of these indices; NaN where there is none."""
        table = np.full((len(self.sizes), len(self.budgets)), np.nan)
        for i in range(len(self.sizes)):
            own = tuple(sorted({r for r in chosen if self.size[r] == i}))
            if not own:
                continue
            if own not in self._finished:
                found = [self.runs[r] for r in own]
                self._finished[own] = finished_losses_at(found, self.flops, self.budgets)
            table[i] = self._finished[own]
            if self._own is not None:
                table[i] = np.fmin(table[i], np.fmin.reduce(self._own[list(own)]))
        return table


def _budgets(
    runs: Sequence[RunCurve], flops: Flops, checkpoints: bool, ratio: float | None
) -> Array:
    """From the least FLOPs spent to the most: BUDGETS of them, or at a ratio."""
    first = 0 if checkpoints else -1
    low = min(float(flops.of(c.params, max(c.tokens[first], 1.0))) for c in runs)
    high = max(float(flops.of(c.params, c.final_tokens)) for c in runs)
    count = BUDGETS if ratio is None else max(round(math.log(high / low) / math.log(ratio)), 1) + 1
    return np.geomspace(low, high, count)


def envelope(table: LossTable, chosen: Sequence[int]) -> Optima:
    """Approach 1: budgets at which two neighbouring sizes draw on the envelope of all curves.

    There the best size lies between the two, at their geometric mean to second order. Hoffmann et
    al. regress the winning size itself on the budget; with k sizes that staircase makes the slope
    too small by a share of 1 / k^2.
    """
    losses = table.losses(chosen)
    seen = np.isfinite(losses)
    columns = np.flatnonzero(seen.sum(axis=0) >= 2)
    if not len(columns):
        raise InputError("no budget at which two sizes can be compared; train more sizes")
    winner = np.where(seen, losses, np.inf).argmin(axis=0)[columns]
    # Noise makes neighbours take turns: sorted, each keeps its share of the budgets.
    winner = np.sort(winner)
    flops, params, outside = [], [], 0
    for at in np.flatnonzero(np.diff(winner)):
        pair = [winner[at], winner[at + 1]]
        left, right = columns[at], columns[at + 1]
        # Where one of the two merely begins or ends there is no draw.
        if not seen[pair, left].all() or not seen[pair, right].all():
            outside += 1
            continue
        flops.append(math.sqrt(table.budgets[left] * table.budgets[right]))
        params.append(math.sqrt(table.sizes[pair[0]] * table.sizes[pair[1]]))
    return Optima(np.array(flops), np.array(params), outside, "draws of neighbouring sizes")


def isoflop_lines(runs: Sequence[RunCurve], flops: Flops) -> list[list[int]]:
    """Runs that spent the same FLOPs, by index, where they are of LEAST_SIZES sizes or more."""
    spent = np.array([float(flops.of(c.params, c.final_tokens)) for c in runs])
    budgets = levels(spent, SAME_BUDGET)
    place = np.searchsorted(budgets, spent * (1 - 1e-12))
    lines = [[int(i) for i in np.flatnonzero(place == k)] for k in range(len(budgets))]
    return [line for line in lines if len(sizes_of([runs[i] for i in line])) >= LEAST_SIZES]


def isoflop(
    runs: Sequence[RunCurve],
    flops: Flops,
    lines: Sequence[Sequence[int]],
    table: LossTable | None,
    chosen: Sequence[int],
) -> Optima:
    """Approach 2: the lowest point of a parabola in log params at each budget.

    The budgets are those of `lines`, runs that spent the same; or those of a table of finished
    runs, whose losses are read between the runs of each size, as Porian et al. 2024 do.
    """
    points: list[tuple[float, Array, Array]] = []
    if table is None:
        for line in lines:
            own = [i for i in chosen if i in line]
            if len(sizes_of([runs[i] for i in own] or [runs[0]])) >= LEAST_SIZES:
                spent = [float(flops.of(runs[i].params, runs[i].final_tokens)) for i in own]
                size = np.array([runs[i].params for i in own])
                budget = float(np.exp(np.mean(np.log(spent))))
                points.append((budget, size, np.array([runs[i].loss for i in own])))
    else:
        losses = table.losses(chosen)
        for k, budget in enumerate(table.budgets):
            seen = np.isfinite(losses[:, k])
            if seen.sum() >= LEAST_SIZES:
                points.append((float(budget), np.array(table.sizes)[seen], losses[seen, k]))
    if not points:
        raise InputError(
            f"no budget has finished runs of {LEAST_SIZES} sizes on either side of it; train or "
            f"name {LEAST_SIZES} sizes with the same FLOPs"
        )
    found = [(budget, lowest_point(size, loss)) for budget, size, loss in points]
    inside = [(budget, best) for budget, best in found if best is not None]
    return Optima(
        np.array([budget for budget, _ in inside]),
        np.array([best for _, best in inside]),
        len(found) - len(inside),
        "runs of equal FLOPs" if table is None else "losses between the runs of each size",
    )


def lowest_point(params: Array, losses: Array) -> float | None:
    """Where a parabola through losses against log params is lowest; None outside the sizes."""
    x = np.log(params)
    distance = np.abs(x - x[losses.argmin()])
    limit = max(WINDOW, float(np.sort(np.unique(distance))[:LEAST_SIZES][-1]) * (1 + 1e-9))
    used = distance <= limit
    if len(np.unique(np.round(x[used], 9))) < LEAST_SIZES:
        return None
    centre = float(x[used].mean())
    bend, slope, _ = np.polyfit(x[used] - centre, losses[used], 2)
    if bend <= 0:
        return None
    best = centre - slope / (2 * bend)
    if not x[used].min() <= best <= x[used].max():
        return None
    return math.exp(best)


def power_through(optima: Optima) -> PowerFit:
    """The straight line in logarithms; InputError where fewer than two optima lie apart."""
    if len(optima.flops) < 2 or np.ptp(np.log(optima.flops)) < math.log(SAME_BUDGET):
        raise InputError(
            f"{len(optima.flops)} budget{'s' * (len(optima.flops) != 1)} with an optimum inside "
            f"the sizes, {optima.outside} with none; train smaller and larger models"
        )
    slope, intercept = np.polyfit(np.log(optima.flops), np.log(optima.params), 1)
    return PowerFit(float(intercept), float(slope))
