"""What a few rungs say of every task's laws, as plausible parameters with their covariance."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

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
eight tasks it is .005 to .021 (benchmarks/next_run.md)."""

NOISE_LIMITS = OWN.noise or (0.002, 0.05)
"""Least and greatest, as in the default method."""

ACCURACY_NOISE = 0.01
"""A checkpoint's distance from step 2, in accuracy, before residuals say otherwise; as much again
is common to a run's checkpoints."""

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
published ladder's eight tasks L0 is .60 to .97, k 3.4 to 9.8 (benchmarks/next_run.md)."""

DROP_SD = 0.1

CHANCE = 0.25
"""Where the table does not say."""

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
    return [
        _belief(
            task,
            units[task],
            _joint_prior(exponents, about[task][0]),
            law_fit,
            points[task],
            about[task][1],
            draws,
            generator,
        )
        for task, law_fit in zip(points, fits, strict=True)
    ]


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


def _belief(
    task: str,
    unit: Unit,
    prior: Prior,
    step1: Fit,
    points: TaskPoints,
    instances: int | None,
    draws: int,
    generator: np.random.Generator,
) -> Belief:
    link, noise = prior.mean[LAW.size :], (ACCURACY_NOISE, ACCURACY_NOISE)
    if len(points.link_loss):
        link, noise = _step2(points, unit, prior)
    weight = sum(rung_weights(points.rungs, METHOD))
    plausible = Belief(
        task,
        unit,
        np.concatenate((step1.theta, link))[None],
        np.diag(prior.sd**-2.0),
        float(np.clip(shrunk(step1.noise, weight - 4, NOISE), *NOISE_LIMITS)),
        noise,
        has_accuracy=bool(len(points.link_loss)),
        instances=instances,
    )
    return _drawn(plausible, points, draws, generator)


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


def _step2(points: TaskPoints, unit: Unit, prior: Prior) -> tuple[Array, tuple[float, float]]:
    """Step 2's most plausible parameters, and the noises of a checkpoint and of a run."""
    pieces = len(TRAJECTORY)
    losses, accuracies, runs = [], [], []
    for run in np.unique(points.link_rung):
        own = points.link_rung == run
        for loss, accuracy in zip(
            np.array_split(points.link_loss[own] / unit.loss, pieces),
            np.array_split(points.link_accuracy[own], pieces),
            strict=True,
        ):
            if len(loss):
                losses.append(float(loss.mean()))
                accuracies.append(float(accuracy.mean()))
                runs.append(int(run))
    noise = math.sqrt(2) * ACCURACY_NOISE
    (found,) = fit(
        LINK,
        [np.array([[*losses, 0.0]])],
        np.array([[*accuracies, 1.0]]),
        Objective(),
        noise=(noise, noise),
        prior=Prior(prior.mean[LAW.size :], prior.sd[LAW.size :]),
    )
    value, _ = LINK.evaluate(found.theta, [np.array(losses)])
    left, which = np.array(accuracies) - value, np.array(runs)
    means = np.array([left[which == run].mean() for run in dict.fromkeys(runs)])
    inside = left - means[np.unique(which, return_inverse=True)[1]]
    count = len(means)
    own_noise = shrunk(_rms(inside, len(left) - count), len(left) - count, ACCURACY_NOISE)
    common = shrunk(_rms(means, count - LINK.size), count - LINK.size, ACCURACY_NOISE)
    return found.theta, (own_noise, common)


def _rms(residuals: Array, freedom: int) -> float:
    return math.sqrt(float((residuals**2).sum()) / max(freedom, 1))
