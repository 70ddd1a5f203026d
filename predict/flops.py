"""Training FLOPs of a model: 6 N D, or what a table's runs say that a token costs."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from evaluation.records import InputError
from predict.laws import Array


@dataclass(frozen=True)
class Flops:
    """FLOPs a token: 6 N, and exp(log_excess) N^power more.

    The excess is attention's and whatever else a token costs beyond a multiply and an add per
    parameter, forwards and twice backwards.
    """

    log_excess: float = -math.inf
    """-inf for 6 N alone."""
    power: float = 0.0

    @property
    def name(self) -> str:
        """`6ND` or `table`."""
        return "6ND" if self.log_excess == -math.inf else "table"

    def per_token(self, params: Array | float) -> Array:
        """Training FLOPs a token of models of that size; a third of them are the forward pass."""
        params = np.asarray(params, dtype=float)
        return 6 * params + np.exp(self.log_excess + self.power * np.log(params))

    def of(self, params: Array | float, tokens: Array | float) -> Array:
        """C of N and D."""
        return np.asarray(self.per_token(params) * tokens)

    def tokens(self, params: Array | float, flops: Array | float) -> Array:
        """D of N and C."""
        return np.asarray(flops / self.per_token(params))

    def params(self, tokens: float, flops: float) -> float:
        """N of D and C, by bisection."""
        low, high = -300.0, math.log(flops / tokens / 6)
        for _ in range(200):
            middle = (low + high) / 2
            if self.per_token(math.exp(middle)) * tokens < flops:
                low = middle
            else:
                high = middle
        return math.exp(high)


SIX_ND = Flops()
"""The convention of Kaplan et al. and Hoffmann et al."""


def flops_of_runs(params: Array, tokens: Array, flops: Array) -> Flops:
    """The FLOPs a token that runs of several sizes cost, as 6 N + c N^p.

    Attention's share goes with layers x width x sequence length, about N^(2/3) along a ladder of
    one shape, so that a power describes it. Raises InputError where FLOPs are missing, below
    6 N D, or of one size.
    """
    if not np.isfinite(flops).all() or not (flops > 0).all():
        raise InputError("column 'flops': is empty for some runs; leave --exact out to use 6ND")
    excess = flops / tokens - 6 * params
    if not (excess > 0).all():
        raise InputError(
            "column 'flops': is at or below 6ND for some runs; leave --exact out to use 6ND"
        )
    if np.ptp(np.log(params)) < 0.1:
        raise InputError("column 'flops': is of one size; leave --exact out to use 6ND")
    power, log_excess = np.polyfit(np.log(params), np.log(excess), 1)
    return Flops(float(log_excess), float(power))
