"""Kernel regression of L(N, D): a Gaussian process about a plane, its scales by its evidence."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import numpy as np

from predict.registry import Array
from predict.surrogate import Scaler, standardise

LENGTHS = tuple(np.geomspace(0.5, 8.0, 7))
"""Length scales of log N and of log D to choose from, in their standard deviations."""

NOISES = tuple(10.0**-k for k in np.arange(0.5, 5.1, 0.5))
"""Variances of the noise to choose from, over that of the process."""


@dataclass(frozen=True)
class Kernel:
    """A Gaussian process: log loss = plane in log N, log D + a smooth function + noise."""

    scaler: Scaler
    z: Array
    lengths: tuple[float, float]
    noise: float
    evidence: float
    """Log marginal likelihood of the chosen scales, the plane and the variance integrated out."""
    residual_sd: float
    """Of the log losses from the smooth surface, with as many degrees of freedom as are spared."""
    weights: Array
    """(K, n + 3): of the kernels at the runs and of the plane, for K rows of losses."""
    left_out: Array
    """Log errors (n,) of the first row at each run from the others, the scales held."""

    def loss(self, params: Array, tokens: Array) -> Array:
        """Losses (K, ...) at N and D of one shape."""
        params, tokens = np.broadcast_arrays(np.asarray(params, float), np.asarray(tokens, float))
        at = self.scaler.inputs(params.ravel(), tokens.ravel())
        basis = np.concatenate((_kernel(at, self.z, self.lengths), _plane(at)), axis=1)
        value = self.scaler.mean + self.scaler.sd * (self.weights @ basis.T)
        return np.asarray(np.exp(value).reshape(len(self.weights), *params.shape))

    def refitted(self, losses: Array) -> Kernel:
        """The same scales on other rows of losses (K, n) of the same runs."""
        y = self.scaler.targets(losses)
        solve, _, _ = _smoother(self.z, self.lengths, self.noise)
        return replace(self, weights=(solve @ y.T).T)


def fit_kernel(params: Array, tokens: Array, losses: Array) -> Kernel:
    """Fit a Gaussian process with a squared-exponential kernel to runs (n,).

    The plane has a flat prior, the variance is integrated out (Rasmussen and Williams 2006,
    sections 2.7 and 5.4); length scales and noise are those of the greatest evidence on a grid.
    """
    scaler = standardise(params, tokens, losses)
    z, y = scaler.inputs(params, tokens), scaler.targets(losses)
    best = max(
        (_evidence(z, y, (a, b), noise), (a, b), noise)
        for a, b, noise in itertools.product(LENGTHS, LENGTHS, NOISES)
    )
    evidence, lengths, noise = best
    solve, inverse, smoother = _smoother(z, lengths, noise)
    off = y - smoother @ y
    spared = max(len(y) - float(np.trace(smoother)), 1.0)
    return Kernel(
        scaler,
        z,
        lengths,
        noise,
        evidence,
        residual_sd=float(np.sqrt((off**2).sum() / spared) * scaler.sd),
        weights=(solve @ y)[None],
        left_out=(inverse @ y) / np.diag(inverse) * scaler.sd,
    )


def _kernel(a: Array, b: Array, lengths: tuple[float, float]) -> Array:
    apart = (a[:, None] - b[None]) / np.array(lengths)
    return np.asarray(np.exp(-0.5 * (apart**2).sum(axis=-1)))


def _plane(z: Array) -> Array:
    return np.concatenate((np.ones((len(z), 1)), z), axis=1)


def _smoother(z: Array, lengths: tuple[float, float], noise: float) -> tuple[Array, Array, Array]:
    """Weights of losses (n + 3, n), the inverse with the plane taken out, the fitted values."""
    n, plane = len(z), _plane(z)
    kernel = _kernel(z, z, lengths)
    inner = np.linalg.inv(kernel + noise * np.eye(n))
    through = np.linalg.solve(plane.T @ inner @ plane, plane.T @ inner)
    inverse = inner - inner @ plane @ through
    fitted = np.asarray(kernel @ inverse + plane @ through)
    return np.concatenate((inverse, through)), np.asarray(inverse), fitted


def _evidence(z: Array, y: Array, lengths: tuple[float, float], noise: float) -> float:
    n, plane = len(z), _plane(z)
    try:
        root = np.linalg.cholesky(_kernel(z, z, lengths) + noise * np.eye(n))
    except np.linalg.LinAlgError:
        return -np.inf
    both = np.linalg.solve(root, np.column_stack((y, plane)))
    design, target = both[:, 1:], both[:, 0]
    gram = design.T @ design
    rest = target @ target - target @ design @ np.linalg.solve(gram, design.T @ target)
    spare = n - plane.shape[1]
    return float(
        -np.log(np.diag(root)).sum()
        - 0.5 * np.linalg.slogdet(gram)[1]
        - 0.5 * spare * np.log(max(rest, 1e-300) / spare)
    )
