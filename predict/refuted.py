"""Whether points refute what is believed of a law's parameters before they are seen."""

from __future__ import annotations

from scipy import stats

from predict.certificate import Fit

REFUTED = 1e-3
"""Chance of so large a gain, were the belief right, below which it is refuted: no prediction of the
published ladder changes by it, in any back-test; those of walks do (benchmarks/priors.md)."""


def refutes(free: Fit, held: Fit, believed: int, least: float) -> bool:
    """Whether a fit without priors is better than one with them by more than chance (F test).

    Both are of one law to the same points; `believed` parameters have a prior. The noise is the
    free fit's, `least` or more of the values, so that points which it merely passes through refute
    nothing; nor does a fit that is not certified.
    """
    left = free.points - len(free.parameters)
    if left < 1 or not free.certified:
        return False
    noise = max(free.points * free.relative_rms**2 / left, least**2)
    gain = free.points * (held.relative_rms**2 - free.relative_rms**2) / believed
    return bool(noise > 0 and stats.f.sf(gain / noise, believed, left) < REFUTED)
