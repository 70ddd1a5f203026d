"""A fitted law with its certificate: what says that it is the best one, and how sure it is."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from predict.laws import Array
from predict.problem import Problem, bounds

AGREEMENT = 1e-5
"""Relative distance to the best objective within which a start agrees with it."""

LARGEST_CONDITION = 1e9
"""Condition of the column-scaled Jacobian above which parameters are not determined: the published
fits of the real ladder have 500 to 4000, a ladder of one size has infinity."""

PRESSED = 1e-6
"""Cosine between the residuals and a parameter's gradient up to which nothing presses it on its
bound: in back-tests of the published ladder by the published laws a valley that ends at a bound has
1e-8 or less, a bound that is needed 1e-5 or more."""

SINGULAR = 1e300
"""Condition that stands for infinity, which JSON cannot hold."""


@dataclass(frozen=True)
class Fit:
    """A fitted law with its certificate."""

    law: str
    parameters: dict[str, float]
    objective: float
    points: int
    starts: int
    agreeing: int
    """Starts whose objective is within AGREEMENT of the best."""
    at_bound: tuple[str, ...]
    condition: float
    """Condition number of the column-scaled Jacobian over the free parameters."""
    relative_rms: float
    """Root mean square of fit - data, over the data of a log objective, else over their rms."""
    noise: float = 1.0
    """What residuals were divided by: relative if the objective takes logarithms."""
    covariance: tuple[tuple[float, ...], ...] = field(default=(), repr=False)
    """Of the parameters, (p, p); 0 for one at a bound."""

    @property
    def determined(self) -> bool:
        """Whether the data determine the free parameters, see LARGEST_CONDITION."""
        return self.condition < LARGEST_CONDITION

    @property
    def finite(self) -> bool:
        """Whether it is a fit at all: some start had a finite objective."""
        return math.isfinite(self.objective) and bool(np.isfinite(self.theta).all())

    @property
    def certified(self) -> bool:
        """Whether at least three starts agree on the best objective, and the data determine it."""
        return self.agreeing >= 3 and self.determined

    def values(self) -> str:
        """The parameters in words."""
        return ", ".join(f"{name} {value:.4g}" for name, value in self.parameters.items())

    def certificate(self) -> str:
        """What vouches for the fit, in words."""
        return (
            f"{self.points} points, rms {self.relative_rms:.2%}; {self.agreeing} of "
            f"{self.starts} starts agree; at a bound: {', '.join(self.at_bound) or 'none'}; "
            f"condition {self.condition:.3g}"
        )

    @property
    def doubt(self) -> str:
        """Why the fit is not certified; empty where it is."""
        if self.certified:
            return ""
        if not self.determined:
            return (
                f"not certified, the points do not determine its parameters (condition "
                f"{self.condition:.1g}); vary params and tokens more"
            )
        return f"not certified, {self.agreeing} of {self.starts} starts agree on the best objective"

    @property
    def theta(self) -> Array:
        """Parameters as a vector, in the law's order."""
        return np.array(list(self.parameters.values()))


def certify(
    problem: Problem,
    theta: Array,
    cost: Array,
    points: NDArray[np.intp],
    noise_is_known: bool,
    clusters: NDArray[np.intp] | None,
    best: NDArray[np.intp] | None = None,
) -> list[Fit]:
    """One start of each problem, of theta (P, S, p) and cost (P, S), with what vouches for it.

    `best` (P,) says which, by default the one of the least cost.
    """
    law, rows = problem.law, np.arange(len(cost))
    best = cost.argmin(axis=-1) if best is None else best
    chosen, least = theta[rows, best], cost.min(axis=-1)
    agreeing = as_good(problem, cost).sum(axis=-1)
    lower, upper = bounds(law)
    span = 1e-9 * (1 + np.abs(chosen))
    bound = (chosen <= lower + span) | (chosen >= upper - span)
    residual, gradient = problem.residuals(chosen[:, None])
    off, slope = residual[:, 0], gradient[:, 0]
    judged = _judged(problem, off, slope, ~bound, noise_is_known, clusters)
    # A valley may end at a bound, which then determines nothing.
    loose = bound & ~_pressed(problem, chosen[:, None], residual, gradient)
    some = np.flatnonzero(loose.any(axis=-1))
    if len(some):
        part, which = problem.select(some), None if clusters is None else clusters[some]
        free = ~bound[some] | loose[some]
        without = _judged(part, off[some], slope[some], free, noise_is_known, which)
        for i, told in zip(some.tolist(), without, strict=True):
            judged[i] = told if told[0] >= LARGEST_CONDITION else judged[i]
    return [
        Fit(
            law=law.name,
            parameters=dict(zip(law.names, values, strict=True)),
            objective=objective,
            points=int(points[i]),
            starts=cost.shape[1],
            agreeing=int(agreeing[i]),
            at_bound=tuple(n for n, b in zip(law.names, bound[i], strict=True) if b),
            condition=judged[i][0],
            relative_rms=judged[i][1],
            noise=float(problem.noise[i, 0, 0]),
            covariance=judged[i][2],
        )
        for i, (values, objective) in enumerate(zip(chosen.tolist(), least.tolist(), strict=True))
    ]


def as_good(problem: Problem, cost: Array) -> NDArray[np.bool_]:
    """Which starts, (P, S) of cost, agree with the best one of their problem."""
    # With data that a law meets exactly the objective is rounding noise: agreement needs a floor.
    size = np.log(problem.values) if problem.objective.log else problem.values
    scale = problem.noise[:, 0, 0] ** 2
    floor = 1e-18 * (problem.weights * (1 + size**2)).sum(axis=-1)[:, 0] / scale
    least = cost.min(axis=-1)
    return np.asarray(cost <= (least * (1 + AGREEMENT) + floor)[:, None])


def _pressed(problem: Problem, theta: Array, residual: Array, gradient: Array) -> NDArray[np.bool_]:
    """Whether the objective slopes along each parameter, (P, p), so that a bound must hold it."""
    pull = (theta - problem.prior.mean) / problem.prior.sd
    slope = problem.weights * np.clip(residual, -problem.objective.delta, problem.objective.delta)
    along = (slope[..., None, :] @ gradient)[..., 0, :] + pull / problem.prior.sd
    weights = problem.weights[..., None]
    steep = (weights * gradient**2).sum(axis=-2) + problem.prior.sd**-2.0
    size = (slope**2 / np.maximum(problem.weights, 1e-300)).sum(axis=-1) + (pull**2).sum(axis=-1)
    free = np.abs(along) <= PRESSED * np.sqrt(steep * size[..., None])
    # A parameter of a term that has vanished has no slope to judge by: held.
    return np.asarray(~free | (steep == 0))[:, 0]


Judged = tuple[float, float, tuple[tuple[float, ...], ...]]
"""A fit's condition, its relative rms and its covariance."""


def _judged(
    problem: Problem,
    residual: Array,
    gradient: Array,
    free: NDArray[np.bool_],
    noise_is_known: bool,
    clusters: NDArray[np.intp] | None,
) -> list[Judged]:
    """The linear algebra of `certify`, at once for all problems of the same points and bounds.

    `residual` (P, n) and its `gradient` (P, n, p); `free` (P, p) are the parameters that
    count.
    """
    weights = problem.weights[:, 0]
    alike: dict[bytes, list[int]] = {}
    for i in range(len(residual)):
        key = (weights[i] > 0).tobytes() + free[i].tobytes()
        key += b"" if clusters is None else clusters[i].tobytes()
        alike.setdefault(key, []).append(i)
    found: dict[int, Judged] = {}
    for group in alike.values():
        used, kept = np.flatnonzero(weights[group[0]] > 0), np.flatnonzero(free[group[0]])
        rows = np.array(group)
        part = np.ix_(rows, used)
        off, root = residual[part], np.sqrt(weights[part])
        jac = gradient[np.ix_(rows, used, kept)] * root[..., None]
        scores = jac * (off * root)[..., None]
        dispersion = np.ones(len(group))
        if not noise_is_known:
            dispersion = ((off * root) ** 2).sum(axis=-1) / max(len(used) - len(kept), 1)
        # What a prior says determines a parameter as much as points do.
        prior = np.diag(1 / problem.prior.sd)[:, kept]
        jac = np.concatenate((jac, np.broadcast_to(prior, (len(group), *prior.shape))), axis=1)
        unit = np.linalg.norm(jac, axis=1)
        regular = ((unit > 0) & np.isfinite(unit)).all(axis=-1) & (len(kept) > 0)
        condition = np.full(len(group), np.inf)
        if regular.any():
            condition[regular] = np.linalg.cond(jac[regular] / unit[regular][:, None])
        off = off * problem.noise[rows, 0]
        relative = (
            np.expm1(off)
            if problem.objective.log
            else off / np.maximum(_rms(problem.values[:, 0][part]), 1 / SINGULAR)[:, None]
        )
        known = condition < LARGEST_CONDITION
        covariance = np.zeros((len(group), *[free.shape[1]] * 2))
        covariance[np.ix_(known, kept, kept)] = _covariance(
            jac[known],
            scores[known],
            dispersion[known],
            None if clusters is None else clusters[group[0]][used],
        )
        columns = (
            np.minimum(condition, SINGULAR).tolist(),
            np.minimum(_rms(relative), SINGULAR).tolist(),
            covariance.tolist(),
            known.tolist(),
        )
        for i, *own in zip(group, *columns, strict=True):
            found[i] = own[0], own[1], tuple(map(tuple, own[2])) if own[3] else ()
    return [found[i] for i in range(len(residual))]


def _covariance(
    jac: Array, scores: Array, dispersion: Array, clusters: NDArray[np.intp] | None
) -> Array:
    """Covariances of the free parameters, (K, f, f): the inverse curvature, or the sandwich.

    `jac` (K, n + p, f) holds the points' weighted gradients and the prior's, `scores` (K, n, f)
    each point's gradient of half its squared residual; `dispersion` (K,).
    """
    unit = np.linalg.norm(jac, axis=1)
    turned = np.swapaxes(jac / unit[:, None], -1, -2)
    inverse = np.linalg.pinv(turned @ np.swapaxes(turned, -1, -2))
    inverse = inverse / (unit[:, :, None] * unit[:, None])
    if clusters is None:
        return np.asarray(inverse * dispersion[:, None, None])
    order = clusters.argsort(kind="stable")
    edges = np.unique(clusters[order], return_index=True)[1]
    summed = np.add.reduceat(scores[:, order], edges, axis=1)
    small = len(edges) / max(len(edges) - 1, 1)
    return np.asarray(inverse @ (small * np.swapaxes(summed, -1, -2) @ summed) @ inverse)


def _rms(values: Array) -> Array:
    """Root mean square along the last axis."""
    return np.asarray(np.sqrt((values**2).mean(axis=-1)))
