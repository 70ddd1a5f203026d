"""Locks: the second is refused with the holder named, and none outlives its process."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from evaluation.files import InputError
from ladder import locks
from ladder.corpora.disk import locked
from ladder.locks import hold, is_held, read_holder

HOLDS = """
import sys, time
from pathlib import Path
from ladder.locks import hold
with hold(Path(sys.argv[1]), "trains it", shared=len(sys.argv) > 2):
    print("held", flush=True)
    time.sleep(600)
"""


@contextmanager
def other(path: Path, *more: str) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(path), *more], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.wait()


def test_the_second_is_refused_at_once_and_told_of_the_first(tmp_path: Path) -> None:
    path = tmp_path / "run" / ".lock"
    with other(path) as process:
        before = time.monotonic()
        with pytest.raises(InputError) as error, hold(path, "trains it", wait=600):
            pass
        assert time.monotonic() - before < 60
        said = str(error.value)
        assert said.startswith(f"{path.parent}: process {process.pid} (-c ")
        assert said.endswith("Z, trains it; wait for it, or end it")
        assert is_held(path)
    # Killed, and so gone with all that it held.
    assert not is_held(path)
    with hold(path, "trains it"):
        holder = read_holder(path)
        assert holder is not None
        assert holder.pid == os.getpid()
    assert read_holder(path) is None


def test_a_lock_without_a_name_is_waited_for(tmp_path: Path) -> None:
    """A look at it, or a worker whose command was killed, and which lets go any moment."""
    path = tmp_path / ".lock"
    with other(path) as process:
        path.write_text(path.read_text().replace(str(process.pid), str(2**22 + 1)))
        refused = pytest.raises(InputError, match="another process trains it")
        with refused, hold(path, "trains it", wait=0.3):
            pass
        os.kill(process.pid, signal.SIGKILL)
        with hold(path, "trains it", wait=60):
            pass


def test_some_share_a_folder_and_one_for_all_of_it_waits_for_none_of_them(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    with other(path, "shared"):
        with hold(path, "trains it", shared=True):
            pass
        with pytest.raises(InputError, match="trains it; wait for it"), hold(path, "trains it"):
            pass
    with hold(path, "trains it"):
        pass


def test_who_waits_is_told_for_whom_and_goes_on_once_it_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, ends = tmp_path / ".lock", list[str]()
    with other(path) as process:

        def told(line: str, file: object) -> None:
            ends.append(line)
            process.kill()

        with monkeypatch.context() as patch:
            patch.setattr(locks, "TOLD_AFTER", 0.0)
            patch.setattr(locks, "print", told, raising=False)
            with locked(path):
                assert len(ends) == 1
    assert ends[0].startswith(f"{tmp_path}: process {process.pid} (-c ")
    assert ends[0].endswith("Z, makes its corpus; waiting for it")
    with other(path) as process:
        refused = pytest.raises(InputError, match=f"process {process.pid} .* tables; wait for it")
        with refused, hold(path, "writes its tables", wait=0.3, patient=True):
            pass


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_locks_is_one_line_and_a_look_at_one_says_that_it_cannot_tell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuses(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuses)
    for take in (hold(tmp_path / ".lock", "trains it"), locked(tmp_path / ".lock")):
        with pytest.raises(InputError, match=r"keeps no locks .* name a folder on another"), take:
            pytest.fail("is not guarded")
    assert is_held(tmp_path / ".lock") is None
    assert is_held(tmp_path / "nowhere" / ".lock") is False


def test_a_number_of_another_container_is_not_taken_for_one_of_ours(tmp_path: Path) -> None:
    """Containers may have one name, and each its own numbers: none is known to have ended."""
    path = tmp_path / ".lock"
    with other(path) as process:
        holder = json.loads(path.read_text())
        holder |= {"command_pid": 2**22 + 1, "processes": "elsewhere"}
        path.write_text(json.dumps(holder) + "\n")
        refused = pytest.raises(InputError, match="process 4194305 in another container on ")
        before = time.monotonic()
        with refused, hold(path, "trains it", wait=600):
            pass
        assert time.monotonic() - before < 60
        assert process.poll() is None


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    refused = pytest.raises(InputError, match="cannot be written")
    with refused, hold(tmp_path / "file" / ".lock", "trains it"):
        pass
    assert not is_held(tmp_path / "nowhere" / ".lock")
