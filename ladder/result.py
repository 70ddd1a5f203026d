"""Everything that follows from an observations table, as one value."""

from __future__ import annotations

from dataclasses import dataclass

from ladder.grid_exponents import GridExponents
from ladder.truth import TruthCheck
from predict.audit import Audit
from predict.task_fit import Prediction, Target
from predict.two_stage import TwoStage


@dataclass(frozen=True)
class Result:
    """A fitted predictor, what it says, and how that compares with what came."""

    model: TwoStage
    predictions: tuple[Prediction, ...]
    targets: tuple[Target, ...]
    audit: Audit | None
    """None where no target was measured."""
    truth: TruthCheck | None
    """None where the corpus's entropy is not known."""
    exponents: GridExponents | None = None
    """None where the ladder is no grid of sizes and tokens, and for a table."""
