"""One optimizer step: micro-batches, mixed precision, a loss that never holds all the logits."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from ladder.optim import Optimizers
from ladder.parallel import Parallel
from ladder.settings import Execution, Recipe

if TYPE_CHECKING:
    from transformers import PreTrainedModel

CHUNK_LOGITS = 2**25
"""Logits that the loss holds at once, 128 MiB in fp32; more of them are made again in the backward
pass, chunk by chunk."""


@dataclass(frozen=True)
class Stepped:
    """What one optimizer step measured."""

    loss: float
    """Mean cross-entropy of the global batch, nats per token, without the z-loss."""
    gradient_norm: float
    """l2 norm before clipping, that of multipliers left out."""


class LossModel(nn.Module):  # type: ignore[misc]
    """A model together with its loss, so that whatever wraps it for many ranks wraps both."""

    def __init__(self, model: PreTrainedModel, z_loss: float) -> None:
        super().__init__()
        self.model = model
        self.z_loss = z_loss

    def forward(self, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Summed loss and summed cross-entropy, nats, of tokens (B, T + 1) but each row's first."""
        if not self.model.training:  # Scored since; train() walks all modules.
            self.model.train()
        hidden = self.model.base_model(input_ids=tokens[:, :-1]).last_hidden_state  # (B, T, D)
        hidden, targets = hidden.flatten(0, 1), tokens[:, 1:].flatten()  # (B T, D), (B T)
        head = self.model.get_output_embeddings()
        size = max(1, CHUNK_LOGITS // head.weight.shape[0])
        if len(hidden) <= size:
            return self._loss(head, hidden, targets)
        parts = [
            checkpoint(self._loss, head, part, target, use_reentrant=False)
            for part, target in zip(hidden.split(size), targets.split(size), strict=True)
        ]
        losses, nats = zip(*parts, strict=True)
        return torch.stack(losses).sum(), torch.stack(nats).sum()

    def _loss(
        self, head: nn.Module, hidden: torch.Tensor, targets: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        logits = head(hidden).float()  # (K, V)
        nats = functional.cross_entropy(logits, targets, reduction="sum")
        if not self.z_loss:
            return nats, nats.detach()
        log_z = logits.logsumexp(dim=-1)
        return nats + self.z_loss * log_z.square().sum(), nats.detach()


def optimizer_step(
    model: nn.Module,
    optimizers: Optimizers,
    tokens: torch.Tensor,
    recipe: Recipe,
    execution: Execution,
    parallel: Parallel,
    sequences: int,
) -> Stepped:
    """One step on the rank's rows (b, T + 1) of a global batch of `sequences`.

    Raises FloatingPointError, nothing changed, where loss or gradient is not finite.
    """
    optimizers.zero_grad()
    whole = sequences * (tokens.shape[1] - 1)
    most = -(-sequences // parallel.world)
    micro = execution.micro_batch or most
    # Summed where it is: asking for it would make a GPU wait after every pass.
    total = torch.zeros((), dtype=torch.float64, device=parallel.device)
    # Sharded models need every rank in every pass: one with a row less repeats one, for nothing.
    passes = -(-most // micro)
    for index in range(passes):
        part = tokens[index * micro : (index + 1) * micro]
        counts = len(part) > 0
        part = part if counts else tokens[:1]
        last = index == passes - 1
        with parallel.accumulating(model, last), execution_cast(execution, parallel):
            loss, nats = model(part.to(parallel.device))
            # Ranks average their gradients; each has the sum over its own tokens.
            (loss * (parallel.world / whole if counts else 0.0)).backward()
        total += nats.double() * counts
    optimizers.take_gradients()
    norm = parallel.clip(
        optimizers.weights, recipe.gradient_clip, optimizers.multiplied.multipliers.values()
    )
    mean = parallel.sum(total).item() / whole
    if not math.isfinite(mean) or not math.isfinite(norm):
        raise FloatingPointError(
            f"loss is {mean}, gradient norm {norm}; lower recipe.learning_rate_base"
        )
    optimizers.step()
    return Stepped(mean, norm)


def execution_cast(execution: Execution, parallel: Parallel) -> Any:
    """bf16 for matrix products, where it is asked for; FSDP casts by itself."""
    enabled = execution.precision == "bf16" and parallel.kind != "fsdp"
    return torch.autocast(parallel.device.type, torch.bfloat16, enabled=enabled)
