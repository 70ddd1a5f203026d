"""Posterior of the gap between two recipes' runs: what they share cancels, scales are averaged."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from predict.laws import Array

NOISES = np.geomspace(0.0007, 0.06, 14)
"""Standard deviations of the gap between two runs of one rung that are thought possible, in the
unit of the data."""

SHARED = (0.0, 1.0, 4.0)
"""What both recipes' runs of a rung share, a misfit of the law for one, in units of the noise."""


@dataclass(frozen=True)
class Runs:
    """Measured rungs of both recipes, n of them, about a curve that both share."""

    values: Array
    """(n,) measured minus the shared curve, the mean of a recipe's runs of the rung."""
    count: Array
    """(n,) how many runs that are."""
    within: float
    """Sum of the runs' squared distances to those means, or half that of the differences between
    runs of the same seed to their means, where both recipes have the same seeds of a rung."""
    freedom: float
    """Degrees of freedom of `within`."""
    side: Array
    """(n,) +1 for the first recipe's, -1 for the second's."""
    rung: NDArray[np.intp]
    """(n,) index of params and tokens, shared by both recipes."""
    basis: Array
    """(n, r): how the gap at the run's place moves with each unknown of scale 1."""
    shape: Array
    """(n, q): how the shared curve may be off there, at its prior's standard deviation."""
    mean: Array
    """(n,) the gap that is expected before these runs are seen."""
    covariance: Array
    """(n, n) of that expectation."""


@dataclass(frozen=True)
class Places:
    """Where the gap is asked for, m places; before the runs are seen as in `Runs`."""

    basis: Array
    """(m, r)"""
    mean: Array
    """(m,)"""
    covariance: Array
    """(m, m)"""
    cross: Array
    """(m, n), with the runs."""


@dataclass(frozen=True)
class Gap:
    """The gap at m places: a mixture of g normal distributions, one a choice of scales."""

    weights: Array
    """(g,)"""
    means: Array
    """(g, m)"""
    covariances: Array
    """(g, m, m)"""
    noises: Array
    """(g,) standard deviation of the gap between two runs of one rung."""

    @property
    def mean(self) -> Array:
        """Of the gap, (m,)."""
        return np.asarray(self.weights @ self.means)

    @property
    def covariance(self) -> Array:
        """Of the gap, (m, m), between the choices of scales too."""
        off = self.means - self.mean
        between = np.einsum("g,gi,gj->ij", self.weights, off, off)
        return np.asarray(np.einsum("g,gij->ij", self.weights, self.covariances) + between)

    @property
    def noise(self) -> float:
        """Root mean square of `noises`."""
        return math.sqrt(float(self.weights @ self.noises**2))


def posterior(runs: Runs, places: Places, scales: Array, noises: Array = NOISES) -> Gap:
    """The gap at the places, given the runs.

    A run is the shared curve, half the gap on its side, what its rung shares, and its own noise.
    The unknowns behind the gap are normal with one scale; every scale, noise and shared part on
    the grid is as likely as another before the runs are seen.
    """
    grid, total, cross, left = _before(runs, places, scales, noises)
    scale, noise = grid.T[:2, :, None, None]
    root = np.linalg.cholesky(total)
    right = np.concatenate(
        (
            np.broadcast_to(left[:, None], (len(grid), len(left), 1)),
            np.swapaxes(cross * runs.side / 2, -1, -2),
        ),
        axis=-1,
    )
    solved = np.linalg.solve(root, right)
    seen, carried = solved[..., 0], solved[..., 1:]
    likelihood = -0.5 * (seen**2).sum(-1) - np.log(np.einsum("gii->gi", root)).sum(-1)
    weights = _weights(likelihood, runs, grid)
    before = places.covariance + scale**2 * (places.basis @ places.basis.T)
    return Gap(
        weights=weights,
        means=places.mean + np.einsum("gnm,gn->gm", carried, seen),
        covariances=before - np.swapaxes(carried, -1, -2) @ carried,
        noises=noise[:, 0, 0],
    )


def without_each(
    runs: Runs, places: Places, scales: Array, noises: Array = NOISES
) -> tuple[NDArray[np.intp], Array]:
    """The rungs, k of them, and the mean gap at the places (k, m) had one not been run.

    By the formulas for a block that is left out of a normal posterior, of each choice of scales;
    what the seeds of a rung say of the noise stays.
    """
    grid, total, cross, left = _before(runs, places, scales, noises)
    inverse = np.linalg.inv(total)
    solved = inverse @ left
    likelihood = -0.5 * solved @ left - 0.5 * np.linalg.slogdet(total)[1]
    carried = cross * runs.side / 2
    rungs, found = np.unique(runs.rung), []
    for rung in rungs:
        own = runs.rung == rung
        block = inverse[:, own][..., own]
        # What is left of the rung when it is predicted from the others.
        residual = np.linalg.solve(block, solved[:, own, None])[..., 0]
        weights = _weights(
            likelihood
            + 0.5 * np.einsum("go,go->g", residual, solved[:, own])
            - 0.5 * np.linalg.slogdet(block)[1],
            runs,
            grid,
        )
        others = solved - np.einsum("gno,go->gn", inverse[..., own], residual)
        means = places.mean + np.einsum("gmn,gn->gm", carried, others)
        found.append(weights @ means)
    return rungs, np.array(found)


def _before(
    runs: Runs, places: Places, scales: Array, noises: Array
) -> tuple[Array, Array, Array, Array]:
    """What is thought before the runs are seen.

    Choices of scale, noise and shared part (g, 3); for each, the covariance of the runs (g, n, n)
    and that of the places' gap with the runs' (g, m, n); the runs less what is expected (n,).
    """
    grid = np.array(list(itertools.product(scales, noises, SHARED)))
    scale, noise, shared = grid.T[..., None, None]
    half = runs.side[:, None] * runs.side / 4
    same = (runs.rung[:, None] == runs.rung).astype(float)
    total = (
        runs.shape @ runs.shape.T
        + half * (runs.covariance + scale**2 * (runs.basis @ runs.basis.T))
        + noise**2 * (np.diag(1 / (2 * runs.count)) + shared**2 * same)
    )
    cross = places.cross + scale**2 * (places.basis @ runs.basis.T)
    return grid, total, cross, runs.values - runs.side * runs.mean / 2


def _weights(likelihood: Array, runs: Runs, grid: Array) -> Array:
    """How likely each choice of scales is, (g,), by the log likelihood of the runs' means.

    Runs of one rung, seeds apart, say what the noise is whatever the curve.
    """
    likelihood = likelihood - runs.within / grid[:, 1] ** 2 - runs.freedom * np.log(grid[:, 1])
    weights = np.exp(likelihood - likelihood.max())
    return np.asarray(weights / weights.sum())


def chance_below(gap: Gap, place: int, limit: float = 0.0, noise: bool = True) -> float:
    """Probability that the gap at a place is below a limit; with `noise` that of two runs there."""
    variance = gap.covariances[:, place, place] + noise * gap.noises**2
    z = (limit - gap.means[:, place]) / np.sqrt(np.maximum(variance, 1e-300))
    return float(gap.weights @ np.array([0.5 * math.erfc(-x / math.sqrt(2)) for x in z]))


def quantile(gap: Gap, place: int, share: float, noise: bool = True) -> float:
    """The limit that the gap at a place is below with probability `share`, by bisection."""
    widest = math.sqrt(float(gap.covariances[:, place, place].max()) + float(gap.noises.max()) ** 2)
    low = float(gap.means[:, place].min()) - 8 * widest
    high = float(gap.means[:, place].max()) + 8 * widest
    for _ in range(40):
        middle = (low + high) / 2
        if chance_below(gap, place, middle, noise) < share:
            low = middle
        else:
            high = middle
    return (low + high) / 2
