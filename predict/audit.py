"""The error of a prediction, task by task and step by step, once the target exists."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields

import pandas as pd

from evaluation.records import InputError
from predict.task_fit import Prediction, Target
from predict.two_stage import TwoStage

LAST_ROWS = 5
"""A target's actual value is the mean of its last rows, five at most (arXiv 2412.04403, code)."""


@dataclass(frozen=True)
class AuditRow:
    """A prediction beside what came; errors are predicted minus actual.

    `step1_error` and `step2_error` split the accuracy's error: step 2's is what it errs by when
    given the true loss, step 1's is the rest. `top_rung` is the accuracy of the ladder's costliest
    rung that has one, the prediction of someone who fits nothing. Accuracies are None for an LM
    set.
    """

    prediction: Prediction
    actual: float | None
    error: float | None
    loss_actual: float
    loss_error: float
    step1_error: float | None
    step2_error: float | None
    top_rung: float | None

    def flat(self) -> dict[str, object]:
        """The row with the prediction's fields first, as the JSON has it."""
        own = {k: v for k, v in vars(self).items() if k != "prediction"}
        return {**asdict(self.prediction), **own}


@dataclass(frozen=True)
class Audit:
    """Every target's rows and the mean absolute error over those that have an accuracy."""

    rows: tuple[AuditRow, ...]

    @property
    def mean_abs_error(self) -> float | None:
        """Mean of |error| over tasks and targets, in [0, 1]; None without an accuracy."""
        errors = [abs(row.error) for row in self.rows if row.error is not None]
        return sum(errors) / len(errors) if errors else None

    def frame(self) -> pd.DataFrame:
        """One row a task and target."""
        names = [f.name for f in (*fields(Prediction), *fields(AuditRow)) if f.name != "prediction"]
        return pd.DataFrame([row.flat() for row in self.rows], columns=names)


def targets_of(observations: pd.DataFrame) -> list[Target]:
    """The runs of role target, with the tokens of their last row; raises InputError for none."""
    table = observations[observations["role"] == "target"]
    if not len(table):
        raise InputError("no run has the role target; mark one in the observations")
    last = table.sort_values("step", kind="stable").groupby("run", sort=False).tail(1)
    untrained = last.loc[last["tokens"] <= 0, "run"]
    if len(untrained):
        raise InputError(f"run {untrained.iloc[0]}: a target's last row must have tokens above 0")
    return [
        Target(str(r.run), float(r.params), float(r.tokens))
        for r in last.sort_values("params").itertuples()
    ]


def smaller_than_ladder(model: TwoStage, targets: Sequence[Target]) -> list[str]:
    """A warning for each target that costs less than the ladder's costliest rung, by 6ND."""
    rungs = [rung for fitted in model.fits_.values() for rung in fitted.rungs]
    top = max(rungs, key=lambda r: r.params * r.tokens)
    return [
        f"target {t.name}: {t.params * t.tokens * 6:.3g} FLOPs by 6ND are below rung {top.run}'s "
        f"{top.params * top.tokens * 6:.3g}; this is no extrapolation"
        for t in targets
        if t.params * t.tokens < top.params * top.tokens
    ]


def audit(model: TwoStage, observations: pd.DataFrame) -> Audit:
    """Score a fitted predictor against every run of role target that measured its tasks."""
    rows = []
    for target in targets_of(observations):
        table = observations[
            (observations["run"] == target.name) & observations[model.feature].notna()
        ].sort_values("step", kind="stable")
        measured = dict(list(table.groupby("task", sort=False)))
        rows += [
            _row(model, task, target, measured[task]) for task in model.fits_ if task in measured
        ]
    if not rows:
        raise InputError("no target measured a task that the ladder measured; nothing to audit")
    return Audit(tuple(rows))


def audit_document(model: TwoStage, audited: Audit) -> dict[str, object]:
    """The JSON that `ladder audit` promises."""
    return {
        "version": 1,
        "method": model.method.name,
        "mean_abs_error": audited.mean_abs_error,
        "rows": [row.flat() for row in audited.rows],
        "left_out": model.left_out_,
        "warnings": model.warnings(),
    }


def _row(model: TwoStage, task: str, target: Target, measured: pd.DataFrame) -> AuditRow:
    fitted = model.fits_[task]
    last = measured.tail(LAST_ROWS)
    loss = float(last[model.feature].mean())
    actual = float(last["accuracy"].mean()) if "accuracy" in last else None
    if actual != actual:
        actual = None
    prediction = model.predict_one(task, target)
    given_loss = fitted.accuracy(loss)
    error = step1 = step2 = None
    if actual is not None and prediction.predicted is not None and given_loss is not None:
        error = prediction.predicted - actual
        step2 = given_loss - actual
        step1 = error - step2
    scored = [rung for rung in fitted.rungs if rung.accuracy is not None]
    top = max(scored, key=lambda r: r.params * r.tokens, default=None)
    return AuditRow(
        prediction=prediction,
        actual=actual,
        error=error,
        loss_actual=loss,
        loss_error=prediction.loss_predicted - loss,
        step1_error=step1,
        step2_error=step2,
        top_rung=None if top is None else top.accuracy,
    )
