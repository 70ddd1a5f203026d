"""Checks a fitted law against a corpus whose entropy rate is known exactly."""

from __future__ import annotations

from dataclasses import dataclass

from predict.audit import Audit
from predict.two_stage import TwoStage


@dataclass(frozen=True)
class TruthCheck:
    """Fitted irreducible loss and predicted excess beside the truth, nats per token."""

    entropy_rate: float
    """Of the sequences that the loss is measured on (ladder.corpora, floor)."""
    fitted: float
    """E of step 1 on the held-out loss."""
    loss_range: float
    """Highest less lowest loss of the ladder's rungs."""
    excess_predicted: float | None
    """Target's predicted loss over the entropy rate; None where no target was trained."""
    excess_actual: float | None

    @property
    def floor_error(self) -> float:
        """(E - entropy rate) as a share of the ladder's range of losses."""
        return (self.fitted - self.entropy_rate) / self.loss_range

    @property
    def excess_error(self) -> float | None:
        """(predicted - actual) / predicted excess."""
        if self.excess_predicted is None or self.excess_actual is None:
            return None
        return (self.excess_predicted - self.excess_actual) / self.excess_predicted

    def lines(self) -> list[str]:
        """The check in words."""
        lines = [
            f"irreducible loss: fitted {self.fitted:.4f}, entropy rate {self.entropy_rate:.4f} "
            f"nats/token, {self.floor_error:+.1%} of the ladder's range of losses"
        ]
        if self.excess_error is not None:
            lines.append(
                f"target's loss over the entropy rate: predicted {self.excess_predicted:.4f}, "
                f"actual {self.excess_actual:.4f}, {self.excess_error:+.0%} of the predicted"
            )
        return lines


def check_truth(
    model: TwoStage, audit: Audit | None, task: str, entropy_rate: float
) -> TruthCheck | None:
    """Compare the fit of the held-out loss `task` with the truth; None where it was not fitted."""
    fitted = model.fits_.get(task)
    if fitted is None or "E" not in fitted.step1.parameters:
        return None
    losses = [rung.loss for rung in fitted.rungs]
    rows = [r for r in audit.rows if r.prediction.task == task] if audit else []
    return TruthCheck(
        entropy_rate=entropy_rate,
        fitted=fitted.step1.parameters["E"],
        loss_range=max(losses) - min(losses),
        excess_predicted=rows[0].prediction.loss_predicted - entropy_rate if rows else None,
        excess_actual=rows[0].loss_actual - entropy_rate if rows else None,
    )
