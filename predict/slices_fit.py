"""Laws of one variable with a floor, fitted exactly: a profile over the one nonlinear parameter."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from predict.registry import Array

CELLS = 240
"""Rates on the grid of a profile, even in logarithms: about 14 to a factor of e."""

STRAIGHT = 1e-3
"""Least rate times the whole range: below it the law is a straight line in its variable."""

STEP = 16.0
"""Greatest rate times the distance of the first two points: above it only the first point falls."""

ROUNDS = 45
"""Golden sections of a cell of the grid: it shrinks to 1e-9 of itself."""

FLOORS = 21
"""Floors at which the floor's own profile is read, in each of ZOOMS passes."""

ZOOMS = 3

GOLDEN = (math.sqrt(5) - 1) / 2


@dataclass(frozen=True)
class Form:
    """A law of one variable x: E + A exp(-rate t), with t = log x or x; E is 0 without a floor.

    With t = log x it is the power law E + A x^-rate, so that an exponential in log x is no further
    reading.
    """

    name: str
    formula: str
    is_log: bool
    """Whether t is log x."""
    has_floor: bool = True

    @property
    def size(self) -> int:
        """How many parameters it has."""
        return 3 if self.has_floor else 2

    def variable(self, x: Array) -> Array:
        """T of x."""
        return np.log(x) if self.is_log else np.asarray(x, dtype=float)


POWER = Form("power", "E + A x^-a", True)
EXPONENTIAL = Form("exponential", "E + A exp(-a x)", False)
NO_FLOOR = Form("no_floor", "A x^-a", True, has_floor=False)
FORMS = (POWER, EXPONENTIAL, NO_FLOOR)
"""What every slice is fitted with."""


@dataclass(frozen=True)
class Solved:
    """One form fitted to R rows of losses at the same points, each field of shape (R,)."""

    rate: Array
    """The exponent of a power law; of an exponential the inverse of x's unit."""
    floor: Array
    """E, at least 0."""
    height: Array
    """A exp(-rate t) at the least t, in the unit of the loss."""
    rss: Array
    """Sum of squared residuals."""
    at_end: NDArray[np.bool_]
    """Whether the rate lies at an end of its grid: the points do not bound it."""

    def values(self, form: Form, x: Array, at: Array) -> Array:
        """The fitted losses (R, m) at `at`, of fits to points `x`."""
        t, first = form.variable(at), form.variable(x).min()
        return np.asarray(
            self.floor[:, None] + self.height[:, None] * np.exp(-self.rate[:, None] * (t - first))
        )

    def log_scale(self, form: Form, x: Array) -> Array:
        """Log A (R,), which may itself be beyond a float's range."""
        with np.errstate(divide="ignore"):
            return np.asarray(np.log(self.height) + self.rate * form.variable(x).min())


def rate_grid(t: Array) -> Array:
    """Rates from a straight line in t to a step behind the first point."""
    own = np.unique(t)
    return np.geomspace(STRAIGHT / (own[-1] - own[0]), STEP / (own[1] - own[0]), CELLS)


def solve(form: Form, x: Array, losses: Array, weights: Array | None = None) -> Solved:
    """Least squares of rows of losses (R, n) at points x (n,), under E >= 0 and A >= 0.

    For each rate the best E and A are known in closed form; what is left is a function of one
    variable, searched on a grid over all rates that the points can tell and refined by golden
    sections. Nothing depends on a start or a stopping rule. `weights` (R, n) may leave points out.
    """
    t = form.variable(x)
    t = t - t.min()
    losses = np.atleast_2d(losses)
    weights = np.ones_like(losses) if weights is None else weights
    grid = rate_grid(t)
    cost = profile(form, t, losses, weights, grid)
    best = cost.argmin(axis=1)
    low = np.log(grid[np.maximum(best - 1, 0)])
    high = np.log(grid[np.minimum(best + 1, len(grid) - 1)])

    def at(log_rate: Array) -> Array:
        shape = np.exp(-np.exp(log_rate)[:, None] * t)
        return _linear(form, shape, losses, weights)[2]

    log_rate = _golden(at, low, high)
    floor, height, rss = _linear(form, np.exp(-np.exp(log_rate)[:, None] * t), losses, weights)
    rate = np.exp(log_rate)
    inside = (rate > grid[0] * 1.001) & (rate < grid[-1] / 1.001)
    return Solved(rate, floor, height, rss, ~inside)


def profile(form: Form, t: Array, losses: Array, weights: Array, rates: Array) -> Array:
    """The least sum of squares (R, G) at each rate, E and A free."""
    shape = np.exp(-rates[:, None] * t)  # (G, n)
    total = weights.sum(axis=1)[:, None]
    mean = (weights * losses).sum(axis=1, keepdims=True) / total
    offset = mean if form.has_floor else np.zeros_like(mean)
    centred = losses - offset
    # Centred sums keep their digits where losses are nearly equal; the floor is what is left.
    s1 = weights @ shape.T
    s2 = weights @ (shape**2).T
    sy = (weights * centred) @ shape.T
    yy = (weights * centred**2).sum(axis=1)[:, None]
    alone_sy = (weights * losses) @ shape.T
    alone = (weights * losses**2).sum(axis=1)[:, None] - np.maximum(alone_sy, 0) ** 2 / s2
    if not form.has_floor:
        return np.asarray(np.maximum(alone, 0))
    spread = np.maximum(s2 - s1**2 / total, 1e-300)
    height = sy / spread
    floor = mean - height * s1 / total
    free = np.maximum(yy - sy**2 / spread, 0)
    flat = np.broadcast_to(yy, free.shape)
    return np.asarray(np.where(height < 0, flat, np.where(floor < 0, np.maximum(alone, 0), free)))


def _linear(form: Form, shape: Array, losses: Array, weights: Array) -> tuple[Array, Array, Array]:
    """E, A and the sum of squares (R,) for one rate a row: shape (R, n)."""
    total = weights.sum(axis=1)
    square = (weights * shape**2).sum(axis=1)
    alone = np.maximum((weights * shape * losses).sum(axis=1), 0) / square
    floor, height = np.zeros_like(alone), alone
    if form.has_floor:
        mean_shape = (weights * shape).sum(axis=1) / total
        mean = (weights * losses).sum(axis=1) / total
        off = shape - mean_shape[:, None]
        spread = np.maximum((weights * off**2).sum(axis=1), 1e-300)
        free = (weights * off * (losses - mean[:, None])).sum(axis=1) / spread
        free_floor = mean - free * mean_shape
        floor = np.where(free < 0, mean, np.where(free_floor < 0, 0.0, free_floor))
        height = np.where(free < 0, 0.0, np.where(free_floor < 0, alone, free))
    residual = losses - floor[:, None] - height[:, None] * shape
    return floor, height, (weights * residual**2).sum(axis=1)


def minima(form: Form, x: Array, losses: Array) -> int:
    """How many separate valleys the profile of one row of losses (n,) has on the grid.

    One means that the best is the only one; a valley at an end of the grid counts.
    """
    t = form.variable(x) - form.variable(x).min()
    cost = profile(form, t, losses[None], np.ones((1, len(x))), rate_grid(t))[0]
    # Where the law is flat, or no better than another, neighbours differ by rounding alone.
    slope = np.diff(cost)
    slope = slope[np.abs(slope) > 1e-9 * np.ptp(cost)]
    if not len(slope):
        return 1
    falls = slope < 0
    return int((falls[:-1] & ~falls[1:]).sum() + (not falls[0]) + bool(falls[-1]))


def rate_interval(
    form: Form, x: Array, losses: Array, level: float = 0.95
) -> tuple[float | None, float | None]:
    """Ends of the rates that the losses (n,) cannot tell from the best: a profile of squares.

    A rate is inside while its sum of squares is at most 1 + t^2 / (n - p) times the least, t the
    quantile of Student's distribution: for normal errors of equal size exact but for the law's
    curvature. None for an end that the points do not bound, and for both with no points to spare.
    """
    spare = len(x) - form.size
    if spare < 1:
        return None, None
    t = form.variable(x) - form.variable(x).min()
    grid = rate_grid(t)
    ones = np.ones((1, len(x)))
    found = solve(form, x, losses)
    limit = float(found.rss[0]) * _factor(spare, level)
    inside = profile(form, t, losses[None], ones, grid)[0] <= limit
    best = float(found.rate[0])
    at = int(np.searchsorted(grid, best))

    def above(rate: float) -> bool:
        shape = np.exp(-rate * t)[None]
        return bool(_linear(form, shape, losses[None], ones)[2][0] > limit)

    low, high = None, None
    outer = np.flatnonzero(~inside[:at])
    if len(outer):
        low = _crossing(above, float(grid[outer[-1]]), min(float(_next(grid, outer[-1])), best))
    outer = np.flatnonzero(~inside[at:])
    if len(outer):
        place = at + int(outer[0])
        high = _crossing(above, float(grid[place]), max(float(_next(grid, place - 2)), best))
    return low, high


def floor_interval(
    form: Form, x: Array, losses: Array, level: float = 0.95
) -> tuple[float | None, float | None]:
    """The same for the floor; the lower end is 0 where the points do not bound it."""
    spare = len(x) - form.size
    if spare < 1:
        return None, None
    found = solve(form, x, losses)
    best = float(found.floor[0])
    limit = float(found.rss[0]) * _factor(spare, level)
    bare = Form("", "", form.is_log, has_floor=False)

    def outside(floors: Array) -> NDArray[np.bool_]:
        return np.asarray(solve(bare, x, losses[None] - floors[:, None]).rss > limit)

    # The floor may lie above some losses, where their errors are below 0.
    low = _floor_end(outside, 0.0, best)
    top = float(losses.max())
    return low or 0.0, _floor_end(outside, top, best)


def _floor_end(outside, far: float, near: float) -> float | None:  # type: ignore[no-untyped-def]
    """Where floors between `far` and `near` begin to be outside; None if none is."""
    end = None
    for _ in range(ZOOMS):
        floors = np.linspace(near, far, FLOORS)
        out = np.flatnonzero(outside(floors))
        if not len(out):
            return end
        first = int(out[0])
        near, far = float(floors[max(first - 1, 0)]), float(floors[first])
        end = (near + far) / 2
    return end


def _factor(spare: int, level: float) -> float:
    return float(1 + stdtrit(spare, (1 + level) / 2) ** 2 / spare)


def _next(grid: Array, place: int) -> float:
    return float(grid[min(max(place + 1, 0), len(grid) - 1)])


def _crossing(above, outer: float, inner: float) -> float:  # type: ignore[no-untyped-def]
    """Between a rate outside and one inside, by bisection of the logarithm."""
    for _ in range(50):
        middle = math.sqrt(outer * inner)
        outer, inner = (middle, inner) if above(middle) else (outer, middle)
    return math.sqrt(outer * inner)


def _golden(cost, low: Array, high: Array) -> Array:  # type: ignore[no-untyped-def]
    """Where functions with one valley between low and high are lowest, all at once."""
    left, right = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
    at_left, at_right = cost(left), cost(right)
    for _ in range(ROUNDS):
        goes = at_left <= at_right
        high, low = np.where(goes, right, high), np.where(goes, low, left)
        new = np.where(goes, high - GOLDEN * (high - low), low + GOLDEN * (high - low))
        value = cost(new)
        left, right = np.where(goes, new, right), np.where(goes, left, new)
        at_left, at_right = np.where(goes, value, at_right), np.where(goes, at_left, value)
    return np.asarray((low + high) / 2)
