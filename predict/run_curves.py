"""Loss against FLOPs of every run, and of every size by way of its finished runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.interpolate import PchipInterpolator

from predict.flops import Flops
from predict.laws import Array
from predict.numbers import levels

NEIGHBOURS = 5
"""Checkpoints that a smoothed loss leans on, itself among them."""

NEAR = math.log(1.1)
"""Distance in log tokens beyond which a checkpoint is no neighbour."""

SAME_SIZE = 1.02
"""Ratio of params up to which runs are of one size, and of tokens up to which they are reruns."""


@dataclass(frozen=True)
class RunCurve:
    """A run's smoothed losses at its checkpoints, the last of them its result."""

    run: str
    params: float
    tokens: Array
    losses: Array
    steps: float
    batch_tokens: float | None

    @property
    def loss(self) -> float:
        """The result."""
        return float(self.losses[-1])

    @property
    def final_tokens(self) -> float:
        """What it was trained on."""
        return float(self.tokens[-1])


def run_curves(rows: pd.DataFrame, feature: str = "loss") -> list[RunCurve]:
    """The curves of one task's rows, as `TwoStage.fitted_rows` gives them."""
    curves = []
    for run, part in rows.groupby("run", sort=False):
        part = part.drop_duplicates("tokens", keep="last").sort_values("tokens")
        tokens = part["tokens"].to_numpy(dtype=float)
        batch = part["batch_tokens"].dropna() if "batch_tokens" in part else part["tokens"][:0]
        curves.append(
            RunCurve(
                run=str(run),
                params=float(part["params"].iloc[-1]),
                tokens=tokens,
                losses=smoothed(tokens, part[feature].to_numpy(dtype=float)),
                steps=float(part["step"].iloc[-1]),
                batch_tokens=float(batch.iloc[-1]) if len(batch) else None,
            )
        )
    return curves


def smoothed(tokens: Array, losses: Array) -> Array:
    """Each loss from a straight line, in logarithms, through it and its near neighbours.

    A mean of the last checkpoints would lag behind a falling loss; a line does not.
    """
    x, y = np.log(tokens), np.log(losses)
    result = y.copy()
    for i in range(len(x)):
        first = min(max(i - NEIGHBOURS // 2, 0), max(len(x) - NEIGHBOURS, 0))
        near = np.arange(first, min(first + NEIGHBOURS, len(x)))
        near = near[np.abs(x[near] - x[i]) <= NEAR]
        if len(near) >= 3:
            distance = x[near] - x[i]
            _, middle = np.polyfit(distance, y[near], 1)
            result[i] = middle
    return np.asarray(np.exp(result))


def sizes_of(curves: Sequence[RunCurve]) -> list[float]:
    """The distinct sizes, rising, those within SAME_SIZE as the largest of them."""
    return levels([c.params for c in curves], SAME_SIZE)


def size_index(curves: Sequence[RunCurve]) -> list[int]:
    """Which of `sizes_of` each curve has."""
    sizes = np.array(sizes_of(curves))
    return [int(np.searchsorted(sizes, c.params * (1 - 1e-12))) for c in curves]


def losses_at(curve: RunCurve, flops: Flops, budgets: Array) -> Array:
    """A run's loss where its checkpoints have spent each budget; NaN outside of them."""
    return _interpolated(flops.of(curve.params, curve.tokens), curve.losses, budgets)


def finished_losses_at(curves: Sequence[RunCurve], flops: Flops, budgets: Array) -> Array:
    """The loss of one size at each budget, between its finished runs; NaN outside of them.

    Every point has had its whole learning-rate schedule, unlike a checkpoint on the way. Reruns
    count as their mean.
    """
    done = sorted((float(flops.of(c.params, c.final_tokens)), c.loss) for c in curves)
    spent = levels([cost for cost, _ in done], SAME_SIZE)
    place = np.searchsorted(spent, np.array([cost for cost, _ in done]) * (1 - 1e-12))
    losses = [
        np.mean([y for (_, y), at in zip(done, place, strict=True) if at == i])
        for i in range(len(spent))
    ]
    return _interpolated(np.array(spent), np.array(losses), budgets)


def _interpolated(spent: Array, losses: Array, budgets: Array) -> Array:
    x = np.log(np.maximum(spent, 1e-300))
    if len(x) < 2:
        return np.full(len(budgets), np.nan)
    curve = PchipInterpolator(x, np.log(losses), extrapolate=False)
    return np.asarray(np.exp(curve(np.log(budgets))))
