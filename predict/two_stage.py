"""The two fits and their chain: (params, tokens) -> loss -> accuracy, for every task at once."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from evaluation.records import COLUMNS, InputError, write_text
from predict.fit import Fit, fit
from predict.laws import get_law
from predict.methods import Method, get_method, with_laws
from predict.points import RungPoint, TaskPoints, padded

FORMAT_VERSION = 1
"""Version of the JSON that a fitted predictor is saved as."""


@dataclass(frozen=True)
class Target:
    """A model to be predicted; params as N in the observations table, tokens trained on."""

    name: str
    params: float
    tokens: float


@dataclass(frozen=True)
class Prediction:
    """One task's prediction for one target; accuracies in [0, 1], loss in the task's unit."""

    task: str
    target: str
    params: float
    tokens: float
    predicted: float | None
    """None for a task without an accuracy, an LM validation set."""
    loss_predicted: float
    status: str
    """`ok`, `extrapolated` or `unpredictable`."""
    reason: str
    lower80: float | None = None
    upper80: float | None = None
    lower95: float | None = None
    upper95: float | None = None
    loss_lower80: float | None = None
    loss_upper80: float | None = None


def predictions_document(model: TwoStage, predictions: Sequence[Prediction]) -> dict[str, Any]:
    """The JSON that `ladder predict` promises."""
    return {
        "version": 1,
        "method": model.method.name,
        "rows": [asdict(p) for p in predictions],
        "left_out": model.left_out_,
        "warnings": model.warnings(),
    }


@dataclass(frozen=True)
class TaskFit:
    """One task's two fits and the points that they were fitted to."""

    task: str
    loss_unit: str
    chance: float | None
    instances: int | None
    step1: Fit
    step2: Fit | None
    """None for a task without an accuracy."""
    rungs: tuple[RungPoint, ...]
    link_loss: tuple[float, ...] = field(repr=False)
    link_accuracy: tuple[float, ...] = field(repr=False)

    def loss(self, params: float, tokens: float) -> float:
        """Step 1: the predicted loss, in the task's unit."""
        return float(get_law(self.step1.law).value(self.step1.theta, params, tokens)[0])

    def accuracy(self, loss: float) -> float | None:
        """Step 2: the accuracy that goes with a loss; None for an LM set."""
        if self.step2 is None:
            return None
        value = get_law(self.step2.law).value(self.step2.theta, loss)[0]
        return float(np.clip(value, 0, 1))

    def steps(self) -> list[tuple[str, Fit]]:
        """The fits there are, by the step's name."""
        both = (("step 1", self.step1), ("step 2", self.step2))
        return [(step, law_fit) for step, law_fit in both if law_fit is not None]

    def warnings(self) -> list[str]:
        """What a reader of these fits must know, one line each."""
        lines = []
        for step, law_fit in self.steps():
            if not law_fit.certified:
                lines.append(f"{self.task}, {step}: {law_fit.doubt}")
            if law_fit.at_bound:
                lines.append(f"{self.task}, {step}: at a bound: {', '.join(law_fit.at_bound)}")
        return lines

    def status(self, loss: float) -> tuple[str, str]:
        """Whether a prediction at that loss can be relied on, and why not."""
        if not self.step1.determined:
            return "unpredictable", f"step 1: {self.step1.doubt}"
        if self.step2 is None:
            return "ok", ""
        best = max((p.accuracy for p in self.rungs if p.accuracy is not None), default=0.0)
        if self.chance is not None:
            noise = math.sqrt(self.chance * (1 - self.chance) / (self.instances or math.inf))
            if best <= self.chance + 2 * noise:
                return "unpredictable", (
                    f"the best rung's accuracy, {best:.3f}, is within two standard errors of "
                    f"chance, {self.chance:.3f}"
                )
        low = min((x for x in self.link_loss if x > 0), default=0.0)
        high = max(self.link_loss, default=math.inf)
        if not low <= loss <= high:
            return "extrapolated", (
                f"step 2 is read at loss {loss:.4g}, outside the ladder's {low:.4g} to {high:.4g}"
            )
        return "ok", ""


class TwoStage:
    """Predicts a target's loss and accuracy on every task from a ladder of small models.

    `TwoStage().fit(observations)` returns the fitted predictor. `method` names an entry of
    `predict.methods.METHODS`; `feature` is the column that links both steps, by default the loss;
    `rungs` and `tasks` are name patterns, by default every run of role ladder and every task;
    `law` and `link` put another registered law in the place of the method's step 1 or step 2.
    """

    def __init__(
        self,
        method: str = "default",
        feature: str = "loss",
        rungs: Sequence[str] = (),
        tasks: Sequence[str] = (),
        law: str | None = None,
        link: str | None = None,
    ) -> None:
        self.method: Method = with_laws(get_method(method), law, link)
        self.feature = feature
        self.rungs = tuple(rungs)
        self.tasks = tuple(tasks)
        self.fits_: dict[str, TaskFit] = {}
        self.left_out_: dict[str, str] = {}
        self.unfinished_: list[str] = []

    def fit(self, observations: pd.DataFrame) -> TwoStage:
        """Fit both steps on the rungs of a validated observations table.

        Tasks that no rung measured are left out, with the reason in `left_out_`. Raises
        InputError where rungs are fewer than step 1's parameters, or nothing matches.
        """
        table = self._fitted_rows(observations)
        counts = table.groupby("task", sort=False)["run"].nunique()
        needed = len(get_law(self.method.law).parameters)
        most = int(counts.max())
        if most < needed:
            raise InputError(
                f"step 1 ({self.method.law}) has {needed} parameters and only {most} rung"
                f"{'s' * (most != 1)} to fit; give at least {needed}"
            )
        self.left_out_ = {
            task: "no rung measured it"
            for task in _matching(observations["task"].unique(), self.tasks, "task")
            if task not in counts.index
        }
        short = counts[counts < needed]
        self.left_out_ |= {t: f"only {n} rungs measured it" for t, n in short.items()}
        table = table[~table["task"].isin(short.index)]
        points = {}
        link_needs = len(get_law(self.method.link).parameters)
        for task, rows in table.groupby("task", sort=False):
            found = TaskPoints(rows, self.method, self.feature)
            if 0 < len(found.link_loss) < link_needs:
                self.left_out_[str(task)] = (
                    f"only {len(found.link_loss)} checkpoints have an accuracy, step 2 needs "
                    f"{link_needs}"
                )
            else:
                points[str(task)] = found
        if not points:
            raise InputError(f"no task can be fitted: {_reasons(self.left_out_)}")
        step1 = self._fit_step1(points)
        step2 = self._fit_step2(points)
        self.fits_ = {task: _fitted(p, step1[task], step2.get(task)) for task, p in points.items()}
        return self

    def predict_one(self, task: str, target: Target) -> Prediction:
        """One task's prediction for one target."""
        fitted = self.fits_[task]
        loss = fitted.loss(target.params, target.tokens)
        status, reason = fitted.status(loss)
        return Prediction(
            task=task,
            target=target.name,
            params=target.params,
            tokens=target.tokens,
            predicted=fitted.accuracy(loss),
            loss_predicted=loss,
            status=status,
            reason=reason,
        )

    def predict_targets(self, targets: Iterable[Target]) -> list[Prediction]:
        """Every task's prediction for every target, target by target."""
        self._check_fitted()
        return [self.predict_one(task, target) for target in targets for task in self.fits_]

    def predict(self, params: float, tokens: float, name: str = "target") -> pd.DataFrame:
        """A data frame with one row a task for a model of `params` trained on `tokens`."""
        if not (params > 0 and tokens > 0 and math.isfinite(params * tokens)):
            raise InputError(f"target {name}: params and tokens must be above 0 and finite")
        return pd.DataFrame(map(asdict, self.predict_targets([Target(name, params, tokens)])))

    def warnings(self) -> list[str]:
        """What a reader of the fits must know, one line each."""
        lines = [f"run {run}: has no final row, not fitted" for run in self.unfinished_]
        return lines + [line for fitted in self.fits_.values() for line in fitted.warnings()]

    def report(self) -> str:
        """The fitted laws and their certificates as text."""
        self._check_fitted()
        lines = [f"method {self.method.name} ({self.method.source})"]
        for task, fitted in self.fits_.items():
            lines.append(f"\n{task}, {len(fitted.rungs)} rungs")
            for step, law_fit in fitted.steps():
                lines.append(f"  {step}  {get_law(law_fit.law).formula}: {law_fit.values()}")
                lines.append(f"          {law_fit.certificate()}")
        return "\n".join(lines)

    def save(self, path: Path | str) -> None:
        """Write the fitted predictor as JSON, atomically."""
        self._check_fitted()
        document = {
            "version": FORMAT_VERSION,
            "method": self.method.name.partition("+")[0],
            "law": self.method.law,
            "link": self.method.link,
            "feature": self.feature,
            "rungs": self.rungs,
            "tasks": self.tasks,
            "left_out": self.left_out_,
            "unfinished": self.unfinished_,
            "fits": [asdict(fitted) for fitted in self.fits_.values()],
        }
        write_text(path, json.dumps(document, allow_nan=False))

    @classmethod
    def load(cls, path: Path | str) -> TwoStage:
        """Read a predictor that `save` wrote; raises InputError where it is none."""
        try:
            document = json.loads(Path(path).read_text(encoding="utf-8"))
            if document["version"] != FORMAT_VERSION:
                raise InputError(f"{path}: format {document['version']} is not {FORMAT_VERSION}")
            model = cls(
                document["method"],
                document["feature"],
                document["rungs"],
                document["tasks"],
                document["law"],
                document["link"],
            )
            model.left_out_ = document["left_out"]
            model.unfinished_ = document["unfinished"]
            model.fits_ = {entry["task"]: _task_fit(entry) for entry in document["fits"]}
        except (OSError, KeyError, TypeError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{path}: not a saved predictor ({error!r})") from error
        return model

    def _check_fitted(self) -> None:
        if not self.fits_:
            raise InputError("the predictor is not fitted; call fit(observations) first")

    def _fitted_rows(self, observations: pd.DataFrame) -> pd.DataFrame:
        table = observations
        own = {column.name for column in COLUMNS} - {"loss"}
        if self.feature in own:
            raise InputError(
                f"feature {self.feature!r}: a feature is loss or a numeric column of your own"
            )
        if self.feature not in table.columns:
            raise InputError(
                f"feature {self.feature!r}: no such column; there are {', '.join(table.columns)}"
            )
        if not pd.api.types.is_numeric_dtype(table[self.feature]):
            raise InputError(f"feature {self.feature!r}: not a column of numbers")
        if self.rungs:
            table = table[table["role"] != "target"]
            table = table[table["run"].isin(_matching(table["run"].unique(), self.rungs, "run"))]
        else:
            table = table[table["role"] == "ladder"]
            if not len(table):
                raise InputError("no run has the role ladder; name the rungs with --rungs")
        if self.tasks:
            table = table[table["task"].isin(_matching(table["task"].unique(), self.tasks, "task"))]
        finished = table.groupby("run")["final"].transform("any")
        self.unfinished_ = sorted(set(table.loc[~finished, "run"]))
        table = table[finished & table[self.feature].notna() & (table["tokens"] > 0)]
        if not len(table):
            raise InputError(f"no finished run has a value of {self.feature!r}")
        if (table[self.feature] <= 0).any():
            raise InputError(f"feature {self.feature!r}: has values at or below 0; laws need > 0")
        return table.sort_values(["run", "step"], kind="stable")

    def _fit_step1(self, points: dict[str, TaskPoints]) -> dict[str, Fit]:
        tasks = list(points)
        params = padded([[r.params for r in points[t].rungs] for t in tasks])
        tokens = padded([[r.tokens for r in points[t].rungs] for t in tasks])
        losses = padded([[r.loss for r in points[t].rungs] for t in tasks])
        fits = fit(
            get_law(self.method.law),
            [np.nan_to_num(params, nan=1), np.nan_to_num(tokens, nan=1)],
            np.nan_to_num(losses, nan=1),
            self.method.step1,
            weights=np.isfinite(losses).astype(float),
        )
        return dict(zip(tasks, fits, strict=True))

    def _fit_step2(self, points: dict[str, TaskPoints]) -> dict[str, Fit]:
        tasks = [t for t, p in points.items() if p.link_loss]
        if not tasks:
            return {}
        law = get_law(self.method.link)
        ideal = [0.0] * self.method.ideal_point, [1.0] * self.method.ideal_point
        losses = padded([[*points[t].link_loss, *ideal[0]] for t in tasks])
        accuracies = padded([[*points[t].link_accuracy, *ideal[1]] for t in tasks])
        weights = np.isfinite(losses).astype(float)
        # A padded point repeats the task's first, so that grids see only real losses.
        losses = np.where(weights > 0, losses, losses[:, :1])
        accuracies = np.where(weights > 0, accuracies, accuracies[:, :1])
        fits = fit(law, [losses], accuracies, self.method.step2, weights=weights)
        return dict(zip(tasks, fits, strict=True))


def _fitted(points: TaskPoints, step1: Fit, step2: Fit | None) -> TaskFit:
    return TaskFit(
        task=points.task,
        loss_unit=points.loss_unit,
        chance=points.chance,
        instances=None if points.instances is None else int(points.instances),
        step1=step1,
        step2=step2,
        rungs=tuple(points.rungs),
        link_loss=tuple(points.link_loss),
        link_accuracy=tuple(points.link_accuracy),
    )


def _reasons(left_out: dict[str, str]) -> str:
    return "; ".join(f"{task}, {why}" for task, why in list(left_out.items())[:3])


def _matching(names: Iterable[str], patterns: Sequence[str], kind: str) -> list[str]:
    """The names that a pattern matches, all without one; InputError for one that matches none."""
    known = list(names)
    for pattern in patterns:
        if not any(fnmatch(name, pattern) for name in known):
            shown = ", ".join(known[:6]) + (", ..." if len(known) > 6 else "")
            raise InputError(f"{pattern!r}: matches no {kind} of the ladder; there are {shown}")
    return [n for n in known if not patterns or any(fnmatch(n, p) for p in patterns)]


def _task_fit(entry: dict[str, Any]) -> TaskFit:
    step2 = entry["step2"]
    plain = TaskFit(
        **{
            **entry,
            "step1": _fit(entry["step1"]),
            "step2": None if step2 is None else _fit(step2),
            "rungs": tuple(RungPoint(**r) for r in entry["rungs"]),
        }
    )
    return replace(
        plain,
        link_loss=tuple(entry["link_loss"]),
        link_accuracy=tuple(entry["link_accuracy"]),
    )


def _fit(entry: dict[str, Any]) -> Fit:
    return Fit(**{**entry, "at_bound": tuple(entry["at_bound"])})
