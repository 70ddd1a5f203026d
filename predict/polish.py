"""Robust Levenberg-Marquardt within bounds, from all starts of all problems at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from predict.laws import Array
from predict.problem import Problem, bounds


@dataclass(frozen=True)
class Patience:
    """When a start is left alone."""

    steps: int
    """At most so many."""
    promised: float
    """Relative gain that an all but undamped step promises, below which a start has settled."""
    stalled: int
    """Steps without a relative gain of 100 x `promised` after which it has settled, too."""


SETTLED = Patience(600, 1e-13, 25)
"""To the last digit: published fits of the real ladder settle within 250 steps."""

ROUGH = Patience(100, 1e-6, 3)
"""To about a hundredth of a standard error."""


def polish(problem: Problem, theta: Array, patience: Patience = SETTLED) -> tuple[Array, Array]:
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
    lower, upper = bounds(problem.law)
    theta = np.clip(theta, lower, upper)
    residual, gradient = flat.residuals(theta)
    cost = flat.cost(residual, theta)
    damping = np.full(cost.shape, 1e-3)
    idle = np.zeros(cost.shape, dtype=int)
    active = np.arange(len(theta))
    for _ in range(patience.steps):
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
        idle[active] = np.where(gain > 100 * patience.promised, 0, idle[active] + 1)
        damping[active] = np.clip(
            np.where(moved, damping[active] / 6, damping[active] * 4), 1e-14, 1e14
        )
        theta[active], cost[active] = best, best_cost
        settled = (promise <= patience.promised * best_cost) & (damping[active] < 0.1)
        active = active[~(settled | (idle[active] >= patience.stalled)).all(axis=-1)]
        if not len(active):
            break
    return theta[place][:, :, 0], cost[place][:, :, 0]


def _first_alike(theta: Array) -> NDArray[np.intp]:
    """For every start, (P, S), the first of its problem that is the same to a millionth.

    Being alike is passed on: where a third is like the second and the second like the first, all
    go by the first, so that whoever stands for another stands for itself.
    """
    size = 1 + np.abs(theta)
    alike = np.abs(theta[:, :, None] - theta[:, None]) <= 1e-6 * size[:, None]  # (P, S, S, p)
    first = (alike.all(axis=-1) | np.eye(theta.shape[1], dtype=bool)).argmax(axis=-1)
    while not np.array_equal(first, onward := np.take_along_axis(first, first, axis=1)):
        first = onward
    return np.asarray(first)


def _steps(
    part: Problem,
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
    descent = (slope[..., None, :] @ gradient)[..., 0, :] + pull
    stuck = ((theta <= lower) & (descent > 0)) | ((theta >= upper) & (descent < 0))
    descent = np.where(stuck, 0, descent)
    reweighted = part.weights * np.minimum(1, delta / np.maximum(size, 1e-300))
    models = [reweighted]
    if np.isfinite(delta):
        models.append(part.weights * (size <= delta))
    steps: list[Array] = []
    eye = np.eye(theta.shape[-1])
    scale = (reweighted[..., None, :] @ gradient**2)[..., 0, :] + precision
    for model in models:
        turned = np.swapaxes(gradient * model[..., None], -1, -2)  # (K, S, p, n)
        curvature = turned @ gradient + eye * precision[..., None, :]
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
