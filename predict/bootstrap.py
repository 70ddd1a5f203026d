"""Resamples a ladder's rungs and fits both steps again, many times: how far a prediction moves.

No command goes by it: it is the independent check of the delta method, in docs/api.md for those who
want draws.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from evaluation.records import InputError
from predict.chains import ChainFit, direct_accuracy, direct_value, prior_of, usable_rungs
from predict.fit import Fit, refit
from predict.laws import Array, get_law, law_inputs
from predict.methods import Chain, Method
from predict.points import RungPoint, TaskPoints, rung_weights
from predict.task_fit import Target
from predict.two_stage import TwoStage

GROUPS = 6
"""Means that stand for a rung's checkpoints in step 2, which is nearly straight within one rung."""

AT_ONCE = 100
"""Resamples fitted in one batch, so that a batch stays in a processor's cache."""


def bootstrap(
    model: TwoStage, targets: Sequence[Target], replicates: int = 1000, seed: int = 0
) -> pd.DataFrame:
    """Predictions from ladders whose rungs are drawn with replacement.

    One row a task, target and replicate: `predicted` in [0, 1], the median of the chains that
    vote, NaN for an LM set, and `loss`. All tasks see the same draws. Raises InputError for a
    model that was not fitted here: a loaded one has no observations.
    """
    if not model.points_:
        raise InputError("a bootstrap needs the observations; fit the predictor first")
    if replicates < 1:
        raise InputError(f"{replicates} replicates: at least 1")
    names = sorted(
        {r.run for found in model.points_.values() for p in found.values() for r in p.rungs}
    )
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=replicates)
    column = {name: i for i, name in enumerate(names)}
    losses: dict[str, Array] = {}
    accuracies: dict[str, list[Array]] = {task: [] for task in model.fits_}
    for chain in model.chains_:
        found = model.points_.get(chain.kind, {})
        for task, fitted in model.fits_.items():
            own = next((c for c in fitted.chains if c.kind == chain.kind), None)
            if own is None or task not in found:
                continue
            points = found[task]
            drawn = counts[:, [column[r.run] for r in points.rungs]].astype(float)
            feature, accuracy = _replicate(chain, own, model.method, points, drawn, targets)
            if chain.kind == model.chains_[0].kind:
                losses[task] = feature
            if chain.kind in fitted.votes and accuracy is not None:
                accuracies[task].append(accuracy)
    frames = []
    for task in model.fits_:
        votes = accuracies[task]
        middle = np.median(votes, axis=0) if votes else np.full_like(losses[task], np.nan)
        for i, target in enumerate(targets):
            frames.append(
                pd.DataFrame(
                    {
                        "task": task,
                        "target": target.name,
                        "replicate": np.arange(replicates),
                        "predicted": middle[:, i],
                        "loss": losses[task][:, i],
                    }
                )
            )
    return pd.concat(frames, ignore_index=True)


def _replicate(
    chain: Chain,
    fitted: ChainFit,
    method: Method,
    points: TaskPoints,
    drawn: Array,
    targets: Sequence[Target],
) -> tuple[Array, Array | None]:
    """Step 1's values and the accuracies, each (replicates, targets), of one chain and task."""
    rungs = usable_rungs(chain, points)
    kept = [i for i, r in enumerate(points.rungs) if r in rungs]
    features, accuracies = [], []
    for start in range(0, len(drawn), AT_ONCE):
        part = drawn[start : start + AT_ONCE]
        feature = _step1(chain, fitted, method, rungs, part[:, kept], targets)
        features.append(feature)
        if chain.kind == "direct":
            accuracies.append(np.clip(direct_accuracy(fitted, feature), 0, 1))
        elif fitted.step2 is not None:
            accuracies.append(_step2(fitted.step2, method, points, part, feature))
    return np.concatenate(features), np.concatenate(accuracies) if accuracies else None


def _step1(
    chain: Chain,
    fitted: ChainFit,
    method: Method,
    rungs: list[RungPoint],
    drawn: Array,
    targets: Sequence[Target],
) -> Array:
    law, count = get_law(chain.law), len(drawn)
    values = [direct_value(chain, r) if chain.kind == "direct" else r.loss for r in rungs]
    theta = refit(
        law,
        law_inputs(law, _scales(rungs, count)),
        _rows(values, count),
        chain.objective,
        drawn * np.array(rung_weights(rungs, method)),
        _rows(fitted.step1.theta, count),
        np.full(count, fitted.step1.noise),
        prior_of(chain, law),
    )
    return law.evaluate(theta, law_inputs(law, _scales(targets, count)))[0]


def _step2(fitted: Fit, method: Method, points: TaskPoints, drawn: Array, feature: Array) -> Array:
    law, count = get_law(fitted.law), len(drawn)
    losses, accuracies, sizes, origin = grouped(points, GROUPS)
    weights = drawn[:, origin] * sizes
    if method.ideal_point:
        losses, accuracies = np.r_[losses, 0.0], np.r_[accuracies, 1.0]
        weights = np.c_[weights, np.ones(count)]
    theta = refit(
        law,
        [_rows(losses, count)],
        _rows(accuracies, count),
        method.step2,
        weights,
        _rows(fitted.theta, count),
        np.ones(count),
    )
    return np.clip(law.evaluate(theta, [feature])[0], 0, 1)


def grouped(points: TaskPoints, groups: int) -> tuple[Array, Array, Array, Array]:
    """Each rung's checkpoints in so many groups of like loss: means, sizes and the rung's index."""
    losses, accuracies, sizes, origin = [], [], [], []
    for rung in np.unique(points.link_rung):
        own = points.link_rung == rung
        order = points.link_loss[own].argsort(kind="stable")
        for part in np.array_split(order, min(groups, len(order))):
            losses.append(points.link_loss[own][part].mean())
            accuracies.append(points.link_accuracy[own][part].mean())
            sizes.append(float(len(part)))
            origin.append(int(rung))
    return np.array(losses), np.array(accuracies), np.array(sizes), np.array(origin)


def _scales(runs: Sequence[RungPoint] | Sequence[Target], count: int) -> dict[str, Array]:
    return {
        "params": _rows([r.params for r in runs], count),
        "tokens": _rows([r.tokens for r in runs], count),
    }


def _rows(values: Sequence[float] | Array, count: int) -> Array:
    return np.broadcast_to(np.asarray(values, dtype=float), (count, len(values)))
