"""Certified fits: a grid with solved linear parameters for starts, batched robust LM to polish.

Everything runs over P problems times S starts at once in numpy. A fit carries a certificate: how
many starts agree on the best objective, which parameters sit on a bound, and how well the data
determine them. An optimiser's own success flag certifies nothing and is not consulted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from evaluation.records import InputError
from predict.certificate import Fit, as_good, certify
from predict.laws import Array, Law
from predict.polish import ROUGH, polish
from predict.problem import Objective, Prior, Problem, condensed
from predict.starts import grid_starts
from predict.ties import nearest

__all__ = ["Fit", "Objective", "Prior", "fit", "refit"]

FIRST_NOISE = 0.01
"""Relative noise that a fit which re-estimates it begins with."""

NOISE_PASSES = 4

LARGEST_BATCH = 2**22
"""Numbers in the gradient of a grid of starts up to which problems are fitted in one batch, 32 MiB;
fits do not depend on it (tests/predict/test_fit.py), memory and time do: benchmarks/load.md."""


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
    rows = _at_once(starts, values.shape[-1], law)
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


def _at_once(starts: int, points: int, law: Law) -> int:
    """How many problems of so many points have LARGEST_BATCH numbers in their gradients."""
    return max(LARGEST_BATCH // (starts * points * law.size), 1)


def _starts(problem: Problem, inputs: list[Array], starts: int) -> Array:
    """Where the fits of many problems begin, (P, S, p): a grid takes more memory than they do."""
    rows = _at_once(problem.law.cells(inputs), problem.values.shape[-1], problem.law)
    found = []
    for start in range(0, len(problem.values), rows):
        part = slice(start, start + rows)
        some = problem.select(np.arange(*part.indices(len(problem.values))))
        found.append(grid_starts(some, [x[part] for x in inputs], starts))
    return np.concatenate(found)


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
        theta = _starts(near, inputs, starts)
        if near is not problem:
            theta, _ = polish(near, theta)
        for _ in range(0 if noise is None else NOISE_PASSES - 1):
            theta, cost = polish(problem, theta)
            problem = replace(problem, noise=_noise(problem, theta, cost, noise or (0, 0)))
        theta, cost = polish(problem, theta)
        return _without_ties(problem, inputs, theta, cost, points, noise is not None, clusters)


def _without_ties(
    problem: Problem,
    inputs: list[Array],
    theta: Array,
    cost: Array,
    points: NDArray[np.intp],
    noise_is_known: bool,
    clusters: NDArray[np.intp] | None,
) -> list[Fit]:
    """The certified fits; of equal minima, where points do not determine one, see predict.ties."""
    found = certify(problem, theta, cost, points, noise_is_known, clusters)
    loose = np.array([i for i, f in enumerate(found) if f.finite and not f.determined], dtype=int)
    if not len(loose):
        return found
    part = problem.select(loose)
    best = cost[loose].argmin(axis=-1)
    place = nearest(part, [x[loose] for x in inputs], theta[loose, best])[:, None]
    own = part.cost(part.residuals(place)[0], place)
    theta, cost = np.append(theta[loose], place, axis=1), np.append(cost[loose], own, axis=1)
    taken = as_good(part, cost)[:, -1]
    again = certify(
        part,
        theta,
        cost,
        points[loose],
        noise_is_known,
        None if clusters is None else clusters[loose],
        np.where(taken, cost.shape[1] - 1, best),
    )
    for i, fitted in zip(loose.tolist(), again, strict=True):
        found[i] = replace(
            fitted, starts=found[i].starts, agreeing=found[i].agreeing, objective=found[i].objective
        )
    return found


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
