"""The answer of `ladder next`: runs in order, and what to expect of the target after each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from predict.intervals import LEVEL80
from predict.task_fit import Target


@dataclass(frozen=True)
class Candidate:
    """A run that could be trained: N, D and what it costs."""

    name: str
    params: float
    tokens: float
    flops: float


@dataclass(frozen=True)
class Expected:
    """What is expected of one task's prediction for the target."""

    task: str
    loss: float
    """Predicted now, in the task's unit."""
    loss_sd: float
    """Expected standard error of the logarithm of the loss."""
    accuracy: float | None
    """Predicted now, in [0, 1]; None for a task without an accuracy."""
    accuracy_sd: float | None
    accuracy_width80: float | None
    """Expected width of the 80% interval, cut to [0, 1]."""


@dataclass(frozen=True)
class Stage:
    """What is expected once a run, and those before it, are trained."""

    run: Candidate | None
    """None for what holds without another run, and for all candidates together."""
    cumulative_flops: float
    tasks: tuple[Expected, ...]

    @property
    def loss_sd(self) -> float:
        """Mean over the tasks of the standard error of the log loss."""
        return float(np.mean([t.loss_sd for t in self.tasks]))

    @property
    def loss_width80(self) -> float:
        """Width of the 80% interval of the log loss that goes with it."""
        return 2 * LEVEL80 * self.loss_sd

    @property
    def accuracy_sd(self) -> float | None:
        """Mean over the tasks that have an accuracy; None without one."""
        return _mean([t.accuracy_sd for t in self.tasks])

    @property
    def accuracy_width80(self) -> float | None:
        """Mean width of the 80% interval over the same tasks."""
        return _mean([t.accuracy_width80 for t in self.tasks])

    def document(self) -> dict[str, Any]:
        """As `ladder next --json` shows it."""
        run = {} if self.run is None else asdict(self.run)
        return {
            **run,
            "cumulative_flops": self.cumulative_flops,
            "loss_sd": self.loss_sd,
            "loss_width80": self.loss_width80,
            "accuracy_sd": self.accuracy_sd,
            "accuracy_width80": self.accuracy_width80,
            "tasks": [asdict(t) for t in self.tasks],
        }


@dataclass(frozen=True)
class NextRuns:
    """The runs to train, in order, and what to expect after each."""

    target: Target
    budget: float
    now: Stage
    runs: tuple[Stage, ...]
    everything: Stage
    """After all candidates, whatever they cost."""
    notes: tuple[str, ...]
    """What the numbers rest on where observations are few, one line each."""

    def document(self) -> dict[str, Any]:
        """The JSON of `ladder next`."""
        return {
            "version": 1,
            "target": asdict(self.target),
            "budget_flops": self.budget,
            "spent_flops": self.runs[-1].cumulative_flops if self.runs else 0.0,
            "now": self.now.document(),
            "runs": [stage.document() for stage in self.runs],
            "all": self.everything.document(),
            "notes": list(self.notes),
        }


def _mean(values: Sequence[float | None]) -> float | None:
    found = [v for v in values if v is not None]
    return float(np.mean(found)) if found else None
