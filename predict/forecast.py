"""Where a run in flight will end: the ladder's prediction, updated by its own checkpoints."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from evaluation.records import InputError
from predict.flight import Flight
from predict.intervals import Interval, interval
from predict.laws import Array
from predict.points import end_mean
from predict.schedule_gap import Gap, Gaps, accuracies_along, learn_gaps, linked, losses_along
from predict.task_fit import Prediction, TaskFit
from predict.two_stage import TwoStage
from predict.watch import each

SLOPE = 0.3
"""Standard deviation of the relative error of the law's slope in log tokens, from a checkpoint to
the end; chosen on runs inside the ladder (benchmarks/forecast.md)."""

WALK = 0.25
"""Standard deviation of the drift off the law while the run falls by its own slope per e-fold of
tokens, relative to that fall; chosen as SLOPE was."""

RECENT = 3.0
"""Checkpoints count from the last one's tokens over this on: what lies before says little more, and
belongs to the warm-up (benchmarks/forecast.md)."""

SHORTEST = 0.5
"""Tokens a parameter of a checkpoint that counts, over the fewest of a finished rung."""


@dataclass(frozen=True)
class Forecast:
    """One task's forecast for the end of a run; accuracies in [0, 1], loss in the task's unit.

    `ladder_...` is the ladder-only prediction, `own_...` what the run's checkpoints say without it,
    `last_...` the mean of its last checkpoints carried forward; None where there is none.
    """

    task: str
    run: str
    params: float
    tokens: float
    tokens_seen: float
    """Of the last checkpoint used; 0 for none."""
    checkpoints: int
    """How many of its checkpoints count."""
    predicted: float | None
    lower80: float | None
    upper80: float | None
    lower95: float | None
    upper95: float | None
    loss_predicted: float
    loss_lower80: float | None
    loss_upper80: float | None
    ladder_predicted: float | None
    ladder_lower80: float | None
    ladder_upper80: float | None
    ladder_loss: float
    ladder_loss_lower80: float | None
    ladder_loss_upper80: float | None
    own_predicted: float | None
    own_loss: float | None
    last_accuracy: float | None
    last_loss: float | None
    status: str
    """The ladder's: `ok`, `extrapolated` or `unpredictable`."""
    reason: str


@dataclass(frozen=True)
class Estimate:
    """A value and its variance."""

    value: float
    variance: float

    def with_prior(self, prior: Estimate) -> Estimate:
        """Both together, as independent normal estimates of one number."""
        if not math.isfinite(prior.variance) or not self.variance:
            return self
        if not math.isfinite(self.variance) or not prior.variance:
            return prior
        weight = prior.variance / (prior.variance + self.variance)
        return Estimate(prior.value + weight * (self.value - prior.value), weight * self.variance)


def forecast(
    model: TwoStage, observations: pd.DataFrame, flights: Sequence[Flight]
) -> list[Forecast]:
    """Every task's forecast for every flight, by a predictor that was fitted without those runs.

    The ladder's prediction with its interval is the prior. A checkpoint's residual from the law of
    finished runs, less the gap that checkpoints of the ladder's own rungs have at its share of the
    schedule, says how far the run is off the law; the law's slope up to the end may be off by
    SLOPE and WALK. Accuracies go the same way, their path to the end the mean of the ladder's own
    and of step 2's between the run's losses. A task that the run did not measure, or whose gap is
    not known, keeps the ladder's prediction, with the reason. Raises InputError where a flight's
    run was fitted.
    """
    fitted_rows = model.fitted_rows(observations)
    fitted_rows = fitted_rows[fitted_rows["run"].isin(_fitted_runs(model))]
    learned = {
        str(task): learn_gaps(model.fits_[str(task)], part, model.feature, model.method.window)
        for task, part in fitted_rows.groupby("task", sort=False)
        if task in model.fits_
    }
    found = []
    for flight in flights:
        if flight.run in _fitted_runs(model):
            raise InputError(f"--run {flight.run}: is a rung that was fitted; fit without it")
        rows = observations[observations["run"] == flight.run]
        rows = rows[rows[model.feature] > 0].sort_values("step", kind="stable")
        measured = {str(task): part for task, part in rows.groupby("task", sort=False)}
        for task, fitted in each(list(model.fits_.items()), "forecast"):
            own = _Own.of(measured.get(task), flight, model.feature)
            found.append(_task(model, fitted, flight, own, learned[task]))
    return found


def forecast_document(model: TwoStage, rows: Sequence[Forecast]) -> dict[str, Any]:
    """The JSON of `ladder forecast`."""
    return {
        "version": 1,
        "method": model.method.name,
        "rows": [asdict(row) for row in rows],
        "left_out": model.left_out_,
        "warnings": model.warnings(),
    }


@dataclass(frozen=True)
class _Own:
    """A run's own checkpoints on one task, up to its share, by step."""

    tokens: Array
    loss: Array
    accuracy: Array
    """NaN where it was not measured."""

    @classmethod
    def of(cls, rows: pd.DataFrame | None, flight: Flight, feature: str) -> _Own:
        if rows is None:
            return cls(*(np.zeros(0) for _ in range(3)))
        rows = flight.seen(rows)
        accuracy = rows["accuracy"] if "accuracy" in rows else pd.Series(np.nan, rows.index)
        columns = (rows["tokens"], rows[feature], accuracy)
        return cls(*(column.to_numpy(dtype=float) for column in columns))

    def recent(self, floor: float) -> _Own:
        """Those that count: from a part of the last one's tokens on, and `floor` tokens."""
        kept = self.tokens >= max(self.tokens[-1] / RECENT, floor) if len(self.tokens) else []
        return _Own(self.tokens[kept], self.loss[kept], self.accuracy[kept])


def _task(model: TwoStage, fitted: TaskFit, flight: Flight, own: _Own, gaps: Gaps) -> Forecast:
    ladder = fitted.predict(flight.target, model.method)
    window = model.method.window
    recent = own.recent(SHORTEST * gaps.floor * flight.params)
    reason = _why_ladder_only(own, recent, gaps)
    loss_prior, prior = _priors(model, fitted, flight, ladder)
    loss, accuracy = loss_prior, prior
    own_loss = own_accuracy = None
    ended = bool(len(own.tokens)) and own.tokens[-1] >= flight.tokens * (1 - 1e-6)
    scored = np.isfinite(own.accuracy)
    if ended:
        loss = own_loss = Estimate(math.log(end_mean(own.tokens, own.loss, window)), 0.0)
        score = end_mean(own.tokens, own.accuracy, window)
        if math.isfinite(score):
            accuracy = own_accuracy = Estimate(score, 0.0)
    elif not reason and gaps.loss is not None:
        own_loss = _own_loss(fitted, flight, recent, gaps.loss)
        loss = _noisy(own_loss.with_prior(loss_prior), gaps.loss, window)
        if gaps.accuracy is not None and prior is not None and np.isfinite(recent.accuracy).any():
            own_accuracy = _own_accuracy(
                fitted, flight, recent, gaps.accuracy, math.exp(loss.value), prior.value
            )
            accuracy = _noisy(own_accuracy.with_prior(prior), gaps.accuracy, window)
    bounds = _bounds(ladder, accuracy, prior)
    loss_bounds = _loss_bounds(ladder, loss, loss_prior)
    reasons = [text for text in (ladder.reason, reason if not ended else "") if text]
    return Forecast(
        task=fitted.task,
        run=flight.run,
        params=flight.params,
        tokens=flight.tokens,
        tokens_seen=float(own.tokens[-1]) if len(own.tokens) else 0.0,
        checkpoints=0 if reason and not ended else len(recent.tokens),
        predicted=None if accuracy is None else float(np.clip(accuracy.value, 0, 1)),
        lower80=bounds[0],
        upper80=bounds[1],
        lower95=bounds[2],
        upper95=bounds[3],
        loss_predicted=math.exp(loss.value),
        loss_lower80=loss_bounds[0],
        loss_upper80=loss_bounds[1],
        ladder_predicted=ladder.predicted,
        ladder_lower80=ladder.lower80,
        ladder_upper80=ladder.upper80,
        ladder_loss=ladder.loss_predicted,
        ladder_loss_lower80=ladder.loss_lower80,
        ladder_loss_upper80=ladder.loss_upper80,
        own_predicted=None if own_accuracy is None else float(np.clip(own_accuracy.value, 0, 1)),
        own_loss=None if own_loss is None else math.exp(own_loss.value),
        last_accuracy=float(own.accuracy[scored][-window:].mean()) if scored.any() else None,
        last_loss=float(own.loss[-window:].mean()) if len(own.loss) else None,
        status=ladder.status,
        reason="; ".join(reasons),
    )


def _why_ladder_only(own: _Own, recent: _Own, gaps: Gaps) -> str:
    if not len(own.tokens):
        return "the run has no checkpoint of its own yet"
    if not len(recent.tokens):
        return (
            f"its checkpoints are shorter than half of the ladder's {gaps.floor:.3g} tokens a "
            "parameter"
        )
    if gaps.loss is None:
        return (
            "too few rungs have checkpoints longer than the shortest rung, so that nothing says "
            "how a checkpoint relates to an end"
        )
    return ""


def _priors(
    model: TwoStage, fitted: TaskFit, flight: Flight, ladder: Prediction
) -> tuple[Estimate, Estimate | None]:
    """The ladder's log loss and accuracy, each with the variance of its interval."""
    target = flight.target
    error = fitted.loss_uncertainty(target).standard_error(model.method.loss_widths)
    loss = Estimate(math.log(ladder.loss_predicted), (error / ladder.loss_predicted) ** 2)
    if ladder.predicted is None:
        return loss, None
    parts = fitted.uncertainty(target, fitted.chain_values(target))
    width = parts.standard_error(model.method.widths_of(fitted.votes))
    return loss, Estimate(ladder.predicted, width**2)


def _own_loss(fitted: TaskFit, flight: Flight, own: _Own, gap: Gap) -> Estimate:
    """The log loss at the end by the run's own checkpoints."""
    law = np.log(losses_along(fitted, flight.params, np.r_[own.tokens, flight.tokens]))
    mean, spread = gap.at(own.tokens / (flight.horizon or flight.tokens))
    offset = own_offset(
        np.log(own.loss) - law[:-1] - mean,
        np.abs(law[:-1] - law[-1]),
        np.log(flight.tokens / own.tokens),
        spread,
        gap.noise,
    )
    return Estimate(float(law[-1]) + offset.value, offset.variance)


def _own_accuracy(
    fitted: TaskFit, flight: Flight, own: _Own, gap: Gap, loss_end: float, ladder: float
) -> Estimate:
    """The accuracy at the end by the run's own checkpoints.

    The way from a checkpoint to the end is the mean of two: the ladder's predictions of both, less
    the gap; and step 2 between the run's loss there and its forecast loss, if the own loss votes.
    """
    seen = np.isfinite(own.accuracy)
    tokens, scores = own.tokens[seen], own.accuracy[seen]
    along = accuracies_along(fitted, flight.params, tokens)
    mean, spread = gap.at(tokens / (flight.horizon or flight.tokens))
    rise = ladder - along - mean
    if "own" in fitted.votes and fitted.step2 is not None:
        ends = linked(fitted, np.r_[own.loss[seen], loss_end])
        rise = (rise + ends[-1] - ends[:-1]) / 2
    return own_offset(
        scores + rise,
        np.abs(ladder - along),
        np.log(flight.tokens / tokens),
        spread,
        gap.noise,
    )


def own_offset(
    residuals: Array, distance: Array, efolds: Array, spread: Array, noise: float
) -> Estimate:
    """What the residuals of checkpoints say that the end's will be (generalised least squares).

    A residual is the end's plus an error of the slope, SLOPE times the `distance` still to go;
    a drift, a random walk whose steps go with WALK and the distance per e-fold of tokens; the gap's
    `spread`, shared by all checkpoints; and noise of its own. All shape (n,), oldest first;
    `efolds` is log(end / tokens), above 0.
    """
    rate = float(distance[0] / efolds[0])
    walk = WALK**2 * rate**2 * np.minimum.outer(efolds, efolds)
    slope = SLOPE**2 * np.outer(distance, distance)
    covariance = walk + slope + np.outer(spread, spread) + noise**2 * np.eye(len(residuals))
    weights = np.linalg.solve(covariance, np.ones(len(residuals)))
    return Estimate(float(weights @ residuals / weights.sum()), float(1 / weights.sum()))


def _noisy(estimate: Estimate, gap: Gap, window: int) -> Estimate:
    """The estimate of a measured result, which is a mean of the last checkpoints."""
    return Estimate(estimate.value, estimate.variance + gap.noise**2 / window)


def _bounds(
    ladder: Prediction, found: Estimate | None, prior: Estimate | None
) -> tuple[float | None, float | None, float | None, float | None]:
    if found is prior:
        return ladder.lower80, ladder.upper80, ladder.lower95, ladder.upper95
    if found is None or not math.isfinite(found.variance):
        return None, None, None, None
    cut = interval(float(np.clip(found.value, 0, 1)), math.sqrt(found.variance), 0.0, 1.0)
    return cut.lower80, cut.upper80, cut.lower95, cut.upper95


def _loss_bounds(
    ladder: Prediction, found: Estimate, prior: Estimate
) -> tuple[float | None, float | None]:
    if found is prior:
        return ladder.loss_lower80, ladder.loss_upper80
    if not math.isfinite(found.variance):
        return None, None
    value = math.exp(found.value)
    cut: Interval = interval(value, value * math.sqrt(found.variance), 0.0, math.inf)
    return cut.lower80, cut.upper80


def _fitted_runs(model: TwoStage) -> set[str]:
    return {rung.run for fitted in model.fits_.values() for rung in fitted.rungs}
