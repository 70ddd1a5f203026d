"""Functional forms with named, bounded parameters and analytic gradients; one registry.

A law maps inputs, arrays of shape (..., n), and parameters, shape (..., p), to values (..., n) and
their gradient (..., n, p); leading dimensions broadcast, so one call evaluates many fits at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluation.records import InputError

Array = NDArray[np.float64]
Grid = Callable[[Sequence[Array]], Array]
"""Inputs, each of shape (P, n) -> starting values for one parameter, shape (P, G)."""


@dataclass(frozen=True)
class Parameter:
    """One parameter of a law.

    A `linear` one enters the law linearly (by its exponential if `log`), so that starts solve for
    it; any other brings a `grid` of starting values, which may depend on the inputs.
    """

    name: str
    lower: float
    upper: float
    meaning: str
    linear: bool = False
    log: bool = False
    grid: Grid | None = None


@dataclass(frozen=True)
class Law:
    """A functional form, ready to be fitted: `evaluate(theta, inputs)` -> (value, gradient)."""

    name: str
    formula: str
    source: str
    inputs: tuple[str, ...]
    parameters: tuple[Parameter, ...]
    evaluate: Callable[[Array, Sequence[Array]], tuple[Array, Array]]
    output: str = "loss"
    """What its values are: a `loss`, which falls with scale, or an `accuracy`."""
    default_start: tuple[float, ...] | None = None
    """A start to be tried beside the grid's, in the units of the parameters."""

    @property
    def names(self) -> tuple[str, ...]:
        """The parameters' names, in order."""
        return tuple(p.name for p in self.parameters)

    @property
    def size(self) -> int:
        """How many parameters it has."""
        return len(self.parameters)

    def value(self, theta: Sequence[float] | Array, *inputs: float | Array) -> Array:
        """The law at `inputs` (scalars or arrays of one shape) for one parameter vector."""
        arrays = [np.atleast_1d(np.asarray(x, dtype=float)) for x in inputs]
        result, _ = self.evaluate(np.asarray(theta, dtype=float), arrays)
        return result


LAWS: dict[str, Law] = {}
"""Every registered law by name."""


def register(law: Law) -> Law:
    """Add a law to the registry; a second one of the same name is a programming error."""
    if law.name in LAWS:
        raise ValueError(f"law {law.name!r} is registered twice")
    LAWS[law.name] = law
    return law


def get_law(name: str) -> Law:
    """The law of that name; raises InputError with the names there are."""
    if name not in LAWS:
        raise InputError(f"law {name!r}: unknown; there are {', '.join(LAWS)}")
    return LAWS[name]


def _fixed(low: float, high: float, count: int) -> Grid:
    """A grid that does not depend on the inputs."""
    values = np.linspace(low, high, count)
    return lambda inputs: np.broadcast_to(values, (len(inputs[0]), count))


def _chinchilla(theta: Array, inputs: Sequence[Array]) -> tuple[Array, Array]:
    log_params, log_tokens = np.log(inputs[0]), np.log(inputs[1])
    a, alpha, b, beta, floor = (theta[..., i, None] for i in range(5))
    size_term = np.exp(a - alpha * log_params)
    data_term = np.exp(b - beta * log_tokens)
    value = size_term + data_term + floor
    gradient = np.empty((*value.shape, 5))
    gradient[..., 0], gradient[..., 1] = size_term, -size_term * log_params
    gradient[..., 2], gradient[..., 3] = data_term, -data_term * log_tokens
    gradient[..., 4] = 1
    return value, gradient


chinchilla = register(
    Law(
        name="chinchilla",
        formula="exp(a) / N^alpha + exp(b) / D^beta + E",
        source="Hoffmann et al. 2022, section 3.3; bounds and start of arXiv 2412.04403",
        inputs=("params", "tokens"),
        parameters=(
            Parameter("a", 0, np.inf, "log of A, N in parameters", linear=True, log=True),
            Parameter("alpha", 0, np.inf, "exponent of N", grid=_fixed(0.02, 1.4, 18)),
            Parameter("b", 0, np.inf, "log of B, D in tokens", linear=True, log=True),
            Parameter("beta", 0, np.inf, "exponent of D", grid=_fixed(0.02, 1.4, 18)),
            Parameter("E", 0, np.inf, "irreducible loss, unit of the loss", linear=True),
        ),
        evaluate=_chinchilla,
        default_start=(3.0, 0.1, 6.0, 0.2, 1.0),
    )
)


def _scaled(theta: Array, inputs: Sequence[Array]) -> tuple[Array, Array]:
    return _chinchilla(theta, (inputs[0] / 1e9, inputs[1] / 1e11))


chinchilla_scaled = register(
    Law(
        name="chinchilla_scaled",
        formula="exp(a) / (N/1e9)^alpha + exp(b) / (D/1e11)^beta + E",
        source="Hoffmann et al. 2022, section 3.3, in units that part a from alpha and b from beta",
        inputs=("params", "tokens"),
        parameters=(
            Parameter(
                "a", -200, np.inf, "log of the loss owed to 1e9 params", linear=True, log=True
            ),
            Parameter("alpha", 0, np.inf, "exponent of N", grid=_fixed(0.02, 1.4, 12)),
            Parameter(
                "b", -200, np.inf, "log of the loss owed to 1e11 tokens", linear=True, log=True
            ),
            Parameter("beta", 0, np.inf, "exponent of D", grid=_fixed(0.02, 1.4, 12)),
            Parameter("E", 0, np.inf, "irreducible loss, unit of the loss", linear=True),
        ),
        evaluate=_scaled,
    )
)


def _compute(theta: Array, inputs: Sequence[Array]) -> tuple[Array, Array]:
    log_flops = np.log(6 * inputs[0] * inputs[1])
    a, alpha, floor = (theta[..., i, None] for i in range(3))
    term = np.exp(a - alpha * log_flops)
    value = term + floor
    return value, np.stack((term, -term * log_flops, np.ones_like(value)), axis=-1)


compute = register(
    Law(
        name="compute",
        formula="exp(a) / C^alpha + E",
        source="arXiv 2412.04403, section 5 (FLOPs instead of N and D), with C = 6 N D",
        inputs=("params", "tokens"),
        parameters=(
            Parameter("a", 0, np.inf, "log of A, C in FLOPs", linear=True, log=True),
            Parameter("alpha", 0, 1, "exponent of C", grid=_fixed(0.01, 0.9, 40)),
            Parameter("E", 0, np.inf, "irreducible loss, unit of the loss", linear=True),
        ),
        evaluate=_compute,
    )
)


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


def _single_step(theta: Array, inputs: Sequence[Array]) -> tuple[Array, Array]:
    latent, inner = _scaled(theta[..., :5], inputs)
    drop, ceiling = theta[..., 5, None], theta[..., 6, None]
    gate = 0.5 * (1 + np.tanh(0.5 * latent))
    value = drop * gate + ceiling
    outer = (drop * gate * (1 - gate))[..., None]
    return value, np.concatenate(
        (outer * inner, gate[..., None], np.ones_like(value)[..., None]), axis=-1
    )


single_step = register(
    Law(
        name="single_step",
        formula="p / (1 + exp(-(exp(a) / (N/1e9)^alpha + exp(b) / (D/1e11)^beta + E))) + q",
        source="arXiv 2412.04403, section 5 (one step), its N and D in larger units",
        inputs=("params", "tokens"),
        output="accuracy",
        parameters=(
            Parameter(
                "a", -200, np.inf, "log of the latent owed to 1e9 params", grid=_fixed(-3, 1, 3)
            ),
            Parameter("alpha", 0, np.inf, "exponent of N", grid=_fixed(0.1, 0.7, 3)),
            Parameter(
                "b", -200, np.inf, "log of the latent owed to 1e11 tokens", grid=_fixed(-3, 1, 3)
            ),
            Parameter("beta", 0, np.inf, "exponent of D", grid=_fixed(0.1, 0.7, 3)),
            Parameter("E", -np.inf, np.inf, "latent of a perfect model", grid=_fixed(-6, 0, 5)),
            Parameter("p", -1, 0, "floor minus ceiling, accuracy", linear=True),
            Parameter("q", 0, 1, "ceiling, accuracy", linear=True),
        ),
        evaluate=_single_step,
    )
)
