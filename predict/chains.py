"""Fits the chains of a method, (params, tokens) -> feature -> accuracy, for all tasks at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from predict.fit import Fit, Prior, fit
from predict.laws import Array, Law, get_law, law_inputs
from predict.methods import Chain, Method
from predict.points import RungPoint, TaskPoints, mean_of_seeds, padded, rung_weights
from predict.refuted import refutes
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
        return self.read(params, tokens).feature

    def accuracy_at(self, feature: float) -> float | None:
        """The accuracy that goes with step 1's value, in [0, 1]; None for an LM set."""
        if self.kind != "direct" and self.step2 is None:
            return None
        return float(_accuracies([self], np.array([feature]))[0])

    def accuracy(self, params: float, tokens: float) -> float | None:
        """The chain's prediction."""
        return self.read(params, tokens).accuracy

    def feature_variance(self, params: float, tokens: float) -> float:
        """Variance of step 1's value owed to its parameters; infinite where not determined."""
        return self.read(params, tokens).feature_variance

    def accuracy_variance(self, params: float, tokens: float) -> float:
        """Variance of the prediction owed to the parameters of both steps (delta method)."""
        return self.read(params, tokens).accuracy_variance

    def read(self, params: float, tokens: float) -> Reading:
        """All of that at once."""
        return read([self], np.array([params]), np.array([tokens]))[0]


@dataclass(frozen=True)
class Reading:
    """What a chain says of one model, as ChainFit tells it one by one."""

    feature: float
    accuracy: float | None
    feature_variance: float
    accuracy_variance: float


def read(chains: Sequence[ChainFit], params: Array, tokens: Array) -> list[Reading]:
    """What each chain says of the model beside it, (C,), all in one go.

    A number does not depend on what it is read with.
    """
    alike: dict[tuple[str, str | None, bool], list[int]] = {}
    for i, chain in enumerate(chains):
        link = chain.step2.law if chain.step2 is not None else None
        alike.setdefault((chain.step1.law, link, chain.kind == "direct"), []).append(i)
    found: dict[int, Reading] = {}
    for (_, link, is_direct), group in alike.items():
        own = [chains[i] for i in group]
        scale = {"params": params[group], "tokens": tokens[group]}
        columns = [*_read(own, scale)]
        if link is None and not is_direct:
            columns[1] = [None] * len(group)
        for i, row in zip(group, zip(*columns, strict=True), strict=True):
            found[i] = Reading(*row)
    return [found[i] for i in range(len(chains))]


def _read(
    chains: Sequence[ChainFit], scale: dict[str, Array]
) -> tuple[list[float], list[float | None], list[float], list[float]]:
    """The columns of `read` for chains of one kind of step 1 and one of step 2."""
    feature, gradient = _at([c.step1 for c in chains], scale)
    variance = _variance([c.step1 for c in chains], gradient)
    accuracy, spread = np.full(len(chains), np.nan), variance
    links = [c.step2 for c in chains if c.step2 is not None]
    if links or chains[0].kind == "direct":
        accuracy = _accuracies(chains, feature)
    with np.errstate(over="ignore", invalid="ignore"):
        if links:
            width = 1e-5 * np.maximum(np.abs(feature), 1e-12)
            high, low = (_at(links, {"loss": feature + side})[0] for side in (width, -width))
            slope = (high - low) / (2 * width)
            carried = np.where(slope != 0, variance * slope * slope, 0.0)
            spread = carried + _variance(links, _at(links, {"loss": feature})[1])
        elif get_law(chains[0].step1.law).output == "log_quality":
            chance = np.array([c.chance or 0.0 for c in chains])
            spread = variance * ((1 - chance) * np.exp(-np.maximum(feature, 0.0))) ** 2
    return feature.tolist(), accuracy.tolist(), variance.tolist(), spread.tolist()


def _accuracies(chains: Sequence[ChainFit], feature: Array) -> Array:
    """The accuracy that goes with each step 1's value, (C,), in [0, 1]."""
    links = [c.step2 for c in chains if c.step2 is not None]
    if chains[0].kind == "direct":
        chance = np.array([c.chance or 0.0 for c in chains])
        values = _direct(get_law(chains[0].step1.law).output, chance, feature)
    else:
        values = _at(links, {"loss": feature})[0]
    return np.asarray(np.clip(values, 0, 1))


def fit_chain(chain: Chain, method: Method, points: dict[str, TaskPoints]) -> dict[str, ChainFit]:
    """Fit one chain to the tasks that have what it needs; the others are not in the result."""
    law = get_law(chain.law)
    usable = {
        task: rungs
        for task, found in points.items()
        if len(rungs := fitted_rungs(chain, found, method)) >= least_rungs(chain)
    }
    if not usable:
        return {}
    fits = _fit_step1(chain, law, method, usable)
    fits |= _without_priors(chain, law, method, usable, fits)
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


def fitted_rungs(chain: Chain, points: TaskPoints, method: Method) -> list[RungPoint]:
    """Those rungs, where reruns share as the mean of their seeds."""
    rungs = usable_rungs(chain, points)
    return mean_of_seeds(rungs) if method.reruns_share else rungs


def _without_priors(
    chain: Chain,
    law: Law,
    method: Method,
    usable: dict[str, list[RungPoint]],
    fits: dict[str, Fit],
) -> dict[str, Fit]:
    """Step 1 without the chain's priors, of the tasks whose own points refute them.

    A direct chain keeps its own: its law of an accuracy is none that holds exactly, and by how much
    it differs from the others is what intervals go by.
    """
    enough = {t: r for t, r in usable.items() if fits[t].finite and len(r) > law.size}
    if chain.kind == "direct" or not chain.priors or not enough:
        return {}
    free = _fit_step1(replace(chain, priors=()), law, method, enough)
    least = chain.noise[0] if chain.noise else 0.0
    known = len(chain.priors)
    return {t: f for t, f in free.items() if refutes(f, fits[t], known, least)}


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
    return _direct(get_law(chain.step1.law).output, np.array(chain.chance or 0.0), feature)


def _direct(output: str, chance: Array, feature: Array) -> Array:
    """Accuracies from what a law of such an output gives."""
    if output == "log_quality":
        with np.errstate(over="ignore"):
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


def _at(fits: Sequence[Fit], inputs: dict[str, Array]) -> tuple[Array, Array]:
    """Each fit's value at its own inputs, (C,), infinite for none; and the gradient, (C, p)."""
    law = get_law(fits[0].law)
    arrays = law_inputs(law, {name: x[:, None] for name, x in inputs.items()})
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        value, gradient = law.evaluate(np.array([f.theta for f in fits]), arrays)
    return np.where(np.isnan(value), np.inf, value)[:, 0], gradient[:, 0]


def _variance(fits: Sequence[Fit], gradient: Array) -> Array:
    """Variance of each fit's value owed to its parameters, (C,); infinite where not determined."""
    found = np.full(len(fits), np.inf)
    known = [i for i, f in enumerate(fits) if f.covariance]
    if known:
        covariance, own = np.array([fits[i].covariance for i in known]), gradient[known]
        with np.errstate(over="ignore", invalid="ignore"):
            values = (own[:, None] @ covariance @ own[..., None])[:, 0, 0]
        # Rounding may leave a little less than nothing.
        found[known] = np.where(np.isnan(values), np.inf, np.maximum(values, 0.0))
    return found
