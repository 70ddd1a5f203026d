"""Certified fits: a grid with solved linear parameters for starts, batched robust LM to polish.

Everything runs over P problems times S starts at once in numpy. A fit carries a certificate: how
many starts agree on the best objective, which parameters sit on a bound, and how well the data
determine them. An optimiser's own success flag certifies nothing and is not consulted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from evaluation.records import InputError
from predict.laws import Array, Law
from predict.polish import ROUGH, polish
from predict.problem import Objective, Prior, Problem, bounds, condensed
from predict.starts import grid_starts

__all__ = ["Fit", "Objective", "Prior", "fit", "refit"]

AGREEMENT = 1e-5
"""Relative distance to the best objective within which a start agrees with it."""

LARGEST_CONDITION = 1e9
"""Condition of the column-scaled Jacobian above which parameters are not determined: the published
fits of the real ladder have 500 to 4000, a ladder of one size has infinity."""

SINGULAR = 1e300
"""Condition that stands for infinity, which JSON cannot hold."""

FIRST_NOISE = 0.01
"""Relative noise that a fit which re-estimates it begins with."""

NOISE_PASSES = 4

LARGEST_BATCH = 2**22
"""Numbers in the gradient of a grid of starts up to which problems are fitted in one batch, 32 MiB;
fits do not depend on it (tests/predict/test_fit.py), memory and time do: benchmarks/load.md."""


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


def fit(
    law: Law,
    inputs: Sequence[Array],
    values: Array,
    objective: Objective,
    weights: Array | None = None,
    starts: int = 10,
    noise: tuple[float, float] | None = None,
    prior: Prior | None = None,
    clusters: NDArray[np.intp] | None = None,
) -> list[Fit]:
    """Fit `law` to P problems of at most n points: inputs and values of shape (P, n).

    `weights`, shape (P, n), default 1; a 0 leaves a point out, so ragged problems are padded with
    any valid numbers. With `noise`, its least and greatest value, residuals are divided by each
    problem's own, re-estimated in NOISE_PASSES passes, and `delta` is in units of it. `clusters`,
    shape (P, n), says which points share their errors, such as checkpoints of one run; the
    covariance then allows for it. Raises InputError where a problem has fewer points than
    parameters that no prior speaks about.

    >>> import numpy as np
    >>> from predict.fit import Objective, fit
    >>> from predict.laws import get_law
    >>> params, tokens = (np.ravel(x) for x in np.meshgrid([1e8, 4e8, 1e9], [2e9, 2e10, 1e11]))
    >>> loss = 1.7 + 400 / params**0.34 + 410 / tokens**0.28
    >>> (found,) = fit(
    ...     get_law("chinchilla"), [params[None], tokens[None]], loss[None], Objective(log=True)
    ... )
    >>> {name: round(found.parameters[name], 2) for name in ("alpha", "beta", "E")}
    {'alpha': 0.34, 'beta': 0.28, 'E': 1.7}
    >>> found.certified
    True
    """
    values = np.asarray(values, dtype=float)
    inputs = [np.asarray(x, dtype=float) for x in inputs]
    weights = np.ones_like(values) if weights is None else np.asarray(weights, dtype=float)
    points = (weights > 0).sum(axis=-1)
    free = law.size if prior is None else int(np.isinf(prior.sd).sum())
    if points.min() < free:
        raise InputError(
            f"law {law.name}: {points.min()} points for {free} parameters; "
            "give at least as many points as parameters"
        )
    rows = max(LARGEST_BATCH // (law.cells(inputs) * values.shape[-1] * law.size), 1)
    found: list[Fit] = []
    for start in range(0, len(values), rows):
        part = slice(start, start + rows)
        first = np.full(len(values[part]), 1.0 if noise is None else FIRST_NOISE)
        given = [x[part] for x in inputs]
        problem = _problem(law, given, values[part], objective, weights[part], first, prior)
        found += _fit_batch(
            problem,
            given,
            starts,
            noise,
            points[part],
            None if clusters is None else clusters[part],
        )
    return found


def _fit_batch(
    problem: Problem,
    inputs: list[Array],
    starts: int,
    noise: tuple[float, float] | None,
    points: NDArray[np.intp],
    clusters: NDArray[np.intp] | None,
) -> list[Fit]:
    """`fit` of so many problems at once; `points` (P,) is how many each has."""
    # A grid cell or a trial step may overflow; its cost is then infinite and it is not taken.
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        near = condensed(problem)
        theta = grid_starts(near, inputs, starts)
        if near is not problem:
            theta, _ = polish(near, theta)
        for _ in range(0 if noise is None else NOISE_PASSES - 1):
            theta, cost = polish(problem, theta)
            problem = replace(problem, noise=_noise(problem, theta, cost, noise or (0, 0)))
        theta, cost = polish(problem, theta)
        return [
            _certify(
                problem.select(np.array([i])),
                theta[i],
                cost[i],
                int(points[i]),
                noise is not None,
                None if clusters is None else clusters[i],
            )
            for i in range(len(points))
        ]


def refit(
    law: Law,
    inputs: Sequence[Array],
    values: Array,
    objective: Objective,
    weights: Array,
    begin: Array,
    noise: Array,
    prior: Prior | None = None,
) -> Array:
    """Parameters (P, p) of many problems that lie close to fits already made, such as resamples.

    One start each, `begin` (P, p), and no certificate; `noise` (P,) is kept. Settles to about a
    hundredth of a standard error, which is what makes it fast.
    """
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        problem = _problem(law, inputs, values, objective, weights, noise, prior)
        theta, _ = polish(problem, begin[:, None], ROUGH)
    return np.asarray(theta[:, 0])


def with_resamples(
    law: Law,
    inputs: Sequence[Array],
    values: Array,
    objective: Objective,
    counts: NDArray[np.int64],
    theta: Array,
) -> Array:
    """A fit's parameters, and behind them those of its points drawn again, (1 + R, p).

    `counts` (R, n) is how often each of the n points was drawn; draws of no more distinct points
    than the law has parameters are left out.
    """
    able = counts[(counts > 0).sum(axis=1) > law.size]
    if not len(able):
        return theta[None]
    rows = (len(able), len(values))
    again = refit(
        law,
        [np.broadcast_to(x, rows) for x in inputs],
        np.broadcast_to(values, rows),
        objective,
        able.astype(float),
        np.broadcast_to(theta, (len(able), law.size)),
        np.ones(len(able)),
    )
    return np.concatenate((theta[None], again))


def _problem(
    law: Law,
    inputs: Sequence[Array],
    values: Array,
    objective: Objective,
    weights: Array,
    noise: Array,
    prior: Prior | None,
) -> Problem:
    """P problems of n points each, with room for starts: values (P, 1, n), noise (P, 1, 1)."""
    return Problem(
        law,
        objective,
        [x[:, None] for x in inputs],
        values[:, None],
        weights[:, None],
        noise[:, None, None],
        prior or Prior(np.zeros(law.size), np.full(law.size, np.inf)),
    )


def _noise(problem: Problem, theta: Array, cost: Array, limits: tuple[float, float]) -> Array:
    """Each problem's residual rms about its best start, (K, 1, 1), within the limits.

    Residuals are clipped at three times the noise that they were fitted with; n - 4 degrees of
    freedom.
    """
    best = theta[np.arange(len(theta)), cost.argmin(axis=-1)][:, None]
    residual, _ = problem.residuals(best)
    squares = (problem.weights * np.clip(residual, -3, 3) ** 2).sum(axis=-1)
    freedom = np.maximum(problem.weights.sum(axis=-1) - 4, 1)
    return np.asarray(np.clip(problem.noise * np.sqrt(squares / freedom)[..., None], *limits))


def _certify(
    problem: Problem,
    theta: Array,
    cost: Array,
    points: int,
    noise_is_known: bool,
    clusters: NDArray[np.intp] | None,
) -> Fit:
    law, log = problem.law, problem.objective.log
    best = int(cost.argmin())
    # With data that a law meets exactly the objective is rounding noise: agreement needs a floor.
    size = np.log(problem.values) if log else problem.values
    scale = float(problem.noise.squeeze()) ** 2
    floor = 1e-18 * float((problem.weights * (1 + size**2)).sum()) / scale
    agreeing = int((cost <= cost[best] * (1 + AGREEMENT) + floor).sum())
    lower, upper = bounds(law)
    span = 1e-9 * (1 + np.abs(theta[best]))
    bound = (theta[best] <= lower + span) | (theta[best] >= upper - span)
    residual, gradient = problem.residuals(theta[best][None, None])
    used = problem.weights[0, 0] > 0
    root = np.sqrt(problem.weights[0, 0, used])
    jac = gradient[0, 0, used] * root[:, None]
    scores = jac * (residual[0, 0, used] * root)[:, None]
    freedom = max(used.sum() - (~bound).sum(), 1)
    dispersion = (
        1.0 if noise_is_known else float(((residual[0, 0, used] * root) ** 2).sum() / freedom)
    )
    # What a prior says determines a parameter as much as points do.
    jac = np.vstack((jac, np.diag(1 / problem.prior.sd)))[:, ~bound]
    residual = residual * problem.noise
    unit = np.linalg.norm(jac, axis=0)
    is_regular = jac.size and (unit > 0).all() and np.isfinite(unit).all()
    condition = float(np.linalg.cond(jac / unit)) if is_regular else np.inf
    if log:
        relative = np.expm1(residual)
    else:
        relative = residual / np.sqrt((problem.values[0, 0, used] ** 2).mean())
    return Fit(
        law=law.name,
        parameters={n: float(v) for n, v in zip(law.names, theta[best], strict=True)},
        objective=float(cost[best]),
        points=points,
        starts=len(cost),
        agreeing=agreeing,
        at_bound=tuple(n for n, b in zip(law.names, bound, strict=True) if b),
        condition=min(condition, SINGULAR),
        relative_rms=min(float(np.sqrt((relative[0, 0][used] ** 2).mean())), SINGULAR),
        noise=float(problem.noise.squeeze()),
        covariance=_covariance(
            jac, scores[:, ~bound], ~bound, dispersion, None if clusters is None else clusters[used]
        )
        if condition < LARGEST_CONDITION
        else (),
    )


def _covariance(
    jac: Array,
    scores: Array,
    free: NDArray[np.bool_],
    dispersion: float,
    clusters: NDArray[np.intp] | None,
) -> tuple[tuple[float, ...], ...]:
    """Covariance of the parameters, 0 where not free: the inverse curvature, or the sandwich.

    `jac` (n + p, f) holds the points' weighted gradients and the prior's, `scores` (n, f) each
    point's gradient of half its squared residual.
    """
    unit = np.linalg.norm(jac, axis=0)
    inverse = np.linalg.pinv((jac / unit).T @ (jac / unit)) / np.outer(unit, unit)
    if clusters is not None:
        names, which = np.unique(clusters, return_inverse=True)
        summed = np.zeros((len(names), scores.shape[1]))
        np.add.at(summed, which, scores)
        small = len(names) / max(len(names) - 1, 1)
        inverse = inverse @ (small * summed.T @ summed) @ inverse
    else:
        inverse = inverse * dispersion
    full = np.zeros((len(free), len(free)))
    full[np.ix_(free, free)] = inverse
    return tuple(tuple(float(v) for v in row) for row in full)
