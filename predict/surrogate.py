"""Neural regression of L(N, D): ensembles of small networks, many trained at once in numpy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from evaluation.records import InputError
from predict.registry import Array

LEAST_RUNS = 9
"""Finished runs without which no network is trained."""

DECAYS = tuple(10.0**-k for k in np.arange(2, 6.1, 1.0))
"""Weight decays to choose from: lambda in sum r^2 + lambda sum w^2, r in standard deviations of
log loss."""

STEPS = 400
"""Most Levenberg-Marquardt steps of a network; nearly all settle within 100."""

WIDE = 60.0
"""Bound of every parameter, beyond which a unit is a step."""

SETTLED = 1e-4
"""Relative fall of the objective in one step below which a network has settled."""


@dataclass(frozen=True)
class Shape:
    """What the networks are: f(z) = b + s.z + sum_j v_j log(1 + exp(w_j.z + c_j)).

    z are the standardised logarithms of N and D.
    """

    hidden: int = 12
    """Units of log(1 + e^u); measured in benchmarks/surrogate, as are the other two."""
    monotone: bool = False
    """Whether the signs of w, v and s are held so that the loss can only fall with N and D.

    Off: such units have w1 w2 v at least 0, while log(E + A N^-a + B D^-b) bends the other way
    across N and D, so that in logarithms they cannot come near it."""
    log: bool = True
    """Whether the target is log loss, else the loss."""

    @property
    def size(self) -> int:
        """How many parameters a network has."""
        return 4 * self.hidden + 3


@dataclass(frozen=True)
class Scaler:
    """Standardises log N, log D and log loss."""

    centre: Array
    scale: Array
    mean: float
    sd: float
    log: bool = True
    """Whether of log losses, else of losses."""

    def targets(self, losses: Array) -> Array:
        """Y of losses."""
        return np.asarray(((np.log(losses) if self.log else losses) - self.mean) / self.sd)

    def inputs(self, params: Array, tokens: Array) -> Array:
        """Z (..., 2)."""
        return np.asarray(
            (np.stack((np.log(params), np.log(tokens)), axis=-1) - self.centre) / self.scale
        )


@dataclass(frozen=True)
class Network:
    """K networks of one shape, (K, size), their common scaler and what training says of them."""

    shape: Shape
    scaler: Scaler
    theta: Array
    decay: float
    settled: float
    """Share of the networks that settled within STEPS."""
    residual_sd: float = 0.0
    """Of log losses from the mean of the networks, with the degrees of freedom spared."""
    spared: float = 0.0
    """Runs less the effective parameters, the trace of the smoother."""
    scores: dict[float, float] = field(default_factory=dict)
    """Root mean square of log errors on left-out sizes, by weight decay."""

    def loss(self, params: Array, tokens: Array) -> Array:
        """Losses of every network (K, ...) at N and D of one shape."""
        params, tokens = np.broadcast_arrays(np.asarray(params, float), np.asarray(tokens, float))
        z = self.scaler.inputs(params.ravel(), tokens.ravel())
        value, _ = forward(self.shape, self.theta, z, with_gradient=False)
        value = self.scaler.mean + self.scaler.sd * value
        if self.scaler.log:
            value = np.exp(value)
        return np.asarray(value.reshape(len(self.theta), *params.shape))


def standardise(params: Array, tokens: Array, losses: Array, log: bool = True) -> Scaler:
    """From runs; raises InputError where one of N, D and the loss is one value throughout."""
    logs = np.stack((np.log(params), np.log(tokens)), axis=-1)
    y = np.log(losses) if log else losses
    scale, sd = logs.std(axis=0), float(y.std())
    if not (scale > 1e-6).all() or sd < 1e-12:
        raise InputError("the runs are of one size, one token count or one loss; vary them")
    return Scaler(logs.mean(axis=0), scale, float(y.mean()), sd, log)


def forward(
    shape: Shape, theta: Array, z: Array, with_gradient: bool = True
) -> tuple[Array, Array]:
    """Values (K, n) of networks theta (K, p) at z (n, 2), and their gradient (K, n, p)."""
    h = shape.hidden
    # w (2, h), v (h), s (2), c (h), b.
    w = theta[:, : 2 * h].reshape(-1, 2, h)
    v, s = theta[:, 2 * h : 3 * h], theta[:, 3 * h : 3 * h + 2]
    c, b = theta[:, 3 * h + 2 : 4 * h + 2], theta[:, -1:]
    u = z @ w + c[:, None]
    g, slope = np.logaddexp(0, u), 0.5 * (1 + np.tanh(0.5 * u))
    value = (g @ v[..., None])[..., 0] + s @ z.T + b
    if not with_gradient:
        return value, value
    gradient = np.empty((*value.shape, theta.shape[1]))
    through = v[:, None] * slope  # (K, n, h), d value / d u
    gradient[..., :h] = through * z[:, 0, None]
    gradient[..., h : 2 * h] = through * z[:, 1, None]
    gradient[..., 2 * h : 3 * h] = g
    gradient[..., 3 * h : 3 * h + 2] = z
    gradient[..., 3 * h + 2 : 4 * h + 2] = through
    gradient[..., -1] = 1
    return value, gradient


def limits(shape: Shape) -> tuple[Array, Array]:
    """Lower and upper bounds of the parameters, (p,).

    Monotone: w at most 0, v at least 0, s at most 0, so that no unit rises with N or D.
    """
    h = shape.hidden
    lower, upper = np.full(shape.size, -WIDE), np.full(shape.size, WIDE)
    if shape.monotone:
        upper[: 2 * h] = 0
        lower[2 * h : 3 * h] = 0
        upper[3 * h : 3 * h + 2] = 0
    return lower, upper


def initial(shape: Shape, count: int, rng: np.random.Generator) -> Array:
    """Starting parameters (count, p)."""
    h = shape.hidden
    theta = rng.standard_normal((count, shape.size))
    theta[:, 2 * h : 3 * h + 2] /= math.sqrt(h)
    theta[:, 3 * h + 2 : -1] *= 1.5
    theta[:, -1] = 0
    if shape.monotone:
        theta[:, : 2 * h] = -np.abs(theta[:, : 2 * h])
        theta[:, 2 * h : 3 * h] = np.abs(theta[:, 2 * h : 3 * h])
        theta[:, 3 * h : 3 * h + 2] = -np.abs(theta[:, 3 * h : 3 * h + 2])
    return theta


def train(
    shape: Shape, z: Array, targets: Array, weights: Array, decay: Array, theta: Array
) -> tuple[Array, Array, Array]:
    """Minimise sum w r^2 + decay |w, v|^2 for K networks at once; targets, weights (K, n).

    Levenberg-Marquardt with a damping of its own for each network, parameters on a bound that
    would leave it held, until all have settled. Returns the parameters, the objectives and whether
    each settled, (K,) the last two.
    """
    theta = theta.copy()
    count, size = theta.shape
    lower, upper = limits(shape)
    decayed = np.arange(size) < 3 * shape.hidden
    damping = np.full(count, 1e-2)
    settled = np.zeros(count, dtype=bool)
    cost = _cost(shape, z, targets, weights, decay, theta)
    eye = np.eye(size)
    for _ in range(STEPS):
        live = np.flatnonzero(~settled)
        if not len(live):
            break
        own = theta[live]
        value, gradient = forward(shape, own, z)
        weighted = np.swapaxes(gradient * weights[live, :, None], -1, -2)
        system = weighted @ gradient
        descent = (weighted @ (value - targets[live])[..., None])[..., 0]
        penalty = decay[live, None] * decayed
        descent += penalty * own
        stuck = ((own <= lower) & (descent > 0)) | ((own >= upper) & (descent < 0))
        system = np.where(stuck[:, :, None] | stuck[:, None, :], 0, system)
        diagonal = np.einsum("kpp->kp", system) + penalty
        extra = penalty + damping[live, None] * (diagonal + 1e-8)
        system += eye * np.where(stuck, 1, extra)[:, None, :]
        step = np.linalg.solve(system, np.where(stuck, 0, descent)[..., None])[..., 0]
        trial = np.clip(own - step, lower, upper)
        new = _cost(shape, z, targets[live], weights[live], decay[live], trial)
        better = new < cost[live]
        small = better & (cost[live] - new < SETTLED * cost[live])
        settled[live[small | (~better & (damping[live] > 1e8))]] = True
        took = live[better]
        theta[took], cost[took] = trial[better], new[better]
        damping[live] = np.where(better, damping[live] / 5, damping[live] * 4).clip(1e-12, 1e9)
    return theta, cost, settled


def _cost(
    shape: Shape, z: Array, targets: Array, weights: Array, decay: Array, theta: Array
) -> Array:
    value, _ = forward(shape, theta, z, with_gradient=False)
    squares = (theta[:, : 3 * shape.hidden] ** 2).sum(axis=1)
    total = (weights * (value - targets) ** 2).sum(axis=1) + decay * squares
    return np.where(np.isfinite(total), total, np.inf)


def choose_decay(
    shape: Shape,
    scaler: Scaler,
    params: Array,
    tokens: Array,
    losses: Array,
    folds: Sequence[NDArray[np.bool_]],
    members: int = 2,
    seed: int = 0,
    decays: Sequence[float] = DECAYS,
) -> dict[float, float]:
    """Root mean square of log errors by weight decay; each fold holds the runs left out, (n,)."""
    rng = np.random.default_rng(seed)
    z, y = scaler.inputs(params, tokens), scaler.targets(losses)
    kept = np.repeat([~f for f in folds], members, axis=0).astype(float)
    begin = initial(shape, len(kept), rng)
    weights = np.tile(kept, (len(decays), 1))
    lam = np.repeat(decays, len(kept))
    targets = np.broadcast_to(y, weights.shape)
    theta, _, _ = train(shape, z, targets, weights, lam, np.tile(begin, (len(decays), 1)))
    value, _ = forward(shape, theta, z, with_gradient=False)
    value = value.reshape(len(decays), len(folds), members, -1).mean(axis=2)
    out = np.array(list(folds))
    squares = ((value - y) ** 2 * out).sum(axis=(1, 2)) / out.sum()
    return {float(d): float(np.sqrt(s) * scaler.sd) for d, s in zip(decays, squares, strict=True)}


def fit_network(
    params: Array,
    tokens: Array,
    losses: Array,
    folds: Sequence[NDArray[np.bool_]],
    shape: Shape | None = None,
    members: int = 8,
    seed: int = 0,
    decay: float | None = None,
) -> Network:
    """An ensemble on all runs (n,), from starts of its own each; the weight decay that errs least.

    `folds` are masks (n,) of runs left out together, such as the runs of one size; unused where
    `decay` is given. Raises InputError for fewer than LEAST_RUNS runs.
    """
    if len(losses) < LEAST_RUNS:
        raise InputError(f"{len(losses)} runs: a neural regression needs {LEAST_RUNS} or more")
    shape = shape or Shape()
    scaler = standardise(params, tokens, losses, shape.log)
    scores = {}
    if decay is None:
        scores = choose_decay(shape, scaler, params, tokens, losses, folds, seed=seed)
        decay = min(scores, key=lambda d: scores[d])
    rng = np.random.default_rng((seed, 2))
    rows = np.broadcast_to(losses, (members, len(losses)))
    theta, done = _trained(shape, scaler, params, tokens, rows, decay, rng)
    found = Network(shape, scaler, theta, decay, done, scores=scores)
    return _with_residuals(found, params, tokens, losses)


def resampled_network(
    fitted: Network, params: Array, tokens: Array, losses: Array, seed: int = 0
) -> Network:
    """One network a row of losses (R, n), each from a start of its own, same weight decay."""
    rng = np.random.default_rng((seed, 3))
    theta, done = _trained(fitted.shape, fitted.scaler, params, tokens, losses, fitted.decay, rng)
    return replace(fitted, theta=theta, settled=done)


def _trained(
    shape: Shape,
    scaler: Scaler,
    params: Array,
    tokens: Array,
    losses: Array,
    decay: float,
    rng: np.random.Generator,
) -> tuple[Array, float]:
    y = scaler.targets(losses)
    count = len(y)
    theta, _, settled = train(
        shape,
        scaler.inputs(params, tokens),
        y,
        np.ones_like(y),
        np.full(count, decay),
        initial(shape, count, rng),
    )
    return theta, float(settled.mean())


def _with_residuals(found: Network, params: Array, tokens: Array, losses: Array) -> Network:
    """Residuals of the ensemble's mean, and what is left of the runs after the smoother."""
    z = found.scaler.inputs(params, tokens)
    _, gradient = forward(found.shape, found.theta, z)
    decayed = found.decay * (np.arange(found.shape.size) < 3 * found.shape.hidden)
    system = np.swapaxes(gradient, -1, -2) @ gradient
    used = []
    for own in system:
        whole = own + np.diag(decayed + 1e-9 * np.trace(own) / len(own))
        used.append(float(np.trace(np.linalg.solve(whole, own))))
    spared = max(len(losses) - float(np.mean(used)), 1.0)
    off = np.log(losses) - np.log(found.loss(params, tokens)).mean(axis=0)
    return replace(found, residual_sd=float(np.sqrt((off**2).sum() / spared)), spared=spared)
