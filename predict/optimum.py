"""What a law of N and D says is best: the split of a budget, the cheapest model for a loss."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from predict.constants import Kaplan, KaplanSteps
from predict.flops import SIX_ND, Flops
from predict.laws import Array, Law, law_inputs
from predict.valley import lowest

ROUNDS = 65
"""Golden-section steps: a bracket of 100 in logarithms shrinks to 3e-12."""

SLOPE_STEP = 2.0
"""FLOPs are multiplied and divided by this for the exponents at a budget."""


@dataclass(frozen=True)
class Surface:
    """A law of N and D with R parameter vectors, (R, p), such as a fit and its resamples."""

    law: Law
    theta: Array
    flops: Flops = SIX_ND
    unique_tokens: float | None = None
    """Distinct tokens there are, for a law that asks."""

    def loss(self, params: Array, tokens: Array) -> Array:
        """The loss (R,) of each parameter vector at its own N and D, (R,)."""
        given = {"params": params[:, None], "tokens": tokens[:, None]}
        if self.unique_tokens is not None:
            given["unique_tokens"] = np.full_like(given["tokens"], self.unique_tokens)
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            return np.asarray(self.law.evaluate(self.theta, law_inputs(self.law, given))[0][:, 0])

    def best_params(self, flops: float) -> Array:
        """N (R,) of the lowest loss for a budget; D is `flops.tokens` of it."""
        count = len(self.theta)
        high = np.full(count, math.log(self.flops.params(1.0, flops)))

        def loss(log_params: Array) -> Array:
            params = np.exp(log_params)
            return self.loss(params, self.flops.tokens(params, flops))

        return np.exp(lowest(loss, np.zeros(count), high, ROUNDS))

    def exponents(self, flops: float) -> tuple[Array, Array]:
        """How N and D grow with the budget, d log / d log C at it, (R,) each."""
        low, high = (self.best_params(c) for c in (flops / SLOPE_STEP, flops * SLOPE_STEP))
        span = 2 * math.log(SLOPE_STEP)
        tokens = self.flops.tokens(high, flops * SLOPE_STEP) / self.flops.tokens(
            low, flops / SLOPE_STEP
        )
        return np.log(high / low) / span, np.log(tokens) / span

    def tokens_for(self, params: Array, loss: float) -> Array:
        """The fewest tokens (R,) with which models of that size reach a loss; inf for none."""
        low, high = np.zeros(len(params)), np.full(len(params), 150.0)
        reached = self.loss(params, np.exp(high)) <= loss
        for _ in range(55):
            middle = (low + high) / 2
            enough = self.loss(params, np.exp(middle)) <= loss
            low, high = np.where(enough, low, middle), np.where(enough, middle, high)
        return np.where(reached, np.exp(high), np.inf)

    def cheapest(self, loss: float, served: float) -> tuple[Array, Array]:
        """N and D (R,) of the least training and serving FLOPs at that loss; inf for none.

        Training costs C(N, D), serving a third of its FLOPs a token: 6 N D + 2 N D_served
        (Sardana and Frankle 2023, arXiv 2401.00448).
        """
        count = len(self.theta)

        def log_cost(log_params: Array) -> Array:
            params = np.exp(log_params)
            tokens = self.tokens_for(params, loss)
            return np.log(self.flops.of(params, tokens + served / 3))

        # Sizes too small for the loss cost infinitely much; start from the least that can.
        least, most = np.zeros(count), np.full(count, 100.0)
        able = np.isfinite(self.tokens_for(np.exp(most), loss))
        for _ in range(60):
            middle = (least + most) / 2
            enough = np.isfinite(self.tokens_for(np.exp(middle), loss))
            least, most = np.where(enough, least, middle), np.where(enough, middle, most)
        best = np.exp(lowest(log_cost, most, most + 60, ROUNDS))
        tokens = self.tokens_for(best, loss)
        return np.where(able, best, np.inf), np.where(able, tokens, np.inf)


def chinchilla_params(theta: Array, flops: float) -> float:
    """N of the lowest loss under C = 6 N D in closed form, for `chinchilla_scaled`.

    N = G (C / 6)^(beta / (alpha + beta)), G = (alpha A / (beta B))^(1 / (alpha + beta)):
    Hoffmann et al. 2022, eq. 4.
    """
    a, alpha, b, beta = (float(x) for x in theta[:4])
    total = alpha + beta
    log_g = (math.log(alpha / beta) + a - b) / total
    return 1e9 * math.exp(log_g + beta / total * math.log(flops / 6 / 1e20))


def kaplan_steps_params(constants: KaplanSteps, flops: float) -> float:
    """N of the lowest loss for a budget spent far below the critical batch.

    Along the best runs (Sc / S)^alpha_s = alpha_n / alpha_s (Nc / N)^alpha_n, and the budget is
    6 N B_crit(L) S: Kaplan et al. 2020, appendix B.1.
    """
    c = constants
    ratio = c.alpha_n / c.alpha_s

    def log_flops(log_params: float) -> float:
        log_loss_n = c.alpha_n * (math.log(c.params) - log_params)
        log_loss = math.log1p(ratio) + log_loss_n
        log_batch = math.log(c.batch) - log_loss / c.alpha_b
        log_steps = math.log(c.steps) - (math.log(ratio) + log_loss_n) / c.alpha_s
        return math.log(6) + log_params + log_batch + log_steps

    # A straight line in logarithms, of slope 1 + alpha_n / alpha_b + alpha_n / alpha_s.
    slope = 1 + c.alpha_n / c.alpha_b + ratio
    return math.exp((math.log(flops) - log_flops(0.0)) / slope)


@dataclass(frozen=True)
class DataNeeded:
    """Tokens that keep a loss within `excess` of endless data's: factor x N^exponent."""

    excess: float
    factor: float
    exponent: float

    def tokens(self, params: float) -> float:
        """D of N."""
        return float(self.factor * params**self.exponent)


def data_needed(constants: Kaplan, excess: float = 0.02) -> DataNeeded:
    """Kaplan's bound on overfitting, from L(N, D) / L(N, inf) = 1 + excess.

    `excess` is .02 there, the run-to-run noise: Kaplan et al. 2020, section 4.2.
    """
    c = constants
    exponent = c.alpha_n / c.alpha_d
    factor = c.tokens / c.params**exponent / ((1 + excess) ** (1 / c.alpha_d) - 1)
    return DataNeeded(excess, factor, exponent)
