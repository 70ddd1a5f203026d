"""What a parametrisation multiplies a parameter's initial weights, learning rate and decay by."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Factors:
    """Of one parameter, relative to the recipe's own values; 1 leaves them as they are."""

    init: float = 1.0
    """Of the standard deviation of its initial weights."""
    learning_rate: float = 1.0
    weight_decay: float = 1.0
