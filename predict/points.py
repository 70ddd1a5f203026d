"""Observations -> the points that both steps are fitted to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from predict.laws import Array
from predict.methods import Method


@dataclass(frozen=True)
class RungPoint:
    """What step 1 sees of a run: means over its last checkpoints."""

    run: str
    params: float
    tokens: float
    loss: float
    accuracy: float | None


class TaskPoints:
    """The points of one task: a mean a run for step 1, smoothed checkpoints for step 2."""

    def __init__(self, rows: pd.DataFrame, method: Method, feature: str) -> None:
        self.task = str(rows["task"].iloc[0])
        self.loss_unit = str(rows["loss_unit"].iloc[0]) if feature == "loss" else feature
        self.chance = _first(rows, "chance")
        self.instances = _first(rows, "instances")
        has_accuracy = "accuracy" in rows and rows["accuracy"].notna().any()
        rungs, losses, accuracies = [], [], []
        for run, part in rows.groupby("run", sort=False):
            last = part.tail(method.window)
            accuracy = float(last["accuracy"].mean()) if has_accuracy else math.nan
            rungs.append(
                RungPoint(
                    run=str(run),
                    params=float(part["params"].iloc[-1]),
                    tokens=float(part["tokens"].iloc[-1]),
                    loss=float(last[feature].mean()),
                    accuracy=None if math.isnan(accuracy) else accuracy,
                )
            )
            if has_accuracy:
                measured = part[part["accuracy"].notna()]
                # A run with one checkpoint keeps it: final results alone are a ladder too.
                skipped = min(math.ceil(len(measured) * method.skip), len(measured) - 1)
                kept = measured.iloc[max(skipped, 0) :]
                smooth = kept[[feature, "accuracy"]].rolling(method.smoothing, min_periods=1).mean()
                losses += smooth[feature].tolist()
                accuracies += smooth["accuracy"].tolist()
        self.rungs, self.link_loss, self.link_accuracy = rungs, losses, accuracies


def padded(lists: Sequence[Sequence[float]]) -> Array:
    """Lists of unequal length as one array, NaN behind the shorter ones."""
    width = max(map(len, lists))
    return np.array([[*values, *[np.nan] * (width - len(values))] for values in lists])


def _first(rows: pd.DataFrame, column: str) -> float | None:
    if column not in rows:
        return None
    values = rows[column].dropna()
    return float(values.iloc[0]) if len(values) else None
