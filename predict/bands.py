"""Curves of one task's fits with the middle 80% of what they may be off by, for figures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from predict.fit import Fit
from predict.intervals import LEVEL80
from predict.laws import Array, get_law, law_inputs
from predict.methods import Method, Widths
from predict.task_fit import TaskFit


@dataclass(frozen=True)
class Band:
    """A curve and its 80% interval, each (n,); the interval is None where nothing determines it."""

    middle: Array
    lower: Array | None
    upper: Array | None


def loss_curve(fitted: TaskFit, params: float, tokens: Array) -> Array:
    """Step 1 along `tokens` for one size."""
    given = {"params": np.full_like(tokens, params), "tokens": tokens}
    return _values(fitted.step1, given)[0]


def loss_band(fitted: TaskFit, method: Method, params: float, tokens: Array) -> Band:
    """Step 1 along `tokens` for one size, with the intervals that a prediction there would have."""
    given = {"params": np.full_like(tokens, params), "tokens": tokens}
    top = fitted.top_rung
    return _band(fitted.step1, given, method.loss_widths, top.loss, top.loss_sd or 0.0, np.inf)


def accuracy_band(fitted: TaskFit, method: Method, losses: Array) -> Band | None:
    """Step 2 along `losses`, as if the loss were known; None for a task without an accuracy.

    Its width is that of a prediction by this chain alone, less step 1's part and the items'.
    """
    if fitted.step2 is None:
        return None
    top, widths = fitted.top_rung, method.widths_of(("own",))
    given = {"loss": losses}
    return _band(fitted.step2, given, widths, top.accuracy or 0.0, top.accuracy_sd or 0.0, 1.0)


def _band(
    law_fit: Fit, given: dict[str, Array], widths: Widths, top: float, noise: float, most: float
) -> Band:
    values, gradient = _values(law_fit, given)
    values = np.clip(values, 0.0, most)
    if not law_fit.covariance:
        return Band(values, None, None)
    covariance = np.array(law_fit.covariance)
    parameters = np.sqrt(np.maximum(np.einsum("ni,ij,nj->n", gradient, covariance, gradient), 0))
    half = LEVEL80 * np.sqrt(
        (widths.parameters * parameters) ** 2 + (widths.climb * (values - top)) ** 2 + noise**2
    )
    return Band(values, np.clip(values - half, 0.0, most), np.clip(values + half, 0.0, most))


def _values(law_fit: Fit, given: dict[str, Array]) -> tuple[Array, Array]:
    law = get_law(law_fit.law)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        values, gradient = law.evaluate(law_fit.theta, law_inputs(law, given))
    return values, gradient
