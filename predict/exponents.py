"""Where a table's scaling exponents come from: slices, mean exponents, two-variable fits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from evaluation.records import InputError
from predict.allocate import allocate, default_task
from predict.allocation import Question
from predict.slices import TOLERANCE, Seeds, Slices, find_slices, points_of
from predict.slices_bootstrap import Scheme
from predict.surrogate_methods import TwoVariable, by_allocation, compare_methods
from predict.two_stage import TwoStage


@dataclass(frozen=True)
class Entropy:
    """Fits against the exact entropy rate, the loss that no model can pass."""

    value: float
    floor: float | None
    """Of the two-variable law, with the ends of its 95%; None where that could not be fitted."""
    lower: float | None
    upper: float | None
    holds: bool | None
    """Whether that interval holds the entropy."""
    points_below: int
    """Measured losses below the entropy, by chance or by mistake."""
    slices_below: int
    """Slices whose floor's 95% lies wholly below it. A slice's floor may lie above: what the
    other variable still costs is part of it."""


@dataclass(frozen=True)
class Exponents:
    """Everything that `ladder exponents` says of one task."""

    task: str
    loss_unit: str
    points: int
    seeds: str
    slices: Slices | None
    slices_reason: str
    """Why there are no slices; empty where there are."""
    two: TwoVariable | None
    two_reason: str
    entropy: Entropy | None

    def document(self) -> dict[str, Any]:
        """The JSON of `ladder exponents`."""
        return {
            "version": 1,
            "task": self.task,
            "loss_unit": self.loss_unit,
            "points": self.points,
            "seeds": self.seeds,
            **(
                {"slices": [], "means": [], "slices_too_short": None}
                if self.slices is None
                else self.slices.document()
            ),
            "slices_reason": self.slices_reason,
            "two_variable": None if self.two is None else self.two.document(),
            "two_variable_reason": self.two_reason,
            "entropy": None if self.entropy is None else asdict(self.entropy),
        }


def exponents(
    observations: pd.DataFrame,
    rungs: Sequence[str] = (),
    task: str | None = None,
    feature: str = "loss",
    seeds: Seeds = "mean",
    tolerance: float = TOLERANCE,
    checkpoints: bool = False,
    between: bool = False,
    entropy: float | None = None,
    replicates: int = 200,
    seed: int = 0,
    scheme: Scheme = "residual",
    holdout: int = 1,
    drop: int = 2,
    surrogates: bool = True,
) -> Exponents:
    """Fit the slices and the surfaces of one task of a validated table.

    `task` is by default the first LM set; `rungs` are patterns of runs, by default those of role
    ladder; `entropy` is the exact entropy rate in the loss's unit; without `surrogates` only the
    slices are fitted. Raises InputError where neither slices nor surfaces can be.
    """
    if replicates < 0:
        raise InputError(f"replicates {replicates}: must be 0 or more")
    task = task or default_task(observations)
    rows = TwoStage("published", feature, rungs, (task,)).fitted_rows(observations)
    if rows["task"].nunique() > 1:
        raise InputError(f"--task {task}: matches {rows['task'].nunique()} tasks; name one")
    name, unit = str(rows["task"].iloc[0]), str(rows["loss_unit"].iloc[0])
    unit = unit if feature == "loss" else feature
    if entropy is not None and not 0 < entropy < float(rows[feature].max()):
        raise InputError(
            f"entropy {entropy:g}: must lie above 0 and below the greatest loss, "
            f"{rows[feature].max():.4g} {unit}"
        )
    points = points_of(rows, feature, seeds, tolerance, checkpoints)
    slices, two, why_slices, why_two = None, None, "", ""
    try:
        slices = find_slices(
            points, name, unit, tolerance, between, replicates, seed, scheme, holdout, drop
        )
    except InputError as error:
        why_slices = str(error)
    if surrogates:
        try:
            # Networks are dear, and their exponents need fewer resamples than a slice's ends.
            two = compare_methods(points, min(replicates, 100), seed)
            two = _with_curves(two, observations, rungs, name, feature, min(replicates, 100), seed)
        except InputError as error:
            why_two = str(error)
    if slices is None and two is None:
        raise InputError("; ".join(filter(None, (why_slices, why_two))))
    return Exponents(
        name,
        unit,
        len(points),
        seeds,
        slices,
        why_slices,
        two,
        why_two,
        None if entropy is None else _entropy(entropy, [p.loss for p in points], slices, two),
    )


def _with_curves(
    two: TwoVariable,
    observations: pd.DataFrame,
    rungs: Sequence[str],
    task: str,
    feature: str,
    replicates: int,
    seed: int,
) -> TwoVariable:
    """With Chinchilla's first two approaches behind, where they can be read."""
    from dataclasses import replace

    try:
        found = allocate(
            observations, Question(), rungs, task, feature, replicates=replicates, seed=seed
        )
    except InputError:
        # Each row would say so; the surfaces stand without them.
        return two
    return replace(two, methods=(*two.methods, *by_allocation(found.rows)))


def _entropy(
    value: float, losses: Sequence[float], slices: Slices | None, two: TwoVariable | None
) -> Entropy:
    law = None if two is None else next((m.floor for m in two.methods if m.floor), None)
    floor, low, high = law or (None, None, None)
    below = 0
    if slices is not None:
        ends = [s.fit.floor.upper for s in slices.slices]
        below = sum(end is not None and end < value for end in ends)
    return Entropy(
        value,
        floor,
        low,
        high,
        None if low is None or high is None else low <= value <= high,
        int((np.array(losses) < value).sum()),
        below,
    )
