"""Fits the chains of a method, (params, tokens) -> feature -> accuracy, for all tasks at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from predict.fit import Fit, Prior, fit
from predict.laws import Array, Law, get_law, law_inputs
from predict.methods import Chain, Method
from predict.points import RungPoint, TaskPoints, mean_of_seeds, padded, rung_weights
from predict.shared import WEAK

MISFIT = 1.5
"""Step 2's rms on the shared loss, over that on the own loss, above which the shared loss does not
stand for the task's: 0.7 to 1.1 on the tasks of the published ladder."""

SURE = 1e-4
"""Least error rate that a direct chain sees; a law of logarithms has no place for none."""


LEAST_QUALITY = 0.05
"""Share of the way from chance to 1 below which a rung's -log Q is mostly noise, and left out."""


@dataclass(frozen=True)
class ChainFit:
    """One chain fitted to one task."""

    kind: str
    step1: Fit
    step2: Fit | None
    """None for a direct chain, and for a task without an accuracy."""
    chance: float | None = None
    """Accuracy of guessing, for a direct chain through -log Q."""

    def feature(self, params: float, tokens: float) -> float:
        """What step 1 predicts: a loss, or what a direct chain's law is fitted to."""
        return _at(self.step1, **_scale(params, tokens))[0]

    def accuracy_at(self, feature: float) -> float | None:
        """The accuracy that goes with step 1's value, in [0, 1]; None for an LM set."""
        if self.kind == "direct":
            value = float(direct_accuracy(self, np.array(feature)))
        elif self.step2 is None:
            return None
        else:
            value = _at(self.step2, loss=feature)[0]
        return float(np.clip(value, 0, 1))

    def accuracy(self, params: float, tokens: float) -> float | None:
        """The chain's prediction."""
        return self.accuracy_at(self.feature(params, tokens))

    def feature_variance(self, params: float, tokens: float) -> float:
        """Variance of step 1's value owed to its parameters; infinite where not determined."""
        return _variance(self.step1, _at(self.step1, **_scale(params, tokens))[1])

    def accuracy_variance(self, params: float, tokens: float) -> float:
        """Variance of the prediction owed to the parameters of both steps (delta method)."""
        spread = self.feature_variance(params, tokens)
        feature = self.feature(params, tokens)
        if self.step2 is None:
            if get_law(self.step1.law).output == "log_quality":
                spread *= ((1 - (self.chance or 0.0)) * math.exp(-max(feature, 0.0))) ** 2
            return spread
        width = 1e-5 * max(abs(feature), 1e-12)
        high, low = (_at(self.step2, loss=feature + side)[0] for side in (width, -width))
        slope = (high - low) / (2 * width)
        carried = spread * slope * slope if slope else 0.0
        return carried + _variance(self.step2, _at(self.step2, loss=feature)[1])


def fit_chain(chain: Chain, method: Method, points: dict[str, TaskPoints]) -> dict[str, ChainFit]:
    """Fit one chain to the tasks that have what it needs; the others are not in the result."""
    law = get_law(chain.law)
    usable = {
        task: rungs
        for task, found in points.items()
        if len(rungs := _fitted_rungs(chain, found, method)) >= least_rungs(chain)
    }
    if not usable:
        return {}
    fits = _fit_step1(chain, law, method, usable)
    usable = {task: rungs for task, rungs in usable.items() if fits[task].finite}
    links: dict[str, Fit] = {}
    if chain.link is not None:
        links = _fit_step2(get_law(chain.link), method, {t: points[t] for t in usable})
    return {
        task: ChainFit(chain.kind, fits[task], links.get(task), rungs[0].chance)
        for task, rungs in usable.items()
    }


def who_votes(chains: Sequence[ChainFit], strength: float) -> tuple[str, ...]:
    """Kinds of the chains whose median predicts a task, of those that could.

    An own loss that moves by less than WEAK times its noise has no vote beside others; a shared
    one whose step 2 fits worse than the own one's has none either, and then, as a median wants
    three, nor has the direct chain, which is the worse of two.
    """
    by_kind = {chain.kind: chain for chain in chains}
    own, shared = by_kind.get("own"), by_kind.get("shared")
    if own is None or len(by_kind) == 1:
        return tuple(by_kind)
    if strength < WEAK:
        return tuple(kind for kind in by_kind if kind != "own")
    fits_as_well = (
        shared is not None
        and shared.step2 is not None
        and own.step2 is not None
        and shared.step2.relative_rms <= MISFIT * own.step2.relative_rms
    )
    return tuple(by_kind) if fits_as_well else ("own",)


def least_rungs(chain: Chain) -> int:
    """How many rungs a chain needs: one a parameter of step 1 that no prior speaks about."""
    return len(get_law(chain.law).parameters) - len(chain.priors)


def least_checkpoints(chain: Chain, method: Method) -> int:
    """How many checkpoints with an accuracy a chain's step 2 needs."""
    if chain.link is None:
        return 0
    return len(get_law(chain.link).parameters) - method.ideal_point


def usable_rungs(chain: Chain, points: TaskPoints) -> list[RungPoint]:
    """The rungs that a chain is fitted to."""
    if chain.kind != "direct":
        return list(points.rungs)
    rungs = [rung for rung in points.rungs if rung.accuracy is not None]
    if get_law(chain.law).output != "log_quality":
        return rungs
    return [rung for rung in rungs if (quality(rung) or 0.0) > LEAST_QUALITY]


def _fitted_rungs(chain: Chain, points: TaskPoints, method: Method) -> list[RungPoint]:
    rungs = usable_rungs(chain, points)
    return mean_of_seeds(rungs) if method.reruns_share else rungs


def _fit_step1(
    chain: Chain, law: Law, method: Method, usable: dict[str, list[RungPoint]]
) -> dict[str, Fit]:
    # A shared feature is the same for every task: problems that are equal are fitted once.
    keys = {
        task: tuple(
            (r.params, r.tokens, direct_value(chain, r) if chain.kind == "direct" else r.loss)
            for r in rungs
        )
        for task, rungs in usable.items()
    }
    first = {key: task for task, key in reversed(keys.items())}
    params, tokens, values = (padded([[row[i] for row in key] for key in first]) for i in range(3))
    weights = padded([rung_weights(usable[task], method) for task in first.values()])
    # A padded point repeats the first with no weight.
    filled = [np.where(np.isfinite(x), x, x[:, :1]) for x in (params, tokens, values)]
    fits = fit(
        law,
        law_inputs(law, {"params": filled[0], "tokens": filled[1]}),
        filled[2],
        chain.objective,
        weights=np.nan_to_num(weights),
        noise=chain.noise,
        prior=prior_of(chain, law),
    )
    by_key = dict(zip(first, fits, strict=True))
    return {task: by_key[key] for task, key in keys.items()}


def direct_value(chain: Chain, rung: RungPoint) -> float:
    """What a direct chain's law is fitted to: the accuracy, -log Q, or the error rate."""
    accuracy = rung.accuracy if rung.accuracy is not None else math.nan
    output = get_law(chain.law).output
    if output == "log_quality":
        return max(-math.log(quality(rung) or math.nan), SURE)
    return max(accuracy if output == "accuracy" else 1 - accuracy, SURE)


def quality(rung: RungPoint) -> float | None:
    """Q, the accuracy rescaled so that guessing has 0; None without a chance or an accuracy."""
    if rung.accuracy is None or rung.chance is None or rung.chance >= 1:
        return None
    return (rung.accuracy - rung.chance) / (1 - rung.chance)


def direct_accuracy(chain: ChainFit, feature: Array) -> Array:
    """The accuracies that go with what a direct chain's law gives, not yet cut at 0 and 1."""
    output = get_law(chain.step1.law).output
    if output == "log_quality":
        chance = chain.chance or 0.0
        return np.asarray(chance + (1 - chance) * np.exp(-feature))
    return feature if output == "accuracy" else 1 - feature


def prior_of(chain: Chain, law: Law) -> Prior:
    """The priors of a chain in the order of its law's parameters."""
    mean, sd = np.zeros(len(law.parameters)), np.full(len(law.parameters), np.inf)
    for prior in chain.priors:
        index = law.names.index(prior.parameter)
        mean[index], sd[index] = prior.mean, prior.sd
    return Prior(mean, sd)


def _fit_step2(law: Law, method: Method, points: dict[str, TaskPoints]) -> dict[str, Fit]:
    ideal = [[0.0], [1.0]] if method.ideal_point else [[], []]
    chosen = [t for t, p in points.items() if len(p.link_loss) + len(ideal[0]) >= law.size]
    if not chosen:
        return {}
    losses = padded([np.r_[points[t].link_loss, ideal[0]] for t in chosen])
    accuracies = padded([np.r_[points[t].link_accuracy, ideal[1]] for t in chosen])
    # The ideal point is a cluster of its own.
    clusters = padded([np.r_[points[t].link_rung, [-1.0] * len(ideal[0])] for t in chosen])
    weights = np.isfinite(losses).astype(float)
    # A padded point repeats the task's first, so that grids see only real losses.
    losses = np.where(weights > 0, losses, losses[:, :1])
    accuracies = np.where(weights > 0, accuracies, accuracies[:, :1])
    fits = fit(
        law,
        [losses],
        accuracies,
        method.step2,
        weights=weights,
        clusters=np.nan_to_num(clusters, nan=-2).astype(np.intp),
    )
    return {task: found for task, found in zip(chosen, fits, strict=True) if found.finite}


def _scale(params: float, tokens: float) -> dict[str, float]:
    return {"params": params, "tokens": tokens}


def _at(law_fit: Fit, **inputs: float) -> tuple[float, Array]:
    law = get_law(law_fit.law)
    arrays = law_inputs(law, {name: np.array([x], dtype=float) for name, x in inputs.items()})
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        value, gradient = law.evaluate(law_fit.theta, arrays)
    return math.inf if math.isnan(value[0]) else float(value[0]), gradient[0]


def _variance(law_fit: Fit, gradient: Array) -> float:
    if not law_fit.covariance:
        return math.inf
    with np.errstate(over="ignore", invalid="ignore"):
        found = float(gradient @ np.array(law_fit.covariance) @ gradient)
    # Rounding may leave a little less than nothing.
    return math.inf if math.isnan(found) else max(found, 0.0)
