"""A folder of one model's scores, a file a task, so that what was scored is not scored again."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from evaluation.choices import (
    ChoiceScores,
    read_choices,
    without_unconditional,
    write_choices,
)
from evaluation.files import (
    InputError,
    read_json,
    sweep,
    temporary_of,
    whole_digest,
    write_json,
)
from evaluation.tasks import Task
from evaluation.text_scores import TextScores, read_text_scores, write_text_scores

LABEL = "model.json"


class Store:
    """The folder; `owner` says whose scores it holds, and no others are read from it."""

    def __init__(
        self, folder: Path, owner: dict[str, Any], more: dict[str, Any] | None = None
    ) -> None:
        """Open the folder; raises InputError where it is another model's, or no such folder.

        `more` is kept beside the owner, and never compared.
        """
        self.folder = folder
        self.owner = owner
        self.more = more or {}
        if (folder / LABEL).is_file():
            self._check_owner()
        elif folder.exists() and (not folder.is_dir() or any(folder.glob("[!.]*"))):
            if folder.is_dir() and all(p.suffix == ".parquet" for p in folder.glob("[!.]*")):
                raise InputError(f"{folder}: its {LABEL} is gone; remove the folder to score anew")
            raise InputError(f"{folder}: holds no scores; name an empty folder, or a new one")

    def claim(self) -> None:
        """Make the folder this owner's; raises InputError where another was faster."""
        label = self.folder / LABEL
        temporary = temporary_of(label)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            sweep(self.folder)
            write_json(temporary, {**self.more, **self.owner}, sealed=True)
            _put(temporary, label)
        except FileExistsError:
            self._check_owner()
        except OSError as error:
            raise InputError(f"{self.folder}: cannot be written ({error.strerror})") from error
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)

    def _check_owner(self) -> None:
        label = self.folder / LABEL
        try:
            known = read_json(label)
        except InputError:
            known = None
        if not isinstance(known, dict):
            raise InputError(f"{label}: damaged; remove the folder to score anew")
        for key, value in self.owner.items():
            if known.get(key) != value:
                raise InputError(
                    f"{self.folder}: holds scores of {key} {known.get(key)!r}, not of {value!r}; "
                    "name another folder, or remove this one to score anew"
                )

    def task(self, task: Task, pmi: bool) -> ChoiceScores | None:
        """The scores of a task, if all that is asked for is there.

        Raises InputError where they are of other items.
        """
        path = self.path(task.name)
        if not path.is_file():
            return None
        scores = read_choices(path)
        if scores.digest != task.digest():
            raise InputError(
                f"{path}: was scored on other items than {task.name} has now, or with another "
                "--limit; remove it"
            )
        if scores.unconditional == task.unconditional:
            return scores
        return None if pmi else without_unconditional(scores)

    def text(self, path: Path) -> TextScores | None:
        """The scores of a text; InputError where they are of another one."""
        kept = self.path(path.stem)
        if not kept.is_file():
            return None
        scores = read_text_scores(kept)
        if scores.digest != whole_digest(path):
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


def _put(temporary: Path, path: Path) -> None:
    """Give a file its name; FileExistsError where another process has put one there."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:
        # Some network file systems know no links; there a moment is left for another process.
        if path.exists():
            raise FileExistsError(path) from None
        temporary.replace(path)
