"""Letter-form accuracy at a run's end, from its own checkpoints after the ability emerges."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from evaluation.records import InputError
from predict.fit import Fit, Objective, fit
from predict.flight import Flight
from predict.forecast import Forecast
from predict.intervals import LEVEL80, interval
from predict.laws import Array, Law, get_law
from predict.points import trailing_mean

FEWEST_POINTS = 10
"""Checkpoints after emergence below which nothing is fitted: two windows that are smoothed over."""

SIGNIFICANT = 3.0
"""Binomial standard errors above chance from which on, to the last checkpoint, the ability is
there; the paper (arXiv 2412.04403, phase 3) looked for the point by eye."""

CLIMB = 0.5
"""Standard error of the forecast per climb still to come. No run inside the published ladder
emerges, so that it was measured on the two targets themselves (benchmarks/forecast.md), where the
sigmoid promises about twice the climb that comes."""

FARTHEST_CLIMB = 0.5
"""Climb still to come, over that from chance to the last checkpoint, above which a forecast says
too little; as CLIMB."""

TIGHT = 1e-3
"""Play of the sigmoid's floor and ceiling about chance and 1 (arXiv 2412.04403, code)."""


@dataclass(frozen=True)
class LetterForecast:
    """One letter-form task's forecast for the end of a run; accuracies in [0, 1]."""

    task: str
    cloze: str
    """The task whose loss it goes by."""
    run: str
    share: float
    """Of its tokens, up to which its checkpoints are used."""
    emerged: float | None
    """Tokens of the first checkpoint after which it stays above chance; None where none does."""
    checkpoints: int
    """After that."""
    predicted: float | None
    lower80: float | None
    upper80: float | None
    lower95: float | None
    upper95: float | None
    last_accuracy: float | None
    status: str
    """`ok` or `unpredictable`."""
    reason: str


def forecast_letters(
    observations: pd.DataFrame,
    flight: Flight,
    task: str,
    cloze: Forecast,
    feature: str = "loss",
    window: int = 5,
) -> LetterForecast:
    """Fit the letter form's accuracy to the cloze form's loss, and read it at the forecast loss.

    The paper's step 2 on the run's own checkpoints (arXiv 2412.04403, phase 3): a sigmoid from 1
    down to chance, each within TIGHT, both smoothed over `window` checkpoints. The interval joins
    the cloze loss's own, the fit's parameters, its residuals, and CLIMB. Raises InputError where
    the run has no such task.
    """
    rows = observations[observations["run"] == flight.run]
    own = rows[(rows["task"] == task) & rows["accuracy"].notna()]
    if not len(own):
        raise InputError(f"task {task}: run {flight.run} has no accuracy of it")
    chance = _first(own, "chance")
    if not 0 <= chance < 1:
        raise InputError(f"task {task}: has no chance level, which a letter form's fit needs")
    losses = rows[rows["task"] == cloze.task].set_index("step")[feature].dropna()
    own = flight.seen(own[own["step"].isin(losses.index)])
    own = own.sort_values("step", kind="stable")
    measured = own["accuracy"].to_numpy(dtype=float)
    accuracy = trailing_mean(measured, window)
    instances = _first(own, "instances")
    begin = emergence(accuracy, chance, None if math.isnan(instances) else int(instances))
    count = 0 if begin is None else len(own) - begin
    blank = LetterForecast(
        task=task,
        cloze=cloze.task,
        run=flight.run,
        share=flight.share,
        emerged=None if begin is None else float(own["tokens"].iloc[begin]),
        checkpoints=count,
        predicted=None,
        lower80=None,
        upper80=None,
        lower95=None,
        upper95=None,
        last_accuracy=float(accuracy[-1]) if len(accuracy) else None,
        status="unpredictable",
        reason=f"{count} checkpoints after it emerged; a fit needs {FEWEST_POINTS}",
    )
    if begin is None:
        return replace(blank, reason="it has not emerged: its accuracy is not clearly above chance")
    if count < FEWEST_POINTS:
        return blank
    # Smoothed anew from there: a mean must not reach back to where it was at chance.
    after = trailing_mean(measured[begin:], window)
    loss = trailing_mean(losses.loc[own["step"]].to_numpy(dtype=float)[begin:], window)
    fitted = fit_letters(loss, after, chance)
    if not fitted.determined:
        return replace(blank, reason=f"step 2: {fitted.doubt}")
    law = letter_law(chance)
    at = float(law.value(fitted.theta, cloze.loss_predicted)[0])
    climb = abs(at - float(after[-1]))
    error = math.hypot(_error(law, fitted, cloze, loss, after), CLIMB * climb)
    cut = interval(at, error, 0.0, 1.0)
    return replace(
        blank,
        predicted=at,
        lower80=cut.lower80,
        upper80=cut.upper80,
        lower95=cut.lower95,
        upper95=cut.upper95,
        status="unpredictable" if (why := _too_early(at, float(after[-1]), chance)) else "ok",
        reason=why,
    )


def _first(rows: pd.DataFrame, column: str) -> float:
    """The first value of a column that is not empty; NaN where there is none."""
    if column not in rows:
        return math.nan
    known = rows[column].dropna()
    return float(known.iloc[0]) if len(known) else math.nan


def _too_early(at: float, last: float, chance: float) -> str:
    if at - last <= FARTHEST_CLIMB * (last - chance):
        return ""
    return (
        f"it has climbed by {100 * (last - chance):.0f} points since it emerged and would climb by "
        f"{100 * (at - last):.0f} more"
    )


def emergence(accuracy: Array, chance: float, instances: int | None) -> int | None:
    """The first checkpoint from which on all are SIGNIFICANT standard errors above chance.

    Without a number of items an accuracy counts from a tenth of the way from chance to 1 on.
    """
    bar = chance + 0.1 * (1 - chance)
    if instances:
        bar = chance + SIGNIFICANT * math.sqrt(chance * (1 - chance) / instances)
    below = np.flatnonzero(accuracy <= bar)
    begin = int(below[-1]) + 1 if len(below) else 0
    return begin if begin < len(accuracy) else None


def letter_law(chance: float) -> Law:
    """The sigmoid with floor and ceiling held at chance and 1, each within TIGHT."""
    sigmoid = get_law("sigmoid")
    held = {"a": (chance - 1, chance - 1 + TIGHT), "b": (1 - TIGHT, 1.0)}
    parameters = [
        replace(p, lower=held[p.name][0], upper=held[p.name][1]) if p.name in held else p
        for p in sigmoid.parameters
    ]
    return replace(sigmoid, parameters=tuple(parameters))


def fit_letters(loss: Sequence[float] | Array, accuracy: Array, chance: float) -> Fit:
    """Least squares of the letter form's accuracy on the loss, shape (n,) each."""
    points = np.asarray(loss, dtype=float)
    (found,) = fit(letter_law(chance), [points[None]], accuracy[None], Objective())
    return found


def _error(law: Law, fitted: Fit, cloze: Forecast, loss: Array, accuracy: Array) -> float:
    """Standard error: the forecast loss's, the parameters' and the residuals'."""
    at = np.array([cloze.loss_predicted])
    width = 1e-5 * cloze.loss_predicted
    high, low = (law.value(fitted.theta, at + side)[0] for side in (width, -width))
    slope = (high - low) / (2 * width)
    half = 0.0
    if cloze.loss_upper80 is not None and cloze.loss_lower80 is not None:
        half = (cloze.loss_upper80 - cloze.loss_lower80) / 2 / LEVEL80
    gradient = law.evaluate(fitted.theta, [at])[1][0]
    parameters = max(float(gradient @ np.array(fitted.covariance) @ gradient), 0.0)
    rms = float(np.sqrt(np.mean((law.value(fitted.theta, loss) - accuracy) ** 2)))
    return math.sqrt((slope * half) ** 2 + parameters + rms**2)
