"""Locks: the second is refused with the holder named, and none outlives its process."""

from __future__ import annotations

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


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    refused = pytest.raises(InputError, match="cannot be written")
    with refused, hold(tmp_path / "file" / ".lock", "trains it"):
        pass
    assert not is_held(tmp_path / "nowhere" / ".lock")
