"""Laws from params and tokens to a loss, or to an accuracy in one step."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from predict.registry import Array, Law, Parameter, fixed, register


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
            Parameter("alpha", 0, np.inf, "exponent of N", grid=fixed(0.02, 1.4, 18)),
            Parameter("b", 0, np.inf, "log of B, D in tokens", linear=True, log=True),
            Parameter("beta", 0, np.inf, "exponent of D", grid=fixed(0.02, 1.4, 18)),
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
            Parameter("alpha", 0, np.inf, "exponent of N", grid=fixed(0.02, 1.4, 12)),
            Parameter(
                "b", -200, np.inf, "log of the loss owed to 1e11 tokens", linear=True, log=True
            ),
            Parameter("beta", 0, np.inf, "exponent of D", grid=fixed(0.02, 1.4, 12)),
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
            Parameter("alpha", 0, 1, "exponent of C", grid=fixed(0.01, 0.9, 40)),
            Parameter("E", 0, np.inf, "irreducible loss, unit of the loss", linear=True),
        ),
        evaluate=_compute,
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
                "a", -200, np.inf, "log of the latent owed to 1e9 params", grid=fixed(-3, 1, 3)
            ),
            Parameter("alpha", 0, np.inf, "exponent of N", grid=fixed(0.1, 0.7, 3)),
            Parameter(
                "b", -200, np.inf, "log of the latent owed to 1e11 tokens", grid=fixed(-3, 1, 3)
            ),
            Parameter("beta", 0, np.inf, "exponent of D", grid=fixed(0.1, 0.7, 3)),
            Parameter("E", -np.inf, np.inf, "latent of a perfect model", grid=fixed(-6, 0, 5)),
            Parameter("p", -1, 0, "floor minus ceiling, accuracy", linear=True),
            Parameter("q", 0, 1, "ceiling, accuracy", linear=True),
        ),
        evaluate=_single_step,
    )
)
