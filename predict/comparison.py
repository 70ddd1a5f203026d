"""What a comparison of recipes finds: rows for scores, pairs and parameters, and how it decided."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from predict.gain import Gain
from predict.intervals import Interval

MEAN = "mean"
"""Task of the rows that stand for the mean over tasks."""

LEANS = 1.5
"""Standard deviations by which a difference moves without its weightiest rung from which on it is
poorly determined (benchmarks/compare.py lean)."""


@dataclass(frozen=True)
class Difference:
    """First recipe minus second at the target, as two single runs there would measure it."""

    value: float
    bounds: Interval
    probability: float
    """That the first one's run is the better: of lower loss, or higher accuracy."""
    probability_of_recipe: float
    """The same without the noise of the two runs, as means over many seeds would show it."""
    actual: float | None
    """Measured minus measured, where both tables hold the target; means of its seeds."""

    @property
    def called(self) -> float:
        """The probability of the winner that is called, 0.5 or more."""
        return max(self.probability, 1 - self.probability)


@dataclass(frozen=True)
class Leaning:
    """The rung that a loss's difference depends on most."""

    params: float
    tokens: float
    without: float
    """The difference had neither recipe been run there."""
    shift: float
    """How far that is away, in standard deviations of the recipes' difference."""


@dataclass(frozen=True)
class PairRow:
    """Two recipes on one task, or the mean over tasks, at one target."""

    first: str
    second: str
    task: str
    target: str
    params: float
    tokens: float
    loss: Difference
    accuracy: Difference | None
    gain: Gain
    """Factor of compute that the second one needs to reach the first one's loss."""
    gain_lower80: Gain
    gain_upper80: Gain
    leaning: Leaning | None = None
    """Of a task's loss; None of the mean over tasks."""

    @property
    def is_poorly_determined(self) -> bool:
        """Whether the difference of losses rests on one rung, so that it should not be believed."""
        return self.leaning is not None and self.leaning.shift > LEANS

    @property
    def doubt(self) -> str:
        """Why the difference of losses should not be believed; empty where nothing says so."""
        lean = self.leaning
        if lean is None or not self.is_poorly_determined:
            return ""
        return (
            f"{self.first} - {self.second}: poorly determined, do not believe it: "
            f"{self.loss.value:+.4f} rests on the rung of {lean.params:,.0f} params and "
            f"{lean.tokens:,.0f} tokens; without that it is {lean.without:+.4f}, "
            f"{lean.shift:.1f} standard deviations away"
        )

    def flat(self) -> dict[str, object]:
        """One level of names, for JSON and CSV."""
        names = ("first", "second", "task", "target", "params", "tokens")
        row: dict[str, object] = {name: getattr(self, name) for name in names}
        for measure in ("loss", "accuracy"):
            found: Difference | None = getattr(self, measure)
            row[f"{measure}_difference"] = found.value if found else None
            for name in ("lower80", "upper80", "lower95", "upper95"):
                row[f"{measure}_{name}"] = getattr(found.bounds, name) if found else None
            for name in ("probability", "probability_of_recipe", "actual"):
                row[f"{measure}_{name}"] = getattr(found, name) if found else None
        for name in ("gain", "gain_lower80", "gain_upper80"):
            found_gain: Gain = getattr(self, name)
            row[name], row[f"{name}_why"] = found_gain.factor, found_gain.why
        for name in ("params", "tokens", "without", "shift"):
            row[f"leans_on_{name}"] = getattr(self.leaning, name) if self.leaning else None
        row["poorly_determined"] = self.is_poorly_determined
        return row


@dataclass(frozen=True)
class ScoreRow:
    """One recipe at a target: `alone` as `ladder predict` says, else what all recipes tell.

    The level is the mean of all recipes' predictions, the distance from it comes from the gaps.
    """

    recipe: str
    task: str
    target: str
    loss: float
    loss_lower80: float | None
    loss_upper80: float | None
    loss_alone: float
    loss_actual: float | None
    accuracy: float | None
    lower80: float | None
    upper80: float | None
    accuracy_alone: float | None
    accuracy_actual: float | None
    status: str
    reason: str


@dataclass(frozen=True)
class ParameterRow:
    """First recipe minus second in one parameter of step 1, N in 1e9 and D in 1e11."""

    first: str
    second: str
    task: str
    parameter: str
    difference: float
    lower80: float
    upper80: float
    alone: float
    """Of the two fits made apart."""


@dataclass(frozen=True)
class Decisions:
    """How often the called winner won, over pairs, tasks and targets that were measured."""

    measure: str
    cases: int
    right: int
    expected: float
    """How many should be right by the called probabilities."""
    brier: float
    """Mean squared error of the probabilities: 0.25 for tossing a coin."""


@dataclass(frozen=True)
class Comparison:
    """Everything that `compare` found."""

    method: str
    recipes: tuple[str, ...]
    scores: tuple[ScoreRow, ...]
    pairs: tuple[PairRow, ...]
    parameters: tuple[ParameterRow, ...]
    decisions: tuple[Decisions, ...]
    left_out: dict[str, str]
    """Tasks that were not compared, and why."""
    warnings: tuple[str, ...]

    def document(self) -> dict[str, Any]:
        """The JSON of `ladder compare`."""
        return {
            "version": 1,
            "method": self.method,
            "recipes": list(self.recipes),
            "scores": [asdict(row) for row in self.scores],
            "pairs": [row.flat() for row in self.pairs],
            "parameters": [asdict(row) for row in self.parameters],
            "decisions": [asdict(row) for row in self.decisions],
            "left_out": self.left_out,
            "warnings": list(self.warnings),
        }


def decide(pairs: Sequence[PairRow]) -> tuple[Decisions, ...]:
    """Count the called winners that won, a task each; the mean over tasks is none of them."""
    result = []
    for measure in ("loss", "accuracy"):
        found: list[Difference] = [
            d for row in pairs if row.task != MEAN and (d := getattr(row, measure)) is not None
        ]
        sign = -1 if measure == "loss" else 1
        known = [(d, sign * d.actual > 0) for d in found if d.actual]
        if known:
            result.append(
                Decisions(
                    measure,
                    len(known),
                    sum((d.probability > 0.5) == won for d, won in known),
                    sum(d.called for d, _ in known),
                    float(np.mean([(d.probability - won) ** 2 for d, won in known])),
                )
            )
    return tuple(result)
