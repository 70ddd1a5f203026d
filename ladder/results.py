"""Rows of results from scores that were kept, and remarks on how they came about; no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evaluation.choices import ChoiceScores
from evaluation.files import InputError
from evaluation.store import Store
from evaluation.suites import Selection, result_rows
from evaluation.tasks import Task
from evaluation.text_scores import TextScores, text_row


@dataclass
class Results:
    """What was scored so far of what is selected."""

    selection: Selection
    texts: Sequence[Path]
    scores: dict[str, ChoiceScores] = field(default_factory=dict)
    read: dict[Path, TextScores] = field(default_factory=dict)

    def load(self, store: Store) -> None:
        """Take over what a store holds."""
        for task in self.selection.tasks:
            if found := store.task(task, task.name in self.selection.pmi):
                self.scores[task.name] = found
        for path in self.texts:
            if known := store.text(path):
                self.read[path] = known

    @property
    def tasks_left(self) -> list[Task]:
        """Tasks that are still to be scored."""
        return [task for task in self.selection.tasks if task.name not in self.scores]

    @property
    def texts_left(self) -> list[Path]:
        """Texts that are still to be scored."""
        return [path for path in self.texts if path not in self.read]

    def rows(self) -> list[dict[str, Any]]:
        """A row for every name that was asked for, once all is scored."""
        rows = result_rows(self.selection, self.scores)
        return rows + [text_row(self.read[path]) for path in self.texts]

    def remarks(self) -> list[str]:
        """What a reader of the numbers should know, a line a task."""
        remarks = []
        for task in self.selection.tasks:
            own = self.scores[task.name]
            if own.cut:
                remarks.append(f"{task.name}: {own.cut} contexts were cut to the model's window")
            if own.differ:
                remarks.append(
                    f"{task.name}: {own.differ} choices have other tokens behind their context "
                    "than alone"
                )
        return remarks


def rescore(selection: Selection, texts: Sequence[Path], store: Store) -> Results:
    """Results from what a store holds; InputError where something was not scored."""
    results = Results(selection, texts)
    results.load(store)
    left = [*(task.name for task in results.tasks_left), *(p.stem for p in results.texts_left)]
    if left:
        raise InputError(f"{store.path(left[0])}: lacks what is asked for; leave --rescore out")
    return results
