"""Certified fits: a grid with solved linear parameters for starts, batched robust LM to polish.

Everything runs over P problems times S starts at once in numpy. A fit carries a certificate: how
many starts agree on the best objective, which parameters sit on a bound, and how well the data
determine them. An optimiser's own success flag certifies nothing and is not consulted.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from evaluation.records import InputError
from predict.laws import Array, Law

AGREEMENT = 1e-5
"""Relative distance to the best objective within which a start agrees with it."""

LARGEST_CONDITION = 1e9
"""Condition of the column-scaled Jacobian above which parameters are not determined: the published
fits of the real ladder have 500 to 4000, a ladder of one size has infinity."""

SINGULAR = 1e300
"""Condition that stands for infinity, which JSON cannot hold."""

MAX_ITERATIONS = 600
"""Steps of one start; published fits of the real ladder settle within 200."""

FIRST_NOISE = 0.01
"""Relative noise that a fit which re-estimates it begins with."""

NOISE_PASSES = 4

CONDENSED = 64
"""Means that stand for a problem of many points while its starts are far from settled."""

SETTLED = 1e-13
"""Relative gain promised by an all but undamped step below which a start has settled."""

STALLED = 25
"""Steps without a relative gain of 1e-11 after which a start has settled."""


@dataclass(frozen=True)
class Objective:
    """What a fit minimises: sum of weight x rho(residual).

    `delta` is Huber's threshold, infinite for least squares; with `log` residuals are differences
    of logarithms, else of values.
    """

    delta: float = np.inf
    log: bool = False


@dataclass(frozen=True)
class Prior:
    """Independent normal priors on a law's parameters, as a penalty on the objective.

    Both have shape (p,); an infinite `sd` is no prior. The penalty is half the sum of
    ((parameter - mean) / sd)^2, which goes with residuals in units of their own noise.
    """

    mean: Array
    sd: Array


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
    """Root mean square of (fit - data) / data."""
    noise: float = 1.0
    """What residuals were divided by: relative if the objective takes logarithms."""
    covariance: tuple[tuple[float, ...], ...] = field(default=(), repr=False)
    """Of the parameters, (p, p); 0 for one at a bound."""

    @property
    def determined(self) -> bool:
        """Whether the data determine the free parameters, see LARGEST_CONDITION."""
        return self.condition < LARGEST_CONDITION

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
    # A grid cell or a trial step may overflow; its cost is then infinite and it is not taken.
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        problem = _Problem(
            law,
            objective,
            [x[:, None] for x in inputs],
            values[:, None],
            weights[:, None],
            np.full((len(values), 1, 1), 1.0 if noise is None else FIRST_NOISE),
            prior or Prior(np.zeros(len(law.parameters)), np.full(len(law.parameters), np.inf)),
        )
        near = _condensed(problem)
        theta = _grid_starts(near, inputs, starts)
        if near is not problem:
            theta, _ = _polish(near, theta)
        theta, cost = _polish(problem, theta)
        for _ in range(0 if noise is None else NOISE_PASSES - 1):
            problem = replace(problem, noise=_noise(problem, theta, cost, noise or (0, 0)))
            theta, cost = _polish(problem, theta)
        return [
            _certify(
                problem.select(np.array([i])),
                theta[i],
                cost[i],
                int(points[i]),
                noise is not None,
                None if clusters is None else clusters[i],
            )
            for i in range(len(values))
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
        problem = _Problem(
            law,
            objective,
            [x[:, None] for x in inputs],
            values[:, None],
            weights[:, None],
            noise[:, None, None],
            prior or Prior(np.zeros(law.size), np.full(law.size, np.inf)),
        )
        theta, _ = _polish(problem, begin[:, None], promised=1e-6, patience=3)
    return np.asarray(theta[:, 0])


def _condensed(problem: _Problem) -> _Problem:
    """Many points along one input as CONDENSED means of neighbours, to bring starts near."""
    width = problem.values.shape[-1]
    if len(problem.inputs) > 1 or width <= 2 * CONDENSED:
        return problem
    order = problem.inputs[0].argsort(axis=-1, kind="stable")
    edges = np.linspace(0, width, CONDENSED + 1).astype(int)[:-1]

    def summed(values: Array) -> Array:
        return np.add.reduceat(np.take_along_axis(values, order, axis=-1), edges, axis=-1)

    weights = summed(problem.weights)
    whole = np.maximum(weights, 1e-300)
    return replace(
        problem,
        inputs=[summed(problem.inputs[0] * problem.weights) / whole],
        values=np.where(weights > 0, summed(problem.values * problem.weights) / whole, 1.0),
        weights=weights,
    )


def _noise(problem: _Problem, theta: Array, cost: Array, limits: tuple[float, float]) -> Array:
    """Each problem's residual rms about its best start, (K, 1, 1), within the limits.

    Residuals are clipped at three times the noise that they were fitted with; n - 4 degrees of
    freedom.
    """
    best = theta[np.arange(len(theta)), cost.argmin(axis=-1)][:, None]
    residual, _ = problem.residuals(best)
    squares = (problem.weights * np.clip(residual, -3, 3) ** 2).sum(axis=-1)
    freedom = np.maximum(problem.weights.sum(axis=-1) - 4, 1)
    return np.asarray(np.clip(problem.noise * np.sqrt(squares / freedom)[..., None], *limits))


@dataclass(frozen=True)
class _Problem:
    """Data of K problems: inputs, values and weights (K, 1, n), noise (K, 1, 1)."""

    law: Law
    objective: Objective
    inputs: list[Array]
    values: Array
    weights: Array
    noise: Array
    prior: Prior

    def select(self, rows: NDArray[np.intp]) -> _Problem:
        return replace(
            self,
            inputs=[x[rows] for x in self.inputs],
            values=self.values[rows],
            weights=self.weights[rows],
            noise=self.noise[rows],
        )

    def residuals(self, theta: Array) -> tuple[Array, Array]:
        """Residuals (K, S, n) in units of the noise, and their gradient (K, S, n, p)."""
        value, gradient = self.law.evaluate(theta, self.inputs)
        if not self.objective.log:
            return (value - self.values) / self.noise, gradient / self.noise[..., None]
        value = np.maximum(value, np.finfo(float).tiny)
        scale = value[..., None] * self.noise[..., None]
        return np.log(value / self.values) / self.noise, gradient / scale

    def cost(self, residual: Array, theta: Array) -> Array:
        size = np.abs(residual)
        inside = np.minimum(size, self.objective.delta)
        # Huber: r^2/2 inside, delta (|r| - delta/2) outside; one expression for both.
        rho = inside * (size - 0.5 * inside)
        total = (self.weights * rho).sum(axis=-1)
        total = total + 0.5 * (((theta - self.prior.mean) / self.prior.sd) ** 2).sum(axis=-1)
        return np.where(np.isfinite(total), total, np.inf)


def _bounds(law: Law) -> tuple[Array, Array]:
    return np.array([p.lower for p in law.parameters]), np.array([p.upper for p in law.parameters])


def _grid_starts(problem: _Problem, inputs: Sequence[Array], starts: int) -> Array:
    """Starts (P, S, p): the best grid cells that are no neighbours, and the law's own start."""
    law, count = problem.law, len(problem.values)
    axes = [p.grid(inputs) for p in law.parameters if p.grid is not None]
    shape = [axis.shape[1] for axis in axes]
    cells = np.array(list(itertools.product(*(range(n) for n in shape))))  # (G, axes)
    theta = np.zeros((count, len(cells), len(law.parameters)))
    nonlinear = [i for i, p in enumerate(law.parameters) if not p.linear]
    for axis, values, index in zip(nonlinear, axes, cells.T, strict=True):
        theta[..., axis] = values[:, index]
    _solve_linear(problem, theta)
    residual, _ = problem.residuals(theta)
    cost = problem.cost(residual, theta)
    near = (np.abs(cells[:, None] - cells[None]) <= 1).all(axis=-1)  # (G, G)
    chosen = []
    for _ in range(starts):
        best = cost.argmin(axis=-1)
        chosen.append(theta[np.arange(count), best])
        cost = np.where(near[best], np.inf, cost)
    if law.default_start is not None:
        chosen.append(np.broadcast_to(np.array(law.default_start), chosen[0].shape))
    return np.stack(chosen, axis=1)


def _solve_linear(problem: _Problem, theta: Array) -> None:
    """Fill in the linear parameters by bounded least squares, exactly, in place.

    Every choice of which of them sit on which bound is solved; the best feasible one wins.
    """
    law = problem.law
    linear = [i for i, p in enumerate(law.parameters) if p.linear]
    scale = np.array([np.exp(p.lower) if p.log else p.lower for p in law.parameters])[linear]
    top = np.array([np.exp(p.upper) if p.log else p.upper for p in law.parameters])[linear]
    theta[..., linear] = 0
    value, gradient = law.evaluate(theta, problem.inputs)
    basis = gradient[..., linear]  # (P, G, n, l)
    # What is left without the linear terms; a log parameter of 0 is a coefficient of 1.
    ones = basis[..., [law.parameters[i].log for i in linear]].sum(axis=-1)
    wanted = problem.values - (value - ones)
    weight = problem.weights / (problem.values**2 if problem.objective.log else 1)
    gram = np.einsum("pgni,pgnj->pgij", basis * weight[..., None], basis)
    right = np.einsum("pgni,pgn->pgi", basis, weight * wanted)
    unit = np.sqrt(np.maximum(np.einsum("pgii->pgi", gram), 1e-300))
    best_cost = np.full(theta.shape[:2], np.inf)
    pin = np.where(np.isfinite(scale), scale, top)
    best = np.broadcast_to(pin, (*theta.shape[:2], len(linear))).copy()
    places = [
        ("free", *(("low",) if np.isfinite(s) else ()), *(("high",) if np.isfinite(t) else ()))
        for s, t in zip(scale, top, strict=True)
    ]
    for choice in itertools.product(*places):
        free = np.array([place == "free" for place in choice])
        pinned = np.array(
            [h if c == "high" else s for c, s, h in zip(choice, scale, top, strict=True)]
        )
        solution = np.broadcast_to(np.where(free, 0.0, pinned), best.shape).copy()
        if free.any():
            system = gram[..., free, :][..., free] / (
                unit[..., free, None] * unit[..., None, free]
            ) + 1e-13 * np.eye(free.sum())
            target = (right - np.einsum("pgij,pgj->pgi", gram, solution))[..., free]
            part = np.linalg.solve(system, (target / unit[..., free])[..., None])[..., 0]
            solution[..., free] = part / unit[..., free]
        feasible = ((solution >= scale - 1e-12) & (solution <= top + 1e-12)).all(axis=-1)
        cost = np.einsum("pgi,pgij,pgj->pg", solution, gram, solution) - 2 * np.einsum(
            "pgi,pgi->pg", solution, right
        )
        better = feasible & (cost < best_cost)
        best_cost = np.where(better, cost, best_cost)
        best = np.where(better[..., None], solution, best)
    log = np.array([law.parameters[i].log for i in linear])
    theta[..., linear] = np.where(log, np.log(best), best)


def _polish(
    problem: _Problem, theta: Array, promised: float = SETTLED, patience: int = STALLED
) -> tuple[Array, Array]:
    """Levenberg-Marquardt from every start (P, S, p), projected onto the bounds.

    Huber's kink makes one curvature model either slow or short-sighted, so each step tries two,
    reweighted least squares and the curvature of the points inside the threshold, and keeps the
    better.
    """
    count, starts, _ = theta.shape
    first = _first_alike(theta)
    rows, columns = np.nonzero(first == np.arange(starts))
    place = np.zeros((count, starts), dtype=int)
    place[rows, columns] = np.arange(len(rows))
    place = np.take_along_axis(place, first, axis=1)
    flat = problem.select(rows)
    theta = theta[rows, columns][:, None]
    lower, upper = _bounds(problem.law)
    theta = np.clip(theta, lower, upper)
    residual, gradient = flat.residuals(theta)
    cost = flat.cost(residual, theta)
    damping = np.full(cost.shape, 1e-3)
    idle = np.zeros(cost.shape, dtype=int)
    active = np.arange(len(theta))
    for _ in range(MAX_ITERATIONS):
        part = flat.select(active)
        now = theta[active]
        r, jac = residual[active], gradient[active]
        best, best_cost = now, cost[active]
        steps, promise = _steps(part, now, r, jac, damping[active], lower, upper)
        for step in steps:
            trial = part.residuals(step)
            trial_cost = part.cost(trial[0], step)
            better = trial_cost < best_cost
            best = np.where(better[..., None], step, best)
            best_cost = np.where(better, trial_cost, best_cost)
            won = better[:, 0]
            residual[active[won]], gradient[active[won]] = trial[0][won], trial[1][won]
        moved = best_cost < cost[active]
        gain = np.where(moved, 1 - best_cost / np.maximum(cost[active], 1e-300), 0)
        idle[active] = np.where(gain > 100 * promised, 0, idle[active] + 1)
        damping[active] = np.clip(
            np.where(moved, damping[active] / 6, damping[active] * 4), 1e-14, 1e14
        )
        theta[active], cost[active] = best, best_cost
        settled = (promise <= promised * best_cost) & (damping[active] < 0.1)
        active = active[~(settled | (idle[active] >= patience)).all(axis=-1)]
        if not len(active):
            break
    return theta[place][:, :, 0], cost[place][:, :, 0]


def _first_alike(theta: Array) -> NDArray[np.intp]:
    """For every start, (P, S), the first of its problem that is the same to a millionth."""
    size = 1 + np.abs(theta)
    alike = np.abs(theta[:, :, None] - theta[:, None]) <= 1e-6 * size[:, None]  # (P, S, S, p)
    return np.asarray(alike.all(axis=-1).argmax(axis=-1))


def _steps(
    part: _Problem,
    theta: Array,
    residual: Array,
    gradient: Array,
    damping: Array,
    lower: Array,
    upper: Array,
) -> tuple[list[Array], Array]:
    """Trial steps, each (K, S, p), and the gain (K, S) that the first one promises."""
    size, delta = np.abs(residual), part.objective.delta
    slope = part.weights * np.clip(residual, -delta, delta)
    precision = part.prior.sd**-2.0
    pull = precision * (theta - part.prior.mean)
    descent = np.einsum("ksn,ksnp->ksp", slope, gradient) + pull
    stuck = ((theta <= lower) & (descent > 0)) | ((theta >= upper) & (descent < 0))
    descent = np.where(stuck, 0, descent)
    reweighted = part.weights * np.minimum(1, delta / np.maximum(size, 1e-300))
    models = [reweighted]
    if np.isfinite(delta):
        models.append(part.weights * (size <= delta))
    steps: list[Array] = []
    eye = np.eye(theta.shape[-1])
    scale = np.einsum("ksn,ksnp->ksp", reweighted, gradient**2) + precision
    for model in models:
        curvature = np.einsum("ksnp,ksnq->kspq", gradient * model[..., None], gradient)
        curvature = curvature + eye * precision
        held = stuck[..., :, None] | stuck[..., None, :]
        curvature = np.where(held, 0, curvature)
        diagonal = (damping[..., None] + 1e-14) * scale + 1e-300
        diagonal = np.where(stuck, 1, diagonal)
        unit = np.sqrt(np.einsum("kspp->ksp", curvature) + diagonal)
        system = (curvature + eye * diagonal[..., None]) / (unit[..., None] * unit[..., None, :])
        step = np.linalg.solve(system, (descent / unit)[..., None])[..., 0] / unit
        if not steps:
            promise = np.abs((descent * step).sum(axis=-1))
        steps.append(np.clip(theta - step, lower, upper))
    return steps, promise


def _certify(
    problem: _Problem,
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
    lower, upper = _bounds(law)
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
    is_regular = jac.size and (unit > 0).all()
    condition = float(np.linalg.cond(jac / unit)) if is_regular else np.inf
    relative = np.expm1(residual) if log else residual / problem.values
    return Fit(
        law=law.name,
        parameters={n: float(v) for n, v in zip(law.names, theta[best], strict=True)},
        objective=float(cost[best]),
        points=points,
        starts=len(cost),
        agreeing=agreeing,
        at_bound=tuple(n for n, b in zip(law.names, bound, strict=True) if b),
        condition=min(condition, SINGULAR),
        relative_rms=float(np.sqrt((relative[0, 0][used] ** 2).mean())),
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
    point's gradient of the objective.
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
