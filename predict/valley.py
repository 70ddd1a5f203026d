"""Where functions with one valley are lowest: golden sections of many at once."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from predict.registry import Array

GOLDEN = (math.sqrt(5) - 1) / 2
"""What a bracket shrinks to in a round."""


def lowest(function: Callable[[Array], Array], low: Array, high: Array, rounds: int) -> Array:
    """Where functions with one valley between `low` and `high` (K,) are lowest, (K,).

    `function` gives the values of all of them at once, each at a place of its own.
    """
    left, right = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
    at_left, at_right = function(left), function(right)
    for _ in range(rounds):
        goes_left = at_left <= at_right
        high, low = np.where(goes_left, right, high), np.where(goes_left, low, left)
        new = np.where(goes_left, high - GOLDEN * (high - low), low + GOLDEN * (high - low))
        value = function(new)
        left, right = np.where(goes_left, new, right), np.where(goes_left, left, new)
        at_left, at_right = (
            np.where(goes_left, value, at_right),
            np.where(goes_left, at_left, value),
        )
    return np.asarray((low + high) / 2)
