"""A step 2 from items: accuracy as the mean chance that an item's margin is above 0."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evaluation.records import InputError
from predict.audit import actual_of, measured_rows
from predict.laws import Array
from predict.points import RungPoint, task_points
from predict.splits import make_splits
from predict.task_fit import Target
from predict.two_stage import TwoStage

FEWEST_RUNGS = 4
"""Rungs below which the lines of mean and spread have no residuals to speak of."""

BY = ("compute", "loss")
"""What margins are followed along: log params x tokens, or the task's loss."""


@dataclass(frozen=True)
class Margins:
    """One task's margins by run: of its items, the mean over a run's last checkpoints."""

    runs: tuple[str, ...]
    values: Array
    """Shape (items, runs)."""

    def of(self, runs: Sequence[str]) -> Array:
        """The columns of these runs, in their order."""
        return self.values[:, [self.runs.index(run) for run in runs]]


@dataclass(frozen=True)
class ItemFit:
    """How the margins of a task's items move with scale.

    Over the items, a rung's margins have a mean and a spread, which go as lines in the scale, the
    spread's in its logarithm. In units of that spread an item stands above or below the mean by a
    `standing` of its own, and by chance.
    """

    mean_line: tuple[float, float]
    """Slope per unit of scale, and value at scale 0."""
    spread_line: tuple[float, float]
    """The same of the spread's logarithm."""
    standing: Array
    """Of every item, shape (n,), shrunk towards the mean by how often rungs disagree on it."""
    chance: float
    """Standard deviation of what is an item's by chance at a rung, in units of the spread."""
    rungs: int

    def margins(self, scale: float) -> tuple[Array, float]:
        """Mean of every item's margin at a scale, and the standard deviation about it."""
        spread = math.exp(float(np.polyval(self.spread_line, scale)))
        mean = float(np.polyval(self.mean_line, scale))
        return mean + spread * self.standing, spread * self.chance

    def accuracy(self, scale: float) -> float:
        """Expected share of items whose margin is above 0 at a scale."""
        mean, deviation = self.margins(scale)
        return float(normal_cdf(mean / max(deviation, 1e-12)).mean())


@dataclass(frozen=True)
class ItemRow:
    """One task's prediction for one target by every way; accuracies in [0, 1].

    Errors are mean absolute ones of the back-test, None where the ladder has no split to score.
    """

    task: str
    target: str
    params: float
    tokens: float
    by_compute: float
    by_loss: float
    by_method: float | None
    standard_error: float
    """Of `by_compute`, by leaving out one rung at a time; not calibrated."""
    compute_error: float | None
    loss_error: float | None
    method_error: float | None
    chosen: str
    """`compute`, `loss` or `method`: the least error in the back-test over all tasks."""
    predicted: float | None
    """By the chosen one."""
    actual: float | None


def fit_items(scales: Sequence[float] | Array, margins: Array) -> ItemFit:
    """Fit the margins (n, r) of n items at r rungs of the given scales (r,).

    An item's standing is the mean of its standardised margins, shrunk by the ratio of the variance
    between items to that and the chance's together (partial pooling, by moments); what shrinking
    leaves open joins the chance. Raises InputError for fewer than FEWEST_RUNGS, rungs of one scale,
    or items whose margins are all the same.
    """
    x, y = np.asarray(scales, dtype=float), np.asarray(margins, dtype=float)
    count = len(x)
    if count < FEWEST_RUNGS:
        raise InputError(f"{count} rungs with items; their lines need {FEWEST_RUNGS}")
    if np.ptp(x) <= 1e-9 * max(float(np.abs(x).max()), 1e-12):
        raise InputError("every rung has the same scale; vary params and tokens")
    mean, spread = y.mean(axis=0), y.std(axis=0)
    if not (len(y) > 1 and spread.min() > 0):
        raise InputError("the items' margins do not differ; nothing says how items stand")
    standardised = (y - mean) / spread
    average = standardised.mean(axis=1)
    chance2 = float(((standardised - average[:, None]) ** 2).sum(axis=1).mean() / (count - 1))
    between2 = max(float(average.var()) - chance2 / count, 0.0)
    kept = between2 / (between2 + chance2 / count) if between2 else 0.0
    slope, start = np.polyfit(x, mean, 1)
    spread_slope, spread_start = np.polyfit(x, np.log(spread), 1)
    return ItemFit(
        mean_line=(float(slope), float(start)),
        spread_line=(float(spread_slope), float(spread_start)),
        standing=kept * average,
        chance=math.sqrt(chance2 + kept * chance2 / count),
        rungs=count,
    )


def jackknife(scales: Sequence[float] | Array, margins: Array, scale: float) -> float:
    """Standard error of the accuracy at a scale, by leaving out one rung at a time."""
    x, count = np.asarray(scales, dtype=float), len(scales)
    if count <= FEWEST_RUNGS:
        return math.nan
    values = [
        fit_items(np.delete(x, i), np.delete(margins, i, axis=1)).accuracy(scale)
        for i in range(count)
    ]
    return float(np.sqrt((count - 1) * np.var(values)))


def predict_items(
    observations: pd.DataFrame,
    margins: Mapping[str, Margins],
    targets: Sequence[Target],
    method: str = "default",
    tasks: Sequence[str] = (),
) -> list[ItemRow]:
    """Every task's accuracy at every target by items and by `method`, chosen by back-test.

    The rungs are those of role ladder that have margins; a task that the method leaves out has no
    row. Raises InputError where none does, or where the method or the items cannot be fitted.
    """
    errors = backtest_items(observations, margins, method, tasks)
    pooled = {way: _mean([e[way] for e in errors.values()]) for way in (*BY, "method")}
    known = {way: error for way, error in pooled.items() if error is not None}
    chosen = min(known, key=lambda way: known[way]) if known else "method"
    model = TwoStage(method, tasks=tasks).fit(observations)
    rows = []
    for target in targets:
        own = measured_rows(observations, target.name, model.feature)
        for task, points in _points(model, observations, margins).items():
            if task not in model.fits_:
                continue
            by_method = model.predict_one(task, target).predicted
            loss = model.fits_[task].loss(target.params, target.tokens)
            rungs = list(points.values())
            found = _by_items(rungs, margins[task], target, loss)
            values = margins[task].of([r.run for r in rungs])
            scale = math.log(target.params * target.tokens)
            measured = own[(own["task"] == task) & own["accuracy"].notna()]
            ways = {**found, "method": by_method}
            rows.append(
                ItemRow(
                    task=task,
                    target=target.name,
                    params=target.params,
                    tokens=target.tokens,
                    by_compute=found["compute"],
                    by_loss=found["loss"],
                    by_method=by_method,
                    standard_error=jackknife(_scales(rungs, "compute"), values, scale),
                    compute_error=errors.get(task, {}).get("compute"),
                    loss_error=errors.get(task, {}).get("loss"),
                    method_error=errors.get(task, {}).get("method"),
                    chosen=chosen,
                    predicted=ways[chosen],
                    actual=actual_of(measured, "loss")[1] if len(measured) else None,
                )
            )
    if not rows:
        raise InputError("no task has margins of items on the ladder's rungs")
    return rows


def backtest_items(
    observations: pd.DataFrame,
    margins: Mapping[str, Margins],
    method: str = "default",
    tasks: Sequence[str] = (),
) -> dict[str, dict[str, float]]:
    """Mean absolute error of each way on each task, on the splits of `ladder backtest`.

    Empty where the ladder has no split that every way can fit.
    """
    ladder = observations[observations["role"] == "ladder"]
    points = _points(TwoStage(method, tasks=tasks), ladder, margins)
    if not points:
        return {}
    rungs = max(points.values(), key=len)
    found: dict[str, dict[str, list[float]]] = {}
    for split in make_splits(list(rungs.values())):
        if len(split.fitted) < FEWEST_RUNGS:
            continue
        try:
            model = TwoStage(method, tasks=tasks).fit(ladder[ladder["run"].isin(split.fitted)])
        except InputError:
            # A split that the method cannot fit is none that every way can.
            continue
        for task, own in points.items():
            fitted = [own[run] for run in split.fitted if run in own]
            if task not in model.fits_ or len(fitted) < FEWEST_RUNGS:
                continue
            for run in split.scored:
                point = own.get(run)
                if point is None or point.accuracy is None:
                    continue
                target = Target(run, point.params, point.tokens)
                by_method = model.predict_one(task, target).predicted
                if by_method is None:
                    continue
                loss = model.fits_[task].loss(point.params, point.tokens)
                ways = {**_by_items(fitted, margins[task], target, loss), "method": by_method}
                for way, value in ways.items():
                    by_way = found.setdefault(task, {})
                    by_way.setdefault(way, []).append(abs(value - point.accuracy))
    return {
        task: {way: sum(values) / len(values) for way, values in ways.items()}
        for task, ways in found.items()
    }


def _points(
    model: TwoStage, observations: pd.DataFrame, margins: Mapping[str, Margins]
) -> dict[str, dict[str, RungPoint]]:
    """The rungs of every task that has margins, by task and run."""
    table = model.fitted_rows(observations)
    return {
        str(task): {
            point.run: point
            for point in task_points(part, model.method, model.feature).rungs
            if point.run in margins[str(task)].runs
        }
        for task, part in table.groupby("task", sort=False)
        if str(task) in margins
    }


def _by_items(
    rungs: Sequence[RungPoint], margins: Margins, target: Target, loss: float
) -> dict[str, float]:
    """The accuracy at a target along each scale; `loss` is what step 1 predicts for it."""
    values = margins.of([rung.run for rung in rungs])
    at = {"compute": math.log(target.params * target.tokens), "loss": loss}
    return {way: fit_items(_scales(rungs, way), values).accuracy(at[way]) for way in BY}


def _scales(rungs: Sequence[RungPoint], by: str) -> Array:
    if by == "loss":
        return np.array([rung.loss for rung in rungs])
    return np.log([rung.params * rung.tokens for rung in rungs])


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def normal_cdf(values: Array | NDArray[np.floating]) -> Array:
    """The standard normal distribution function, to 1e-7 (Abramowitz and Stegun 26.2.17)."""
    size = np.abs(values)
    t = 1 / (1 + 0.2316419 * size)
    series = t * (
        0.319381530 + t * (-0.356563782 + t * (1.781477937 + t * (-1.821255978 + t * 1.330274429)))
    )
    tail = np.exp(-(size**2) / 2) / math.sqrt(2 * math.pi) * series
    return np.where(np.asarray(values) >= 0, 1 - tail, tail)
