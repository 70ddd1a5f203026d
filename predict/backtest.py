"""Predicts the ladder's own big rungs from its small ones, to choose and to calibrate by."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from glob import escape
from typing import Any

import pandas as pd

from evaluation.records import InputError
from predict.backtest_scores import (
    BacktestRow,
    Comparison,
    MethodScore,
    compare,
    method_score,
    row_key,
)
from predict.points import RungPoint, points_by_task
from predict.splits import STEP_UP, Split, find_cuts, make_splits
from predict.task_fit import FEWEST, Target, readings
from predict.two_stage import SCALE, TwoStage, finished, matching, partial


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
    thinned: str = ""
    """Which cuts of a ladder of very many were left out (predict.splits); empty for none."""

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
            "thinned": self.thinned,
            "rows": [_finite(asdict(row)) for row in self.rows],
        }


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
    part. Methods are scored on what all of them predicted. A ladder of very many sizes and
    multiples is cut at a few of them, which `thinned` then tells (predict.splits). Raises
    InputError where the ladder has no split.

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
        more = more[~partial(more)]
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
    # A row without an accuracy, such as an LM set's, is scored by its loss: it must be common, too.
    common = set.intersection(*({_scored(r) for r in found if r.method == m} for m in methods))
    if not any(has_accuracy for _, has_accuracy in common):
        raise InputError(f"nothing is predicted by all of {', '.join(methods)}; compare fewer")
    found = [r for r in found if _scored(r) in common]
    scores = sorted(
        (method_score(name, [r for r in found if r.method == name]) for name in methods),
        key=lambda s: s.mean_abs_error,
    )
    comparisons = [compare(found, scores[0].method, other.method) for other in scores[1:]]
    return Backtest(
        tuple(splits),
        tuple(found),
        tuple(scores),
        tuple(comparisons),
        tuple(left_out),
        find_cuts(list(every.values()), extra).note,
    )


def _scored(row: BacktestRow) -> tuple[tuple[str, str, str], bool]:
    """What a row is of, and whether its accuracy is scored."""
    return row_key(row), row.error is not None


def _near(params: pd.Series, sizes: Iterable[float]) -> pd.Series:
    """Whether each size is within a tenth of one of those given."""
    near = pd.Series(False, index=params.index)
    for size in sizes:
        near |= (params / size).between(0.9, 1.1)
    return near


def _score(
    model: TwoStage, method: str, split: Split, measured: dict[str, dict[str, RungPoint]]
) -> list[BacktestRow]:
    asked = [
        (fitted, Target(run, point.params, point.tokens))
        for task, fitted in model.fits_.items()
        for run in split.scored
        if (point := measured[task].get(run)) is not None
    ]
    rows = []
    for (fitted, target), said in zip(asked, readings(asked), strict=True):
        point = measured[fitted.task][target.name]
        prediction = fitted.predict(target, model.method, said)
        values = fitted.chain_values(target, said)
        parts = fitted.uncertainty(target, values, said) if values else None
        error = None
        if prediction.predicted is not None and point.accuracy is not None:
            error = prediction.predicted - point.accuracy
        widths = model.method.widths_of(fitted.votes)
        rows.append(
            BacktestRow(
                method=method,
                split=split.name,
                task=fitted.task,
                run=target.name,
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
                standard_error=parts.standard_error(widths) if parts else None,
            )
        )
    return rows


def _finite(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields with None for what JSON cannot hold."""
    return {
        k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in fields.items()
    }
