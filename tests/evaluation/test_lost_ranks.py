"""Ranks that work together: a lost one is named in one line, and nothing else is taken for that."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest
from torch import distributed

from evaluation import ranks
from evaluation.files import InputError, processes_of
from evaluation.ranks import Peer, lost_ranks_told

CLOSED = RuntimeError("[gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:1")
MEND = "the same command goes on"


def peer(rank: int, pid: int, host: str = platform.node(), processes: str = "") -> Peer:
    return Peer(rank, host, pid, processes or processes_of())


def said(peers: list[Peer], error: RuntimeError = CLOSED) -> str:
    def lose() -> None:
        with lost_ranks_told("a-1xC", MEND) as known:
            known += peers
            raise error

    with pytest.raises(InputError) as caught:
        lose()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture(autouse=True)
def two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(ranks, "DYING", 0.0)


def test_a_rank_that_was_killed_is_named_before_anyone_has_asked_how_it_ended() -> None:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    own = peer(0, os.getpid())
    other, alive = peer(1, process.pid), peer(2, os.getppid())
    assert not other.has_ended
    process.kill()
    while not other.has_ended:  # A zombie until it is waited for.
        pass
    begin = f"a-1xC: rank 1 (process {process.pid} on {platform.node()}) has ended; {MEND} ([gloo"
    assert said([own, other, alive]).startswith(begin)
    process.wait()
    assert said([own, other, alive]).startswith(begin)
    both = said([own, other, peer(2, process.pid)])
    assert f" and rank 2 (process {process.pid} on {platform.node()}) have ended; " in both


def test_a_rank_that_is_not_seen_to_have_ended_may_be_silent_or_out_of_reach() -> None:
    own, alive = peer(0, os.getpid()), peer(1, os.getppid())
    silent = RuntimeError("[gloo/unbound_buffer.cc:81] Timed out waiting 1800000ms for recv")
    doubt = "has ended, does not answer, or cannot be reached; "
    assert f"rank 1 (process {os.getppid()} on {platform.node()}) {doubt}" in said(
        [own, alive], silent
    )
    # Elsewhere this machine's numbers mean nothing.
    gone = peer(1, 2**22 + 1, "node7", "another machine")
    assert f"rank 1 (process {2**22 + 1} on node7) {doubt}" in said([own, gone])
    assert f"a process that works along {doubt}" in said([own, gone, alive])
    assert doubt in said([], distributed.DistError("no store"))


def test_other_errors_stay_what_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RuntimeError, match="sizes differ"), lost_ranks_told("a", MEND):
        raise RuntimeError("sizes differ")
    monkeypatch.setenv("WORLD_SIZE", "1")
    with pytest.raises(RuntimeError, match="gloo"), lost_ranks_told("a", MEND):
        raise CLOSED
