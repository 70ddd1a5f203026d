"""Optimizers and their parameter groups: AdamW, or Muon for the matrices of the blocks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from ladder.settings import Recipe

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Optimizers:
    """What steps together; each has its learning rate as a multiple of the schedule's."""

    parts: tuple[torch.optim.Optimizer, ...]
    scales: tuple[float, ...]
    weights: tuple[nn.Parameter, ...]
    """All that they change, in the model's order."""

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for part in self.parts:
            part.zero_grad(set_to_none=True)

    def set_learning_rate(self, rate: float) -> None:
        """Set the learning rate of every group."""
        for part, scale in zip(self.parts, self.scales, strict=True):
            for group in part.param_groups:
                group["lr"] = rate * scale

    def step(self) -> None:
        """Change the weights."""
        for part in self.parts:
            part.step()


def build_optimizers(model: PreTrainedModel, recipe: Recipe) -> Optimizers:
    """The recipe's optimizers for a model's parameters.

    Matrices decay, the input embedding does not, norms and biases if the recipe says so. Under
    muon AdamW keeps embedding, head and vectors.
    """
    embedding = model.get_input_embeddings().weight
    head = model.get_output_embeddings().weight
    matrices: list[nn.Parameter] = []
    decayed: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    weights = tuple(model.parameters())
    for weight in weights:
        if weight is embedding:
            plain.append(weight)
        elif weight.ndim < 2:
            (decayed if recipe.decay_vectors else plain).append(weight)
        elif recipe.optimizer == "muon" and weight is not head:
            matrices.append(weight)
        else:
            decayed.append(weight)
    groups = [
        {"params": decayed, "weight_decay": recipe.weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]
    adamw = torch.optim.AdamW(groups, lr=0.0, betas=recipe.betas, eps=recipe.eps, fused=True)
    if not matrices:
        return Optimizers((adamw,), (1.0,), weights)
    muon = torch.optim.Muon(
        matrices,
        lr=0.0,
        weight_decay=recipe.weight_decay,
        momentum=recipe.muon.momentum,
        ns_steps=recipe.muon.ns_steps,
        adjust_lr_fn=recipe.muon.adjust_lr_fn,
    )
    return Optimizers((adamw, muon), (1.0, recipe.muon.learning_rate_scale), weights)
