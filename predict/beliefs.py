"""What a few rungs say of every task's laws, as plausible parameters with their covariance."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from predict.fit import Fit, fit
from predict.laws import Array, get_law
from predict.methods import get_method
from predict.points import TaskPoints, padded, rung_weights
from predict.problem import Objective, Prior

METHOD = get_method("default")
"""The method whose own chain is linearised."""

OWN = METHOD.chains[0]
LAW, LINK = get_law(OWN.law), get_law(str(OWN.link))

NOISE = 0.01
"""A rung's relative noise about step 1, before residuals say otherwise; of the published ladder's
eight tasks it is .006 to .018 (benchmarks/next_run.md)."""

NOISE_LIMITS = OWN.noise or (0.002, 0.05)
"""Least and greatest, as in the default method."""

ACCURACY_NOISE = 0.01
"""A checkpoint's distance from step 2, in accuracy, before residuals say otherwise; as much again
is common to a run's checkpoints. On the published ladder .003 to .007, and .005 to .010."""

PRIOR_POINTS = 4.0
"""Residuals that the noises before count for."""

EXPONENT_SD = OWN.priors[0].sd
"""Between tasks, about their common mean, as in the default method."""

CENTRE_SD = METHOD.centre_sd or 0.15
"""Of that mean, before any rung, as in the default method."""

PRIOR_LAW = {"a": (math.log(0.3), 1.0), "b": (math.log(0.3), 1.0), "E": (0.4, 0.3)}
"""Mean and SD of step 1's other parameters, for losses over their geometric mean and N and D over
theirs: each term about a third of the loss, uncertain by a factor of e."""

PRIOR_LINK = {"L0": (0.9, 0.3), "k": (5.0, 3.0), "b": (1.0, 0.05)}
"""Mean and SD of step 2's parameters in the same unit of loss; `a` is chance - 1, SD 0.1. Of the
published ladder's eight tasks L0 is .56 to .90, k 3.3 to 10.8 (benchmarks/next_run.md)."""

DROP_SD = 0.1

CHANCE = 0.25
"""Where the table does not say."""

LINK_STARTS = 4
"""Starts of step 2, whose prior leaves it one optimum."""

LOWEST = np.array([-20.0, 0.02, -20.0, 0.02, 0.0, -1.0, 0.05, 0.5, 0.3])
HIGHEST = np.array([20.0, 2.0, 20.0, 2.0, 5.0, -0.05, 5.0, 40.0, 1.0])
"""Limits of drawn parameters: the laws' bounds, and beyond what a ladder has shown."""

Exponents = dict[str, tuple[float, float]]
"""Mean and SD of alpha and beta."""

TRAJECTORY = (0.2, 0.4, 0.6, 0.8, 1.0)
"""Shares of a run's tokens at which step 2 sees it; more checkpoints add next to nothing, as their
common error stays."""


@dataclass(frozen=True)
class Unit:
    """What a task's numbers are divided by, so that one prior serves every task and ladder."""

    params: float
    tokens: float
    loss: float

    def inputs(self, params: Array, tokens: Array) -> list[Array]:
        """N and D as the law wants them, in its own units of 1e9 and 1e11."""
        return [params / self.params * 1e9, tokens / self.tokens * 1e11]


@dataclass(frozen=True)
class Belief:
    """One task's plausible parameters, step 1's then step 2's, and how far its points scatter."""

    task: str
    unit: Unit
    draws: Array
    """Parameters (M, p), the first the most plausible, the others drawn from the posterior."""
    prior_precision: Array
    """Of the parameters, without any rung, (p, p)."""
    noise: float
    """Of a rung's log loss."""
    accuracy_noise: tuple[float, float]
    """Of a checkpoint's accuracy, and of what a run's checkpoints have in common."""
    has_accuracy: bool
    instances: int | None = None

    def values(self, params: Array, tokens: Array) -> tuple[Array, Array]:
        """Log losses (M, n) and accuracies (M, n) of runs (n,) by every draw."""
        loss, _ = LAW.evaluate(self.draws[:, : LAW.size], self.unit.inputs(params, tokens))
        accuracy, _ = LINK.evaluate(self.draws[:, LAW.size :], [loss])
        return np.log(loss * self.unit.loss), np.clip(accuracy, 0, 1)

    def gradients(self, params: Array, tokens: Array) -> tuple[Array, Array]:
        """Gradients of log loss and accuracy in all parameters, each (M, n, p)."""
        loss, inner = LAW.evaluate(self.draws[:, : LAW.size], self.unit.inputs(params, tokens))
        link = self.draws[:, LAW.size :]
        _, outer = LINK.evaluate(link, [loss])
        width = 1e-5 * loss
        high, low = (LINK.evaluate(link, [loss + side])[0] for side in (width, -width))
        slope = (high - low) / (2 * width)
        log_loss = np.concatenate((inner / loss[..., None], np.zeros_like(outer)), axis=-1)
        accuracy = np.concatenate((slope[..., None] * inner, outer), axis=-1)
        return log_loss, accuracy

    def precision(self, points: TaskPoints | None) -> Array:
        """Precision of the parameters after the observed rungs, (M, p, p)."""
        total = np.tile(self.prior_precision, (len(self.draws), 1, 1))
        if self.has_accuracy:
            _, ideal = LINK.evaluate(self.draws[:, LAW.size :], [np.zeros(1)])
            total[:, LAW.size :, LAW.size :] += (
                np.swapaxes(ideal, -1, -2) @ ideal / (2 * ACCURACY_NOISE**2)
            )
        if points is not None:
            weights = rung_weights(points.rungs, METHOD)
            for rung, weight in zip(points.rungs, weights, strict=True):
                total = total + weight * self.information(rung.params, rung.tokens)
        return np.asarray(total)

    def information(self, params: float, tokens: float) -> Array:
        """What a run of that size and length adds to the precision, (M, p, p)."""
        end, _ = self.gradients(np.array([params]), np.array([tokens]))
        found = np.swapaxes(end, -1, -2) @ end / self.noise**2
        if not self.has_accuracy:
            return np.asarray(found)
        shares = np.array(TRAJECTORY)
        # What a checkpoint says of step 2 it says at the loss that was measured, not predicted.
        loss, _ = LAW.evaluate(
            self.draws[:, : LAW.size],
            self.unit.inputs(np.full(len(shares), params), tokens * shares),
        )
        _, link = LINK.evaluate(self.draws[:, LAW.size :], [loss])
        own, common = self.accuracy_noise
        weight = np.linalg.inv(own**2 * np.eye(len(shares)) + common**2)
        found[..., LAW.size :, LAW.size :] += np.swapaxes(link, -1, -2) @ weight @ link
        return np.asarray(found)


def believe(
    points: Mapping[str, TaskPoints],
    about: Mapping[str, tuple[float | None, int | None]],
    candidates: Sequence[tuple[float, float]],
    draws: int,
    seed: int,
) -> list[Belief]:
    """Every task's belief; a single one, of a task called `prior`, where there are no points.

    `about` holds a task's chance and number of items. `candidates` are (params, tokens) of runs
    not trained yet, which set the units where no run is.
    """
    generator = np.random.default_rng(seed)
    runs = [(r.params, r.tokens) for p in points.values() for r in p.rungs] or list(candidates)
    params, tokens = (float(np.exp(np.log(column).mean())) for column in zip(*runs, strict=True))
    if not points:
        prior = _joint_prior(_centred(0.3, 0.3, CENTRE_SD, CENTRE_SD), None)
        return [_prior_belief(Unit(params, tokens, 1.0), prior, draws, generator)]
    units = {
        task: Unit(params, tokens, float(np.exp(np.log([r.loss for r in own.rungs]).mean())))
        for task, own in points.items()
    }
    exponents = _exponents(points, units)
    fits = _step1(
        [
            [(r.params, r.tokens, r.loss / units[t].loss) for r in p.rungs]
            for t, p in points.items()
        ],
        [rung_weights(p.rungs, METHOD) for p in points.values()],
        next(iter(units.values())),
        exponents,
    )
    priors = {task: _joint_prior(exponents, about[task][0]) for task in points}
    links = _step2(points, units, priors)
    found = []
    for (task, own), law_fit in zip(points.items(), fits, strict=True):
        freedom = sum(rung_weights(own.rungs, METHOD)) - 4
        link = (priors[task].mean[LAW.size :], (ACCURACY_NOISE, ACCURACY_NOISE))
        theta, accuracy_noise = links.get(task, link)
        plausible = Belief(
            task,
            units[task],
            np.concatenate((law_fit.theta, theta))[None],
            np.diag(priors[task].sd ** -2.0),
            float(np.clip(shrunk(law_fit.noise, freedom, NOISE), *NOISE_LIMITS)),
            accuracy_noise,
            has_accuracy=task in links,
            instances=about[task][1],
        )
        found.append(_drawn(plausible, own, draws, generator))
    return found


def _prior_belief(unit: Unit, prior: Prior, draws: int, generator: np.random.Generator) -> Belief:
    empty = Belief(
        "prior",
        unit,
        prior.mean[None],
        np.diag(prior.sd**-2.0),
        NOISE,
        (ACCURACY_NOISE, ACCURACY_NOISE),
        has_accuracy=True,
    )
    return _drawn(empty, None, draws, generator)


def _drawn(
    belief: Belief, points: TaskPoints | None, draws: int, generator: np.random.Generator
) -> Belief:
    """The belief with draws from its posterior beside the most plausible parameters."""
    covariance = np.linalg.inv(belief.precision(points)[0])
    root = np.linalg.cholesky((covariance + covariance.T) / 2)
    centre = belief.draws[0]
    others = centre + generator.standard_normal((draws - 1, len(centre))) @ root.T
    return replace(belief, draws=np.vstack((centre, np.clip(others, LOWEST, HIGHEST))))


def shrunk(found: float, freedom: float, before: float) -> float:
    """A standard deviation found with so many degrees of freedom, with PRIOR_POINTS of another."""
    freedom = max(freedom, 0.0)
    total = PRIOR_POINTS * before**2 + freedom * found**2
    return math.sqrt(total / (PRIOR_POINTS + freedom))


def _exponents(points: Mapping[str, TaskPoints], units: Mapping[str, Unit]) -> Exponents:
    """Where the tasks' exponents are and how far they may lie from it, see CENTRE_SD.

    From the mean log loss of all tasks over the runs that each of them measured.
    """
    wide = _centred(OWN.priors[0].mean, OWN.priors[1].mean, CENTRE_SD, CENTRE_SD)
    runs = set.intersection(*({r.run for r in p.rungs} for p in points.values()))
    if not runs:
        return wide
    logs: dict[tuple[float, float, str], list[float]] = {}
    for task, own in points.items():
        for rung in own.rungs:
            if rung.run in runs:
                key = (rung.params, rung.tokens, rung.run)
                logs.setdefault(key, []).append(math.log(rung.loss / units[task].loss))
    (found,) = _step1(
        [[(n, d, math.exp(np.mean(v))) for (n, d, _), v in logs.items()]],
        [[1.0] * len(logs)],
        next(iter(units.values())),
        wide,
    )
    spread = np.sqrt(np.diag(np.array(found.covariance))) if found.covariance else [CENTRE_SD] * 5
    alpha, beta = (
        math.hypot(EXPONENT_SD, min(float(spread[LAW.names.index(name)]), CENTRE_SD))
        for name in ("alpha", "beta")
    )
    return _centred(found.parameters["alpha"], found.parameters["beta"], alpha, beta)


def _centred(alpha: float, beta: float, alpha_sd: float, beta_sd: float) -> Exponents:
    return {"alpha": (alpha, alpha_sd), "beta": (beta, beta_sd)}


def _joint_prior(exponents: Exponents, chance: float | None) -> Prior:
    """The prior of both steps' parameters, in the laws' order."""
    floor = CHANCE if chance is None else chance
    known = PRIOR_LAW | exponents
    link = PRIOR_LINK | {"a": (floor - 1, DROP_SD)}
    pairs = np.array([known[n] for n in LAW.names] + [link[n] for n in LINK.names])
    return Prior(pairs[:, 0], pairs[:, 1])


def _step1(
    rungs: Sequence[Sequence[tuple[float, float, float]]],
    weights: Sequence[Sequence[float]],
    unit: Unit,
    exponents: Exponents,
) -> list[Fit]:
    """Step 1 of many tasks, each a list of (params, tokens, loss in its unit)."""
    columns = [padded([[row[i] for row in task] for task in rungs]) for i in range(3)]
    params, tokens, values = (np.where(np.isfinite(x), x, x[:, :1]) for x in columns)
    prior = _joint_prior(exponents, None)
    return fit(
        LAW,
        unit.inputs(params, tokens),
        values,
        OWN.objective,
        weights=np.nan_to_num(padded(weights)),
        noise=NOISE_LIMITS,
        prior=Prior(prior.mean[: LAW.size], prior.sd[: LAW.size]),
    )


def _step2(
    points: Mapping[str, TaskPoints], units: Mapping[str, Unit], priors: Mapping[str, Prior]
) -> dict[str, tuple[Array, tuple[float, float]]]:
    """Every task's step 2: its most plausible parameters, the noises of a checkpoint and a run."""
    seen = {t: _pieces(p, units[t]) for t, p in points.items() if len(p.link_loss)}
    # One fit takes one prior: tasks of one chance are fitted together.
    alike: dict[float, list[str]] = {}
    for task in seen:
        alike.setdefault(float(priors[task].mean[LAW.size]), []).append(task)
    noise = math.sqrt(2) * ACCURACY_NOISE
    found = {}
    for tasks in alike.values():
        # The ideal point comes first, a padded point repeats it with no weight.
        losses = padded([np.r_[0.0, seen[t][0]] for t in tasks])
        accuracies = padded([np.r_[1.0, seen[t][1]] for t in tasks])
        prior = priors[tasks[0]]
        fits = fit(
            LINK,
            [np.nan_to_num(losses)],
            np.nan_to_num(accuracies, nan=1.0),
            Objective(),
            weights=np.isfinite(losses).astype(float),
            starts=LINK_STARTS,
            noise=(noise, noise),
            prior=Prior(prior.mean[LAW.size :], prior.sd[LAW.size :]),
        )
        for task, law_fit in zip(tasks, fits, strict=True):
            found[task] = law_fit.theta, _noises(law_fit, *seen[task])
    return found


def _pieces(points: TaskPoints, unit: Unit) -> tuple[Array, Array, NDArray[np.intp]]:
    """Step 2's points, as many a run as TRAJECTORY has: mean losses, accuracies, and which run."""
    losses, accuracies, runs = [], [], []
    for run in np.unique(points.link_rung):
        own = np.flatnonzero(points.link_rung == run)
        for piece in np.array_split(own, min(len(TRAJECTORY), len(own))):
            losses.append(points.link_loss[piece].mean() / unit.loss)
            accuracies.append(points.link_accuracy[piece].mean())
            runs.append(run)
    return np.array(losses), np.array(accuracies), np.array(runs)


def _noises(
    law_fit: Fit, losses: Array, accuracies: Array, runs: NDArray[np.intp]
) -> tuple[float, float]:
    """How far checkpoints lie from their run's mean residual, and those means from the law."""
    left = accuracies - LINK.evaluate(law_fit.theta, [losses])[0]
    names, which = np.unique(runs, return_inverse=True)
    means = np.bincount(which, left) / np.bincount(which)
    inside, between = len(left) - len(names), len(names) - LINK.size
    own = _rms(left - means[which], inside)
    return (
        shrunk(own, inside, ACCURACY_NOISE),
        shrunk(_rms(means, between), between, ACCURACY_NOISE),
    )


def _rms(residuals: Array, freedom: int) -> float:
    return math.sqrt(float((residuals**2).sum()) / max(freedom, 1))
