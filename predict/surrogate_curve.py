"""The compute-optimal curve of any surface of losses, read only inside the hull of its runs."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluation.records import InputError
from predict.registry import Array

Surface = Callable[[Array, Array], Array]
"""Losses (K, ...) of K variants of one fit at N and D of one shape."""

BUDGETS = 33
"""Budgets, even in logarithms, between the least and the most of the runs."""

PLACES = 129
"""Sizes at which a surface is read at each budget, even in logarithms, before a parabola through
the lowest three."""

EDGE = 0.03
"""Share of a budget's stretch inside the hull, at either end, where a lowest point counts as the
edge's own."""

LEAST_BUDGETS = 4
"""Budgets with an optimum that an exponent needs."""

LEAST_RATIO = 2.0
"""Ratio of the most to the least of these budgets."""


@dataclass(frozen=True)
class Stretch:
    """The budgets and, of each, the sizes inside the convex hull of the runs in log N and log D."""

    flops: Array
    low: Array
    """log N, (B,)."""
    high: Array

    def places(self) -> tuple[Array, Array]:
        """N and D (B, PLACES) to read a surface at."""
        share = np.linspace(0, 1, PLACES)
        size = np.exp(self.low[:, None] + (self.high - self.low)[:, None] * share)
        return size, self.flops[:, None] / 6 / size


@dataclass(frozen=True)
class OptimalCurve:
    """N of the lowest loss at each budget, NaN where it is not inside the runs."""

    flops: Array
    params: Array
    """(B,)."""
    exponent: float
    """d log N / d log C of the straight line through them, NaN without one."""
    reason: str
    """Why there is no exponent."""


def stretch(params: Array, tokens: Array) -> Stretch:
    """Budgets of C = 6 N D, and where each crosses the hull of the runs.

    Raises InputError where the runs lie on one line, such as one ratio of tokens to params.
    """
    points = np.stack((np.log(params), np.log(tokens)), axis=-1)
    corners = hull(points)
    spent = math.log(6) + points.sum(axis=1)
    flops = np.linspace(spent.min(), spent.max(), BUDGETS)[1:-1]
    total = flops - math.log(6)
    low, high = np.full(len(total), np.inf), np.full(len(total), -np.inf)
    for a, b in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        # Where the edge crosses log N + log D = total.
        rise = (b - a).sum()
        if abs(rise) < 1e-12:
            continue
        share = (total - a.sum()) / rise
        x = a[0] + share * (b[0] - a[0])
        hit = (share >= -1e-12) & (share <= 1 + 1e-12)
        low, high = np.where(hit, np.minimum(low, x), low), np.where(hit, np.maximum(high, x), high)
    kept = high - low > 1e-3
    return Stretch(np.exp(flops[kept]), low[kept], high[kept])


def hull(points: Array) -> Array:
    """Corners of the convex hull of points (n, 2), anticlockwise (Andrew's monotone chain)."""
    ordered = sorted({(float(x), float(y)) for x, y in points})

    def half(side: list[tuple[float, float]]) -> list[tuple[float, float]]:
        found: list[tuple[float, float]] = []
        for p in side:
            while len(found) > 1 and _turn(found[-2], found[-1], p) <= 1e-9:
                found.pop()
            found.append(p)
        return found[:-1]

    corners = half(ordered) + half(ordered[::-1])
    if len(corners) < 3:
        raise InputError(
            "the runs lie on one line of log params and log tokens; vary the tokens a parameter"
        )
    return np.array(corners)


def _turn(a: tuple[float, float], b: tuple[float, float], c: tuple[float, float]) -> float:
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])


def optimal_sizes(losses: Array, over: Stretch) -> Array:
    """Log N (K, B) of the lowest of losses (K, B, PLACES); NaN where it is at an edge."""
    best = losses.argmin(axis=-1)
    margin = max(int(EDGE * (PLACES - 1)), 1)
    inside = (best >= margin) & (best < PLACES - margin)
    at = best.clip(1, PLACES - 2)
    left, middle, right = (
        np.take_along_axis(losses, (at + k)[..., None], axis=-1)[..., 0] for k in (-1, 0, 1)
    )
    bend = left - 2 * middle + right
    move = np.where(bend > 0, 0.5 * (left - right) / np.where(bend > 0, bend, 1), 0).clip(-0.5, 0.5)
    found = over.low + (over.high - over.low) * (at + move) / (PLACES - 1)
    return np.where(inside, found, np.nan)


def exponents(log_sizes: Array, flops: Array, wanted: NDArray[np.bool_]) -> Array:
    """Slopes (K,) of log N on log C over the wanted budgets (B,), those at an edge left out."""
    x = np.log(flops)
    use = wanted & np.isfinite(log_sizes)
    count = use.sum(axis=1)
    mean_x = (use * x).sum(axis=1) / np.maximum(count, 1)
    off = np.where(use, x - mean_x[:, None], 0)
    spread = (off**2).sum(axis=1)
    slope = (off * np.where(use, log_sizes, 0)).sum(axis=1) / np.maximum(spread, 1e-300)
    reach = np.where(use, x, -np.inf).max(axis=1) - np.where(use, x, np.inf).min(axis=1)
    enough = (count >= LEAST_BUDGETS) & (reach >= math.log(LEAST_RATIO))
    return np.where(enough, slope, np.nan)


def optimal_curve(surface: Surface, over: Stretch) -> OptimalCurve:
    """The curve of the mean of a surface's variants, in logarithms."""
    sizes, tokens = over.places()
    mean = np.log(surface(sizes, tokens)).mean(axis=0)
    found = optimal_sizes(mean[None], over)
    slope = float(exponents(found, over.flops, np.ones(len(over.flops), dtype=bool))[0])
    reason = ""
    if not math.isfinite(slope):
        reason = (
            f"{int(np.isfinite(found).sum())} of {len(over.flops)} budgets have their best size "
            "inside the runs, too few for an exponent; train smaller or larger models, or vary "
            "the tokens"
        )
    return OptimalCurve(over.flops, np.exp(found[0]), slope, reason)
