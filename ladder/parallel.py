"""One rung on all ranks of torchrun: replicated (DDP) or sharded (FSDP2); alone without them."""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import distributed, nn
from torch.distributed.fsdp import FSDPModule
from torch.nn.parallel import DistributedDataParallel

from evaluation.ranks import Peer, join
from ladder.settings import Execution

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Kind = Literal["none", "ddp", "fsdp"]

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""Options of glibc's mallopt (malloc.h)."""


@dataclass(frozen=True)
class Parallel:
    """One process among those that train a rung together."""

    rank: int
    world: int
    kind: Kind
    device: torch.device

    @property
    def is_first(self) -> bool:
        """Whether this rank writes files and words."""
        return self.rank == 0

    def rows(self, sequences: int) -> slice:
        """The rank's rows of a global batch; ranks differ by at most one."""
        base, more = divmod(sequences, self.world)
        begin = self.rank * base + min(self.rank, more)
        return slice(begin, begin + base + (self.rank < more))

    def shard(self, model: PreTrainedModel, execution: Execution) -> None:
        """Put the model on this rank's device; under FSDP2 a share of each of its parts."""
        model.to(self.device)
        if self.kind != "fsdp":
            return
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

        mesh = init_device_mesh(self.device.type, (self.world,))
        policy = MixedPrecisionPolicy()
        if execution.precision == "bf16":
            policy = MixedPrecisionPolicy(torch.bfloat16, torch.float32)
        # The head apart from the rest, since the loss calls it part by part.
        for part in (*blocks(model), model.base_model, model.get_output_embeddings()):
            fully_shard(part, mesh=mesh, mp_policy=policy)

    def replicate(self, loss: nn.Module) -> nn.Module:
        """The module whose gradients the ranks average."""
        return DistributedDataParallel(loss) if self.kind == "ddp" else loss

    def gather_once(self, model: PreTrainedModel) -> None:
        """Of shared-out weights, have the whole ones made by a forward pass of two tokens.

        Needed where a model is scored before its first step: what inference mode makes, training
        may not write to.
        """
        if self.kind == "fsdp":
            with torch.no_grad():
                model(input_ids=torch.zeros((1, 2), dtype=torch.int64, device=self.device))

    @contextmanager
    def accumulating(self, model: nn.Module, last: bool) -> Iterator[None]:
        """Around one micro-batch: ranks exchange gradients after the last one only."""
        for part in model.modules() if self.kind == "fsdp" else ():
            if isinstance(part, FSDPModule):
                part.set_requires_gradient_sync(last, recurse=False)
        quiet: Any = nullcontext() if last or self.kind != "ddp" else model.no_sync()
        with quiet:
            yield

    def clip(
        self, weights: Sequence[nn.Parameter], most: float, along: Iterable[nn.Parameter] = ()
    ) -> float:
        """Clip the gradient of all ranks together; returns its l2 norm before.

        Gradients of what goes `along` are scaled alike and do not count in the norm.
        """
        norm = nn.utils.get_total_norm([w.grad for w in weights if w.grad is not None])
        whole = norm.full_tensor() if hasattr(norm, "full_tensor") else norm
        value = float(whole.item())
        if value > most:
            nn.utils.clip_grads_with_norm_(weights, most, norm)
            more = [w.grad for w in along if w.grad is not None]
            if more:
                torch._foreach_mul_(more, most / (value + 1e-6))
        return value

    def sum(self, value: torch.Tensor) -> torch.Tensor:
        """The sum over ranks, on the CPU."""
        if self.world > 1:
            value = value.to(self.device)
            distributed.all_reduce(value)
        return value.cpu()

    def any(self, flag: bool) -> bool:
        """Whether any rank says so."""
        return flag if self.world == 1 else bool(self.sum(torch.tensor(float(flag))) > 0)

    def barrier(self) -> None:
        """Wait for all ranks."""
        if self.world > 1:
            distributed.barrier()


def blocks(model: PreTrainedModel) -> list[nn.Module]:
    """The transformer blocks of a model: the longest list of modules in it."""
    lists = [part for part in model.modules() if isinstance(part, nn.ModuleList)]
    return list(max(lists, key=len, default=[]))


@contextmanager
def joined(execution: Execution, peers: list[Peer] | None = None) -> Iterator[Parallel]:
    """Join the processes that torchrun started, if any, each on a device of its own.

    `peers` is filled with who they are.
    """
    world, local = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("LOCAL_RANK", "0"))
    name = execution.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(name, local) if name == "cuda" else torch.device(name)
    if device.type == "cpu":
        _keep_memory()
    if world == 1:
        yield Parallel(0, 1, "none", device)
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    join(device.type, [] if peers is None else peers)
    try:
        kind: Kind = "ddp" if execution.parallel == "auto" else execution.parallel
        yield Parallel(distributed.get_rank(), world, kind, device)
    finally:
        distributed.destroy_process_group()


def _keep_memory() -> None:
    """Have this process keep the memory that it frees, so that the next step need not ask again.

    A step frees and takes the same tensors over and over; by default glibc gives them back, and
    the kernel clears every page anew. What that costs is in benchmarks/train_speed.md.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(M_MMAP_MAX, 0)
    libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
