"""Published constants of scaling laws, in the units of the papers and as parameters of the laws.

They hold for their papers' data and tokenizers; the arithmetic on them is what carries over.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from predict.laws import Array
from predict.published_laws import FLOPS, STEPS

PF_DAY = 8.64e19
"""FLOPs of a petaflop a second for a day."""


@dataclass(frozen=True)
class Powers:
    """A compute-optimal size N = at_params (C / at_flops)^exponent, and tokens C / (6 N)."""

    name: str
    source: str
    at_flops: float
    at_params: float
    exponent: float

    def params(self, flops: float) -> float:
        """N of C."""
        return float(self.at_params * (flops / self.at_flops) ** self.exponent)


HOFFMANN_ENVELOPE = Powers(
    "hoffmann-1", "Hoffmann et al. 2022, approach 1, table 3", 5.76e23, 67e9, 0.50
)
KAPLAN_POWERS = Powers("kaplan-2020", "Kaplan et al. 2020, section 6", PF_DAY, 1.3e9, 0.73)


@dataclass(frozen=True)
class Chinchilla:
    """Constants of E + A / N^alpha + B / D^beta, loss in nats per token."""

    name: str
    source: str
    floor: float
    size_factor: float
    data_factor: float
    alpha: float
    beta: float

    def theta(self) -> Array:
        """Parameters of the law `chinchilla_scaled`."""
        return np.array(
            (
                math.log(self.size_factor) - self.alpha * math.log(1e9),
                self.alpha,
                math.log(self.data_factor) - self.beta * math.log(1e11),
                self.beta,
                self.floor,
            )
        )


HOFFMANN = Chinchilla(
    "hoffmann-3",
    "Hoffmann et al. 2022, approach 3, from the unrounded constants in its authors' plots",
    math.exp(0.5267228),
    math.exp(6.0073404),
    math.exp(6.0179186),
    0.33917084,
    0.2849083,
)
BESIROGLU = Chinchilla(
    "besiroglu-2024",
    "Besiroglu et al. 2024, arXiv 2404.10102, a replication of Hoffmann's approach 3",
    1.81686,
    482.01,
    2085.43,
    0.34781,
    0.36585,
)
MUENNIGHOFF = Chinchilla(
    "muennighoff-2023",
    "Muennighoff et al. 2023, arXiv 2305.16264, appendix A; alpha and beta held equal",
    math.exp(0.6254804),
    math.exp(6.255414),
    math.exp(7.3049974),
    0.3526596,
    0.3526596,
)
REPEATS = (15.387756, 5.309743)
"""R*_D and R*_N of Muennighoff et al. 2023, appendix A."""


@dataclass(frozen=True)
class Kaplan:
    """Constants of ((Nc / N)^(alpha_n / alpha_d) + Dc / D)^alpha_d, loss in nats per token."""

    alpha_n: float
    alpha_d: float
    params: float
    tokens: float

    def theta(self) -> Array:
        """Parameters of the law `kaplan`."""
        a = self.alpha_n * math.log(self.params / 1e9)
        return np.array(
            (a, self.alpha_n, self.alpha_d * math.log(self.tokens / 1e11) - a, self.alpha_d)
        )

    @classmethod
    def of(cls, theta: Array) -> Kaplan:
        """The constants of a fitted law `kaplan`."""
        a, alpha, r, beta = (float(x) for x in theta)
        return cls(alpha, beta, 1e9 * math.exp(a / alpha), 1e11 * math.exp((a + r) / beta))


KAPLAN = Kaplan(0.076, 0.103, 6.4e13, 1.8e13)
"""Kaplan et al. 2020, table 2, the joint fit."""


@dataclass(frozen=True)
class KaplanSteps:
    """Constants of (Nc / N)^alpha_n + (Sc / S_min)^alpha_s, and of the critical batch."""

    alpha_n: float
    alpha_s: float
    params: float
    steps: float
    batch: float = 2.1e8
    """B* of the critical batch B* / L^(1 / alpha_b), tokens."""
    alpha_b: float = 0.21

    @classmethod
    def of(cls, theta: Array) -> KaplanSteps:
        """The constants of a fitted law `kaplan_steps`, with the published critical batch."""
        a, alpha, b, beta = (float(x) for x in theta)
        return cls(alpha, beta, 1e9 * math.exp(a / alpha), STEPS * math.exp(b / beta))

    def theta(self) -> Array:
        """Parameters of the law `kaplan_steps`."""
        return np.array(
            (
                self.alpha_n * math.log(self.params / 1e9),
                self.alpha_n,
                self.alpha_s * math.log(self.steps / STEPS),
                self.alpha_s,
            )
        )


KAPLAN_STEPS = KaplanSteps(0.077, 0.76, 6.5e13, 2.1e3)
"""Kaplan et al. 2020, table 3."""

KAPLAN_N = (0.076, 8.8e13)
"""alpha_N and Nc, parameters but embeddings: Kaplan et al. 2020, eq. 1.1."""

KAPLAN_D = (0.095, 5.4e13)
"""alpha_D and Dc, tokens: Kaplan et al. 2020, eq. 1.2."""

KAPLAN_C = (0.050, 3.1e8 * PF_DAY)
"""alpha_C and Cc, FLOPs at the best size and batch: Kaplan et al. 2020, eq. 1.3."""


def power_theta(constants: tuple[float, float], unit: float) -> Array:
    """(exponent, scale) of (scale / x)^exponent as parameters of exp(a) / (x / unit)^alpha."""
    exponent, scale = constants
    return np.array((exponent * math.log(scale / unit), exponent))


UNITS = {"kaplan_n": 1e9, "kaplan_d": 1e11, "kaplan_c": FLOPS}
"""What the one-variable laws divide by."""
