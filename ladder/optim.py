"""Optimizers and their parameter groups: AdamW, or Muon for the matrices of the blocks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch

from ladder.mup import Factors
from ladder.settings import Recipe

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel

SCAN = (".A_log", ".D", ".dt_bias")
"""Names of a state space's own vectors, which never decay (state-spaces/mamba)."""


@dataclass(frozen=True)
class Optimizers:
    """What steps together; every group has its learning rate as a multiple of the schedule's."""

    parts: tuple[torch.optim.Optimizer, ...]
    weights: tuple[nn.Parameter, ...]
    """All that they change, in the model's order."""

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for part in self.parts:
            part.zero_grad(set_to_none=True)

    def set_learning_rate(self, rate: float) -> None:
        """Set the learning rate of every group."""
        for part in self.parts:
            for group in part.param_groups:
                group["lr"] = rate * group["rate_scale"]

    def step(self) -> None:
        """Change the weights."""
        for part in self.parts:
            part.step()


def build_optimizers(
    model: PreTrainedModel, recipe: Recipe, factors: Mapping[str, Factors] = MappingProxyType({})
) -> Optimizers:
    """The recipe's optimizers for a model's parameters.

    Matrices decay, the input embedding does not, norms and biases if the recipe says so. Under
    muon AdamW keeps embedding, head, convolutions and vectors. `factors`, by a parameter's name,
    are those of a parametrisation; 1 for those it does not name.
    """
    embedding = model.get_input_embeddings().weight
    head = model.get_output_embeddings().weight
    adamw, muon = _Groups(), _Groups()
    named = [(name, weight) for name, weight in model.named_parameters() if weight.requires_grad]
    weights = tuple(weight for _, weight in named)
    for name, weight in named:
        own = factors.get(name, Factors())
        is_decayed_vector = recipe.decay_vectors and not name.endswith(SCAN)
        decays = weight is not embedding and (weight.ndim > 1 or is_decayed_vector)
        decay = recipe.weight_decay * own.weight_decay if decays else 0.0
        is_muons = weight.ndim == 2 and weight is not embedding and weight is not head
        if recipe.optimizer == "muon" and is_muons:
            scale = recipe.muon.learning_rate_scale * own.learning_rate
            muon.add(weight, decay, scale)
        else:
            adamw.add(weight, decay, own.learning_rate)
    parts: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(adamw.groups(), lr=0.0, betas=recipe.betas, eps=recipe.eps, fused=True)
    ]
    if muon.weights:
        parts.append(
            torch.optim.Muon(
                muon.groups(),
                lr=0.0,
                momentum=recipe.muon.momentum,
                ns_steps=recipe.muon.ns_steps,
                adjust_lr_fn=recipe.muon.adjust_lr_fn,
            )
        )
    return Optimizers(tuple(parts), weights)


class _Groups:
    """Parameters by what their optimizer does to them alike."""

    def __init__(self) -> None:
        self.weights: dict[tuple[float, float], list[nn.Parameter]] = {}

    def add(self, weight: nn.Parameter, decay: float, scale: float) -> None:
        """Put a parameter with those of its weight decay and multiple of the learning rate."""
        self.weights.setdefault((decay, scale), []).append(weight)

    def groups(self) -> list[dict[str, Any]]:
        """Groups as torch.optim takes them."""
        return [
            {"params": weights, "weight_decay": decay, "rate_scale": scale}
            for (decay, scale), weights in self.weights.items()
        ]
