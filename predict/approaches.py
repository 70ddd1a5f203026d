"""The approaches to a compute-optimal split, each with intervals from resampled runs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from evaluation.records import InputError
from predict import constants as published
from predict.allocation import Estimate, Question, Ranges, Row, Served
from predict.envelope import (
    BETWEEN,
    LossTable,
    Optima,
    envelope,
    isoflop,
    isoflop_lines,
    power_through,
)
from predict.fit import Fit, Objective, fit, with_resamples
from predict.flops import Flops
from predict.laws import Array, get_law, law_inputs
from predict.optimum import Surface, kaplan_steps_params
from predict.run_curves import RunCurve
from predict.watch import each

OBJECTIVE = Objective(delta=1e-3, log=True)
"""Of every law's fit: Hoffmann et al. 2022, section 3.3."""

ENVELOPE = "approach 1: the envelope of training curves, Hoffmann et al. 2022"
ISOFLOP = "approach 2: isoFLOP parabolas, Hoffmann et al. 2022"
STEPS = "L(N, S) far below the critical batch, Kaplan et al. 2020"
REPEATED = "approach 3's law with repeated tokens, Muennighoff et al. 2023"

ENOUGH = 0.5
"""Share of resamples that an approach must get through for an interval."""

LEAST_SPREAD = 1.1
"""Ratio of the most tokens a parameter to the least from which a law of N and D is fitted."""

MOST_FLOPS = 1e40
"""FLOPs beyond which no law is asked."""


@dataclass(frozen=True)
class Case:
    """What every approach is given: the finished runs, the question, and the resamples."""

    runs: list[RunCurve]
    flops: Flops
    question: Question
    ranges: Ranges
    unit: str
    """Of the loss."""
    counts: NDArray[np.int64]
    """How often each resample draws each run, (replicates, runs)."""

    def enough(self, fitted: int) -> bool:
        """Whether so many resamples that went through make an interval."""
        return fitted >= max(ENOUGH * len(self.counts), 2)

    def share(self, fitted: int) -> float:
        """So many of the resamples, as a share."""
        return fitted / max(len(self.counts), 1)


class UnableError(Exception):
    """Why an approach has nothing to say."""


@dataclass(frozen=True)
class Fitted:
    """A law of N and D: the fit and its resamples in one surface, the fit first."""

    surface: Surface
    fit: Fit


def by_envelope(case: Case) -> Row:
    """Approach 1."""
    table = LossTable(case.runs, case.flops, checkpoints=True)
    return _by_optima("envelope", ENVELOPE, lambda chosen: envelope(table, chosen), case)


def by_isoflop(case: Case) -> Row:
    """Approach 2, on runs of equal FLOPs; where there are none, between the runs of each size."""
    runs, flops = case.runs, case.flops
    lines = isoflop_lines(runs, flops)
    table = LossTable(runs, flops, False, BETWEEN) if len(lines) < 2 else None
    return _by_optima(
        "isoflop", ISOFLOP, lambda chosen: isoflop(runs, flops, lines, table, chosen), case
    )


def _by_optima(name: str, source: str, find: Callable[[Sequence[int]], Optima], case: Case) -> Row:
    """A line through optima, and through those of resampled runs."""
    question, flops = case.question, case.flops
    try:
        optima = find(range(len(case.runs)))
        best = power_through(optima)
    except InputError as error:
        return Row(name, source, "impossible", str(error))
    lines = [best]
    for drawn in each(case.counts, f"{name}, resamples"):
        try:
            lines.append(power_through(find(np.repeat(np.arange(len(drawn)), drawn).tolist())))
        except InputError:
            continue
    enough = case.enough(len(lines) - 1)
    slopes = np.array([line.slope for line in lines])
    # The exponent of D is read at the middle of the optima; with 6 N D it is the same everywhere.
    middle = math.exp(np.log(optima.flops).mean())
    size, step = best.params(middle), 1.01
    grown = flops.tokens(size * step**slopes, middle * step) / flops.tokens(size, middle)
    row = Row(
        name,
        source,
        "ok",
        "",
        exponent_params=_estimate(slopes, enough),
        exponent_tokens=_estimate(np.log(grown) / math.log(step), enough),
        points=len(optima.flops),
        resampled=case.share(len(lines) - 1),
        certificate=f"{optima.how}; {optima.outside} budgets with no optimum inside the sizes",
    )
    if question.flops is None:
        return row
    sizes = np.array([line.params(question.flops) for line in lines])
    return _placed(row, sizes, flops.tokens(sizes, question.flops), None, enough, case)


def fit_law(law: str, case: Case) -> Fitted:
    """Fit a law of N and D to the results of the runs and of the resamples.

    Raises UnableError where the runs do not determine it.
    """
    given = {
        "params": np.array([c.params for c in case.runs]),
        "tokens": np.array([c.final_tokens for c in case.runs]),
    }
    law_fit, theta = _resampled(law, given, case)
    return Fitted(Surface(get_law(law), theta, case.flops), law_fit)


def _resampled(name: str, given: dict[str, Array], case: Case) -> tuple[Fit, Array]:
    """A certified fit, and its parameters with those of resamples behind them, (R, p)."""
    law, losses = get_law(name), np.array([c.loss for c in case.runs])
    ratios = [c.final_tokens / c.params for c in case.runs]
    if max(ratios) < LEAST_SPREAD * min(ratios):
        raise UnableError(
            f"every run has {ratios[0]:.3g} tokens a parameter, so that N and D cannot be told "
            "apart; vary it"
        )
    inputs = law_inputs(law, given)
    try:
        (law_fit,) = fit(law, [x[None] for x in inputs], losses[None], OBJECTIVE)
    except InputError as error:
        raise UnableError(str(error)) from None
    if not law_fit.determined:
        raise UnableError(law_fit.doubt)
    theta = with_resamples(law, inputs, losses, OBJECTIVE, case.counts, law_fit.theta)
    return law_fit, theta


def by_law(name: str, source: str, fitted: Fitted, case: Case) -> Row:
    """Approach 3 with any law of N and D; without a budget, exponents at the middle of the runs."""
    count = len(fitted.surface.theta) - 1
    middle = math.sqrt(math.prod(case.ranges.flops))
    row = at_budget(name, source, fitted.surface, case.question.flops or middle, case.enough(count))
    if row.params is None or row.tokens is None:
        return row
    row = replace(
        row,
        points=len(case.runs),
        resampled=case.share(count),
        rms=fitted.fit.relative_rms,
        certificate=_vouch(fitted.fit),
    )
    if case.question.flops is None:
        return replace(row, params=None, tokens=None, loss=None)
    return _marked(row, case)


def loss_of(fitted: Fitted, params: float, tokens: float, case: Case) -> Estimate:
    """The loss that a law predicts for a model."""
    count = len(fitted.surface.theta)
    losses = fitted.surface.loss(np.full(count, params), np.full(count, tokens))
    return _estimate(losses, case.enough(count - 1))


def by_repeats(fitted: Fitted, case: Case) -> Row:
    """Approach 3's law with the published worth of repeated tokens and excess params."""
    theta = fitted.surface.theta
    tail = np.broadcast_to(np.array(published.REPEATS), (len(theta), 2))
    theta = np.concatenate((theta, tail), axis=1)
    # The law of repeats has no limit where an exponent is 0.
    theta[:, [1, 3]] = np.maximum(theta[:, [1, 3]], 1e-3)
    surface = replace(
        fitted.surface,
        law=get_law("repeated"),
        theta=theta,
        unique_tokens=case.question.unique_tokens,
    )
    return by_law("repeated", REPEATED, Fitted(surface, fitted.fit), case)


def at_budget(name: str, source: str, surface: Surface, flops: float, enough: bool = False) -> Row:
    """What a surface says of a budget; intervals where there are `enough` resamples."""
    sizes = surface.best_params(flops)
    tokens = surface.flops.tokens(sizes, flops)
    if not (sizes[0] > 2 and tokens[0] > 2):
        reason = "the fitted law has no best size: an exponent is nearly 0"
        return Row(name, source, "impossible", reason)
    size_slope, data_slope = surface.exponents(flops)
    return Row(
        name,
        source,
        "ok",
        "",
        _estimate(sizes, enough),
        _estimate(tokens, enough),
        _estimate(surface.loss(sizes, tokens), enough),
        _estimate(size_slope, enough),
        _estimate(data_slope, enough),
    )


def by_steps(case: Case) -> Row:
    """Kaplan's L(N, S), with the published critical batch."""
    name, runs, question = "kaplan-s", case.runs, case.question
    if case.unit != "nats/token":
        reason = "the critical batch is known for losses in nats/token; choose an LM set"
        return Row(name, STEPS, "impossible", reason)
    if any(c.batch_tokens is None for c in runs):
        return Row(name, STEPS, "impossible", "column 'batch_tokens': is empty for some runs")
    known = published.KAPLAN_STEPS
    batch = np.array([c.batch_tokens or math.nan for c in runs])
    critical = known.batch / np.array([c.loss for c in runs]) ** (1 / known.alpha_b)
    steps = np.array([c.steps for c in runs]) / (1 + critical / batch)
    given = {"params": np.array([c.params for c in runs]), "steps": steps}
    try:
        law_fit, theta = _resampled("kaplan_steps", given, case)
    except UnableError as error:
        return Row(name, STEPS, "impossible", str(error))
    a, alpha_n, b, alpha_s = theta.T
    # Nc and Sc have no place in a float where an exponent is nearly 0.
    able = (np.minimum(alpha_n, alpha_s) > 1e-3) & (a < 500 * alpha_n) & (b < 500 * alpha_s)
    if not able[0]:
        return Row(name, STEPS, "impossible", "the fitted law has an exponent of nearly 0")
    fits = [published.KaplanSteps.of(row) for row in theta[able]]
    enough = case.enough(len(fits) - 1)
    slopes = np.array([1 / (1 + f.alpha_n / f.alpha_b + f.alpha_n / f.alpha_s) for f in fits])
    row = Row(
        name,
        STEPS,
        "ok",
        "",
        exponent_params=_estimate(slopes, enough),
        exponent_tokens=_estimate(1 - slopes, enough),
        points=len(runs),
        resampled=case.share(len(fits) - 1),
        rms=law_fit.relative_rms,
        certificate=_vouch(law_fit),
    )
    if question.flops is None:
        return row
    sizes = np.array([kaplan_steps_params(f, question.flops) for f in fits])
    alone = [(f.params / n) ** f.alpha_n for f, n in zip(fits, sizes, strict=True)]
    loss = np.array([1 + f.alpha_n / f.alpha_s for f in fits]) * np.array(alone)
    return _placed(row, sizes, case.flops.tokens(sizes, question.flops), loss, enough, case)


def serve(
    name: str, surface: Surface, target_loss: float, served: float, ranges: Ranges | None
) -> Served:
    """The cheapest model for the target loss, training and serving together."""
    sizes, tokens = surface.cheapest(target_loss, served)
    if not np.isfinite(sizes[0]):
        most = np.full(len(sizes), math.exp(150.0))
        reason = (
            f"no model reaches a loss of {target_loss:.4g}: the law's own floor is "
            f"{surface.loss(most, most)[0]:.4g}"
        )
        return Served(name, "impossible", reason)
    able = np.isfinite(sizes)
    enough = bool(len(sizes) > 2 and able[1:].mean() >= ENOUGH)
    training = float(surface.flops.of(sizes[0], tokens[0]))
    if training > MOST_FLOPS:
        reason = f"a loss of {target_loss:.4g} would take {training:.1g} FLOPs by this law"
        return Served(name, "impossible", reason)
    serving = float(surface.flops.per_token(sizes[0]) / 3 * served)
    alone, alone_tokens = surface.cheapest(target_loss, 0.0)
    other = float(surface.flops.of(alone[0], alone_tokens[0] + served / 3))
    status, reason = "published", ""
    if ranges is not None:
        reason = ranges.beyond(params=float(sizes[0]), tokens=float(tokens[0]), flops=training)
        status = "extrapolated" if reason else "ok"
    return Served(
        name,
        status,
        reason,
        _estimate(sizes[able], enough),
        _estimate(tokens[able], enough),
        training,
        serving,
        1 - (training + serving) / other,
    )


def _placed(
    row: Row, sizes: Array, tokens: Array, loss: Array | None, enough: bool, case: Case
) -> Row:
    """The row with its split of the budget."""
    row = replace(
        row,
        params=_estimate(sizes, enough),
        tokens=_estimate(tokens, enough),
        loss=None if loss is None else _estimate(loss, enough),
    )
    return _marked(row, case)


def _marked(row: Row, case: Case) -> Row:
    """The row marked where its split lies outside the runs."""
    if row.params is None or row.tokens is None:
        return row
    reason = case.ranges.beyond(
        params=row.params.value, tokens=row.tokens.value, flops=case.question.flops or 0.0
    )
    return replace(row, status="extrapolated", reason=reason) if reason else row


def _vouch(law_fit: Fit) -> str:
    return "; ".join(filter(None, (law_fit.values(), law_fit.certificate(), law_fit.doubt)))


def _estimate(values: Array, enough: bool) -> Estimate:
    """The first value, and the middle 80% of the others."""
    rest = values[1:][np.isfinite(values[1:])]
    if not enough or len(rest) < 2:
        return Estimate(float(values[0]))
    low, high = np.quantile(rest, (0.1, 0.9))
    return Estimate(float(values[0]), float(low), float(high))
