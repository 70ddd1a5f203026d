"""Which run to train next: the one that most narrows the target's interval per FLOP."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from evaluation.records import InputError
from predict.beliefs import METHOD, OWN, Belief, believe
from predict.chains import least_rungs
from predict.design import Design, choose
from predict.intervals import interval, sampling_noise
from predict.laws import Array
from predict.next_result import Candidate, Expected, NextRuns, Stage
from predict.points import NEAR, TaskPoints, task_points
from predict.task_fit import Target
from predict.two_stage import TwoStage

DRAWS = 16
"""Plausible parameters that the expected variance is averaged over (benchmarks/next_run.md)."""

MOST = 60
"""Candidates that are still chosen among in seconds."""


class Problem:
    """Beliefs from the observed rungs, the target and the candidates, as designs to choose by."""

    def __init__(
        self,
        observations: pd.DataFrame | None,
        target: Target,
        candidates: Sequence[Candidate],
        rungs: Sequence[str] = (),
        tasks: Sequence[str] = (),
        feature: str = "loss",
        draws: int = DRAWS,
        seed: int = 0,
    ) -> None:
        self.target, self.candidates = target, tuple(candidates)
        self.points, about = _observed(observations, rungs, tasks, feature)
        designs = [(c.params, c.tokens) for c in candidates]
        self.beliefs = believe(self.points, about, designs, draws, seed)
        scored = [b for b in self.beliefs if b.has_accuracy]
        self.designs: tuple[Design, ...]
        self.loss = self._design(self.beliefs, 0)
        self.accuracy = self._design(scored, 1) if scored else None
        self.designs = (self.loss,)
        if self.accuracy is not None:
            counted = np.repeat([b.has_accuracy for b in self.beliefs], draws)
            self.designs = (self.loss.of(np.flatnonzero(counted).tolist()), self.accuracy)

    def expected(self, sets: Sequence[Sequence[int]]) -> Array:
        """What is to be small after each set of candidates, (S,): 1 without any.

        The mean standard error of the log loss over that without a run, and, where tasks have an
        accuracy, the mean with that of the accuracy; other tasks then do not count.
        """
        parts = [d.mean_error(sets) / d.mean_error([()]) for d in self.designs]
        return np.asarray(np.mean(parts, axis=0))

    def _design(self, beliefs: Sequence[Belief], which: int) -> Design:
        """The design of the log loss (0) or the accuracy (1) of these tasks, draws within tasks."""
        where = np.array([[self.target.params], [self.target.tokens]])
        runs = np.array([[c.params, c.tokens] for c in self.candidates]).T
        base, added, gradient, climb, climb_now = [], [], [], [], []
        for belief in beliefs:
            points = self.points.get(belief.task)
            value = belief.values(*where)[which]
            base.append(belief.precision(points))
            added.append([self._information(belief, c) for c in self.candidates])
            gradient.append(belief.gradients(*where)[which][:, 0])
            climb.append(np.abs(value - belief.values(*runs)[which]))
            if points is not None:
                seen = np.array([[r.params, r.tokens] for r in points.rungs]).T
                climb_now.append(np.abs(value - belief.values(*seen)[which]).min(axis=1))
            else:
                # Without a run nothing is nearer than the farthest candidate.
                climb_now.append(climb[-1].max(axis=1))
        widths = METHOD.loss_widths if which == 0 else OWN.widths
        return Design(
            base=np.concatenate(base),
            added=np.concatenate(added, axis=1),
            target=np.concatenate(gradient),
            climb_now=np.concatenate(climb_now),
            climb=np.concatenate(climb).T,
            parameters_weight=widths.parameters,
            climb_weight=widths.climb,
        )

    def _information(self, belief: Belief, candidate: Candidate) -> Array:
        """What a candidate adds; nothing where it repeats a rung, whose weight it would share."""
        found = belief.information(candidate.params, candidate.tokens)
        points = self.points.get(belief.task)
        return found if points is None or not repeated(candidate, points) else 0 * found

    def stage(self, run: Candidate | None, chosen: Sequence[int]) -> Stage:
        """What is expected after the chosen candidates."""
        loss = self._errors(self.loss, chosen, len(self.beliefs))
        scored = [b.task for b in self.beliefs if b.has_accuracy]
        accuracy = dict[str, float]()
        if self.accuracy is not None:
            errors = self._errors(self.accuracy, chosen, len(scored))
            accuracy = dict(zip(scored, errors, strict=True))
        tasks = [
            self._expected(belief, float(error), accuracy.get(belief.task))
            for belief, error in zip(self.beliefs, loss, strict=True)
        ]
        return Stage(run, float(sum(self.candidates[i].flops for i in chosen)), tuple(tasks))

    def _errors(self, design: Design, chosen: Sequence[int], tasks: int) -> Array:
        """Each task's expected standard error, the mean over its draws."""
        errors = np.sqrt(design.variance([chosen])[0])
        return np.asarray(errors.reshape(tasks, -1).mean(axis=1))

    def _expected(self, belief: Belief, loss: float, accuracy: float | None) -> Expected:
        where = np.array([self.target.params]), np.array([self.target.tokens])
        log_loss, predicted = (float(v[0, 0]) for v in belief.values(*where))
        points = self.points.get(belief.task)
        top = max(points.rungs, key=lambda r: r.params * r.tokens) if points else None
        jitter = (top.loss_sd or 0.0) / top.loss if top else 0.0
        result = Expected(
            belief.task, math.exp(log_loss), math.hypot(loss, jitter), None, None, None
        )
        if accuracy is None:
            return result
        noise = sampling_noise(predicted, belief.instances, top.accuracy_sd if top else None)
        error = math.hypot(accuracy, noise)
        bounds = interval(predicted, error, 0.0, 1.0)
        return Expected(
            belief.task,
            result.loss,
            result.loss_sd,
            predicted,
            error,
            bounds.upper80 - bounds.lower80,
        )


def next_runs(
    observations: pd.DataFrame | None,
    target: Target,
    candidates: Sequence[Candidate],
    budget: float,
    rungs: Sequence[str] = (),
    tasks: Sequence[str] = (),
    feature: str = "loss",
    draws: int = DRAWS,
    seed: int = 0,
) -> NextRuns:
    """The sequence of runs within the budget, in FLOPs, that most narrows the target's interval.

    Without observations, or with few, priors speak in their place, and `notes` says so. `rungs`
    and `tasks` are name patterns as TwoStage takes them. Raises InputError where the question has
    no answer: nothing affordable, nothing to extrapolate, runs that are there already, one size.
    """
    _check(target, candidates, budget)
    problem = Problem(observations, target, candidates, rungs, tasks, feature, draws, seed)
    _check_observed(problem, observations)
    order = choose(problem.expected, [c.flops for c in candidates], budget)
    stages = [problem.stage(problem.candidates[run], order[: i + 1]) for i, run in enumerate(order)]
    return NextRuns(
        target,
        budget,
        problem.stage(None, ()),
        tuple(stages),
        problem.stage(None, range(len(candidates))),
        tuple(_notes(problem)),
    )


def repeated(candidate: Candidate, points: TaskPoints) -> str:
    """The rung of the candidate's params and tokens, within 1%; empty where there is none."""
    for rung in points.rungs:
        if (
            abs(math.log(rung.params / candidate.params)) < NEAR
            and abs(math.log(rung.tokens / candidate.tokens)) < NEAR
        ):
            return rung.run
    return ""


def _observed(
    observations: pd.DataFrame | None, rungs: Sequence[str], tasks: Sequence[str], feature: str
) -> tuple[dict[str, TaskPoints], dict[str, tuple[float | None, int | None]]]:
    """Every task's points, and its chance and number of items."""
    if observations is None:
        return {}, {}
    table = TwoStage(rungs=rungs, tasks=tasks, feature=feature).fitted_rows(observations)
    points, about = {}, {}
    for name, rows in table.groupby("task", sort=False):
        task = str(name)
        points[task] = task_points(rows, METHOD, feature)
        instances = _first(rows, "instances")
        about[task] = _first(rows, "chance"), None if instances is None else int(instances)
    return points, about


def _first(rows: pd.DataFrame, column: str) -> float | None:
    if column not in rows:
        return None
    values = rows[column].dropna()
    return float(values.iloc[0]) if len(values) else None


def _check(target: Target, candidates: Sequence[Candidate], budget: float) -> None:
    """What can be said against the question before anything is fitted."""
    if not candidates:
        raise InputError(
            "no candidate run; name one with --candidate NAME:PARAMS:TOKENS, or a config "
            "with --config, whose rungs they are"
        )
    if len(candidates) > MOST:
        raise InputError(f"{len(candidates)} candidates: at most {MOST} can be chosen among")
    names = [c.name for c in candidates]
    if doubled := next((n for n in names if names.count(n) > 1), None):
        raise InputError(f"candidate {doubled}: is given twice; a rerun needs a name of its own")
    for c in candidates:
        if c.params * c.tokens >= target.params * target.tokens:
            raise InputError(
                f"candidate {c.name}: costs no less than the target {target.name} "
                f"({6 * c.params * c.tokens:.3g} and {6 * target.params * target.tokens:.3g} "
                "FLOPs by 6ND); leave it out, or train the target"
            )
    cheapest = min(candidates, key=lambda c: c.flops)
    if not math.isfinite(budget):
        raise InputError(f"budget {budget}: is not a number of FLOPs")
    if budget < cheapest.flops:
        raise InputError(
            f"budget {budget:.3g} FLOPs: the cheapest candidate, {cheapest.name}, costs "
            f"{cheapest.flops:.3g}; raise the budget or add a cheaper candidate"
        )


def _check_observed(problem: Problem, observations: pd.DataFrame | None) -> None:
    """What the observed runs, fitted or not, say against the question."""
    target = problem.target
    rungs = [r for p in problem.points.values() for r in p.rungs]
    known = set() if observations is None else set(observations.loc[observations["final"], "run"])
    for c in problem.candidates:
        if c.name in known:
            raise InputError(
                f"candidate {c.name}: is in the observations already; leave it out, or give a "
                "rerun a name of its own"
            )
    for r in rungs:
        if r.params * r.tokens >= target.params * target.tokens:
            raise InputError(
                f"target {target.name}: costs no more than run {r.run}, which is trained; there "
                "is nothing to extrapolate, use `ladder predict`"
            )
    runs = [(r.params, r.tokens) for r in rungs]
    runs += [(c.params, c.tokens) for c in problem.candidates]
    for measure, seen, wanted in _measures(runs, target):
        if max(seen) < 1.1 * min(seen) and not 0.8 < wanted / seen[0] < 1.25:
            raise InputError(
                f"every run and candidate has {seen[0]:.3g} {measure} and the target "
                f"{wanted:.3g}; add a candidate of other {measure}"
            )


def _measures(
    runs: Sequence[tuple[float, float]], target: Target
) -> list[tuple[str, list[float], float]]:
    """What runs differ in: its name, every run's, the target's."""
    return [
        ("params", [n for n, _ in runs], target.params),
        ("tokens", [d for _, d in runs], target.tokens),
        ("tokens a parameter", [d / n for n, d in runs], target.tokens / target.params),
    ]


def _notes(problem: Problem) -> list[str]:
    """Where the prior speaks, or a task does not count."""
    if not problem.points:
        return [
            "no observations: the prior's centre stands for the laws (exponents 0.3 +- 0.15, "
            "either term about a third of the loss, noise 1%, chance 25%)"
        ]
    notes = []
    longest = max(problem.points.values(), key=lambda p: len(p.rungs))
    most = longest.rungs
    needed = least_rungs(OWN)
    if len(most) < needed:
        notes.append(
            f"{len(most)} of the {needed} rungs that `ladder predict` needs: the expected "
            "intervals lean on priors"
        )
    for measure, seen, _ in _measures([(r.params, r.tokens) for r in most], problem.target)[:2]:
        if max(seen) < 1.1 * min(seen):
            notes.append(f"every rung has {seen[0]:.3g} {measure}: its exponent is the prior's")
    reruns = {c.name: name for c in problem.candidates if (name := repeated(c, longest))}
    notes += [
        f"candidate {one} repeats run {other}, whose weight it would share: it adds nothing"
        for one, other in reruns.items()
    ]
    silent = [b.task for b in problem.beliefs if not b.has_accuracy]
    if silent and problem.accuracy is not None:
        notes.append(
            f"without an accuracy, so not counted in the choice: {', '.join(silent[:4])}"
            + (f" and {len(silent) - 4} more" if len(silent) > 4 else "")
        )
    return notes
