"""The processes that torchrun starts, each with its device: who am I, and the sum over all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import distributed


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

    `device` auto is a GPU of this process's own where there is one for each.
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
    distributed.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    try:
        yield Ranks(distributed.get_rank(), world), device
        distributed.barrier()
    finally:
        distributed.destroy_process_group()
