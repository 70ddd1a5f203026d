"""One task's fitted chains, and the prediction they make together for a target."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from statistics import median

import numpy as np

from predict.chains import ChainFit, Reading, read
from predict.fit import Fit
from predict.intervals import Interval, Uncertainty, interval, sampling_noise
from predict.methods import Method
from predict.points import RungPoint
from predict.shared import WEAK

TOO_WIDE = 0.15
"""Half-width of the 80% interval, in accuracy, from which a number says too little to be one."""


FEWEST = 6
"""Rungs below which no interval was calibrated, as the back-tests fit six or more."""

LARGEST_LOSS = 1e60
"""The largest loss that is fitted or predicted, of any unit."""

FARTHEST = 4.0
"""Range of the ladder, in logarithms, times which a target may lie beyond it."""


Readings = Mapping[str, Reading]
"""What the chains of a fit say of one target, by their kind."""


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


@dataclass(frozen=True)
class TaskFit:
    """One task's fitted chains and the points that they were fitted to."""

    task: str
    loss_unit: str
    chance: float | None
    instances: int | None
    rungs: tuple[RungPoint, ...]
    chains: tuple[ChainFit, ...]
    """The first goes by the task's own loss."""
    votes: tuple[str, ...]
    """Kinds of the chains whose median predicts; empty for a task without an accuracy."""
    link_loss: tuple[float, ...] = field(repr=False)
    link_accuracy: tuple[float, ...] = field(repr=False)

    @property
    def step1(self) -> Fit:
        """The own chain's first fit."""
        return self.chains[0].step1

    @property
    def step2(self) -> Fit | None:
        """The own chain's second fit; None for a task without an accuracy."""
        return self.chains[0].step2

    @cached_property
    def signal(self) -> float:
        """How clearly the loss moves over the ladder, see `signal`."""
        return signal(self.rungs, self.step1)

    @cached_property
    def top_rung(self) -> RungPoint:
        """The costliest rung, by 6ND; of those with an accuracy, if there are any."""
        scored = [r for r in self.rungs if r.accuracy is not None]
        return max(scored or self.rungs, key=lambda r: r.params * r.tokens)

    def loss(self, params: float, tokens: float) -> float:
        """Step 1: the predicted loss, in the task's unit, at most LARGEST_LOSS."""
        return min(self.chains[0].feature(params, tokens), LARGEST_LOSS)

    def accuracy(self, loss: float) -> float | None:
        """Step 2: the accuracy that goes with a loss; None for an LM set."""
        return None if self.step2 is None else self.chains[0].accuracy_at(loss)

    def steps(self) -> list[tuple[str, Fit]]:
        """The fits there are, by the step's name."""
        named = []
        for chain in self.chains:
            prefix = "" if chain.kind == "own" else f"{chain.kind} chain, "
            named.append((f"{prefix}step 1", chain.step1))
            if chain.step2 is not None:
                named.append((f"{prefix}step 2", chain.step2))
        return named

    def warnings(self) -> list[str]:
        """What a reader of these fits must know, one line each."""
        lines = []
        for step, law_fit in self.steps():
            if not law_fit.certified:
                lines.append(f"{self.task}, {step}: {law_fit.doubt}")
            if law_fit.at_bound:
                lines.append(f"{self.task}, {step}: at a bound: {', '.join(law_fit.at_bound)}")
        return lines

    def readings(self, target: Target) -> Readings:
        """What each chain says of the target, by its kind."""
        return readings([(self, target)])[0]

    def chain_values(self, target: Target, said: Readings | None = None) -> dict[str, float]:
        """What each voting chain predicts, by its kind; `said` holds readings made already."""
        said = self.readings(target) if said is None else said
        values = {kind: said[kind].accuracy for kind in said if kind in self.votes}
        return {kind: v for kind, v in values.items() if v is not None and math.isfinite(v)}

    def predict(self, target: Target, method: Method, said: Readings | None = None) -> Prediction:
        """The prediction, its intervals, and whether it can be relied on; `said` as above."""
        said = self.readings(target) if said is None else said
        loss = min(said[self.chains[0].kind].feature, LARGEST_LOSS)
        loss_bounds = self._loss_interval(target, method, loss, said)
        values = self.chain_values(target, said)
        predicted = bounds = None
        if values:
            predicted = median(values.values())
            parts = self.uncertainty(target, values, said)
            error = parts.standard_error(method.widths_of(self.votes))
            if math.isfinite(error):
                bounds = interval(predicted, error, 0.0, 1.0)
        status, reason = self._status(target, loss, bounds)
        return Prediction(
            task=self.task,
            target=target.name,
            params=target.params,
            tokens=target.tokens,
            predicted=predicted,
            loss_predicted=loss,
            status=status,
            reason=reason,
            lower80=bounds.lower80 if bounds else None,
            upper80=bounds.upper80 if bounds else None,
            lower95=bounds.lower95 if bounds else None,
            upper95=bounds.upper95 if bounds else None,
            loss_lower80=loss_bounds.lower80 if loss_bounds else None,
            loss_upper80=loss_bounds.upper80 if loss_bounds else None,
        )

    def uncertainty(
        self, target: Target, values: dict[str, float], said: Readings | None = None
    ) -> Uncertainty:
        """The parts of the accuracy's standard error, from what each chain predicts."""
        said = self.readings(target) if said is None else said
        predicted = median(values.values())
        variances = [said[c.kind].accuracy_variance for c in self.chains if c.kind in values]
        determined = [v for v in variances if math.isfinite(v)]
        top = self.top_rung
        return Uncertainty(
            parameters=math.sqrt(median(determined)) if determined else math.inf,
            spread=_deviation(list(values.values())),
            climb=abs(predicted - (top.accuracy or 0.0)),
            noise=sampling_noise(predicted, self.instances, top.accuracy_sd),
        )

    def loss_uncertainty(self, target: Target, said: Readings | None = None) -> Uncertainty:
        """The parts of the loss's standard error, in its unit."""
        top = self.top_rung
        own = (self.readings(target) if said is None else said)[self.chains[0].kind]
        return Uncertainty(
            parameters=math.sqrt(own.feature_variance),
            spread=0.0,
            climb=abs(min(own.feature, LARGEST_LOSS) - top.loss),
            noise=top.loss_sd or 0.0,
        )

    def _loss_interval(
        self, target: Target, method: Method, loss: float, said: Readings
    ) -> Interval | None:
        error = self.loss_uncertainty(target, said).standard_error(method.loss_widths)
        return interval(loss, error, 0.0, LARGEST_LOSS) if math.isfinite(error) else None

    def _status(self, target: Target, loss: float, bounds: Interval | None) -> tuple[str, str]:
        """Whether a prediction can be relied on, and why not."""
        if why := self._why_not(target, loss, bounds):
            return "unpredictable", why
        times = target.params * target.tokens / self._costliest
        beyond = f"the target costs {times:.3g} times the costliest rung"
        outside = beyond if times > 1 else self._outside(target)
        if not self.votes:
            return ("extrapolated", outside) if outside else ("ok", "")
        low, high = self._link_range
        weak = ""
        if self.signal < WEAK:
            weak = (
                f"its own loss does not fall clearly, {self.signal:.1f} times its noise over the "
                f"ladder, so that it goes by {' and '.join(self.votes)} alone"
            )
        if "own" in self.votes:
            outside = self._outside(target)
            if not low <= loss <= high:
                outside = (
                    f"step 2 is read at loss {loss:.4g}, outside the ladder's {low:.4g} to "
                    f"{high:.4g}"
                )
        if outside:
            return "extrapolated", "; ".join(filter(None, (outside, weak)))
        return "ok", weak

    def _outside(self, target: Target) -> str:
        """Which of the target's params and tokens the ladder does not reach; empty for neither."""
        asked = zip(self._ranges[:2], (target.params, target.tokens), strict=True)
        for (name, _, least, most), wanted in asked:
            if not least / 1.1 <= wanted <= 1.1 * most:
                return f"{wanted:.3g} {name} lie outside the ladder's {least:.3g} to {most:.3g}"
        return ""

    @cached_property
    def _costliest(self) -> float:
        """Params x tokens of the costliest rung."""
        return max(r.params * r.tokens for r in self.rungs)

    @cached_property
    def _link_range(self) -> tuple[float, float]:
        """The least loss above 0 and the greatest that step 2 was fitted to."""
        low = min((x for x in self.link_loss if x > 0), default=0.0)
        return low, max(self.link_loss, default=math.inf)

    def _why_not(self, target: Target, loss: float, bounds: Interval | None) -> str:
        if not self.step1.determined and set(self.votes) <= {"own"}:
            return f"step 1: {self.step1.doubt}"
        if loss >= LARGEST_LOSS:
            return "step 1 gives no finite loss for the target"
        if why := self._one_design(target):
            return why
        if self.step1.points < FEWEST:
            return f"{self.step1.points} rungs; intervals are calibrated on {FEWEST} or more"
        if not self.votes:
            if not self._scored:
                return ""
            return "no chain of the method can be fitted to it"
        if self._scored < FEWEST:
            return (
                f"{self._scored} rungs with an accuracy; intervals are calibrated on {FEWEST} or "
                "more"
            )
        if why := self._no_climb:
            return why
        if self.votes == ("own",) and self.signal < WEAK:
            return (
                f"its loss does not fall clearly, {self.signal:.1f} times its noise over the "
                "ladder; there is no other feature to go by"
            )
        if bounds is None:
            return "no chain's parameters are determined; vary params and tokens more"
        half = (bounds.upper80 - bounds.lower80) / 2
        if half > TOO_WIDE:
            return f"the 80% interval is {200 * half:.0f} points wide"
        return ""

    def _one_design(self, target: Target) -> str:
        """Why a ladder that varies in one direction only says nothing about the target."""
        asked = (target.params, target.tokens, target.tokens / target.params)
        for (name, first, least, most), wanted in zip(self._ranges, asked, strict=True):
            if most < 1.1 * least and not 0.8 < wanted / first < 1.25:
                return f"every rung has {first:.3g} {name} and the target {wanted:.3g}; vary it"
            span = math.log(most / least)
            if most >= 1.1 * least and math.log(wanted / most) > FARTHEST * span:
                return (
                    f"the target's {wanted:.3g} {name} lie more than {FARTHEST:g} times the "
                    f"ladder's own range, {least:.3g} to {most:.3g}, beyond it"
                )
        return ""

    @cached_property
    def _scored(self) -> int:
        """How many rungs have an accuracy."""
        return sum(r.accuracy is not None for r in self.rungs)

    @cached_property
    def _ranges(self) -> list[tuple[str, float, float, float]]:
        """What rungs differ in: its name, the first rung's, the least and the most."""
        measures = {
            "params": [r.params for r in self.rungs],
            "tokens": [r.tokens for r in self.rungs],
            "tokens a parameter": [r.tokens / r.params for r in self.rungs],
        }
        return [(name, seen[0], min(seen), max(seen)) for name, seen in measures.items()]

    @cached_property
    def _no_climb(self) -> str:
        """Why the accuracy does not rise clearly with scale; empty where it does."""
        scored = sorted(
            (r.params * r.tokens, r.accuracy) for r in self.rungs if r.accuracy is not None
        )
        flops = np.log([cost for cost, _ in scored])
        accuracy = np.array([value for _, value in scored])
        quarter = accuracy[-max(len(accuracy) // 4, 1) :]
        top = float(np.median(quarter))
        if self.chance is not None:
            noise = sampling_noise(self.chance, self.instances, None)
            if top <= self.chance + 2 * noise:
                return (
                    f"the costliest rungs' accuracy, {top:.3f}, is within two standard errors of "
                    f"chance, {self.chance:.3f}"
                )
        flat = "its accuracy does not rise clearly through the ladder"
        if np.ptp(accuracy) < 1e-6:
            return flat
        if np.ptp(flops) > 0:
            slope, rest = np.polyfit(flops, accuracy, 1, full=True)[:2]
            left = float(rest[0]) if len(rest) else 0.0
            deviation = math.sqrt(left / (len(scored) - 2)) / float(
                np.std(flops) * math.sqrt(len(scored))
            )
            if slope[0] <= 2 * deviation:
                return flat
        return ""


def _deviation(values: list[float]) -> float:
    """Standard deviation of a few values about their mean; numpy's takes ten times as long."""
    mean = sum(values) / len(values)
    return math.sqrt(sum((value - mean) ** 2 for value in values) / len(values))


def readings(asked: Sequence[tuple[TaskFit, Target]]) -> list[Readings]:
    """What the chains of each fit say of the target beside it, by their kind, all in one go."""
    chains = [(chain, target) for fitted, target in asked for chain in fitted.chains]
    said = iter(
        read(
            [chain for chain, _ in chains],
            np.array([target.params for _, target in chains], dtype=float),
            np.array([target.tokens for _, target in chains], dtype=float),
        )
    )
    return [{chain.kind: next(said) for chain in fitted.chains} for fitted, _ in asked]


def predict_many(asked: Sequence[tuple[TaskFit, Target]], method: Method) -> list[Prediction]:
    """The prediction of each fit for the target beside it."""
    return [
        fitted.predict(target, method, said)
        for (fitted, target), said in zip(asked, readings(asked), strict=True)
    ]


def signal(rungs: Sequence[RungPoint], step1: Fit) -> float:
    """Range of the logarithm of the rungs' losses over a rung's noise about step 1.

    The noise is step 1's rms for n - 4 degrees of freedom, .2% or more.
    """
    losses = [r.loss for r in rungs]
    noise = step1.relative_rms * math.sqrt(step1.points / max(step1.points - 4, 1))
    return math.log(max(losses) / min(losses)) / max(noise, 0.002)
