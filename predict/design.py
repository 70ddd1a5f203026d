"""Which of several runs to choose within a budget: information, expected variance, exchange."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from predict.laws import Array

Criterion = Callable[[Sequence[Sequence[int]]], Array]
"""Sets of candidates, each by index -> what is to be small, one number a set."""

PASSES = 50
"""Exchanges after which a set is kept as it is; sets of thirty candidates settle in under ten."""

ENOUGH = 1e-9
"""Relative gain below which an exchange is rounding noise."""


@dataclass(frozen=True)
class Design:
    """What is believed of K linearised problems, and what each of R candidate runs would add.

    A problem is one task seen from one plausible set of parameters. All gradients are those of
    quantities that are linear in its p parameters.
    """

    base: Array
    """Precision of the parameters now, priors and observed runs, (K, p, p); positive definite."""
    added: Array
    """Information that a run adds, sum of J' noise^-1 J over what it measures, (R, K, p, p)."""
    target: Array
    """Gradient of the target's value, (K, p)."""
    climb_now: Array
    """Distance of the target's value from the nearest observed run's, (K,)."""
    climb: Array
    """The same distance from each candidate's, (R, K)."""
    parameters_weight: float = 1.0
    """Weight of the parameters' standard error (predict.methods.Widths.parameters)."""
    climb_weight: float = 0.0
    """Weight of the distance that the law's form is trusted over (predict.methods.Widths.climb)."""

    def of(self, rows: Sequence[int]) -> Design:
        """The design of some of the problems, by index."""
        kept = list(rows)
        return replace(
            self,
            base=self.base[kept],
            added=self.added[:, kept],
            target=self.target[kept],
            climb_now=self.climb_now[kept],
            climb=self.climb[:, kept],
        )

    def precision(self, sets: Sequence[Sequence[int]]) -> Array:
        """Precision of the parameters after each set, (S, K, p, p)."""
        chosen = np.zeros((len(sets), len(self.added)))
        for row, members in zip(chosen, sets, strict=True):
            row[list(members)] = 1
        return self.base + np.tensordot(chosen, self.added, axes=1)

    def parameter_variance(self, sets: Sequence[Sequence[int]]) -> Array:
        """Variance of the target's value owed to the parameters, (S, K): g' precision^-1 g."""
        gradient = np.broadcast_to(self.target, (len(sets), *self.target.shape))[..., None]
        solved = np.linalg.solve(self.precision(sets), gradient)
        return np.asarray(np.maximum((gradient * solved).sum(axis=(-2, -1)), 0))

    def variance(self, sets: Sequence[Sequence[int]]) -> Array:
        """Expected squared error of each problem after each set, (S, K).

        The weighted variance of the parameters, and the square of the weighted distance from the
        nearest run. No run ever raises it.
        """
        nearest = np.stack(
            [np.minimum.reduce([self.climb_now, *self.climb[list(members)]]) for members in sets]
        )
        return np.asarray(
            self.parameters_weight**2 * self.parameter_variance(sets)
            + (self.climb_weight * nearest) ** 2
        )

    def mean_error(self, sets: Sequence[Sequence[int]]) -> Array:
        """Mean over the problems of the root of `variance`, (S,).

        The root, so that one unlikely set of parameters with a huge variance does not rule.
        """
        return np.asarray(np.sqrt(self.variance(sets)).mean(axis=-1))

    def log_volume(self, sets: Sequence[Sequence[int]]) -> Array:
        """Minus the mean log determinant of the precision, (S,): small is D-optimal."""
        return np.asarray(-np.linalg.slogdet(self.precision(sets))[1].mean(axis=-1))


def choose(criterion: Criterion, costs: Sequence[float], budget: float) -> tuple[int, ...]:
    """The candidates to run, in order, that make `criterion` small within the budget.

    Two greedy sets, one by gain per cost and one by gain alone, are each improved by exchange; the
    better one is ordered by gain per cost, so that what is left out when the money ends early is
    what was worth least. Costs and budget are in one unit, such as FLOPs. Empty where nothing fits
    the budget, or helps.
    """
    price = np.asarray(costs, dtype=float)
    found = [
        exchange(criterion, price, budget, greedy(criterion, price, budget, per_cost))
        for per_cost in (True, False)
    ]
    best = found[int(criterion(found).argmin())]
    return greedy(criterion, price, budget, True, among=best)


def greedy(
    criterion: Criterion,
    costs: Array,
    budget: float,
    per_cost: bool,
    among: Sequence[int] | None = None,
    begin: Sequence[int] = (),
) -> tuple[int, ...]:
    """`begin`, then one candidate after the other, the greatest gain first, per cost or as it is.

    Those that no longer fit are dropped; it ends where none of the rest helps. `among` names the
    candidates that may be taken, by default all.
    """
    chosen = tuple(begin)
    left = [c for c in (range(len(costs)) if among is None else among) if c not in chosen]
    now = float(criterion([chosen])[0])
    while left := [c for c in left if affordable(costs, budget, (*chosen, c))]:
        values = criterion([(*chosen, c) for c in left])
        gain = now - values
        worth = gain / costs[left] if per_cost else gain
        # Of equal gains the cheaper run.
        best = min(range(len(left)), key=lambda i: (-worth[i], costs[left[i]]))
        if gain[best] <= ENOUGH * abs(now):
            break
        now = float(values[best])
        chosen = (*chosen, left.pop(best))
    return chosen


def exchange(
    criterion: Criterion, costs: Array, budget: float, chosen: Sequence[int]
) -> tuple[int, ...]:
    """The set after every exchange that still helps.

    A run more, or one for another; where none of these helps, one dropped and the budget that this
    frees spent greedily on the others.
    """
    members = tuple(chosen)
    everyone = range(len(costs))
    for _ in range(PASSES):
        trials = [
            trial
            for out in (None, *members)
            for c in everyone
            if c not in members
            and affordable(costs, budget, trial := (*(m for m in members if m != out), c))
        ]
        better = _better(criterion, members, trials)
        if better is None:
            refilled = []
            for out in members:
                rest = [c for c in everyone if c != out]
                kept = [m for m in members if m != out]
                refilled.append(greedy(criterion, costs, budget, True, rest, kept))
            better = _better(criterion, members, refilled)
        if better is None:
            break
        members = better
    return members


def affordable(costs: Array, budget: float, members: Sequence[int]) -> bool:
    """Whether a set costs no more than the budget."""
    return float(costs[list(members)].sum()) <= budget


def _better(
    criterion: Criterion, members: tuple[int, ...], trials: Sequence[tuple[int, ...]]
) -> tuple[int, ...] | None:
    """The best of the sets, if it is better than the members."""
    if not trials:
        return None
    values = criterion([members, *trials])
    best = int(values[1:].argmin())
    return trials[best] if values[best + 1] < values[0] - ENOUGH * abs(values[0]) else None
