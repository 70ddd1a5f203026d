"""Resamples of a slice and bias-corrected intervals from them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import ndtr, ndtri

from evaluation.records import InputError
from predict.registry import Array
from predict.slices_fit import Form, Solved, solve

Scheme = Literal["residual", "pairs", "normal"]
SCHEMES: tuple[Scheme, ...] = ("residual", "pairs", "normal")
"""How resamples are made: residuals drawn with replacement about the fit, whole points drawn with
replacement, or normal errors of the residuals' size."""

LEAST_DISTINCT = 4
"""Distinct points that a resample of points must have to be fitted."""

MOST_AT_END = 0.05
"""Share of resamples without a bounded rate above which no mean of them is told."""


@dataclass(frozen=True)
class Resampled:
    """A number of a fit and what resamples make of it."""

    value: float
    debiased: float | None
    """2 x value - mean of the resamples; None where too many of them are not bounded."""
    lower: float | None
    """Ends of the central 95% by the bias-corrected and accelerated bootstrap (Efron 1987)."""
    upper: float | None
    percentile: tuple[float, float] | None
    """The plain percentiles beside it."""


@dataclass(frozen=True)
class Draws:
    """Resamples of one form's fit to one slice."""

    fitted: Solved
    replicates: Solved
    jackknife: Solved
    """The fit without each point in turn."""


def draw(
    form: Form, x: Array, losses: Array, replicates: int, seed: int, scheme: Scheme = "residual"
) -> Draws:
    """Fit the slice and its resamples; residuals are widened by sqrt(n / (n - p)).

    Raises InputError for a slice with no point to spare.
    """
    n = len(x)
    if n <= form.size:
        raise InputError(f"{n} points for the {form.size} parameters of {form.name}: no resamples")
    rng = np.random.default_rng(seed)
    fitted = solve(form, x, losses)
    centre = fitted.values(form, x, x)[0]
    weights = None
    if scheme == "pairs":
        counts = rng.multinomial(n, np.full(n, 1 / n), size=4 * replicates).astype(float)
        weights = counts[(counts > 0).sum(axis=1) >= min(LEAST_DISTINCT, n - 1)][:replicates]
        rows = np.broadcast_to(losses, weights.shape)
    else:
        residual = losses - centre
        wide = (residual - residual.mean()) * math.sqrt(n / (n - form.size))
        if scheme == "normal":
            size = math.sqrt(float(fitted.rss[0]) / (n - form.size))
            errors = size * rng.standard_normal((replicates, n))
        else:
            errors = rng.choice(wide, size=(replicates, n))
        rows = centre + errors
    left = solve(form, x, np.broadcast_to(losses, (n, n)), 1 - np.eye(n))
    return Draws(fitted, solve(form, x, rows, weights), left)


def resampled(draws: Draws, name: str, level: float = 0.95) -> Resampled:
    """The field `name` of the fits, `rate` or `floor`, with its interval."""
    value = float(getattr(draws.fitted, name)[0])
    drawn = np.asarray(getattr(draws.replicates, name), dtype=float)
    debiased = None
    ends = draws.replicates.at_end.mean() if len(drawn) else 1.0
    if ends <= MOST_AT_END:
        debiased = float(2 * value - drawn[~draws.replicates.at_end].mean())
    if len(drawn) < 2:
        return Resampled(value, debiased, None, None, None)
    low, high = bca(value, drawn, np.asarray(getattr(draws.jackknife, name)), level)
    plain = np.quantile(drawn, ((1 - level) / 2, (1 + level) / 2))
    return Resampled(value, debiased, low, high, (float(plain[0]), float(plain[1])))


def bca(
    value: float, drawn: Array, jackknife: Array | None = None, level: float = 0.95
) -> tuple[float, float]:
    """The bias-corrected and accelerated interval; without a jackknife the bias-corrected one."""
    # Ties, such as floors at 0, count half; a share of 0 or 1 would have no quantile.
    share = ((drawn < value).sum() + 0.5 * (drawn == value).sum()) / len(drawn)
    z0 = float(ndtri(np.clip(share, 0.5 / len(drawn), 1 - 0.5 / len(drawn))))
    speed = 0.0
    if jackknife is not None:
        off = jackknife.mean() - jackknife
        scale = float((off**2).sum()) ** 1.5
        speed = float((off**3).sum()) / (6 * scale) if scale > 0 else 0.0
    ends = []
    for z in (ndtri((1 - level) / 2), ndtri((1 + level) / 2)):
        moved = z0 + (z0 + z) / max(1 - speed * (z0 + z), 1e-3)
        ends.append(float(np.quantile(drawn, ndtr(moved))))
    return ends[0], ends[1]
