"""The predictor: (params, tokens) -> loss -> accuracy, for every task of a ladder at once."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pandas as pd

from evaluation.records import COLUMNS, InputError
from predict.chains import (
    ChainFit,
    fit_chain,
    fitted_rungs,
    least_checkpoints,
    least_rungs,
    who_votes,
)
from predict.laws import get_law
from predict.methods import Chain, Method, NormalPrior, get_method, with_laws
from predict.points import TaskPoints, points_by_task
from predict.saved import load_document, save_document
from predict.shared import pooled_tasks, shared_feature
from predict.task_fit import (
    LARGEST_LOSS,
    Prediction,
    Target,
    TaskFit,
    predict_many,
    signal,
)

SHARED = "_shared"
"""Column that the shared feature has while it is fitted."""

SCALE = (1e-60, LARGEST_LOSS)
"""Values of a feature that can be fitted without overflow."""

MEASURED = 0.95
"""Share of a run's tokens up to which a task must have been measured to be its result."""

KEY = ["run", "step"]
"""Columns that say which evaluation a row belongs to."""


def predictions_document(model: TwoStage, predictions: Sequence[Prediction]) -> dict[str, Any]:
    """The JSON that `ladder predict` promises."""
    return {
        "version": 1,
        "method": model.method.name,
        "rows": [asdict(p) for p in predictions],
        "left_out": model.left_out_,
        "warnings": model.warnings(),
    }


class TwoStage:
    """Predicts a target's loss and accuracy on every task from a ladder of small models.

    `TwoStage().fit(observations)` returns the fitted predictor. `method` names an entry of
    `predict.methods.METHODS`; `feature` is the column that links both steps, by default the loss;
    `rungs` and `tasks` are name patterns, by default every run of role ladder and every task;
    `law` and `link` put another registered law in the place of the method's step 1 or step 2.

    >>> from predict import TwoStage, read_observations
    >>> model = TwoStage(tasks=["arc_*"]).fit(read_observations("mine.csv"))
    >>> frame = model.predict(params=6.89e9, tokens=3.95e12, name="7B-4T")
    >>> frame[["task", "target", "status"]].values.tolist()
    [['arc_easy', '7B-4T', 'extrapolated']]
    >>> row = frame.iloc[0]
    >>> bool(0.25 < row.lower80 < row.predicted < row.upper80 <= 1)
    True
    >>> print(model.report())
    method default (median of three chains, chosen by back-tests: benchmarks/methods.md)
    ...
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
        self.law, self.link = law, link
        self.feature = feature
        self.rungs = tuple(rungs)
        self.tasks = tuple(tasks)
        self.fits_: dict[str, TaskFit] = {}
        self.left_out_: dict[str, str] = {}
        self.unfinished_: list[str] = []
        self.pooled_: list[str] = []
        self.points_: dict[str, dict[str, TaskPoints]] = {}
        self.chains_: list[Chain] = []

    def fit(self, observations: pd.DataFrame) -> TwoStage:
        """Fit both steps on the rungs of a validated observations table.

        Tasks that no rung measured are left out, with the reason in `left_out_`. Raises
        InputError where rungs are fewer than step 1's parameters, or nothing matches.
        """
        self.fits_, self.pooled_ = {}, []
        table = self.fitted_rows(observations)
        runs = self._chosen_runs(observations)
        self.unfinished_ = sorted(set(runs.loc[~finished(runs), "run"]))
        counts = table.groupby("task", sort=False)["run"].nunique()
        own = self.method.chains[0]
        needed = least_rungs(own)
        most = int(counts.max())
        if most < needed:
            raise InputError(
                f"step 1 ({own.law}) needs {needed} rungs and there {_are(most)}; train or name "
                f"at least {needed}"
            )
        self.left_out_ = {
            task: "no rung measured it"
            for task in matching(observations["task"].unique(), self.tasks, "task")
            if task not in counts.index
        }
        short = counts[counts < needed]
        self.left_out_ |= {t: f"only {n} rungs measured it" for t, n in short.items()}
        table = table[~table["task"].isin(short.index)]
        points = {}
        link_needs = least_checkpoints(own, self.method)
        for task, found in points_by_task(table, self.method, self.feature).items():
            distinct = len(fitted_rungs(own, found, self.method))
            if distinct < needed:
                self.left_out_[task] = (
                    f"only {distinct} rung{'s' * (distinct != 1)} but for their seeds measured it"
                )
            elif 0 < len(found.link_loss) < link_needs:
                self.left_out_[task] = (
                    f"only {len(found.link_loss)} checkpoints have an accuracy, step 2 needs "
                    f"{link_needs}"
                )
            else:
                points[task] = found
        if not points:
            raise InputError(f"no task can be fitted: {_reasons(self.left_out_)}")
        everything = table
        if self.tasks and self.method.centre_sd is not None:
            everything = self.fitted_rows(observations, every_task=True)
            everything = everything[everything[self.feature].between(*SCALE)]
        self._fit_chains(points, table, everything)
        return self

    def _fit_chains(
        self, points: dict[str, TaskPoints], rows: pd.DataFrame, table: pd.DataFrame
    ) -> None:
        """Fit the chains to the points, of `rows`; `table` holds every task, chosen or not."""
        own, *others = self.method.chains
        scored = {task: found for task, found in points.items() if len(found.link_loss)}
        self.points_ = {own.kind: points}
        centre: tuple[NormalPrior, ...] = ()
        shared: dict[str, TaskPoints] = {}
        if self.method.centre_sd is not None:
            self.pooled_ = pooled_tasks(table, self.feature, self._signals(own, table))
            shared = self._shared_points(rows, table)
            centre = self._centre(own, table)
        own = replace(own, priors=centre or own.priors)
        chains = {task: [f] for task, f in fit_chain(own, self.method, points).items()}
        for task in [t for t in points if t not in chains]:
            self.left_out_[task] = "step 1 has no finite fit to its losses"
            points.pop(task)
            scored.pop(task, None)
        if not chains:
            raise InputError(f"no task can be fitted: {_reasons(self.left_out_)}")
        signals = {task: signal(points[task].rungs, fits[0].step1) for task, fits in chains.items()}
        self.chains_ = [own]
        for chain in others:
            usable = scored
            if chain.kind == "shared":
                # A pool of one task is no second opinion for it.
                usable = {t: shared[t] for t in scored if t in shared and self.pooled_ != [t]}
                chain = replace(chain, priors=centre or chain.priors)
            self.points_[chain.kind] = usable
            self.chains_.append(chain)
            for task, fitted in fit_chain(chain, self.method, usable).items():
                chains[task].append(fitted)
        columns = ("loss_unit", "instances", "chance")
        told = {name: _firsts(rows, name) for name in columns}
        self.fits_ = {
            task: self._task_fit(
                task, points[task], {n: told[n].get(task) for n in columns}, fits, signals[task]
            )
            for task, fits in chains.items()
        }

    def _signals(self, own: Chain, table: pd.DataFrame) -> dict[str, float]:
        """How clearly each task's feature moves, by a first fit of step 1."""
        points = points_by_task(table, self.method, self.feature)
        fits = fit_chain(replace(own, link=None), self.method, points)
        return {task: signal(points[task].rungs, f.step1) for task, f in fits.items()}

    def _centre(self, own: Chain, table: pd.DataFrame) -> tuple[NormalPrior, ...]:
        """The own chain's priors, their means taken from the shared feature.

        From every evaluation that has one, so that no task's own choice of them counts. Without a
        shared feature the priors are as wide as those that it would have been fitted with.
        """
        every = table.drop_duplicates(KEY).assign(task=SHARED)
        points = self._shared_points(every, table)
        sd = self.method.centre_sd or 0.0
        wide = replace(own, link=None, priors=tuple(replace(p, sd=sd) for p in own.priors))
        found = fit_chain(wide, self.method, points) if own.priors else {}
        if not found:
            return tuple(replace(p, sd=math.hypot(p.sd, sd)) for p in own.priors)
        fitted = found[SHARED].step1.parameters
        return tuple(replace(p, mean=fitted[p.parameter]) for p in own.priors)

    def _shared_points(self, rows: pd.DataFrame, table: pd.DataFrame) -> dict[str, TaskPoints]:
        """Every task's points with the shared feature in the place of its own."""
        if not self.pooled_:
            return {}
        values = shared_feature(table, self.feature, self.pooled_)
        where = pd.MultiIndex.from_frame(rows[KEY])
        shared = rows.assign(**{SHARED: values.reindex(where).to_numpy()})
        return points_by_task(shared, self.method, SHARED)

    def _task_fit(
        self,
        task: str,
        points: TaskPoints,
        told: dict[str, Any],
        chains: list[ChainFit],
        strength: float,
    ) -> TaskFit:
        voters = {c.kind for c in self.method.chains if c.votes}
        able = [c for c in chains if c.kind in voters and (c.step2 or c.kind == "direct")]
        chance, instances = told["chance"], told["instances"]
        return TaskFit(
            task=task,
            loss_unit=str(told["loss_unit"]) if self.feature == "loss" else self.feature,
            chance=None if chance is None else float(chance),
            instances=None if instances is None else int(instances),
            rungs=points.rungs,
            chains=tuple(chains),
            votes=who_votes(able, strength),
            link_loss=tuple(points.link_loss.tolist()),
            link_accuracy=tuple(points.link_accuracy.tolist()),
        )

    def predict_one(self, task: str, target: Target) -> Prediction:
        """One task's prediction for one target."""
        return self.fits_[task].predict(target, self.method)

    def predict_targets(self, targets: Iterable[Target]) -> list[Prediction]:
        """Every task's prediction for every target, target by target."""
        self._check_fitted()
        asked = [(fitted, target) for target in targets for fitted in self.fits_.values()]
        return predict_many(asked, self.method)

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
        if self.pooled_:
            lines.append(f"shared loss: the mean of {', '.join(self.pooled_)}")
        for task, fitted in self.fits_.items():
            voting = f", predicted by {', '.join(fitted.votes)}" if fitted.votes else ""
            lines.append(f"\n{task}, {len(fitted.rungs)} rungs{voting}")
            for step, law_fit in fitted.steps():
                lines.append(f"  {step}  {get_law(law_fit.law).formula}: {law_fit.values()}")
                lines.append(f"          {law_fit.certificate()}")
        return "\n".join(lines)

    def save(self, path: Path | str) -> None:
        """Write the fitted predictor as JSON, atomically."""
        self._check_fitted()
        kept = {"left_out": self.left_out_, "unfinished": self.unfinished_, "pooled": self.pooled_}
        save_document(path, {"settings": self.settings(), **kept}, self.fits_)

    @classmethod
    def load(cls, path: Path | str) -> TwoStage:
        """Read a predictor that `save` wrote; raises InputError where it is none."""
        document, fits = load_document(path)
        try:
            model = cls.from_settings(document["settings"])
            model.left_out_ = document["left_out"]
            model.unfinished_ = document["unfinished"]
            model.pooled_ = document["pooled"]
        except (KeyError, TypeError) as error:
            raise InputError(f"{path}: not a saved predictor ({error!r})") from error
        model.fits_ = fits
        return model

    def settings(self) -> dict[str, Any]:
        """Everything that it was made with, as `from_settings` takes it."""
        return {
            "method": self.method.name.partition("+")[0],
            "feature": self.feature,
            "rungs": list(self.rungs),
            "tasks": list(self.tasks),
            "law": self.law,
            "link": self.link,
        }

    @classmethod
    def from_settings(cls, settings: dict[str, Any]) -> TwoStage:
        """A predictor, not fitted, of the settings that another one had; KeyError for a gap."""
        names = ("method", "feature", "rungs", "tasks", "law", "link")
        return cls(*(settings[name] for name in names))

    def _check_fitted(self) -> None:
        if not self.fits_:
            raise InputError("the predictor is not fitted; call fit(observations) first")

    def fitted_rows(self, observations: pd.DataFrame, every_task: bool = False) -> pd.DataFrame:
        """The rows that `fit` would use: finished rungs, chosen tasks, a feature above 0.

        With `every_task` those of the tasks that were not chosen as well, whatever their feature.
        A task that a run measured for a part of its tokens only has no rows of that run.
        """
        self._check_feature(observations)
        table = self._chosen_runs(observations)
        table = table[finished(table)]
        chosen = table["task"].unique()
        if not every_task:
            chosen = matching(chosen, self.tasks, "task")
        table = table[table[self.feature].notna() & (table["tokens"] > 0)]
        # Of all tasks: where a run ends does not go by which of them were chosen.
        cut_short = partial(table)
        is_chosen = table["task"].isin(chosen)
        table, cut_short = table[is_chosen], cut_short[is_chosen]
        if not len(table):
            raise InputError(f"no finished run has a value of {self.feature!r}")
        if not every_task and not table[self.feature].between(*SCALE).all():
            raise InputError(
                f"feature {self.feature!r}: has values at or below 0, or beyond {SCALE[1]:g}; a "
                "law of losses needs others"
            )
        if cut_short.all():
            shown = ", ".join(map(str, table["task"].unique()[:3]))
            raise InputError(
                f"{shown}: measured for a part of every finished run's tokens only; measure it at "
                "their ends"
            )
        table = table[~cut_short]
        return table.sort_values(["run", "step"], kind="stable", ignore_index=True)

    def _chosen_runs(self, observations: pd.DataFrame) -> pd.DataFrame:
        if self.rungs:
            table = observations[observations["role"] != "target"]
            return table[table["run"].isin(matching(table["run"].unique(), self.rungs, "run"))]
        table = observations[observations["role"] == "ladder"]
        if not len(table):
            raise InputError("no run has the role ladder; name the rungs with --rungs")
        return table

    def _check_feature(self, table: pd.DataFrame) -> None:
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


def finished(table: pd.DataFrame) -> pd.Series:
    """For each row whether its run has a final row, of any task."""
    return table.groupby("run")["final"].transform("any").astype(bool)


def partial(table: pd.DataFrame) -> pd.Series:
    """For each row whether its task was last measured well before its run's last evaluation."""
    end = table.groupby("run")["tokens"].transform("max")
    own = table.groupby(["run", "task"])["tokens"].transform("max")
    return own < MEASURED * end


def _reasons(left_out: dict[str, str]) -> str:
    return "; ".join(f"{task}, {why}" for task, why in list(left_out.items())[:3])


def matching(names: Iterable[str], patterns: Sequence[str], kind: str) -> list[str]:
    """The names that a pattern matches, all without one; InputError for one that matches none."""
    known = list(names)
    for pattern in patterns:
        if not any(_fits(name, pattern) for name in known):
            shown = ", ".join(known[:6]) + (", ..." if len(known) > 6 else "")
            raise InputError(f"{pattern!r}: matches no {kind} of the ladder; there are {shown}")
    return [n for n in known if not patterns or any(_fits(n, p) for p in patterns)]


def _fits(name: str, pattern: str) -> bool:
    """Whether a pattern matches a name, or is that name, whose brackets are then no pattern's."""
    return name == pattern or fnmatch(name, pattern)


def _firsts(rows: pd.DataFrame, column: str) -> dict[str, Any]:
    """Each task's first value of a column that is not empty; nothing for a task without one."""
    if column not in rows:
        return {}
    known = rows.dropna(subset=column).drop_duplicates("task")
    return dict(zip(map(str, known["task"]), known[column], strict=True))


def _are(count: int) -> str:
    return "is 1" if count == 1 else f"are {count}"
