"""The tasks that rungs are scored on, kept in the runs folder with their checksums; no torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from evaluation.files import InputError, is_file_name, read_json, whole_digest, write_json
from evaluation.tasks import Task, read_task, write_task

INDEX = "index.json"


class KeptTasks:
    """A folder of one JSONL file a task, and an index that names them with their SHA-256."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.index = folder / INDEX

    @property
    def files(self) -> list[Path]:
        """The files, in the order of the index; all that there are where there is none."""
        if not self.index.is_file():
            return sorted(self.folder.glob("*.jsonl"))
        return [self._file(name) for name in self._told()]

    @property
    def has_digests(self) -> bool:
        """Whether the index is one with digests, as far as it can be read."""
        try:
            return isinstance(read_json(self.index), dict)
        except InputError:
            return False

    def write(self, tasks: Sequence[Task]) -> None:
        """Write tasks and then the index; InputError where the folder cannot be made."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"{self.folder.parent}: cannot be made ({error.strerror or error}); give another "
                "--runs"
            ) from error
        for task in tasks:
            write_task(task, self.folder)
        told = {task.name: whole_digest(self._file(task.name)) for task in tasks}
        write_json(self.index, {"version": 1, "tasks": told}, sealed=True)

    def mend(self, make: Callable[[], Sequence[Task]]) -> None:
        """Write tasks that are gone as `make` makes them; InputError where those are others now.

        An older ladder's, of which only names are kept, are left as they are.
        """
        if not self.index.is_file():
            if not self.files:
                self.write(make())
            return
        told, lost = self._told(), self._lost()
        made = {task.name: task for task in make()} if lost else {}
        for name in lost:
            path = self._file(name)
            if name in made:
                write_task(made[name], self.folder)
            if name not in made or whole_digest(path) != told[name]:
                path.unlink(missing_ok=True)
                raise InputError(
                    f"{path}: no such task file, and corpus.tasks has other items now; bring it "
                    "back"
                )

    @property
    def is_whole(self) -> bool:
        """Whether `mend` has nothing to write."""
        return not self._lost() if self.index.is_file() else bool(self.files)

    def check(self) -> None:
        """Raise InputError for a task that is gone, damaged, or cannot be scored."""
        told = self._told() if self.index.is_file() else {}
        for name, digest in told.items():
            path = self._file(name)
            if digest and path.is_file() and whole_digest(path) != digest:
                raise InputError(
                    f"{path}: is damaged or was edited; remove it, and `ladder train` makes it "
                    "again"
                )
        for path in self.files:
            read_task(path)

    def _file(self, name: str) -> Path:
        return self.folder / f"{name}.jsonl"

    def _lost(self) -> list[str]:
        """Names of tasks whose files are gone; of an older ladder's nothing can be made again."""
        told = self._told().items()
        return [name for name, digest in told if digest and not self._file(name).is_file()]

    def _told(self) -> dict[str, str]:
        """Names and digests; an older ladder's index has no digests."""
        try:
            document = read_json(self.index)
            if isinstance(document, list):
                told = dict.fromkeys(map(str, document), "")
            else:
                told = {str(name): str(digest) for name, digest in document["tasks"].items()}
            if foreign := [name for name in told if not is_file_name(name)]:
                raise InputError(f"{foreign[0]!r} is no name of a file in it")
            return told
        except (InputError, KeyError, TypeError, AttributeError) as error:
            raise InputError(
                f"{self.index}: is damaged ({error}); remove {self.folder}, and `ladder train` "
                "makes it again"
            ) from None
