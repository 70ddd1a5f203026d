"""The config that a runs folder is made from, written by one command at a time; no torch.

Whoever trains holds the folder's own lock and then looks at the config once more (check), and a
config is put in the place of another only under that lock. So nothing is trained by a config that
is no longer the folder's.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path

from evaluation.checksums import check_text, sealed_text
from evaluation.files import InputError, write_text
from evaluation.plain import plain
from ladder.config import Experiment, differences, dump_config, load_config
from ladder.corpora import open_corpus
from ladder.kept_tasks import KeptTasks
from ladder.locks import hold

NAME = "config.yaml"

LONGEST_MAKING = 3600.0
"""Seconds to wait for another command that makes the folder: choosing tasks among a text corpus's
documents takes minutes at most."""


class KeptConfig:
    """The config of a runs folder, with the tasks that were written when it was made."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / NAME
        self.tasks = KeptTasks(folder / "tasks")
        self.corpus = folder / "corpus"

    def prepare(self, config: Experiment, lock: Callable[[], AbstractContextManager[None]]) -> None:
        """Make the folder with its config and tasks; InputError where another config made it.

        Another that leaves the corpus as it is takes its place where nothing has begun, which a
        line on standard error says. `lock` holds the folder against all who train in it.
        """
        self._check_place()
        if not self._is_made(config):
            self._make(config, lock)
        self.tasks.check()

    def check(self, config: Experiment) -> None:
        """Raise InputError where the folder's config is another, in more than means."""
        if changed := differences(self.load(), config):
            raise self._refusal(changed)

    def load(self) -> Experiment:
        """The config that the folder was made from; InputError where it is not what was written."""
        if not self.path.is_file():
            copy = self._mended_by()
            if copy.startswith("mend"):
                raise InputError(f"{self.path}: is gone; {copy}")
            raise InputError(f"{self.folder}: no runs folder; it holds no {NAME}")
        try:
            # A ladder that kept its tasks' digests gave the config one too.
            check_text(self.path, self.tasks.has_digests)
            return load_config(str(self.path))
        except InputError as error:
            raise InputError(f"{error}; {self._mended_by()}") from None

    def _is_made(self, config: Experiment) -> bool:
        """Whether there is nothing to write, so that a folder that is whole is left alone."""
        text = sealed_text(dump_config(config))
        try:
            return self.path.read_text(encoding="utf-8") == text and self.tasks.is_whole
        except (OSError, UnicodeDecodeError):
            return False

    def _make(self, config: Experiment, lock: Callable[[], AbstractContextManager[None]]) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"{self.folder}: cannot be made ({error.strerror or error}); give another --runs"
            ) from error
        making = self.folder / ".config.lock"
        with hold(making, "makes this folder", LONGEST_MAKING, patient=True):
            if self.path.is_file():
                self._go_on(config, lock)
            else:
                self._check_place()
                self.tasks.write(open_corpus(config.corpus, self.corpus).tasks())
                write_text(self.path, sealed_text(dump_config(config)))

    def _go_on(self, config: Experiment, lock: Callable[[], AbstractContextManager[None]]) -> None:
        text = sealed_text(dump_config(config))
        if changed := differences(self.load(), config):
            if not self._may_change(changed):
                raise self._refusal(changed)
            with lock():
                if not self._may_change(changed):
                    raise self._refusal(changed)
                write_text(self.path, text)
            said = f"{self.path}: nothing was trained by it yet; changed: {_some(changed)}"
            print(plain(said), file=sys.stderr)
        # First the config, for where tasks have digests it must have one.
        elif text != self.path.read_text(encoding="utf-8"):
            write_text(self.path, text)
        self.tasks.mend(open_corpus(config.corpus, self.corpus).tasks)

    def _may_change(self, changed: Sequence[str]) -> bool:
        """Whether nothing in the folder follows from what changed."""
        # Of ranks each would write its own in turn.
        alone = int(os.environ.get("WORLD_SIZE", "1")) == 1
        own = {NAME, self.tasks.folder.name, self.corpus.name}
        return (
            alone
            and not any(line.startswith("corpus.") for line in changed)
            and not any(path.name not in own for path in self.folder.glob("[!.]*"))
        )

    def _refusal(self, changed: Sequence[str]) -> InputError:
        return InputError(
            f"{self.folder}: was made from another config: {_some(changed)}; give another folder "
            "with --runs, or remove this one"
        )

    def _check_place(self) -> None:
        """Raise InputError where the folder is none, or holds what no ladder begins with."""
        if self.folder.exists() and not self.folder.is_dir():
            raise InputError(f"{self.folder}: is a file; give a folder with --runs")
        if not self._is_foreign():
            return
        copy = self._mended_by()
        is_ours = copy.startswith("mend") or (self.folder / "slurm" / "jobs.json").is_file()
        more = f"; {copy}" if is_ours else "; give another --runs"
        raise InputError(f"{self.folder}: is not empty and holds no {NAME}{more}")

    def _is_foreign(self) -> bool:
        held = any(path.name != self.tasks.folder.name for path in self.folder.glob("[!.]*"))
        # Another command may have made it just now.
        return held and not self.path.is_file()

    def _mended_by(self) -> str:
        """Where the config can be had again: each rung has one, and the first is as good."""
        for path in sorted(self.folder.glob(f"*/{NAME}")):
            with suppress(InputError, OSError):
                check_text(path, must=True)
                return f"mend it by: {shlex.join(['cp', str(path), str(self.path)])}"
        return f"no rung holds another: bring it back, or remove {self.folder} to start anew"


def _some(changed: Sequence[str]) -> str:
    more = f" (and {len(changed) - 3} more)" if len(changed) > 3 else ""
    return f"{'; '.join(changed[:3])}{more}"
