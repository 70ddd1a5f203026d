"""Optimizers and their parameter groups: AdamW, or Muon for the matrices of the blocks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from evaluation.files import InputError
from ladder.multipliers import MultipliedWeights
from ladder.mup import Factors
from ladder.settings import Recipe

if TYPE_CHECKING:
    from transformers import PreTrainedModel

SCAN = (".A_log", ".D", ".dt_bias")
"""Names of a state space's own vectors, which never decay (state-spaces/mamba)."""


@dataclass(frozen=True)
class Optimizers:
    """What steps together; every group has its learning rate as a multiple of the schedule's."""

    parts: tuple[torch.optim.Optimizer, ...]
    names: nn.Module
    """All that they change under the model's names: the model itself, or a holder of its other
    parameters, the latents in the place of multiplied ones, and the multipliers."""
    weights: tuple[nn.Parameter, ...]
    """What the clipped norm is of: all that they change but multipliers, in the model's order."""
    multiplied: MultipliedWeights

    def zero_grad(self) -> None:
        """Forget the gradients."""
        self.multiplied.forget()
        for part in self.parts:
            part.zero_grad(set_to_none=True)

    def take_gradients(self) -> None:
        """After the last backward pass of a step: gradients of what is stepped from the model's."""
        self.multiplied.pull()

    def set_learning_rate(self, rate: float) -> None:
        """Set the learning rate of every group."""
        for part in self.parts:
            for group in part.param_groups:
                group["lr"] = rate * group["rate_scale"]

    def step(self) -> None:
        """Change the weights."""
        for part in self.parts:
            part.step()
        self.multiplied.merge()


def build_optimizers(
    model: PreTrainedModel, recipe: Recipe, factors: Mapping[str, Factors] = MappingProxyType({})
) -> Optimizers:
    """The recipe's optimizers for a model's parameters.

    Matrices decay, the input embedding does not, norms and biases if the recipe says so. Under
    muon AdamW keeps embedding, head, convolutions and vectors. `factors`, by a parameter's name,
    are those of a parametrisation; 1 for those it does not name. A multiplied weight's latent is
    stepped in its place, and its multipliers by AdamW. Raises InputError where multipliers cannot
    be placed.
    """
    multiplied = MultipliedWeights(model, recipe.multipliers)
    embedding = model.get_input_embeddings().weight
    head = model.get_output_embeddings().weight
    adamw, muon = _Groups(), _Groups()
    held: dict[str, nn.Parameter] = {}
    for name, weight in model.named_parameters():
        if not weight.requires_grad:
            continue
        own = factors.get(name, Factors())
        stepped = multiplied[name].latent if name in multiplied else weight
        held[name] = stepped
        is_decayed_vector = recipe.decay_vectors and not name.endswith(SCAN)
        decays = weight is not embedding and (weight.ndim > 1 or is_decayed_vector)
        decay = recipe.weight_decay * own.weight_decay if decays else 0.0
        is_muons = weight.ndim == 2 and weight is not embedding and weight is not head
        if recipe.optimizer == "muon" and is_muons:
            scale = recipe.muon.learning_rate_scale * own.learning_rate
            muon.add(muon_takes(name, stepped), decay, scale)
        else:
            adamw.add(stepped, decay, own.learning_rate)
    for one in multiplied.multipliers.values():
        adamw.add(one, recipe.multipliers.weight_decay, recipe.multipliers.learning_rate_scale)
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
    weights = tuple(held.values())
    names = _module({**held, **multiplied.multipliers}) if multiplied else model
    return Optimizers(tuple(parts), names, weights, multiplied)


def muon_takes(name: str, weight: nn.Parameter) -> nn.Parameter:
    """The weight, if Muon can step it: it makes matrices orthogonal. Raises InputError else."""
    if weight.ndim != 2:
        shape = " x ".join(map(str, weight.shape)) or "a single number"
        raise InputError(
            f"{name}: Muon on a vector or tensor, of shape {shape}; it makes matrices orthogonal, "
            "leave all else to AdamW"
        )
    return weight


def _module(named: Mapping[str, nn.Parameter]) -> nn.Module:
    """A module of modules that has these parameters under these names, dots and all."""
    root = nn.Module()
    for name, weight in named.items():
        *path, last = name.split(".")
        at = root
        for part in path:
            if part not in at._modules:
                at.add_module(part, nn.Module())
            at = at.get_submodule(part)
        at.register_parameter(last, weight)
    return root


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
