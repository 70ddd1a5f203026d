"""A folder of one model's scores, a file a task, so that what was scored is not scored again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from evaluation.choices import ChoiceScores, read_choices, write_choices
from evaluation.files import InputError, read_json, sample_digest, write_json
from evaluation.tasks import Task
from evaluation.text_scores import TextScores, read_text_scores, write_text_scores

LABEL = "model.json"


class Store:
    """The folder; `owner` says whose scores it holds, and no others are read from it."""

    def __init__(self, folder: Path, owner: dict[str, Any]) -> None:
        """Open the folder; raises InputError where it is another model's, or no such folder."""
        self.folder = folder
        self.owner = owner
        label = folder / LABEL
        if label.is_file():
            known = read_json(label)
            wrong = [key for key in owner if key not in known or known[key] != owner[key]]
            if wrong:
                raise InputError(
                    f"{folder}: holds scores of another {wrong[0]}, {known.get(wrong[0])!r} and "
                    f"not {owner[wrong[0]]!r}; name another folder with --keep"
                )
        elif folder.exists() and (not folder.is_dir() or any(folder.glob("[!.]*"))):
            raise InputError(f"{folder}: holds no scores; name an empty folder, or a new one")

    def claim(self) -> None:
        """Make the folder, and write whose it is."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{self.folder}: cannot be made ({error.strerror})") from error
        if not (self.folder / LABEL).is_file():
            write_json(self.folder / LABEL, self.owner)

    def task(self, task: Task, pmi: bool) -> ChoiceScores | None:
        """The scores of a task, if all that is asked for is there.

        Raises InputError where they are of other items.
        """
        path = self.path(task.name)
        if not path.is_file():
            return None
        scores = read_choices(path)
        if scores.digest != task.digest():
            raise InputError(f"{path}: was scored on other items than {task.name} has; remove it")
        if pmi and any(item.unconditional is None for item in scores.items):
            return None
        return scores

    def text(self, path: Path) -> TextScores | None:
        """The scores of a text; InputError where they are of another one."""
        kept = self.path(path.stem)
        if not kept.is_file():
            return None
        scores = read_text_scores(kept)
        if scores.digest != sample_digest(path):
            raise InputError(f"{kept}: was scored on another {path.name}; remove it")
        return scores

    def write(self, scores: ChoiceScores | TextScores) -> None:
        """Keep the scores of a task or a text."""
        if isinstance(scores, TextScores):
            write_text_scores(scores, self.path(scores.name))
        else:
            write_choices(scores, self.path(scores.task))

    def path(self, name: str) -> Path:
        """The file of a task's scores."""
        return self.folder / f"{name}.parquet"
