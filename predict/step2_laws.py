"""Laws from a loss to an accuracy: step 2."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from predict.registry import Array, Law, Parameter, register


def _sigmoid(theta: Array, inputs: Sequence[Array]) -> tuple[Array, Array]:
    drop, midpoint, slope, ceiling = (theta[..., i, None] for i in range(4))
    distance = inputs[0] - midpoint
    gate = 0.5 * (1 + np.tanh(0.5 * slope * distance))
    value = drop * gate + ceiling
    steepness = drop * gate * (1 - gate)
    columns = (gate, -steepness * slope, steepness * distance, np.ones_like(value))
    return value, np.stack(columns, axis=-1)


def _midpoints(inputs: Sequence[Array]) -> Array:
    """From half a range below the losses seen to one and a half above; never below 0."""
    low, high = _seen(inputs[0])
    return np.maximum(low + np.linspace(-0.5, 2.5, 13) * (high - low), 0)


def _slopes(inputs: Sequence[Array]) -> Array:
    """From a nearly straight line to a step, in units of the range of the losses seen."""
    low, high = _seen(inputs[0])
    return np.geomspace(0.3, 40, 10) / (high - low)


def _seen(loss: Array) -> tuple[Array, Array]:
    """Lowest and highest loss that a model reached, shape (P, 1) each; 0 is the ideal point."""
    low = np.where(loss > 0, loss, np.inf).min(axis=-1, keepdims=True)
    high = loss.max(axis=-1, keepdims=True)
    return low, np.maximum(high, low * (1 + 1e-6))


sigmoid = register(
    Law(
        name="sigmoid",
        formula="a / (1 + exp(-k (L - L0))) + b",
        source="arXiv 2412.04403, section 3.2; bounds of its code",
        inputs=("loss",),
        output="accuracy",
        parameters=(
            Parameter("a", -1, 0, "floor minus ceiling, accuracy", linear=True),
            Parameter("L0", 0, np.inf, "loss at the middle of the climb", grid=_midpoints),
            Parameter("k", 0, np.inf, "slope, per unit of loss", grid=_slopes),
            Parameter("b", 0, 1, "ceiling, accuracy", linear=True),
        ),
        evaluate=_sigmoid,
    )
)


def _log_sigmoid(theta: Array, inputs: Sequence[Array]) -> tuple[Array, Array]:
    drop, midpoint, slope = (theta[..., i, None] for i in range(3))
    distance = inputs[0] - midpoint
    softplus = np.logaddexp(0, slope * distance)
    gate = 0.5 * (1 + np.tanh(0.5 * slope * distance))
    value = 1 + drop * softplus
    return value, np.stack((softplus, -drop * slope * gate, drop * distance * gate), axis=-1)


log_sigmoid = register(
    Law(
        name="log_sigmoid",
        formula="1 - a log(1 - sigmoid(k (L - L0)))",
        source="arXiv 2412.04403, code, for TaskCE as the feature",
        inputs=("loss",),
        output="accuracy",
        parameters=(
            Parameter("a", -np.inf, 0, "minus the fall of accuracy per k L", linear=True),
            Parameter("L0", 0, np.inf, "loss where the fall begins", grid=_midpoints),
            Parameter("k", 0, np.inf, "sharpness of the bend, per unit of loss", grid=_slopes),
        ),
        evaluate=_log_sigmoid,
    )
)


def _scales(inputs: Sequence[Array]) -> Array:
    """From half the lowest loss seen to twice the highest."""
    low, high = _seen(inputs[0])
    return 0.5 * low * (4 * high / low) ** np.linspace(0, 1, 16)


def _powers(inputs: Sequence[Array]) -> Array:
    """From a slow bend to a step, as a power of the loss."""
    return np.broadcast_to(np.geomspace(0.5, 60, 12), (len(inputs[0]), 12))


def _power_of(loss: Array, scale: Array, power: Array) -> tuple[Array, Array]:
    """(L / L0)^k and log(L / L0), with the limit 0 and no slope at the ideal point L = 0."""
    log_ratio = np.where(loss > 0, np.log(np.where(loss > 0, loss, 1) / scale), 0)
    return np.where(loss > 0, np.exp(np.minimum(power * log_ratio, 700)), 0), log_ratio


def _log_logistic(theta: Array, inputs: Sequence[Array]) -> tuple[Array, Array]:
    drop, scale, power, ceiling = (theta[..., i, None] for i in range(4))
    grown, log_ratio = _power_of(inputs[0], scale, power)
    gate = grown / (1 + grown)
    steepness = drop * gate * (1 - gate)
    value = drop * gate + ceiling
    columns = (gate, -steepness * power / scale, steepness * log_ratio, np.ones_like(value))
    return value, np.stack(columns, axis=-1)


def _weibull(theta: Array, inputs: Sequence[Array]) -> tuple[Array, Array]:
    drop, scale, power, ceiling = (theta[..., i, None] for i in range(4))
    grown, log_ratio = _power_of(inputs[0], scale, power)
    gate = -np.expm1(-grown)
    steepness = drop * grown * np.exp(-grown)
    value = drop * gate + ceiling
    columns = (gate, -steepness * power / scale, steepness * log_ratio, np.ones_like(value))
    return value, np.stack(columns, axis=-1)


_BENDS = (
    Parameter("a", -1, 0, "floor minus ceiling, accuracy", linear=True),
    Parameter("L0", 1e-9, np.inf, "loss at the bend", grid=_scales),
    Parameter("k", 0, np.inf, "power of the loss", grid=_powers),
    Parameter("b", 0, 1, "ceiling, accuracy", linear=True),
)

log_logistic = register(
    Law(
        name="log_logistic",
        formula="a / (1 + (L / L0)^-k) + b",
        source="the sigmoid's form in log L; bounds as the sigmoid's",
        inputs=("loss",),
        output="accuracy",
        parameters=_BENDS,
        evaluate=_log_logistic,
    )
)

weibull = register(
    Law(
        name="weibull",
        formula="a (1 - exp(-(L / L0)^k)) + b",
        source="Weibull's distribution in L; bounds as the sigmoid's",
        inputs=("loss",),
        output="accuracy",
        parameters=_BENDS,
        evaluate=_weibull,
    )
)


def _gadre_error(theta: Array, inputs: Sequence[Array]) -> tuple[Array, Array]:
    factor, rate, highest = (theta[..., i, None] for i in range(3))
    gone = np.exp(-rate * inputs[0])
    value = 1 - highest + factor * gone
    columns = (gone, -factor * inputs[0] * gone, -np.ones_like(value))
    return value, np.stack(columns, axis=-1)


def _rates(inputs: Sequence[Array]) -> Array:
    """From a nearly straight line to a sharp bend, per range of the losses seen."""
    low, high = inputs[0].min(axis=-1, keepdims=True), inputs[0].max(axis=-1, keepdims=True)
    width = np.maximum(high - low, 1e-6 * high + 1e-300)
    return np.asarray(np.geomspace(0.02, 40, 30) / width)


gadre_error = register(
    Law(
        name="gadre_error",
        formula="1 - (eps - k exp(-gamma L))",
        source="Gadre et al. 2024, arXiv 2403.08540: the error of a loss",
        inputs=("loss",),
        output="accuracy",
        parameters=(
            Parameter("k", 0, np.inf, "factor of the fall", linear=True),
            Parameter("gamma", 0, np.inf, "rate of the fall, per unit of loss", grid=_rates),
            Parameter("eps", 0, 1, "error of a model that knows nothing", linear=True),
        ),
        evaluate=_gadre_error,
    )
)
