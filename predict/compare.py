"""Which of several recipes wins at a target, from a ladder of each, and how sure that is."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from evaluation.records import InputError
from predict.audit import actual_of, targets_of
from predict.comparison import Comparison, PairRow, ParameterRow, ScoreRow, decide
from predict.gaps import LAWS, TaskGap, task_gap
from predict.numbers import levels
from predict.pairs import Actual, pair_rows, parameter_rows
from predict.points import NEAR
from predict.task_fit import Prediction, Target
from predict.two_stage import TwoStage, finished, partial
from predict.watch import each


def compare(
    recipes: Mapping[str, pd.DataFrame],
    targets: Sequence[Target],
    make: Callable[[], TwoStage] = TwoStage,
    against: str | None = None,
) -> Comparison:
    """Compare recipes, by name, at targets; `make` gives each its predictor, yet to be fitted.

    All pairs are told of, or, as second ones, those with the recipe `against`. Raises InputError
    for fewer than two recipes, no target, a recipe whose rungs are of one size, a task in different
    units, no common task, or a step-1 law that is not one of LAWS.
    """
    if len(recipes) < 2:
        raise InputError(
            f"one set of rungs, {', '.join(recipes) or 'none'}: a comparison needs two or more"
        )
    if against is not None and against not in recipes:
        raise InputError(f"--against {against}: no such recipe; there are {', '.join(recipes)}")
    if not targets:
        raise InputError("no target to compare at; name one with --target NAME:PARAMS:TOKENS")
    models = {name: _fitted(name, table, make()) for name, table in recipes.items()}
    tasks, left_out = _common_tasks(models)
    names = sorted(models, key=lambda name: name == against)
    every = {
        target.name: {
            pair: {t: _gap(models, pair, t, target) for t in tasks}
            for pair in each(list(itertools.combinations(names, 2)), f"pairs at {target.name}")
        }
        for target in targets
    }
    unable = [t for t in tasks if any(not g[t] for by in every.values() for g in by.values())]
    left_out |= dict.fromkeys(unable, "no finite gap between its fits")
    tasks = [task for task in tasks if task not in unable]
    if not tasks:
        raise InputError(f"no finite gap between the fits of {', '.join(unable[:3])}")
    scores: list[ScoreRow] = []
    pairs: list[PairRow] = []
    parameters: list[ParameterRow] = []
    for target in targets:
        gaps = {
            pair: {t: gap for t, gap in found.items() if gap is not None and t in tasks}
            for pair, found in every[target.name].items()
        }
        actual = {n: _actual(recipes[n], models[n], target, tasks) for n in names}
        scores += _scores(models, tasks, target, gaps, actual)
        for pair, found in gaps.items():
            if against in (None, pair[1]):
                pairs += pair_rows(models, pair, found, target, actual)
                if target is targets[0]:
                    parameters += parameter_rows(models, pair, found)
    return Comparison(
        method=models[names[0]].method.name,
        recipes=tuple(models),
        scores=tuple(scores),
        pairs=tuple(pairs),
        parameters=tuple(parameters),
        decisions=decide(pairs),
        left_out=left_out,
        warnings=tuple(_warnings(models, tasks)),
    )


def _gap(
    models: Mapping[str, TwoStage], pair: tuple[str, str], task: str, target: Target
) -> TaskGap | None:
    """The gap of one task; None where losses so wild leave none that is finite."""
    one, two = (models[name].fits_[task] for name in pair)
    try:
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            gap = task_gap(one, two, target)
    except np.linalg.LinAlgError:
        return None
    parts = [part for part in (gap.loss, gap.accuracy) if part is not None]
    finite = all(np.isfinite(p.means).all() and np.isfinite(p.covariances).all() for p in parts)
    return gap if finite else None


def measured_targets(recipes: Mapping[str, pd.DataFrame]) -> list[Target]:
    """The runs of role target, those of the same params and tokens once; InputError for none.

    One of a config's recipes and seeds is named without these.
    """
    found: list[Target] = []
    for table in recipes.values():
        if not (table["role"] == "target").any():
            continue
        for new in targets_of(table):
            if all(
                abs(new.params / old.params - 1) > NEAR or abs(new.tokens / old.tokens - 1) > NEAR
                for old in found
            ):
                found.append(replace(new, name=_place(table, new.name)))
    if not found:
        raise InputError(
            "no run has the role target; name one to compare at with --target NAME:PARAMS:TOKENS"
        )
    return found


def _place(table: pd.DataFrame, run: str) -> str:
    """A run's name without the recipe and the seed that it ends in."""
    first = table[table["run"] == run].iloc[0]
    recipe, seed = (f"-{first[c]}" if c in first else "" for c in ("recipe", "seed"))
    seed = seed.replace("-", "-s")
    for ending in filter(None, (recipe + seed, recipe, seed)):
        if run.endswith(ending) and run != ending:
            return run.removesuffix(ending)
    return run


def _fitted(name: str, table: pd.DataFrame, model: TwoStage) -> TwoStage:
    law = model.method.chains[0].law
    if law not in LAWS:
        raise InputError(f"--law {law}: a comparison goes by {' or '.join(LAWS)}; leave --law out")
    try:
        model.fit(table)
    except InputError as error:
        raise InputError(f"{name}: {error}") from None
    sizes = levels([r.params for f in model.fits_.values() for r in f.rungs], 1.02)
    if len(sizes) < 2:
        raise InputError(
            f"{name}: every rung has {sizes[0]:.3g} params; a comparison at a target needs rungs "
            "of two sizes or more"
        )
    return model


def _common_tasks(models: Mapping[str, TwoStage]) -> tuple[list[str], dict[str, str]]:
    every = list(dict.fromkeys(task for model in models.values() for task in model.fits_))
    have = {task: [n for n, model in models.items() if task in model.fits_] for task in every}
    common = [task for task in every if len(have[task]) == len(models)]
    left_out = {task: f"only in {', '.join(h)}" for task, h in have.items() if task not in common}
    if not common:
        shown = "; ".join(f"{n} has {', '.join(list(m.fits_)[:3])}" for n, m in models.items())
        raise InputError(f"no task is common to all recipes: {shown}")
    for task in common:
        units = {name: model.fits_[task].loss_unit for name, model in models.items()}
        if len(set(units.values())) > 1:
            said = ", ".join(f"{unit} in {name}" for name, unit in units.items())
            raise InputError(f"{task}: its loss is in {said}; bring them to one unit")
    return common, left_out


def _warnings(models: Mapping[str, TwoStage], tasks: Sequence[str]) -> list[str]:
    lines = []
    for task in tasks:
        items = {n: m.fits_[task].instances for n, m in models.items()}
        if len(set(items.values())) > 1:
            said = ", ".join(f"{count} in {name}" for name, count in items.items())
            lines.append(f"{task}: has different numbers of items, {said}; are they the same?")
    runs = [
        {(round(math.log(r.params), 1), round(math.log(r.tokens), 1)) for r in f.rungs}
        for f in (m.fits_[tasks[0]] for m in models.values())
    ]
    if not set.intersection(*runs):
        lines.append("no rung is common to all recipes: what the law misfits does not cancel")
    return lines


def _actual(
    table: pd.DataFrame, model: TwoStage, target: Target, tasks: Sequence[str]
) -> dict[str, tuple[float, float | None]]:
    """What a run of the target's params and tokens scored, of those that were not fitted.

    Of several of role target, such as seeds, it is the mean; of several others nothing is said.
    """
    fitted = {r.run for f in model.fits_.values() for r in f.rungs}
    rows = table[finished(table) & ~table["run"].isin(fitted) & (table["tokens"] > 0)]
    rows = rows[rows[model.feature].notna()]
    rows = rows[~partial(rows)]
    if not len(rows):
        return {}
    ends = rows.groupby("run")["tokens"].transform("max")
    near = (np.abs(np.log(rows["params"] / target.params)) < NEAR) & (
        np.abs(np.log(ends / target.tokens)) < NEAR
    )
    rows = rows[near]
    if rows["run"].nunique() > 1:
        rows = rows[rows["role"] == "target"]
    found = {}
    for task in tasks:
        own = rows[rows["task"] == task].groupby("run", sort=False)
        scored = [actual_of(part, model.feature) for _, part in own]
        if scored:
            losses, accuracies = zip(*scored, strict=True)
            known = [value for value in accuracies if value is not None]
            accuracy = float(np.mean(known)) if len(known) == len(scored) else None
            found[task] = float(np.mean(losses)), accuracy
    return found


def _scores(
    models: Mapping[str, TwoStage],
    tasks: Sequence[str],
    target: Target,
    gaps: Mapping[tuple[str, str], Mapping[str, TaskGap]],
    actual: Actual,
) -> list[ScoreRow]:
    rows = []
    for task in tasks:
        alone = {name: model.predict_one(task, target) for name, model in models.items()}
        loss = _levels(
            {name: math.log(p.loss_predicted) for name, p in alone.items()},
            {pair: float(found[task].loss_only.mean[0]) for pair, found in gaps.items()},
        )
        known = {pair: found[task].accuracy for pair, found in gaps.items()}
        accuracy: dict[str, float] = {}
        if all(known.values()):
            accuracy = _levels(
                {name: p.predicted or 0.0 for name, p in alone.items()},
                {pair: float(gap.mean[0]) for pair, gap in known.items() if gap},
            )
        rows += [
            _score(n, alone[n], math.exp(loss[n]), accuracy.get(n), actual[n].get(task))
            for n in models
        ]
    return rows


def _levels(alone: Mapping[str, float], gaps: Mapping[tuple[str, str], float]) -> dict[str, float]:
    """The mean of all recipes, and each one's mean gap to the others."""
    middle = sum(alone.values()) / len(alone)
    away = dict.fromkeys(alone, 0.0)
    for (one, two), gap in gaps.items():
        away[one] += gap / len(alone)
        away[two] -= gap / len(alone)
    return {name: middle + off for name, off in away.items()}


def _score(
    name: str,
    alone: Prediction,
    loss: float,
    accuracy: float | None,
    actual: tuple[float, float | None] | None,
) -> ScoreRow:
    def moved(bound: float | None, by: float, high: float) -> float | None:
        return None if bound is None else min(max(bound + by, 0.0), high)

    shift = loss - alone.loss_predicted
    up = 0.0 if accuracy is None or alone.predicted is None else accuracy - alone.predicted
    return ScoreRow(
        recipe=name,
        task=alone.task,
        target=alone.target,
        loss=loss,
        loss_lower80=moved(alone.loss_lower80, shift, math.inf),
        loss_upper80=moved(alone.loss_upper80, shift, math.inf),
        loss_alone=alone.loss_predicted,
        loss_actual=None if actual is None else actual[0],
        accuracy=None if accuracy is None else min(max(accuracy, 0.0), 1.0),
        lower80=moved(alone.lower80, up, 1.0),
        upper80=moved(alone.upper80, up, 1.0),
        accuracy_alone=alone.predicted,
        accuracy_actual=None if actual is None else actual[1],
        status=alone.status,
        reason=alone.reason,
    )
