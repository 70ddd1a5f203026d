"""Predicts the ladder's own big rungs from its small ones, to choose and to calibrate by."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from glob import escape
from typing import Any

import numpy as np
import pandas as pd

from evaluation.records import InputError
from predict.intervals import LEVEL80, LEVEL95
from predict.numbers import human, levels
from predict.points import RungPoint, points_by_task
from predict.task_fit import FEWEST, Target
from predict.two_stage import SCALE, TwoStage, finished, matching

STEP_UP = 4.0
"""A held-out rung is scored where it costs this many times the costliest fitted one, by 6ND."""


@dataclass(frozen=True)
class Split:
    """The ladder cut in size and in tokens: what is fitted and what is scored."""

    name: str
    fitted: tuple[str, ...]
    scored: tuple[str, ...]


@dataclass(frozen=True)
class BacktestRow:
    """One held-out rung's prediction by one method; errors are predicted minus actual."""

    method: str
    split: str
    task: str
    run: str
    predicted: float | None
    actual: float | None
    error: float | None
    lower80: float | None
    upper80: float | None
    lower95: float | None
    upper95: float | None
    loss_predicted: float
    loss_actual: float
    loss_lower80: float | None
    loss_upper80: float | None
    status: str
    climb: float | None
    spread: float | None
    parameters: float | None
    noise: float | None
    """The parts of the standard error, see predict.intervals."""
    standard_error: float | None


@dataclass(frozen=True)
class MethodScore:
    """How one method did; accuracies in [0, 1], NaN where there is nothing to measure."""

    method: str
    mean_abs_error: float
    standard_error: float
    """Of the mean, between tasks."""
    loss_error: float
    """Mean |log(predicted / actual)| of the loss."""
    coverage80: float
    coverage95: float
    left_out80: float
    left_out95: float
    """Coverage with widths rescaled on the other tasks' back-tests."""
    width80: float
    """Mean half-width."""
    winkler80: float
    winkler80_constant: float
    """The interval score of one width for all, calibrated on the other tasks' back-tests."""
    loss_coverage80: float


@dataclass(frozen=True)
class Comparison:
    """A paired difference of mean absolute errors, `method` minus `against`."""

    method: str
    against: str
    difference: float
    standard_error: float
    """Between tasks; between splits where there is one task."""

    @property
    def clear(self) -> bool:
        """Whether the difference is more than its standard error."""
        return abs(self.difference) > self.standard_error


@dataclass(frozen=True)
class Backtest:
    """Every row, and what follows from them."""

    splits: tuple[Split, ...]
    rows: tuple[BacktestRow, ...]
    scores: tuple[MethodScore, ...]
    """Best first."""
    comparisons: tuple[Comparison, ...]
    """The best against each other one."""
    left_out: tuple[str, ...]
    """Splits that a method could not fit, with why; what it lacks is scored for none."""

    @property
    def chosen(self) -> str:
        """The method of the smallest mean absolute error."""
        return self.scores[0].method

    @property
    def clear(self) -> bool:
        """Whether the chosen one beats every other by more than the paired standard error."""
        return all(c.clear for c in self.comparisons)

    def by_task(self) -> dict[str, dict[str, float]]:
        """Mean absolute error of every method on every task that has an accuracy."""
        sizes: dict[str, dict[str, list[float]]] = {}
        for row in self.rows:
            if row.error is not None:
                sizes.setdefault(row.task, {}).setdefault(row.method, []).append(abs(row.error))
        return {
            task: {method: sum(v) / len(v) for method, v in methods.items()}
            for task, methods in sizes.items()
        }

    def frame(self) -> pd.DataFrame:
        """One row a method, split, task and held-out rung."""
        return pd.DataFrame([asdict(row) for row in self.rows])

    def document(self) -> dict[str, Any]:
        """The JSON of `ladder backtest`."""
        return {
            "version": 1,
            "chosen": self.chosen,
            "clear": self.clear,
            "scores": [_finite(asdict(s)) for s in self.scores],
            "comparisons": [{**_finite(asdict(c)), "clear": c.clear} for c in self.comparisons],
            "by_task": self.by_task(),
            "splits": [asdict(s) for s in self.splits],
            "left_out": list(self.left_out),
            "rows": [_finite(asdict(row)) for row in self.rows],
        }


def make_splits(rungs: Sequence[RungPoint], scored_only: Sequence[str] = ()) -> list[Split]:
    """Every cut of the ladder in size and in tokens that leaves something far enough to score.

    `rungs` holds one point a run; those named in `scored_only` are predicted, never fitted.
    Splits that fit the same rungs are one.
    """
    sizes = levels([r.params for r in rungs if r.run not in scored_only], 1.02)
    multiples = levels([r.tokens / r.params for r in rungs if r.run not in scored_only], 1.1)
    splits: dict[tuple[str, ...], Split] = {}
    for size in sizes[1:]:
        for multiple in multiples[1:] or multiples:
            fitted = [
                r
                for r in rungs
                if r.run not in scored_only
                and r.params <= size * 1.02
                and r.tokens / r.params <= multiple * 1.1
            ]
            names = tuple(r.run for r in fitted)
            if len(fitted) < FEWEST or names in splits:
                continue
            top = max(r.params * r.tokens for r in fitted)
            scored = tuple(
                r.run for r in rungs if r.run not in names and r.params * r.tokens >= STEP_UP * top
            )
            if scored:
                name = f"N<={human(size)}, D/N<={multiple:.3g}"
                splits[names] = Split(name, names, scored)
    return list(splits.values())


def backtest(
    observations: pd.DataFrame,
    methods: Sequence[str] = ("default", "published"),
    rungs: Sequence[str] = (),
    score: Sequence[str] = (),
    tasks: Sequence[str] = (),
    feature: str = "loss",
    law: str | None = None,
    link: str | None = None,
    watch: Callable[[Sequence[Split]], Iterable[Split]] = iter,
) -> Backtest:
    """Score methods on splits of the ladder.

    `rungs` are patterns of runs to fit, by default those of role ladder; `score` are patterns of
    further runs that are only predicted. Runs of role target, and of a target's size, take no
    part. Methods are scored on what all of them predicted. Raises InputError where the ladder has
    no split.

    >>> from predict import read_observations
    >>> from predict.backtest import backtest
    >>> found = backtest(read_observations("mine.csv"), methods=("own", "published"))
    >>> sorted(score.method for score in found.scores)
    ['own', 'published']
    >>> {row.task for row in found.rows}
    {'arc_easy'}
    """
    models = [TwoStage(method, feature, rungs, tasks, law, link) for method in methods]
    table = models[0].fitted_rows(observations, every_task=True)
    sizes = observations.loc[observations["role"] == "target", "params"].unique()
    # A target's own checkpoints are the target: they choose nothing.
    table = table[(table["role"] == "ladder") | ~_near(table["params"], sizes)]
    chosen = set(matching(table["task"].unique(), tasks, "task"))
    extra: list[str] = []
    if score:
        others = observations[observations["role"] != "target"]
        others = others[~_near(others["params"], sizes) & (others["tokens"] > 0)]
        others = others[finished(others)]
        extra = [
            run
            for run in matching(others["run"].unique(), score, "run")
            if run not in set(table["run"])
        ]
        more = others[others["run"].isin(extra) & others[feature].notna()]
        table = pd.concat(
            [table, more[more["task"].isin(table["task"].unique())]], ignore_index=True
        ).sort_values(["run", "step"], kind="stable", ignore_index=True)
    table = table.assign(role="ladder")
    table = table[table[feature].between(*SCALE)]
    measured = {
        task: {rung.run: rung for rung in points.rungs}
        for task, points in points_by_task(table, models[0].method, feature).items()
        if task in chosen
    }
    every = {run: point for points in measured.values() for run, point in points.items()}
    splits = make_splits(list(every.values()), extra)
    if not splits:
        raise InputError(
            f"no split of the ladder fits {FEWEST} rungs and leaves one that costs "
            f"{STEP_UP:g} times as much; train more sizes or multiples"
        )
    found: list[BacktestRow] = []
    left_out: list[str] = []
    for split in watch(splits):
        part = table[table["run"].isin(split.fitted)]
        for method in methods:
            held = tuple(escape(t) for t in sorted(chosen & set(part["task"].unique())))
            try:
                model = TwoStage(method, feature, (), held, law, link).fit(part)
            except InputError as error:
                left_out.append(f"{method}, {split.name}: {error}")
                continue
            found += _score(model, method, split, measured)
    if not any(row.error is not None for row in found):
        raise InputError("no held-out rung has an accuracy to score")
    common = set.intersection(
        *({_key(r) for r in found if r.method == m and r.error is not None} for m in methods)
    )
    if not common:
        raise InputError(f"nothing is predicted by all of {', '.join(methods)}; compare fewer")
    found = [r for r in found if r.error is None or _key(r) in common]
    scores = sorted(
        (_method_score(name, [r for r in found if r.method == name]) for name in methods),
        key=lambda s: s.mean_abs_error,
    )
    comparisons = [compare(found, scores[0].method, other.method) for other in scores[1:]]
    return Backtest(tuple(splits), tuple(found), tuple(scores), tuple(comparisons), tuple(left_out))


def compare(rows: Sequence[BacktestRow], method: str, against: str) -> Comparison:
    """The paired difference of two methods on the rows that both predicted."""
    errors: dict[str, dict[tuple[str, str, str], float]] = {method: {}, against: {}}
    for row in rows:
        if row.method in errors and row.error is not None:
            errors[row.method][_key(row)] = abs(row.error)
    both = sorted(set(errors[method]) & set(errors[against]))
    level = 0 if len({key[0] for key in both}) > 1 else 1
    groups: dict[str, list[float]] = {}
    for key in both:
        groups.setdefault(key[level], []).append(errors[method][key] - errors[against][key])
    means = np.array([np.mean(values) for values in groups.values()])
    difference = float(means.mean()) if len(means) else math.nan
    return Comparison(method, against, difference, _standard_error(means))


def _key(row: BacktestRow) -> tuple[str, str, str]:
    return row.task, row.split, row.run


def _near(params: pd.Series, sizes: Iterable[float]) -> pd.Series:
    """Whether each size is within a tenth of one of those given."""
    near = pd.Series(False, index=params.index)
    for size in sizes:
        near |= (params / size).between(0.9, 1.1)
    return near


def _score(
    model: TwoStage, method: str, split: Split, measured: dict[str, dict[str, RungPoint]]
) -> list[BacktestRow]:
    rows = []
    for task, fitted in model.fits_.items():
        for run in split.scored:
            point = measured[task].get(run)
            if point is None:
                continue
            target = Target(run, point.params, point.tokens)
            prediction = fitted.predict(target, model.method)
            values = fitted.chain_values(target)
            parts = fitted.uncertainty(target, values) if values else None
            error = None
            if prediction.predicted is not None and point.accuracy is not None:
                error = prediction.predicted - point.accuracy
            rows.append(
                BacktestRow(
                    method=method,
                    split=split.name,
                    task=task,
                    run=run,
                    predicted=prediction.predicted,
                    actual=point.accuracy,
                    error=error,
                    lower80=prediction.lower80,
                    upper80=prediction.upper80,
                    lower95=prediction.lower95,
                    upper95=prediction.upper95,
                    loss_predicted=prediction.loss_predicted,
                    loss_actual=point.loss,
                    loss_lower80=prediction.loss_lower80,
                    loss_upper80=prediction.loss_upper80,
                    status=prediction.status,
                    climb=parts.climb if parts else None,
                    spread=parts.spread if parts else None,
                    parameters=parts.parameters if parts else None,
                    noise=parts.noise if parts else None,
                    standard_error=(
                        parts.standard_error(model.method.widths_of(fitted.votes))
                        if parts
                        else None
                    ),
                )
            )
    return rows


def _method_score(method: str, rows: list[BacktestRow]) -> MethodScore:
    scored = [r for r in rows if r.error is not None]
    by_task: dict[str, list[float]] = {}
    for row in scored:
        by_task.setdefault(row.task, []).append(abs(row.error or 0.0))
    means = np.array([np.mean(values) for values in by_task.values()])
    bounded = [r for r in scored if r.lower80 is not None]
    size = np.array([abs(r.error or 0.0) for r in bounded])
    tasks = np.array([r.task for r in bounded])
    # An interval is cut at 0 and 1; what is rescaled is the width before.
    wide = np.array([max(r.standard_error or 0.0, 1e-12) for r in bounded])
    half80, half95 = LEVEL80 * wide, LEVEL95 * wide
    constant = _left_out_quantile(size, tasks, 0.8)
    losses = [r for r in rows if r.loss_lower80 is not None]
    return MethodScore(
        method=method,
        mean_abs_error=float(means.mean()) if len(means) else math.nan,
        standard_error=_standard_error(means),
        loss_error=float(np.mean([abs(math.log(r.loss_predicted / r.loss_actual)) for r in rows])),
        coverage80=_share(_inside(r.actual, r.lower80, r.upper80) for r in bounded),
        coverage95=_share(_inside(r.actual, r.lower95, r.upper95) for r in bounded),
        left_out80=_share(size <= half80 * _left_out_quantile(size / half80, tasks, 0.8)),
        left_out95=_share(size <= half95 * _left_out_quantile(size / half95, tasks, 0.95)),
        width80=_mean([((r.upper80 or 0) - (r.lower80 or 0)) / 2 for r in bounded]),
        winkler80=_mean(
            [interval_score(r.actual or 0, r.lower80 or 0, r.upper80 or 0, 0.8) for r in bounded]
        ),
        winkler80_constant=winkler(size, constant, 0.8),
        loss_coverage80=_share(
            _inside(r.loss_actual, r.loss_lower80, r.loss_upper80) for r in losses
        ),
    )


def interval_score(actual: float, lower: float, upper: float, level: float) -> float:
    """Winkler's score of one interval: its width, and 2 / (1 - level) times what it misses by."""
    return upper - lower + 2 / (1 - level) * max(lower - actual, actual - upper, 0.0)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan


def winkler(error: np.ndarray[Any, Any], half: np.ndarray[Any, Any], level: float) -> float:
    """Mean interval score of intervals of these half-widths: width, and 2 / (1 - level) a miss."""
    if not len(error):
        return math.nan
    outside = np.maximum(np.abs(error) - half, 0)
    return float((2 * half + 2 / (1 - level) * outside).mean())


def _left_out_quantile(
    values: np.ndarray[Any, Any], tasks: np.ndarray[Any, Any], level: float
) -> np.ndarray[Any, Any]:
    """For every row the quantile of the values of all other tasks; of all where there is one."""
    result = np.full(len(values), np.nan)
    for task in set(tasks):
        others = tasks != task if (tasks != task).any() else tasks == task
        result[tasks == task] = np.quantile(values[others], level)
    return result


def _finite(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields with None for what JSON cannot hold."""
    return {
        k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in fields.items()
    }


def _inside(value: float | None, lower: float | None, upper: float | None) -> bool:
    return value is not None and lower is not None and upper is not None and lower <= value <= upper


def _share(flags: Iterable[Any]) -> float:
    found = list(flags)
    return sum(map(bool, found)) / len(found) if found else math.nan


def _standard_error(means: np.ndarray[Any, Any]) -> float:
    return float(means.std(ddof=1) / math.sqrt(len(means))) if len(means) > 1 else math.nan
