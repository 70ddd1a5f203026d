"""Optimizers and their parameter groups."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from ladder.config import Recipe

if TYPE_CHECKING:
    from torch import nn


def build_optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """AdamW; weight decay on matrices except the input embedding, none on norms."""
    decayed: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    for name, weight in model.named_parameters():
        is_matrix = weight.ndim >= 2 and "embed_tokens" not in name
        (decayed if is_matrix else plain).append(weight)
    groups = [
        {"params": decayed, "weight_decay": recipe.weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=0.0, betas=recipe.betas, eps=recipe.eps, fused=True)


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of every group."""
    for group in optimizer.param_groups:
        group["lr"] = rate
