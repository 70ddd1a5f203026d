"""Kaplan's laws, Gadre's, Muennighoff's of repeated tokens and Krajewski's direct ones.

Those of Kaplan and Muennighoff are written with N in 1e9, D in 1e11, C in 1e21 and steps in 1e4,
which parts a factor from its exponent; `predict.constants` goes between these and the papers' own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from predict.registry import Array, Law, Parameter, fixed, register

KAPLAN = "Kaplan et al. 2020"
STEPS = 1e4
"""Unit of steps in `kaplan_steps`."""

FLOPS = 1e21
"""Unit of FLOPs in `kaplan_c` and `krajewski_compute`."""


def _power(scale: float) -> Callable[[Array, Sequence[Array]], tuple[Array, Array]]:
    """exp(a) / (x / scale)^alpha."""

    def evaluate(theta: Array, inputs: Sequence[Array]) -> tuple[Array, Array]:
        a, alpha = theta[..., 0, None], theta[..., 1, None]
        logs = np.log(inputs[0] / scale)
        value = np.exp(a - alpha * logs)
        return value, np.stack((value, -value * logs), axis=-1)

    return evaluate


def _power_law(name: str, symbol: str, given: str, scale: float, output: str, source: str) -> Law:
    unit = f"{scale:g}".replace("+", "")
    return Law(
        name=name,
        formula=f"exp(a) / ({symbol}/{unit})^alpha",
        source=source,
        inputs=(given,),
        output=output,
        parameters=(
            Parameter("a", -200, np.inf, f"log of the value at {unit}", linear=True, log=True),
            Parameter("alpha", 0, np.inf, f"exponent of {symbol}", grid=fixed(0.005, 1.2, 60)),
        ),
        evaluate=_power(scale),
    )


kaplan_n = register(
    _power_law("kaplan_n", "N", "params", 1e9, "loss", f"{KAPLAN}, eq. 1.1: data without end")
)
kaplan_d = register(
    _power_law("kaplan_d", "D", "tokens", 1e11, "loss", f"{KAPLAN}, eq. 1.2: a model large enough")
)
kaplan_c = register(
    _power_law("kaplan_c", "C", "flops", FLOPS, "loss", f"{KAPLAN}, eq. 1.3: compute well spent")
)


def _kaplan(theta: Array, inputs: Sequence[Array]) -> tuple[Array, Array]:
    a, alpha, r, beta = (theta[..., i, None] for i in range(4))
    log_params, log_tokens = np.log(inputs[0] / 1e9), np.log(inputs[1] / 1e11)
    size, data = -alpha / beta * log_params, r / beta - log_tokens
    both = np.logaddexp(size, data)
    value = np.exp(a + beta * both)
    share = np.exp(size - both)
    columns = (
        np.ones_like(value),
        -share * log_params,
        1 - share,
        both - share * size - (1 - share) * r / beta,
    )
    return value, value[..., None] * np.stack(columns, axis=-1)


kaplan = register(
    Law(
        name="kaplan",
        formula="exp(a) ((N/1e9)^(-alpha/beta) + exp(r/beta) / (D/1e11))^beta",
        source=f"{KAPLAN}, eq. 1.5; alpha and beta are its alpha_N and alpha_D",
        inputs=("params", "tokens"),
        parameters=(
            Parameter(
                "a", -200, np.inf, "log of the loss at 1e9 params, endless data", True, log=True
            ),
            Parameter("alpha", 0, np.inf, "exponent of N", grid=fixed(0.02, 0.6, 12)),
            Parameter(
                "r",
                -200,
                200,
                "log of the loss at 1e11 tokens, endless params, over exp(a)",
                grid=fixed(-1, 1, 11),
            ),
            Parameter("beta", 1e-3, np.inf, "exponent of D", grid=fixed(0.02, 0.6, 12)),
        ),
        evaluate=_kaplan,
        default_start=(0.84, 0.076, -0.31, 0.103),
    )
)


def _two_powers(scale: float) -> Callable[[Array, Sequence[Array]], tuple[Array, Array]]:
    """exp(a) / (N/1e9)^alpha + exp(b) / (y / scale)^beta."""
    size_power, other_power = _power(1e9), _power(scale)

    def evaluate(theta: Array, inputs: Sequence[Array]) -> tuple[Array, Array]:
        size, by_size = size_power(theta[..., :2], inputs[:1])
        other, by_other = other_power(theta[..., 2:], inputs[1:])
        return size + other, np.concatenate((by_size, by_other), axis=-1)

    return evaluate


kaplan_steps = register(
    Law(
        name="kaplan_steps",
        formula="exp(a) / (N/1e9)^alpha + exp(b) / (S/1e4)^beta",
        source=f"{KAPLAN}, eq. 1.6; S are steps far above the critical batch, beta is its alpha_S",
        inputs=("params", "steps"),
        parameters=(
            Parameter("a", -200, np.inf, "log of the loss at 1e9 params", linear=True, log=True),
            Parameter("alpha", 0, np.inf, "exponent of N", grid=fixed(0.02, 1.0, 16)),
            Parameter("b", -200, np.inf, "log of the loss at 1e4 steps", linear=True, log=True),
            Parameter("beta", 0, np.inf, "exponent of S", grid=fixed(0.05, 1.5, 16)),
        ),
        evaluate=_two_powers(STEPS),
    )
)


def _gadre(theta: Array, inputs: Sequence[Array]) -> tuple[Array, Array]:
    a, b, eta, floor = (theta[..., i, None] for i in range(4))
    ratio, flops = np.log(inputs[1] / inputs[0]), np.log(6 * inputs[0] * inputs[1])
    size = np.exp(a + eta * (ratio - flops))
    data = np.exp(b - eta * (ratio + flops))
    value = size + data + floor
    slope = size * (ratio - flops) - data * (ratio + flops)
    return value, np.stack((size, data, slope, np.ones_like(value)), axis=-1)


gadre = register(
    Law(
        name="gadre",
        formula="(exp(a) M^eta + exp(b) M^-eta) C^-eta + E",
        source="Gadre et al. 2024, arXiv 2403.08540; M = D / N, C = 6 N D",
        inputs=("params", "tokens"),
        parameters=(
            Parameter("a", -200, np.inf, "log of the factor of M^eta", linear=True, log=True),
            Parameter("b", -200, np.inf, "log of the factor of M^-eta", linear=True, log=True),
            Parameter("eta", 0, np.inf, "exponent of C", grid=fixed(0.01, 0.7, 40)),
            Parameter("E", 0, np.inf, "irreducible loss, unit of the loss", linear=True),
        ),
        evaluate=_gadre,
    )
)


def _worth(repeats: Array, decay: Array) -> tuple[Array, Array, Array]:
    """1 + R*(1 - exp(-r / R*)), its slope in R*, and exp(-r / R*)."""
    left = np.exp(-repeats / decay)
    slope = np.asarray(1 - left - repeats / decay * left)
    return np.asarray(1 + decay * (1 - left)), slope, np.asarray(left)


def _repeated(theta: Array, inputs: Sequence[Array]) -> tuple[Array, Array]:
    a, alpha, b, beta, floor, data_decay, size_decay = (theta[..., i, None] for i in range(7))
    log_params = np.log(inputs[0] / 1e9)
    unique = np.minimum(inputs[1], inputs[2])
    log_unique = np.log(unique / 1e11)
    tokens_worth, tokens_slope, _ = _worth(inputs[1] / unique - 1, data_decay)
    log_tokens = log_unique + np.log(tokens_worth)
    # The params that the unique tokens are compute-optimal for; a smaller model has no excess.
    fitting = (np.log(alpha / beta) + a - b + beta * log_unique) / alpha
    has_excess = fitting < log_params
    log_base = np.where(has_excess, fitting, log_params)
    excess = np.exp(log_params - log_base) - 1
    params_worth, params_slope, left = _worth(excess, size_decay)
    log_size = log_base + np.log(params_worth)
    size = np.exp(a - alpha * log_size)
    data = np.exp(b - beta * log_tokens)
    value = size + data + floor
    # How the loss moves with the log of the params that the data fit, the rest held.
    through = np.where(has_excess, -alpha * size * (1 - left * (1 + excess) / params_worth), 0)
    columns = (
        size + through / alpha,
        -size * log_size + through * (1 / alpha - fitting) / alpha,
        data - through / alpha,
        -data * log_tokens + through * (log_unique - 1 / beta) / alpha,
        np.ones_like(value),
        -beta * data * tokens_slope / tokens_worth,
        -alpha * size * params_slope / params_worth,
    )
    return value, np.stack(columns, axis=-1)


repeated = register(
    Law(
        name="repeated",
        formula="exp(a) / (N'/1e9)^alpha + exp(b) / (D'/1e11)^beta + E, "
        "D' = U (1 + R_D (1 - exp((1 - D/U) / R_D))), N' alike from the N that U tokens fit",
        source="Muennighoff et al. 2023, arXiv 2305.16264, eqs. 5 and 6",
        inputs=("params", "tokens", "unique_tokens"),
        parameters=(
            Parameter("a", -200, np.inf, "log of the loss at 1e9 params", grid=fixed(-2, 1, 3)),
            Parameter("alpha", 1e-3, np.inf, "exponent of N'", grid=fixed(0.15, 0.6, 3)),
            Parameter(
                "b", -200, np.inf, "log of the loss owed to 1e11 tokens", grid=fixed(-2, 1, 3)
            ),
            Parameter("beta", 1e-3, np.inf, "exponent of D'", grid=fixed(0.15, 0.6, 3)),
            Parameter("E", 0, np.inf, "irreducible loss, unit of the loss", linear=True),
            Parameter("R_D", 0.01, 1e4, "repeats that wear a token out", grid=fixed(4, 16, 2)),
            Parameter("R_N", 0.01, 1e4, "the same of excess parameters", grid=fixed(4, 16, 2)),
        ),
        evaluate=_repeated,
    )
)


krajewski = register(
    Law(
        name="krajewski",
        formula="-log Q = exp(a) / (N/1e9)^alpha + exp(b) / (D/1e11)^beta",
        source="Krajewski et al. 2025, arXiv 2512.08894; Q = (accuracy - chance) / (1 - chance)",
        inputs=("params", "tokens"),
        output="log_quality",
        parameters=(
            Parameter("a", -200, np.inf, "log of -log Q at 1e9 params", linear=True, log=True),
            Parameter("alpha", 0, np.inf, "exponent of N", grid=fixed(0.02, 1.4, 12)),
            Parameter("b", -200, np.inf, "log of -log Q at 1e11 tokens", linear=True, log=True),
            Parameter("beta", 0, np.inf, "exponent of D", grid=fixed(0.02, 1.4, 12)),
        ),
        evaluate=_two_powers(1e11),
    )
)

krajewski_compute = register(
    _power_law(
        "krajewski_compute",
        "C",
        "flops",
        FLOPS,
        "log_quality",
        "Krajewski et al. 2025, arXiv 2512.08894: -log Q at a fixed D / N",
    )
)
