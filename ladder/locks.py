"""Locks of a runs folder: the system's own, which go with their process, and whose they are.

A lock is held on an open file (flock), so that none outlives its process, however that ends; the
file's text, which says who holds it, is for people and for how long to wait.
"""

from __future__ import annotations

import errno
import fcntl
import json
import multiprocessing
import os
import platform
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from evaluation.files import InputError, is_alive, parse_json, processes_of
from evaluation.plain import plain

LOCK_WAIT = 10.0
"""Seconds to wait for the worker of a command that was killed, which lets go within one."""

POLL = 0.1
"""Seconds between two tries."""

LONGEST_HOLDER = 2**14
"""Characters of a lock's file that are read."""

LONGEST_COMMAND = 120
"""Characters of a command that are told."""

TOLD_AFTER = 2.0
"""Seconds of waiting for a command after which it is told whose."""

UNKNOWN = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)
"""Errors of a file system that keeps no locks."""


@dataclass(frozen=True)
class Holder:
    """Who holds a lock."""

    host: str
    pid: int
    command_pid: int
    """Of the command whose worker it is; its own where it is none."""
    command: str
    since: str
    """UTC, ISO 8601."""
    processes: str = ""
    """Among which processes its number means it, see evaluation.files.processes_of."""

    def __str__(self) -> str:
        host = "" if self.host == platform.node() else f" on {self.host}"
        if not host and not self._is_seen:
            host = f" in another container on {self.host}"
        return f"process {self.command_pid}{host} ({self.command}), since {self.since},"

    @property
    def is_gone(self) -> bool:
        """Whether its command ended; of another machine or container that cannot be told."""
        return self._is_seen and not is_alive(self.command_pid)

    @property
    def _is_seen(self) -> bool:
        return self.processes == processes_of()


def this_process() -> Holder:
    """The process that asks, as a holder."""
    parent = multiprocessing.parent_process()
    words = [Path(sys.argv[0]).name, *sys.argv[1:]] if sys.argv else ["python"]
    if parent is not None:
        words = ["a worker of it"]
    return Holder(
        host=platform.node(),
        pid=os.getpid(),
        command_pid=os.getpid() if parent is None or parent.pid is None else parent.pid,
        command=" ".join(" ".join(words).split())[:LONGEST_COMMAND],
        since=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        processes=processes_of(),
    )


@contextmanager
def hold(
    path: Path,
    does: str,
    wait: float = LOCK_WAIT,
    shared: bool = False,
    patient: bool = False,
) -> Iterator[int]:
    """Hold the lock file `path`, alone or `shared`.

    Where another has it, InputError at once, naming it; what is left of a command that was killed
    gets `wait` seconds to let go, and so does anyone with `patient`, who is told for whom. `does`
    says in the message what the other does, "trains it". Gives the lock's file descriptor: a
    process that inherits it holds the lock on, should this one end before. InputError, too, where
    the file system keeps no locks.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = open_lock(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror})") from error
    with handle:
        begin, told = time.monotonic(), False
        while not _try_lock(handle, path, shared):
            holder = read_holder(path)
            # Nobody's name: a look at the lock, or one that takes or leaves it just now.
            known = holder is not None and not holder.is_gone
            who = str(holder) if holder is not None and known else "another process"
            waited = time.monotonic() - begin
            if (known and not patient) or waited > wait:
                raise InputError(f"{path.parent}: {who} {does}; wait for it, or end it")
            # Ranks wait for their first one, which is no news.
            alone = os.environ.get("RANK", "0") == "0"
            if patient and alone and not told and waited > TOLD_AFTER:
                told = True
                print(plain(f"{path.parent}: {who} {does}; waiting for it"), file=sys.stderr)
            time.sleep(POLL)
        try:
            _write_holder(handle, this_process())
            yield handle.fileno()
        finally:
            if not shared:
                _write_holder(handle, None)


def open_lock(path: Path) -> IO[str]:
    """A lock's file, made where there is none; InputError for a link, which may lead anywhere."""
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
    try:
        return os.fdopen(os.open(path, flags, 0o666), "a+", encoding="utf-8")
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise InputError(f"{path}: is a link and no lock; remove it") from None


def is_held(path: Path) -> bool | None:
    """Whether a process holds a lock alone; it need not be writable.

    None where that cannot be told: the file may not be read, or its file system keeps no locks.
    """
    try:
        with path.open(encoding="utf-8") as handle:
            return not _try_lock(handle, path, shared=True)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, InputError):
        return None


def read_holder(path: Path) -> Holder | None:
    """Who wrote its name last into a lock file; None where that is nobody."""
    try:
        with path.open(encoding="utf-8") as handle:
            found = parse_json(handle.read(LONGEST_HOLDER).splitlines()[-1])
        return Holder(
            str(found["host"]),
            int(found["pid"]),
            int(found["command_pid"]),
            str(found["command"]),
            str(found["since"]),
            str(found.get("processes", "")),
        )
    except (OSError, ValueError, LookupError, TypeError, OverflowError):
        return None


def _write_holder(handle: IO[str], holder: Holder | None) -> None:
    # The lock is held whether or not the disk has room for a name.
    with suppress(OSError):
        handle.truncate(0)
        if holder is not None:
            handle.write(json.dumps(asdict(holder)) + "\n")
        handle.flush()


def _try_lock(handle: IO[str], path: Path, shared: bool) -> bool:
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    try:
        fcntl.flock(handle.fileno(), kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        why = f"cannot be locked ({error.strerror})"
        if error.errno in UNKNOWN:
            why = f"its file system keeps no locks ({error.strerror})"
        raise InputError(
            f"{path}: {why}, by which two processes are kept from training one run; name a folder "
            "on another file system by --runs, or mount this one with them (flock)"
        ) from error
    return True
