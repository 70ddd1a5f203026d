"""How a rung's own checkpoints lie off the law of finished rungs: the gap of a schedule."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from predict.chains import ChainFit, direct_accuracy
from predict.laws import Array, get_law, law_inputs
from predict.points import end_mean
from predict.task_fit import TaskFit

SHARES = (0.05, 0.075, 0.1, 0.125, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
"""Shares of a run's schedule at which its gap is looked at; it is none at 1."""

FEWEST_RUNGS = 2
"""Rungs that must have been at a share for its gap to have a spread."""

SLACK = 0.98
"""Tokens a parameter, over the fewest of a finished rung, from which a checkpoint counts as within
the law's range: runs of one multiple end within a few steps of each other."""

LEAST_NOISE = 1e-3
"""Least noise of a checkpoint, of log loss and of accuracy: a log that was smoothed has none."""


@dataclass(frozen=True)
class Gap:
    """What a checkpoint is off by, beside a run that ends there, by its share of the schedule.

    In the unit of the residuals it was learned from: logarithm of the loss, or accuracy.
    """

    shares: tuple[float, ...]
    mean: tuple[float, ...]
    spread: tuple[float, ...]
    """Standard deviation between rungs."""
    noise: float
    """Standard deviation of a single checkpoint about its neighbours."""
    rungs: int
    """How many it was learned from."""

    def at(self, shares: Array) -> tuple[Array, Array]:
        """Mean and spread at shares of the schedule; below the first one known, as there."""
        return np.interp(shares, self.shares, self.mean), np.interp(
            shares, self.shares, self.spread
        )


@dataclass(frozen=True)
class Gaps:
    """One task's gaps; None where too few rungs have checkpoints within the law's range."""

    loss: Gap | None
    accuracy: Gap | None
    floor: float
    """Tokens a parameter of the shortest finished rung."""


def losses_along(fitted: TaskFit, params: float | Array, tokens: Array) -> Array:
    """Step 1 at many token counts (n,), of one size or (n,): what a run that ends there has."""
    return _values(fitted.chains[0], params, tokens)


def accuracies_along(fitted: TaskFit, params: float | Array, tokens: Array) -> Array:
    """The ladder's predicted accuracy there, (n,), the median of the chains that vote."""
    values = []
    for chain in fitted.chains:
        if chain.kind in fitted.votes:
            feature = _values(chain, params, tokens)
            values.append(_accuracy(chain, feature))
    return np.asarray(np.median(values, axis=0))


def learn_gaps(fitted: TaskFit, rows: pd.DataFrame, feature: str, window: int) -> Gaps:
    """The gaps of one task from the checkpoints of the rungs that it was fitted to.

    `rows` are the task's, sorted by run and step. A checkpoint counts from the tokens a parameter
    of the shortest finished rung on, where the law interpolates between finished rungs. A run's
    end is the mean of its last `window` checkpoints, all in its last tenth, at its last tokens: as
    the laws were fitted.
    """
    floor = min(r.tokens / r.params for r in fitted.rungs)
    losses, accuracies = [], []
    for _, run in rows.groupby("run", sort=False):
        tokens = run["tokens"].to_numpy(dtype=float)
        params = float(run["params"].iloc[-1])
        kept = (tokens >= SLACK * floor * params) & (tokens < tokens[-1])
        shares = tokens[kept] / tokens[-1]
        loss = run[feature].to_numpy(dtype=float)
        law = np.log(losses_along(fitted, params, tokens))
        end = math.log(end_mean(tokens, loss, window)) - law[-1]
        losses.append((shares, np.log(loss[kept]) - law[kept] - end))
        if fitted.votes and "accuracy" in run and run["accuracy"].notna().any():
            score = run["accuracy"].to_numpy(dtype=float)
            seen = kept & np.isfinite(score)
            path = accuracies_along(fitted, params, tokens)
            final = end_mean(tokens, score, window) - path[-1]
            # A run whose end has no accuracy has nothing that its checkpoints could be off from.
            if math.isfinite(final):
                accuracies.append((tokens[seen] / tokens[-1], score[seen] - path[seen] - final))
    return Gaps(learn_gap(losses), learn_gap(accuracies), floor)


def learn_gap(curves: Sequence[tuple[Array, Array]]) -> Gap | None:
    """The gap from (shares, residuals less the end's) of several rungs; None from too few."""
    shares, means, spreads = [], [], []
    for share in SHARES:
        width = 0.03 + 0.1 * share
        near = [
            float(residual[inside].mean())
            for own, residual in curves
            if (inside := np.abs(own - share) <= width).any() and own.min() <= share + width / 2
        ]
        if len(near) >= FEWEST_RUNGS:
            shares.append(share)
            means.append(float(np.mean(near)))
            spreads.append(float(np.std(near, ddof=1)))
    if not shares:
        return None
    found = Gap((*shares, 1.0), (*means, 0.0), (*spreads, 0.0), 0.0, len(curves))
    jumps = np.concatenate([np.diff(residual - found.at(own)[0]) for own, residual in curves])
    # A rung of one checkpoint has no neighbours; its noise is in the spread.
    noise = max(float(np.sqrt(np.mean(jumps**2) / 2)) if len(jumps) else 0.0, LEAST_NOISE)
    return Gap(found.shares, found.mean, found.spread, noise, found.rungs)


def _values(chain: ChainFit, params: float | Array, tokens: Array) -> Array:
    law = get_law(chain.step1.law)
    scale = {"params": np.full(len(tokens), params), "tokens": tokens}
    return law.value(chain.step1.theta, *law_inputs(law, scale))


def _accuracy(chain: ChainFit, feature: Array) -> Array:
    if chain.kind == "direct":
        value = direct_accuracy(chain, feature)
    elif chain.step2 is None:
        return np.full(len(feature), np.nan)
    else:
        value = get_law(chain.step2.law).value(chain.step2.theta, feature)
    return np.clip(value, 0, 1)


def linked(fitted: TaskFit, losses: Array) -> Array:
    """The own chain's accuracy at many losses."""
    return _accuracy(fitted.chains[0], losses)
