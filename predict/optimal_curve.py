"""The compute-optimal N and D for every budget, by approach 3, from losses already fitted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evaluation.records import InputError
from predict.fit import Objective, fit, with_resamples
from predict.laws import Array, get_law, law_inputs
from predict.optimum import Surface
from predict.points import RungPoint

LAW = "chinchilla_scaled"
OBJECTIVE = Objective(delta=1e-3, log=True)
"""Of the fit: Hoffmann et al. 2022, section 3.3."""

LEAST_SIZES = 3
"""Sizes without which no split of compute can be told."""

LEAST_SPREAD = 1.1
"""Ratio of the most tokens a parameter to the least below which N and D cannot be told apart."""

BUDGETS = 33
"""Points of the curve."""


@dataclass(frozen=True)
class OptimalCurve:
    """The best size for each budget by 6 N D, with the middle 80% of resampled rungs."""

    flops: Array
    """Budgets, (n,)."""
    params: Array
    """Of the fitted law, (n,)."""
    lower80: Array
    upper80: Array
    exponent: float
    """d log N / d log C."""
    exponent80: tuple[float, float]
    rms: float
    """Relative, of the rungs about the law."""
    certificate: str

    @property
    def tokens(self) -> Array:
        """The tokens that go with each size, C / 6 N."""
        return np.asarray(self.flops / 6 / self.params)


def optimal_curve(
    rungs: Sequence[RungPoint], most: float, replicates: int = 100, seed: int = 0
) -> OptimalCurve:
    """Fit L(N, D) = A / N^alpha + B / D^beta + E to the rungs' losses and minimise along C = 6 N D.

    Budgets go from the ladder's least to `most` FLOPs; whole rungs are drawn again for the
    intervals. Raises InputError, saying why, where the rungs do not determine the law.
    """
    params, tokens, losses = (
        np.array([getattr(r, name) for r in rungs]) for name in ("params", "tokens", "loss")
    )
    _check(params, tokens)
    law = get_law(LAW)
    inputs = law_inputs(law, {"params": params, "tokens": tokens})
    (found,) = fit(law, [x[None] for x in inputs], losses[None], OBJECTIVE)
    if not found.determined:
        raise InputError(found.doubt)
    counts = np.random.default_rng(seed).multinomial(
        len(losses), np.full(len(losses), 1 / len(losses)), size=replicates
    )
    theta = with_resamples(law, inputs, losses, OBJECTIVE, counts, found.theta)
    flops = np.geomspace((6 * params * tokens).min(), most, BUDGETS)
    surface = Surface(law, theta)
    sizes = np.array([surface.best_params(c) for c in flops])
    if not (sizes[:, 0] > 2).all() or not (flops / 6 / sizes[:, 0] > 2).all():
        raise InputError("the fitted law has no best size: an exponent is nearly 0")
    slopes, _ = surface.exponents(float(np.sqrt(flops[0] * flops[-1])))
    rest = slice(1, None) if len(theta) > 2 else slice(None)
    lower, upper = np.quantile(sizes[:, rest], (0.1, 0.9), axis=1)
    low, high = np.quantile(slopes[rest], (0.1, 0.9))
    return OptimalCurve(
        flops=flops,
        params=sizes[:, 0],
        lower80=lower,
        upper80=upper,
        exponent=float(slopes[0]),
        exponent80=(float(low), float(high)),
        rms=found.relative_rms,
        certificate="; ".join(filter(None, (found.values(), found.certificate(), found.doubt))),
    )


def _check(params: Array, tokens: Array) -> None:
    sizes = len({round(float(np.log(n)), 2) for n in params})
    if sizes < LEAST_SIZES:
        raise InputError(f"the rungs have {sizes} sizes, and a split needs {LEAST_SIZES}")
    ratios = tokens / params
    if ratios.max() < LEAST_SPREAD * ratios.min():
        raise InputError(
            f"every rung has {ratios[0]:.3g} tokens a parameter, so that N and D cannot be told "
            "apart"
        )
