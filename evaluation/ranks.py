"""The processes that torchrun starts: who am I, the sum over all, and which of them is gone."""

from __future__ import annotations

import os
import platform
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import torch
from torch import distributed

from evaluation.files import InputError, is_alive, processes_of

NETWORK = re.compile("gloo|nccl|connection (closed|reset)|broken pipe", re.IGNORECASE)
"""What torch says where ranks cannot reach one another."""

SILENCE: timedelta | None = None
"""How long a rank waits for one that does not answer; torch's own times, 10 minutes of NCCL and 30
of gloo, where None."""

DYING = 1.0
"""Seconds that a process gets to end whose connections are closed already."""


@dataclass(frozen=True)
class Peer:
    """One of the processes that work together."""

    rank: int
    host: str
    pid: int
    processes: str
    """Among which its number means it, see evaluation.files.processes_of."""

    def __str__(self) -> str:
        return f"rank {self.rank} (process {self.pid} on {self.host})"

    @property
    def has_ended(self) -> bool:
        """Whether it is seen to have ended; of another machine or container that is not seen."""
        if self.processes != processes_of():
            return False
        if not is_alive(self.pid):
            return True
        # Ended, and whoever started it has not asked how yet.
        with suppress(OSError):
            stat = Path(f"/proc/{self.pid}/stat").read_text(encoding="utf-8", errors="replace")
            return stat.rpartition(")")[2].split()[0] in ("Z", "X")
        return False


def join(device: str, peers: list[Peer]) -> None:
    """Join the processes that torchrun started, on devices of a kind, and learn who they are."""
    kind = "nccl" if device.startswith("cuda") else "gloo"
    distributed.init_process_group(kind, timeout=SILENCE)
    own = Peer(distributed.get_rank(), platform.node(), os.getpid(), processes_of())
    found: list[Peer | None] = [None] * distributed.get_world_size()
    distributed.all_gather_object(found, own)
    peers += [peer for peer in found if peer is not None]


@contextmanager
def lost_ranks_told(name: str, mend: str) -> Iterator[list[Peer]]:
    """Within it, an error of the network between ranks is one line, naming those that are gone.

    `mend` says what to do. Gives the list that `join` is to fill.
    """
    peers: list[Peer] = []
    try:
        yield peers
    except RuntimeError as error:
        said = " ".join(str(error).split())
        known = isinstance(error, distributed.DistError) or NETWORK.search(said)
        if int(os.environ.get("WORLD_SIZE", "1")) == 1 or not known:
            raise
        raise InputError(f"{name}: {_lost(peers)}; {mend} ({said[:120]})") from error


def _lost(peers: Sequence[Peer]) -> str:
    """Which ranks have ended, or might have."""
    others = [peer for peer in peers if (peer.host, peer.pid) != (platform.node(), os.getpid())]
    deadline = time.monotonic() + DYING
    while not (gone := [peer for peer in others if peer.has_ended]):
        if time.monotonic() > deadline:
            break
        time.sleep(DYING / 20)
    if gone:
        return f"{' and '.join(map(str, gone))} {'has' if len(gone) == 1 else 'have'} ended"
    one = str(others[0]) if len(others) == 1 else "a process that works along"
    return f"{one} has ended, does not answer, or cannot be reached"


@dataclass(frozen=True)
class Ranks:
    """One process among `world`."""

    rank: int
    world: int

    def add(self, values: torch.Tensor) -> torch.Tensor:
        """The sum of every process's values, on each of them."""
        if self.world > 1:
            device = "cuda" if distributed.get_backend() == "nccl" else "cpu"
            values = values.to(device)
            distributed.all_reduce(values)
        return values.cpu()


ONE = Ranks(0, 1)
"""A process alone."""


@contextmanager
def joined_ranks(device: str) -> Iterator[tuple[Ranks, str]]:
    """Join the other processes, if torchrun started any, and say on which device to work.

    `device` auto is a GPU of this process's own where there is one for each. Raises InputError
    where one of them is lost.
    """
    world, local = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("LOCAL_RANK", "0"))
    here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if device == "auto":
        device = f"cuda:{local}" if torch.cuda.device_count() >= here else "cpu"
    elif device == "cuda":
        device = f"cuda:{local}"
    if world == 1:
        yield ONE, device
        return
    if device.startswith("cuda"):
        torch.cuda.set_device(device)
    with lost_ranks_told("evaluation", "the same command goes on from what was kept") as peers:
        join(device, peers)
        try:
            yield Ranks(distributed.get_rank(), world), device
            distributed.barrier()
        finally:
            distributed.destroy_process_group()
