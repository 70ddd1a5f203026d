"""One slice's laws side by side: how well each fits, holds out, and what of it is chance."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from predict.registry import Array
from predict.slices_bootstrap import Resampled, Scheme, bca, draw, resampled
from predict.slices_fit import (
    EXPONENTIAL,
    FORMS,
    POWER,
    Form,
    Solved,
    floor_interval,
    minima,
    rate_interval,
    solve,
)

LEAST_POINTS = 4
"""Points of a slice, and points that a window or a held-out test must leave to be fitted."""

DOUBT = 0.05
"""Chance below which a law is ruled out: that it, being true, gives such a lead to the other."""

ROUNDING = 1e-13
"""Relative error of a loss that counts as none: a mean square is at least this much."""


@dataclass(frozen=True)
class FormFit:
    """One form fitted to one slice."""

    form: str
    rate: float
    """The exponent of a power law; of an exponential the inverse of params or of tokens."""
    floor: float
    log_scale: float
    """log A."""
    mse: float
    """Mean square of the residuals, the loss's unit squared."""
    aic: float
    """n log(mse) + 2 k, k the parameters and the errors' size (Akaike 1974)."""
    aicc: float | None
    """Corrected for few points (Hurvich and Tsai 1989); None below k + 2 points."""
    held_out_mse: float | None
    """On the last points, those before them fitted; None where too few are left."""
    minima: int
    """Valleys of the profile over the rate: 1 says that the best fit is the only one."""
    at_bound: tuple[str, ...]
    """Of `rate` and `floor` those that the points do not bound."""

    @property
    def certified(self) -> bool:
        """Whether the profile has one valley, inside the rates that the points can tell."""
        return self.minima == 1 and "rate" not in self.at_bound


@dataclass(frozen=True)
class Number:
    """A number of the power law with both of its intervals for 95%."""

    boot: Resampled
    lower: float | None
    """Ends by the profile of squares, None for one that the points do not bound."""
    upper: float | None


@dataclass(frozen=True)
class Lead:
    """The power law against the exponential."""

    mse_ratio: float
    """Mean square of the exponential over that of the power law: above 1 the power law fits
    better."""
    lower: float | None
    """Ends of 95% by resampled errors about the better of the two."""
    upper: float | None
    held_out_ratio: float | None
    """The same on held-out points."""
    chance_if_exponential: float | None
    """Share of data sets made from the fitted exponential with a ratio as high (Williams 1970)."""
    chance_if_power: float | None
    """Share of those made from the fitted power law with a ratio as low."""

    @property
    def verdict(self) -> str:
        """`power`, `exponential`, `neither` (both are ruled out) or `undecided`."""
        if self.chance_if_exponential is None or self.chance_if_power is None:
            return "undecided"
        no_exponential = self.chance_if_exponential < DOUBT
        no_power = self.chance_if_power < DOUBT
        if no_exponential and no_power:
            return "neither"
        if no_exponential or no_power:
            return "power" if no_exponential else "exponential"
        return "undecided"


@dataclass(frozen=True)
class SliceFit:
    """Everything fitted to one slice."""

    forms: dict[str, FormFit]
    exponent: Number
    floor: Number
    lead: Lead
    windows: tuple[tuple[int, int, float], ...]
    """Exponents of narrower windows: points dropped at the start, at the end, the exponent."""

    @property
    def window_spread(self) -> tuple[float, float] | None:
        """Least and greatest exponent over the windows, the whole one too; None for one window."""
        if not self.windows:
            return None
        found = [e for _, _, e in self.windows] + [self.exponent.boot.value]
        return min(found), max(found)


def fit_slice(
    x: Array,
    losses: Array,
    replicates: int = 400,
    seed: int = 0,
    scheme: Scheme = "residual",
    holdout: int = 1,
    drop: int = 2,
) -> SliceFit:
    """Fit all forms to losses (n,) at rising points x (n,); n is at least LEAST_POINTS.

    `holdout` is how many of the last points are predicted from the others, `drop` how many may be
    left out at either end for the windows.
    """
    solved = {form.name: solve(form, x, losses) for form in FORMS}
    fits = {form.name: _form_fit(form, x, losses, solved[form.name], holdout) for form in FORMS}
    draws = draw(POWER, x, losses, replicates, seed, scheme)
    rate = rate_interval(POWER, x, losses)
    return SliceFit(
        forms=fits,
        exponent=Number(resampled(draws, "rate"), *rate),
        floor=Number(resampled(draws, "floor"), *floor_interval(POWER, x, losses)),
        lead=_lead(x, losses, solved, fits, replicates, seed),
        windows=_windows(x, losses, drop),
    )


def _form_fit(form: Form, x: Array, losses: Array, found: Solved, holdout: int) -> FormFit:
    n, k = len(x), form.size + 1
    mse = _mse(found, losses)
    aic = n * math.log(mse) + 2 * k
    held_out = None
    if holdout > 0 and n - holdout >= LEAST_POINTS:
        before = solve(form, x[:-holdout], losses[:-holdout])
        off = before.values(form, x[:-holdout], x[-holdout:])[0] - losses[-holdout:]
        held_out = max(float((off**2).mean()), _rounding(losses))
    bound = ("rate",) * bool(found.at_end[0])
    if form.has_floor and found.floor[0] <= 0:
        bound += ("floor",)
    return FormFit(
        form=form.name,
        rate=float(found.rate[0]),
        floor=float(found.floor[0]),
        log_scale=float(max(found.log_scale(form, x)[0], -1e300)),
        mse=mse,
        aic=aic,
        aicc=aic + 2 * k * (k + 1) / (n - k - 1) if n > k + 1 else None,
        held_out_mse=held_out,
        minima=minima(form, x, losses),
        at_bound=bound,
    )


def _rounding(losses: Array) -> float:
    return float((ROUNDING * np.abs(losses).max()) ** 2)


def _mse(found: Solved, losses: Array) -> float:
    return max(float(found.rss[0]) / len(losses), _rounding(losses))


def _lead(
    x: Array,
    losses: Array,
    solved: dict[str, Solved],
    fits: dict[str, FormFit],
    replicates: int,
    seed: int,
) -> Lead:
    power, other = fits[POWER.name], fits[EXPONENTIAL.name]
    ratio = other.mse / power.mse
    held = None
    if power.held_out_mse is not None and other.held_out_mse is not None:
        held = other.held_out_mse / power.held_out_mse
    if replicates < 2:
        return Lead(ratio, None, None, held, None, None)
    rng = np.random.default_rng((seed, 1))
    n, made = len(x), {}
    for form in (POWER, EXPONENTIAL):
        centre = solved[form.name].values(form, x, x)
        size = math.sqrt(n / (n - form.size) * fits[form.name].mse)
        rows = centre + size * rng.standard_normal((replicates, n))
        floor = n * _rounding(losses)
        rss = [np.maximum(solve(f, x, rows).rss, floor) for f in (EXPONENTIAL, POWER)]
        made[form.name] = np.log(rss[0] / rss[1])
    better = POWER.name if ratio >= 1 else EXPONENTIAL.name
    low, high = bca(math.log(ratio), made[better])
    # The data set itself is one of those that the law could have given (Davison and Hinkley 1997).
    return Lead(
        mse_ratio=ratio,
        lower=math.exp(low),
        upper=math.exp(high),
        held_out_ratio=held,
        chance_if_exponential=_share(made[EXPONENTIAL.name] >= math.log(ratio)),
        chance_if_power=_share(made[POWER.name] <= math.log(ratio)),
    )


def _share(hits: NDArray[np.bool_]) -> float:
    return float((hits.sum() + 1) / (len(hits) + 1))


def _windows(x: Array, losses: Array, drop: int) -> tuple[tuple[int, int, float], ...]:
    """Exponents with up to `drop` points left out at the start, the end, or both."""
    found = []
    for first in range(drop + 1):
        for last in range(drop + 1):
            end = len(x) - last
            if first + last and end - first >= LEAST_POINTS:
                part = solve(POWER, x[first:end], losses[first:end])
                found.append((first, last, float(part.rate[0])))
    return tuple(found)
