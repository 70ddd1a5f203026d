"""Two recipes' fitted ladders on one task -> the gap between them at a target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from predict.fit import Fit
from predict.laws import Array, get_law
from predict.paired import Gap, Places, Runs, posterior, without_each
from predict.points import NEAR
from predict.schedule_gap import accuracies_along
from predict.task_fit import Target, TaskFit

LAWS = ("chinchilla", "chinchilla_scaled")
"""Step-1 laws whose parameters a gap is made of."""

PARAMETERS = ("a", "alpha", "b", "beta", "E")
"""What a recipe changes: logs of the losses owed to 1e9 params and to 1e11 tokens, their exponents,
and the irreducible loss."""

CHANGES = np.array([1.0, 0.25, 1.0, 0.25, 0.3])
"""How much recipes differ in each of PARAMETERS, relative to one another; E's in units of the
least loss. Tuned in benchmarks/compare.py, seeds apart from those reported."""

DRIFT = 0.03
"""How much a gap may drift per e-fold of params and of tokens for no reason that the law knows,
in the same units; likewise tuned."""

SCALES = np.geomspace(0.002, 0.4, 9)
"""Sizes of a difference between recipes that are thought possible: from none to half the loss."""

FORM = 0.3
"""Error of a gap's form, per change of the log gap from the costliest rung to the target: chosen on
the real ladder's tasks as if recipes, at 3B-10xC (benchmarks/compare.py real)."""

SHAPE = np.array([1.0, 0.15, 1.0, 0.15, 1.0])
"""How far the shared curve may be off, in each of PARAMETERS; wide."""

LINK_SCALES = np.geomspace(0.006, 0.3, 7)
"""Sizes of a difference between the recipes' step 2, as a shift of the log loss."""

LINK_DRIFT = 0.6
"""How much such a shift may change per e-fold of compute over LINK_FOLDS, in units of it."""

LINK_FOLDS = 2.0

LINK_OFFSET = 0.3
"""What is added to the accuracy itself, in units of the shift: items that one recipe knows."""

LINK_SHAPE = (0.05, 0.05, 0.02)
"""How far the shared accuracy curve may be off: log loss, its drift, and accuracy."""

WIDEN = 1.2
"""What the standard deviation of an accuracy's gap is multiplied by, for the slope of the accuracy,
which is taken as known."""

STEP = 0.1
"""Change of log params and log tokens from which the slope of the accuracy is taken."""

LEAST_SLOPE = 0.02
"""Accuracy per log loss that a saturated curve still has."""

WEAK_SLOPE = 0.05
"""Log loss that an e-fold of compute stands for where the task's own loss says nothing."""


@dataclass(frozen=True)
class Lean:
    """The rung that a gap of losses at the target depends on most."""

    params: float
    tokens: float
    without: float
    """The gap of log losses had neither recipe been run there."""
    shift: float
    """How far that is away, in standard deviations of the gap."""


@dataclass(frozen=True)
class TaskGap:
    """The gap of one task, first recipe minus second, at the target and at the runs."""

    task: str
    loss: Gap
    """Of log losses; the places are the runs, the target, PARAMETERS."""
    accuracy: Gap | None
    """At the target; None for a task without one."""
    log_loss: float
    """The shared curve's at the target."""
    shared_accuracy: float
    """The shared curve's at the target, NaN without one."""
    runs: Runs
    accuracy_runs: Runs | None
    lean: Lean

    @property
    def target(self) -> int:
        """The target's place in the gap of losses."""
        return len(self.runs.values)

    @property
    def loss_only(self) -> Gap:
        """The gap of log losses at the target alone."""
        return self._part(slice(self.target, self.target + 1))

    @property
    def parameters(self) -> Gap:
        """The differences of PARAMETERS."""
        return self._part(slice(self.target + 1, None))

    def _part(self, part: slice) -> Gap:
        gap = self.loss
        return Gap(gap.weights, gap.means[:, part], gap.covariances[:, part, part], gap.noises)


def task_gap(one: TaskFit, two: TaskFit, target: Target) -> TaskGap:
    """The gap between two recipes on one task; their step 1 must be one of LAWS."""
    fits = (one, two)
    thetas = [scaled(f.step1) for f in fits]
    rungs = _rungs(fits, accuracy=False)
    params, tokens = np.r_[rungs.params, target.params], np.r_[rungs.tokens, target.tokens]
    curve, basis, gradient = _loss_basis(thetas, params, tokens)
    count, size = len(rungs.params), len(PARAMETERS)
    changes = _changes(curve[:-1])
    nothing = np.zeros(count + 1)
    runs = rungs.runs(curve, basis, gradient * SHAPE, nothing, np.outer(nothing, nothing))
    asked = np.r_[basis, np.c_[np.diag(changes), np.zeros((size, basis.shape[1] - size))]]
    gap = posterior(runs, _places(asked, count), SCALES)
    top = int((rungs.params * rungs.tokens).argmax())
    moved = float(gap.mean[count] - gap.mean[top])
    covariances = gap.covariances.copy()
    covariances[:, count, count] += (FORM * moved) ** 2
    gap = replace(gap, covariances=covariances)
    which, without = without_each(runs, _places(basis[-1:], count), SCALES)
    shifts = np.abs(without[:, 0] - gap.mean[count]) / np.sqrt(gap.covariance[count, count])
    most = int(shifts.argmax())
    lean = np.flatnonzero(runs.rung == which[most])[0]
    found = _accuracy_gap(fits, thetas, target, gap, np.log(np.c_[params, tokens]))
    return TaskGap(
        task=one.task,
        loss=gap,
        accuracy=found[0] if found else None,
        log_loss=float(curve[-1]),
        shared_accuracy=found[1] if found else float("nan"),
        runs=runs,
        accuracy_runs=found[2] if found else None,
        lean=Lean(
            float(params[lean]), float(tokens[lean]), float(without[most, 0]), float(shifts[most])
        ),
    )


def _places(basis: Array, runs: int) -> Places:
    """Places of which nothing is known before so many runs are seen."""
    many = len(basis)
    return Places(basis, np.zeros(many), np.zeros((many, many)), np.zeros((many, runs)))


def scaled(fit: Fit) -> Array:
    """PARAMETERS of a fit of one of LAWS."""
    a, alpha, b, beta, floor = (fit.parameters[name] for name in PARAMETERS)
    if fit.law == "chinchilla":
        a, b = a - alpha * np.log(1e9), b - beta * np.log(1e11)
    return np.array([a, alpha, b, beta, floor])


def shared_log_loss(thetas: Sequence[Array], params: Array, tokens: Array) -> tuple[Array, Array]:
    """The mean of the recipes' log losses (n,), and its gradient (n, 5) in PARAMETERS."""
    law = get_law("chinchilla_scaled")
    values = [law.evaluate(theta, [params, tokens]) for theta in thetas]
    curve = np.mean([np.log(value) for value, _ in values], axis=0)
    gradient = np.mean([slope / value[:, None] for value, slope in values], axis=0)
    return np.asarray(curve), np.asarray(gradient)


def shared_accuracy(fits: Sequence[TaskFit], params: Array, tokens: Array) -> Array:
    """The mean over recipes of the median of the chains that vote, (n,)."""
    return np.asarray(np.mean([accuracies_along(f, params, tokens) for f in fits], axis=0))


def _loss_basis(
    thetas: Sequence[Array], params: Array, tokens: Array
) -> tuple[Array, Array, Array]:
    """The shared curve, the gap's basis and the law's gradient; the last place is the target."""
    curve, gradient = shared_log_loss(thetas, params, tokens)
    away = [np.log(x) - np.log(x[:-1]).mean() for x in (params, tokens)]
    basis = np.c_[gradient * _changes(curve[:-1]), DRIFT * np.stack(away, axis=-1)]
    return curve, basis, gradient


def _changes(curve: Array) -> Array:
    return np.asarray(CHANGES * [1, 1, 1, 1, np.exp(curve.min())])


@dataclass(frozen=True)
class _Rungs:
    """Both recipes' rungs, one entry for all runs that a recipe has of one."""

    params: Array
    tokens: Array
    measured: Array
    count: Array
    within: float
    freedom: float
    side: Array
    rung: NDArray[np.intp]

    def runs(self, curve: Array, basis: Array, shape: Array, mean: Array, known: Array) -> Runs:
        """About a curve; every array has the target behind the rungs."""
        left = self.measured - curve[:-1]
        return Runs(
            left,
            self.count,
            self.within,
            self.freedom,
            self.side,
            self.rung,
            basis[:-1],
            shape[:-1],
            mean[:-1],
            known[:-1, :-1],
        )


def _rungs(fits: Sequence[TaskFit], accuracy: bool) -> _Rungs:
    """The log losses of every rung, or the accuracies of those that have one."""
    runs = [
        (r.params, r.tokens, sign, r.accuracy if accuracy else np.log(r.loss), _number(r.seed))
        for fitted, sign in zip(fits, (1.0, -1.0), strict=True)
        for r in fitted.rungs
        if not accuracy or r.accuracy is not None
    ]
    params, tokens, side, measured, seed = np.array(runs, dtype=float).T
    place = np.log(np.c_[params, tokens])
    near = (np.abs(place[:, None] - place) < NEAR).all(axis=-1)
    rung = near.argmax(axis=-1)
    _, first, which = np.unique(np.c_[side, rung], axis=0, return_index=True, return_inverse=True)
    which = which.ravel()
    count = np.bincount(which).astype(float)
    mean = np.bincount(which, measured) / count
    scatter = [_scatter(*(x[rung == r] for x in (measured, side, seed))) for r in set(rung)]
    within, freedom = np.sum(scatter, axis=0)
    return _Rungs(
        params[first],
        tokens[first],
        mean,
        count,
        float(within),
        float(freedom),
        side[first],
        rung[first],
    )


def _number(seed: int | None) -> float:
    return float("nan") if seed is None else seed


def _scatter(measured: Array, side: Array, seed: Array) -> tuple[float, float]:
    """`within` and `freedom` (predict.paired) of one rung's runs.

    Recipes that were trained with the same seeds share initial weights and batches, and with them
    most of what a seed does to the loss: their differences, seed by seed, tell the noise of a gap.
    """
    one, two = (np.flatnonzero(side == sign) for sign in (1.0, -1.0))
    one, two = one[np.argsort(seed[one])], two[np.argsort(seed[two])]
    names = seed[one]
    if len(one) > 1 and np.array_equal(names, seed[two]) and len(set(names)) == len(names):
        apart = measured[one] - measured[two]
        return float(((apart - apart.mean()) ** 2).sum() / 2), len(apart) - 1.0
    parts = [measured[own] for own in (one, two) if len(own)]
    return (
        sum(float(((part - part.mean()) ** 2).sum()) for part in parts),
        sum(len(part) - 1.0 for part in parts),
    )


def _accuracy_gap(
    fits: Sequence[TaskFit], thetas: Sequence[Array], target: Target, loss: Gap, known: Array
) -> tuple[Gap, float, Runs] | None:
    """The gap of accuracies at the target, the shared accuracy there, and the runs behind it.

    `known` (m, 2) are the places of the gap of losses, as logs of params and tokens.
    """
    if not all(f.votes for f in fits):
        return None
    rungs = _rungs(fits, accuracy=True)
    count = len(rungs.params)
    params, tokens = np.r_[rungs.params, target.params], np.r_[rungs.tokens, target.tokens]
    curve = shared_accuracy(fits, params, tokens)
    up, down = np.exp(STEP), np.exp(-STEP)
    climb = shared_accuracy(fits, params * up, tokens * up) - shared_accuracy(
        fits, params * down, tokens * down
    )
    if all("own" in f.votes for f in fits):
        fall = (
            shared_log_loss(thetas, params * up, tokens * up)[0]
            - shared_log_loss(thetas, params * down, tokens * down)[0]
        )
        away = np.log(np.c_[params, tokens])[:, None] - known
        places = (away**2).sum(axis=-1).argmin(axis=-1)
        mean, covariance = loss.mean[places], loss.covariance[np.ix_(places, places)]
    else:
        fall = np.full(count + 1, -4 * STEP * WEAK_SLOPE)
        mean, covariance = np.zeros(count + 1), np.zeros((count + 1, count + 1))
    slope = np.minimum(climb / np.minimum(fall, -1e-9), -LEAST_SLOPE)
    compute = np.log(params * tokens)
    climbed = (compute - compute[:-1].max()) / LINK_FOLDS
    basis = np.c_[slope, LINK_DRIFT * slope * climbed, np.full(count + 1, LINK_OFFSET)]
    shape = np.c_[slope, slope * climbed, np.ones(count + 1)] * LINK_SHAPE
    mean, covariance = slope * mean, np.outer(slope, slope) * covariance
    runs = rungs.runs(curve, basis, shape, mean, covariance)
    places_ = Places(basis[-1:], mean[-1:], covariance[-1:, -1:], covariance[-1:, :-1])
    gap = posterior(runs, places_, LINK_SCALES)
    gap = replace(gap, covariances=gap.covariances * WIDEN**2, noises=gap.noises * WIDEN)
    return gap, float(curve[-1]), runs
