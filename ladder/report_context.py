"""What the sections of a report are made from, and how much work they may make."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from ladder.report_provenance import Origin
from ladder.result import Result
from predict.audit import AuditRow
from predict.points import RungPoint
from predict.splits import make_splits

MOST_TASKS = 60
"""Tasks up to which figures with a row a task are drawn, and tasks whose fits are drawn."""

MOST_REFITS = 130
"""Refits of a task up to which a report cuts the ladder of itself, back-test first: some 3 s of
one core for the default method on the published ladder."""


@dataclass(frozen=True)
class Context:
    """What sections are made from."""

    result: Result
    observations: pd.DataFrame
    origin: Origin | None = None
    full: bool = False
    """Whether the ladder is cut and fitted again however long that takes."""

    @property
    def scored(self) -> list[AuditRow]:
        """Rows of the audit with an accuracy."""
        return (
            [r for r in self.result.audit.rows if r.error is not None] if self.result.audit else []
        )

    @property
    def rungs(self) -> list[RungPoint]:
        """Every rung that was fitted, once, by its cost."""
        every = {r.run: r for f in self.result.model.fits_.values() for r in f.rungs}
        return sorted(every.values(), key=lambda r: r.params * r.tokens)

    @property
    def splits(self) -> int:
        """Cuts of the ladder that a back-test fits, none of them near a target's size."""
        targets = self.observations["role"] == "target"
        sizes = self.observations.loc[targets, "params"].unique()
        others = [r for r in self.rungs if not any(0.9 <= r.params / s <= 1.1 for s in sizes)]
        return len(make_splits(others))

    def can_refit(self, refits: int) -> bool:
        """Whether so many refits of a task may be made."""
        return self.full or refits <= MOST_REFITS


def not_drawn(tasks: int) -> tuple[str, ...]:
    """The line that says which of so many tasks a figure leaves out; none where it has all."""
    if tasks <= MOST_TASKS:
        return ()
    return (f"The figure shows the first {MOST_TASKS} of {tasks} tasks, the table all.",)
