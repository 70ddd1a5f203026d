"""The factor of compute that a recipe needs, at the target's own D/N, to reach a given loss."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from predict.gaps import shared_log_loss
from predict.laws import Array
from predict.task_fit import Target

FARTHEST = 1e6
"""Factors of compute beyond which no number is given."""


@dataclass(frozen=True)
class Gain:
    """A factor of compute, or why there is none."""

    factor: float | None
    why: str = ""


@dataclass(frozen=True)
class Curve:
    """One task's loss along the target's ray: a recipe's law, raised to pass a level."""

    theta: Array
    """In PARAMETERS of predict.gaps."""
    level: float
    """Loss at the target."""

    def at(self, target: Target, factor: float) -> float:
        """The loss at `factor` times the target's compute; its floor at infinity."""
        here = self._log(target.params, target.tokens)
        if math.isinf(factor):
            there = math.log(self.theta[4]) if self.theta[4] > 0 else -math.inf
        else:
            there = self._log(target.params * factor**0.5, target.tokens * factor**0.5)
        return self.level * math.exp(there - here)

    def _log(self, params: float, tokens: float) -> float:
        return float(shared_log_loss([self.theta], np.array([params]), np.array([tokens]))[0][0])


def compute_gain(curves: Sequence[Curve], target: Target, difference: float) -> Gain:
    """The factor that moves the curves' mean loss at the target by `difference`, below 0 to gain.

    Params and tokens grow by the same factor, compute (6ND) by its square.
    """

    def mean(factor: float) -> float:
        return float(np.mean([curve.at(target, factor) for curve in curves]))

    wanted = mean(1.0) + difference
    if wanted <= mean(math.inf):
        return Gain(None, "below the loss that any compute reaches")
    if mean(FARTHEST) > wanted:
        return Gain(None, f"more than {FARTHEST:.0e} times")
    if mean(1 / FARTHEST) < wanted:
        return Gain(None, f"less than {1 / FARTHEST:.0e} times")
    low, high = -math.log(FARTHEST), math.log(FARTHEST)
    for _ in range(50):
        middle = (low + high) / 2
        if mean(math.exp(middle)) > wanted:
            low = middle
        else:
            high = middle
    return Gain(math.exp((low + high) / 2))
