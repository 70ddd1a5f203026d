"""What a prediction may be off by: parameters, form, disagreement of chains and noise, in one."""

from __future__ import annotations

import math
from dataclasses import dataclass

from predict.methods import Widths

LEVEL80, LEVEL95 = 1.2816, 1.96
"""Standard errors on either side of an interval, of the normal distribution."""


@dataclass(frozen=True)
class Uncertainty:
    """The parts of a prediction's standard error, in the unit of what is predicted."""

    parameters: float
    """Of the fitted parameters, by the delta method; infinite where they are not determined."""
    spread: float
    """Standard deviation between the chains that vote."""
    climb: float
    """Distance between the prediction and the ladder's top rung: how far the form is trusted."""
    noise: float
    """Of the target's own score: finitely many items, and checkpoints that differ."""

    def standard_error(self, widths: Widths) -> float:
        """All parts together, as independent ones."""
        return math.hypot(
            widths.parameters * self.parameters,
            widths.spread * self.spread,
            widths.climb * self.climb,
            self.noise,
        )


@dataclass(frozen=True)
class Interval:
    """Central intervals for 80% and 95%."""

    lower80: float
    upper80: float
    lower95: float
    upper95: float


def interval(value: float, standard_error: float, low: float, high: float) -> Interval:
    """Symmetric intervals about the value, cut to [low, high]."""

    def bounds(level: float) -> tuple[float, float]:
        half = level * standard_error
        return min(max(value - half, low), high), min(max(value + half, low), high)

    return Interval(*bounds(LEVEL80), *bounds(LEVEL95))


def sampling_noise(accuracy: float, instances: int | None, checkpoint_sd: float | None) -> float:
    """Standard error of a measured accuracy: binomial over the items, and between checkpoints."""
    binomial = math.sqrt(max(accuracy * (1 - accuracy), 0) / instances) if instances else 0.0
    return math.hypot(binomial, checkpoint_sd or 0.0)
