"""The error of a prediction, task by task and step by step, once the target exists."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields

import pandas as pd

from evaluation.records import InputError
from predict.points import END, NEAR
from predict.task_fit import Prediction, Target, TaskFit, predict_many
from predict.two_stage import TwoStage, partial

LARGEST_RATIO = 1e9
"""Error over what is actual, from which that is 0 but for rounding."""

LAST_ROWS = 5
"""A target's actual value is the mean of its last rows, five at most (arXiv 2412.04403, code), from
predict.points.END on."""


@dataclass(frozen=True)
class AuditRow:
    """A prediction beside what came; errors are predicted minus actual.

    `step1_error` and `step2_error` split the accuracy's error: step 2's is what the task's own
    step 2 errs by when given the true loss, step 1's is the rest. `top_rung` is the accuracy of
    the ladder's costliest rung that has one, the prediction of someone who fits nothing.
    Accuracies are None for an LM set.
    """

    prediction: Prediction
    actual: float | None
    error: float | None
    loss_actual: float
    loss_error: float
    step1_error: float | None
    step2_error: float | None
    top_rung: float | None

    @property
    def relative_error(self) -> float | None:
        """Error of the accuracy over the actual one; None without one, or over what is 0."""
        return None if self.error is None else _over(self.error, self.actual)

    @property
    def loss_relative_error(self) -> float | None:
        """Error of the loss over the actual one; None over what is 0."""
        return _over(self.loss_error, self.loss_actual)

    @property
    def step1_share(self) -> float | None:
        """Step 1's part of |step 1| + |step 2|."""
        if self.step1_error is None or self.step2_error is None:
            return None
        total = abs(self.step1_error) + abs(self.step2_error)
        return abs(self.step1_error) / total if total else None

    @property
    def inside80(self) -> bool | None:
        """Whether the 80% interval holds the actual accuracy; None without one."""
        return _inside(self.actual, self.prediction.lower80, self.prediction.upper80)

    @property
    def inside95(self) -> bool | None:
        """Whether the 95% interval holds the actual accuracy; None without one."""
        return _inside(self.actual, self.prediction.lower95, self.prediction.upper95)

    def flat(self) -> dict[str, object]:
        """The row with the prediction's fields first, as the JSON has it."""
        own = {k: v for k, v in vars(self).items() if k != "prediction"}
        return {**asdict(self.prediction), **own, **{k: getattr(self, k) for k in DERIVED}}


DERIVED = ("relative_error", "loss_relative_error", "step1_share", "inside80", "inside95")
"""What an audit row derives from its fields."""


@dataclass(frozen=True)
class Pooled:
    """Means over rows with an accuracy, the loss's over all rows; None where there is none."""

    target: str
    """A target's name, or `all`."""
    tasks: int
    mean_abs_error: float | None
    mean_abs_relative_error: float | None
    mean_abs_step1_error: float | None
    mean_abs_step2_error: float | None
    step1_share: float | None
    """Step 1's part of all |step 1| + |step 2| together."""
    mean_abs_loss_relative_error: float | None
    inside80: int
    inside95: int
    with_interval: int


@dataclass(frozen=True)
class Audit:
    """Every target's rows, and the mean absolute error over those that have an accuracy."""

    rows: tuple[AuditRow, ...]

    @property
    def mean_abs_error(self) -> float | None:
        """Mean of |error| over tasks and targets, in [0, 1]; None without an accuracy."""
        return _mean([row.error for row in self.rows])

    @property
    def pooled(self) -> tuple[Pooled, ...]:
        """Means a target, and over all of them where there are several."""
        targets = list(dict.fromkeys(row.prediction.target for row in self.rows))
        groups = {t: [r for r in self.rows if r.prediction.target == t] for t in targets}
        if len(targets) > 1:
            groups["all"] = list(self.rows)
        return tuple(_pool(name, rows) for name, rows in groups.items())

    def frame(self) -> pd.DataFrame:
        """One row a task and target."""
        names = [f.name for f in (*fields(Prediction), *fields(AuditRow)) if f.name != "prediction"]
        return pd.DataFrame([row.flat() for row in self.rows], columns=[*names, *DERIVED])


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


def not_beyond_ladder(model: TwoStage, targets: Sequence[Target]) -> list[str]:
    """A warning for each target that is a fitted rung, or costs less than the costliest, by 6ND."""
    rungs = [rung for fitted in model.fits_.values() for rung in fitted.rungs]
    top = max(rungs, key=lambda r: r.params * r.tokens)
    found = []
    for t in targets:
        near = (r.run for r in rungs if _near(r.params, t.params) and _near(r.tokens, t.tokens))
        if twin := next(near, None):
            found.append(
                f"target {t.name}: {twin} has its params and tokens and is fitted; this is no "
                "prediction (--rungs or the role target leaves a run out)"
            )
        elif t.params * t.tokens < top.params * top.tokens:
            found.append(
                f"target {t.name}: {t.params * t.tokens * 6:.3g} FLOPs by 6ND are below rung "
                f"{top.run}'s {top.params * top.tokens * 6:.3g}; this is no extrapolation"
            )
    return found


def _near(one: float, other: float) -> bool:
    return abs(math.log(one / other)) < NEAR


def audit(model: TwoStage, observations: pd.DataFrame) -> Audit:
    """Score a fitted predictor against every run of role target that measured its tasks.

    >>> from predict import TwoStage, audit, read_observations
    >>> table = read_observations("with-7B.csv")
    >>> found = audit(TwoStage().fit(table), table)
    >>> (row,) = found.rows
    >>> row.prediction.task, row.prediction.target, row.inside95
    ('arc_easy', '7B-4T', True)
    >>> abs(row.step1_error + row.step2_error - row.error) < 1e-9
    True
    >>> found.frame()["error"].abs().mean() == found.mean_abs_error
    np.True_
    """
    rows = []
    for target in targets_of(observations):
        table = measured_rows(observations, target.name, model.feature)
        measured = actual_by_task(table, model.feature)
        asked = [(fitted, target) for task, fitted in model.fits_.items() if task in measured]
        for prediction in predict_many(asked, model.method):
            fitted = model.fits_[prediction.task]
            rows.append(audit_row(prediction, fitted, *measured[prediction.task]))
    if not rows:
        raise InputError("no target measured a task that the ladder measured; nothing to audit")
    return Audit(tuple(rows))


def audit_document(model: TwoStage, audited: Audit) -> dict[str, object]:
    """The JSON that `ladder audit` promises."""
    return {
        "version": 1,
        "method": model.method.name,
        "mean_abs_error": audited.mean_abs_error,
        "pooled": [asdict(p) for p in audited.pooled],
        "rows": [row.flat() for row in audited.rows],
        "left_out": model.left_out_,
        "warnings": model.warnings(),
    }


def measured_rows(observations: pd.DataFrame, run: str, feature: str) -> pd.DataFrame:
    """A target's rows with the feature, but of tasks that it measured for a part of its run only.

    As with the ladder's rungs: a result of half a run is none of the run.
    """
    rows = observations[(observations["run"] == run) & observations[feature].notna()]
    return rows[~partial(rows)]


def actual_of(measured: pd.DataFrame, feature: str) -> tuple[float, float | None]:
    """What a target scored on a task, loss and accuracy: the mean of its last rows, by step."""
    last = _at_end(measured).sort_values("step", kind="stable").tail(LAST_ROWS)
    accuracy = float(last["accuracy"].mean()) if "accuracy" in last else math.nan
    return float(last[feature].mean()), None if math.isnan(accuracy) else accuracy


def _at_end(measured: pd.DataFrame) -> pd.DataFrame:
    """A target's rows that show its end, each task's by its own last one."""
    ends = measured.groupby("task", sort=False)["tokens"].transform("max")
    return measured[measured["tokens"] >= END * ends]


def actual_by_task(measured: pd.DataFrame, feature: str) -> dict[str, tuple[float, float | None]]:
    """`actual_of` each task of a target's rows."""
    if "accuracy" not in measured:
        measured = measured.assign(accuracy=math.nan)
    rows = _at_end(measured).sort_values("step", kind="stable")
    last = rows.groupby("task", sort=False).tail(LAST_ROWS)
    means = last.groupby("task", sort=False)[[feature, "accuracy"]].mean()
    return {
        str(task): (loss, None if math.isnan(accuracy) else accuracy)
        for task, loss, accuracy in zip(
            means.index, *(means[name].astype(float).tolist() for name in means), strict=True
        )
    }


def audit_row(
    prediction: Prediction, fitted: TaskFit | None, loss: float, actual: float | None
) -> AuditRow:
    """A prediction beside what came; without the fit its steps cannot be told apart."""
    error = step1 = step2 = None
    if actual is not None and prediction.predicted is not None:
        error = prediction.predicted - actual
        given_loss = fitted.accuracy(loss) if fitted is not None else None
        if given_loss is not None:
            step2 = given_loss - actual
            step1 = error - step2
    return AuditRow(
        prediction=prediction,
        actual=actual,
        error=error,
        loss_actual=loss,
        loss_error=prediction.loss_predicted - loss,
        step1_error=step1,
        step2_error=step2,
        top_rung=None if fitted is None else fitted.top_rung.accuracy,
    )


def _pool(target: str, rows: Sequence[AuditRow]) -> Pooled:
    scored = [r for r in rows if r.error is not None]
    steps = [(r.step1_error, r.step2_error) for r in scored if r.step1_error is not None]
    first = sum(abs(one) for one, _ in steps if one is not None)
    second = sum(abs(two) for _, two in steps if two is not None)
    return Pooled(
        target=target,
        tasks=len(scored),
        mean_abs_error=_mean([r.error for r in scored]),
        mean_abs_relative_error=_mean([r.relative_error for r in scored]),
        mean_abs_step1_error=_mean([r.step1_error for r in scored]),
        mean_abs_step2_error=_mean([r.step2_error for r in scored]),
        step1_share=first / (first + second) if first + second else None,
        mean_abs_loss_relative_error=_mean([r.loss_relative_error for r in rows]),
        inside80=sum(bool(r.inside80) for r in scored),
        inside95=sum(bool(r.inside95) for r in scored),
        with_interval=sum(r.inside80 is not None for r in scored),
    )


def _mean(values: Sequence[float | None]) -> float | None:
    """Mean of the absolute values that there are."""
    found = [abs(v) for v in values if v is not None]
    return sum(found) / len(found) if found else None


def _over(error: float, actual: float | None) -> float | None:
    ratio = error / actual if actual else math.inf
    return ratio if abs(ratio) < LARGEST_RATIO else None


def _inside(value: float | None, lower: float | None, upper: float | None) -> bool | None:
    if value is None or lower is None or upper is None:
        return None
    return lower <= value <= upper
