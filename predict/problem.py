"""Many weighted least-squares problems of one law at once: residuals, gradients, costs."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from predict.laws import Array, Law

CONDENSED = 64
"""Means that stand for a problem of many points while its starts are far from settled."""


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

    Both have shape (p,), or (K, 1, p) where problems differ in them; an infinite `sd` is no prior.
    The penalty is half the sum of ((parameter - mean) / sd)^2, which goes with residuals in units
    of their own noise.
    """

    mean: Array
    sd: Array

    def select(self, rows: NDArray[np.intp]) -> Prior:
        """The priors of these problems, where they differ."""
        return Prior(self.mean[rows], self.sd[rows])


@dataclass(frozen=True)
class Problem:
    """Data of K problems: inputs, values and weights (K, 1, n), noise (K, 1, 1)."""

    law: Law
    objective: Objective
    inputs: list[Array]
    values: Array
    weights: Array
    noise: Array
    prior: Prior

    def select(self, rows: NDArray[np.intp]) -> Problem:
        """The problems of these rows, which may repeat."""
        return replace(
            self,
            inputs=[x[rows] for x in self.inputs],
            values=self.values[rows],
            weights=self.weights[rows],
            noise=self.noise[rows],
            prior=self.prior if self.prior.sd.ndim == 1 else self.prior.select(rows),
        )

    def residuals(self, theta: Array) -> tuple[Array, Array]:
        """Residuals (K, S, n) in units of the noise, and their gradient (K, S, n, p)."""
        value, gradient = self.law.evaluate(theta, self.inputs)
        scale = self.noise
        if self.objective.log:
            scale = np.maximum(value, np.finfo(float).tiny) * self.noise
        return self.residual_of(value), gradient / scale[..., None]

    def residual_of(self, value: Array) -> Array:
        """Residuals of a law's values (K, S, n)."""
        if not self.objective.log:
            return (value - self.values) / self.noise
        return np.log(np.maximum(value, np.finfo(float).tiny) / self.values) / self.noise

    def cost(self, residual: Array, theta: Array) -> Array:
        """The objective (K, S): weighted Huber of the residuals, and the prior's penalty."""
        size = np.abs(residual)
        inside = np.minimum(size, self.objective.delta)
        # Huber: r^2/2 inside, delta (|r| - delta/2) outside; one expression for both.
        rho = inside * (size - 0.5 * inside)
        total = (self.weights * rho).sum(axis=-1)
        total = total + 0.5 * (((theta - self.prior.mean) / self.prior.sd) ** 2).sum(axis=-1)
        return np.where(np.isfinite(total), total, np.inf)


def bounds(law: Law) -> tuple[Array, Array]:
    """Lower and upper bounds of a law's parameters, each (p,)."""
    return np.array([p.lower for p in law.parameters]), np.array([p.upper for p in law.parameters])


def condensed(problem: Problem) -> Problem:
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
