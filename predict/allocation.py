"""The answer to where the next FLOP goes: what every approach makes of a budget."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from predict.constants import Kaplan
from predict.flops import Flops
from predict.optimum import DataNeeded

BEYOND = 1.05
"""Ratio to the outermost run above which a number lies outside the runs."""

MISFIT = 1.5
"""Ratio to the best law's rms above which a law fits clearly worse."""


@dataclass(frozen=True)
class Estimate:
    """A number and the middle 80% of what resampled runs make of it; None where too few could."""

    value: float
    lower80: float | None = None
    upper80: float | None = None


@dataclass(frozen=True)
class Row:
    """What one approach makes of the budget."""

    approach: str
    source: str
    status: str
    """`ok`, `extrapolated`, `published` or `impossible`."""
    reason: str
    params: Estimate | None = None
    tokens: Estimate | None = None
    loss: Estimate | None = None
    """Predicted at params and tokens, where the approach is a law."""
    exponent_params: Estimate | None = None
    """d log N / d log C."""
    exponent_tokens: Estimate | None = None
    points: int = 0
    """Optima that a line was drawn through, or runs that a law was fitted to."""
    resampled: float = 0.0
    """Share of the resamples that it got through."""
    rms: float | None = None
    """Relative, of the runs about a fitted law."""
    certificate: str = ""


@dataclass(frozen=True)
class Served:
    """The model of the target loss that is cheapest to train and to serve."""

    approach: str
    status: str
    reason: str
    params: Estimate | None = None
    tokens: Estimate | None = None
    training_flops: float | None = None
    serving_flops: float | None = None
    saved: float | None = None
    """Share of all FLOPs that it saves on the one that is cheapest to train."""


@dataclass(frozen=True)
class Ranges:
    """Least and most of the runs that were fitted."""

    params: tuple[float, float]
    tokens: tuple[float, float]
    flops: tuple[float, float]

    def beyond(self, **numbers: float) -> str:
        """Which of the numbers, named as the fields, lie outside; empty for none."""
        found = []
        for name, value in numbers.items():
            low, high = getattr(self, name)
            if value > high * BEYOND:
                found.append(f"{name} {value:.3g} are {value / high:.3g} times the runs' most")
            elif value < low / BEYOND:
                found.append(f"{name} {value:.3g} are {value / low:.2g} of the runs' least")
        return ", ".join(found)


@dataclass(frozen=True)
class Question:
    """What is asked of the laws; counts of FLOPs, nats or bits, and tokens."""

    flops: float | None = None
    """Budget to split."""
    params: float | None = None
    tokens: float | None = None
    """A model to look at: of params, tokens and FLOPs two, which give the third."""
    target_loss: float | None = None
    served_tokens: float = 0.0
    """Tokens that the model of the target loss will read and write once trained."""
    unique_tokens: float | None = None
    """Distinct tokens there are, where they must be repeated."""

    @property
    def model(self) -> int:
        """How many of params, tokens and FLOPs are given."""
        return sum(x is not None for x in (self.params, self.tokens, self.flops))


@dataclass(frozen=True)
class Implied:
    """A model's params, tokens and training FLOPs, any two of which give the third."""

    params: float
    tokens: float
    flops: float
    losses: dict[str, Estimate]
    """What each fitted law of N and D predicts for it."""


@dataclass(frozen=True)
class Allocation:
    """Every approach's split of a budget, and what else the laws say."""

    task: str
    loss_unit: str
    question: Question
    counted_by: Flops
    ranges: Ranges | None
    implied: Implied | None
    """None where fewer than two of params, tokens and FLOPs are given."""
    rows: tuple[Row, ...]
    served: tuple[Served, ...]
    needed: dict[str, DataNeeded]
    """Kaplan's bound by the published constants, and by the fitted law where there is one."""
    kaplan: Kaplan | None = None
    """Constants of the fitted law."""

    def misfits(self) -> dict[str, float]:
        """Laws that fit the runs clearly worse than the best one, and by how many times its rms."""
        found = {row.approach: row.rms for row in self.rows if row.rms}
        best = min(found.values(), default=1.0)
        return {name: rms / best for name, rms in found.items() if rms > MISFIT * best}

    def document(self) -> dict[str, Any]:
        """The JSON of `ladder allocate`."""
        return {
            "version": 1,
            "task": self.task or None,
            "loss_unit": self.loss_unit,
            **asdict(self.question),
            "flops_by": self.counted_by.name,
            "fitted_range": None if self.ranges is None else asdict(self.ranges),
            "implied": None if self.implied is None else asdict(self.implied),
            "rows": [asdict(row) for row in self.rows],
            "cheapest": [asdict(row) for row in self.served],
            "overfitting": {name: asdict(bound) for name, bound in self.needed.items()},
            "kaplan": None if self.kaplan is None else asdict(self.kaplan),
        }
