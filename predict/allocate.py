"""Compute-optimal N and D by Chinchilla's three approaches and by Kaplan's laws, side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pandas as pd

from evaluation.records import InputError
from predict import constants as published
from predict.allocation import Allocation, Estimate, Implied, Question, Ranges, Row
from predict.approaches import (
    MOST_FLOPS,
    Case,
    UnableError,
    at_budget,
    by_envelope,
    by_isoflop,
    by_law,
    by_repeats,
    by_steps,
    fit_law,
    loss_of,
    serve,
)
from predict.flops import SIX_ND, Flops, flops_of_runs
from predict.laws import get_law
from predict.optimum import Surface, data_needed
from predict.run_curves import RunCurve, run_curves, sizes_of
from predict.two_stage import TwoStage

LAWS = {
    "parametric": ("chinchilla_scaled", "approach 3: a law of N and D, Hoffmann et al. 2022"),
    "gadre": ("gadre", "the same law with equal exponents, Gadre et al. 2024"),
    "kaplan": ("kaplan", "L(N, D), Kaplan et al. 2020"),
}
"""Approaches that minimise a fitted law of N and D: the law, and what they are."""

SCALE = (1e6, MOST_FLOPS)
"""FLOPs that a budget may have."""

LEAST_SIZES = 3
"""Sizes without which no split can be told."""


def allocate(
    observations: pd.DataFrame,
    question: Question,
    rungs: Sequence[str] = (),
    task: str | None = None,
    feature: str = "loss",
    exact: bool = False,
    replicates: int = 200,
    seed: int = 0,
) -> Allocation:
    """Ask every approach, on the finished runs of a validated table.

    `task` is the LM set or task whose loss is minimised, by default the first LM set; `rungs` are
    patterns of runs, by default those of role ladder; `exact` counts FLOPs by the table's own
    column instead of 6 N D. Intervals come from drawing whole runs with replacement. Raises
    InputError where no approach can say anything, such as for runs of one size.
    """
    task = task or default_task(observations)
    rows = TwoStage("published", feature, rungs, (task,)).fitted_rows(observations)
    if rows["task"].nunique() > 1:
        raise InputError(f"--task {task}: matches {rows['task'].nunique()} tasks; name one")
    runs = run_curves(rows, feature)
    flops = _table_flops(rows) if exact else SIX_ND
    question = complete(question, flops)
    case = _case(runs, flops, question, feature, replicates, seed)
    if feature == "loss":
        case = replace(case, unit=str(rows["loss_unit"].iloc[0]))
    found = [by_envelope(case), by_isoflop(case)]
    served = []
    losses = {}
    needed = {"published": data_needed(published.KAPLAN)}
    fitted_kaplan = None
    for name, (law, source) in LAWS.items():
        try:
            fitted = fit_law(law, case)
        except UnableError as error:
            found.append(Row(name, source, "impossible", str(error)))
            continue
        found.append(by_law(name, source, fitted, case))
        if question.params is not None and question.tokens is not None:
            losses[name] = loss_of(fitted, question.params, question.tokens, case)
        if question.target_loss is not None:
            served.append(
                serve(
                    name, fitted.surface, question.target_loss, question.served_tokens, case.ranges
                )
            )
        if name == "kaplan" and found[-1].status != "impossible":
            fitted_kaplan = published.Kaplan.of(fitted.fit.theta)
            # Constants of runs beyond all measure may leave nothing to divide by.
            with suppress(ZeroDivisionError, OverflowError):
                needed["fitted"] = data_needed(fitted_kaplan)
        if name == "parametric" and question.unique_tokens is not None:
            found.append(by_repeats(fitted, case))
    found.append(by_steps(case))
    if all(row.status == "impossible" for row in found):
        raise InputError("; ".join(f"{row.approach}: {row.reason}" for row in found[:3]))
    return Allocation(
        task=str(rows["task"].iloc[0]),
        loss_unit=case.unit or feature,
        question=question,
        counted_by=flops,
        implied=_implied(question, losses),
        ranges=case.ranges,
        rows=tuple(found),
        served=tuple(served),
        needed=needed,
        kaplan=fitted_kaplan,
    )


def published_allocation(question: Question) -> Allocation:
    """What published constants make of a question, by 6 N D, without a table."""
    question = complete(question, SIX_ND)
    budget = question.flops or published.HOFFMANN_ENVELOPE.at_flops
    found, served, losses = [], [], {}
    for powers in (published.HOFFMANN_ENVELOPE, published.KAPLAN_POWERS):
        size = powers.params(budget)
        found.append(
            Row(
                powers.name,
                powers.source,
                "ok",
                "",
                Estimate(size),
                Estimate(budget / 6 / size),
                exponent_params=Estimate(powers.exponent),
                exponent_tokens=Estimate(1 - powers.exponent),
            )
        )
    law = get_law("chinchilla_scaled")
    for constants in (published.HOFFMANN, published.BESIROGLU):
        surface = Surface(law, constants.theta()[None])
        found.append(at_budget(constants.name, constants.source, surface, budget))
        if question.params is not None and question.tokens is not None:
            at = np.array([question.params]), np.array([question.tokens])
            losses[constants.name] = Estimate(float(surface.loss(*at)[0]))
        if question.target_loss is not None:
            served.append(
                serve(constants.name, surface, question.target_loss, question.served_tokens, None)
            )
    if question.unique_tokens is not None:
        known = published.MUENNIGHOFF
        theta = np.r_[known.theta(), published.REPEATS][None]
        surface = Surface(get_law("repeated"), theta, unique_tokens=question.unique_tokens)
        found.append(at_budget(known.name, known.source, surface, budget))
    if question.flops is None:
        found = [replace(row, params=None, tokens=None, loss=None) for row in found]
    return Allocation(
        task="",
        loss_unit="nats/token",
        question=question,
        counted_by=SIX_ND,
        implied=_implied(question, losses),
        ranges=None,
        rows=tuple(replace(row, status="published") for row in found),
        served=tuple(served),
        needed={"published": data_needed(published.KAPLAN)},
    )


def complete(question: Question, flops: Flops) -> Question:
    """The question with the third of params, tokens and FLOPs, where two of them are given.

    Raises InputError for params or tokens alone, for all three, and for a budget beyond SCALE.
    """
    completed = _complete(question, flops)
    budget = completed.flops
    if budget is not None and not SCALE[0] <= budget <= SCALE[1]:
        raise InputError(f"{budget:.3g} FLOPs: must lie between {SCALE[0]:g} and {SCALE[1]:g}")
    return completed


def _complete(question: Question, flops: Flops) -> Question:
    if question.model == 3:
        raise InputError("--params, --tokens and --flops: give two; the third follows from them")
    if question.model == 1 and question.flops is None:
        given = "--params" if question.params is not None else "--tokens"
        raise InputError(f"{given}: give --flops as well, or both --params and --tokens")
    if question.model < 2:
        return question
    params, tokens, budget = question.params, question.tokens, question.flops
    if params is not None and tokens is not None:
        return replace(question, flops=float(flops.of(params, tokens)))
    if params is not None and budget is not None:
        return replace(question, tokens=float(flops.tokens(params, budget)))
    return replace(question, params=flops.params(tokens or math.nan, budget or math.nan))


def _implied(question: Question, losses: dict[str, Estimate]) -> Implied | None:
    if question.params is None or question.tokens is None or question.flops is None:
        return None
    return Implied(question.params, question.tokens, question.flops, losses)


def default_task(observations: pd.DataFrame) -> str:
    """The first LM validation set by name, or the only task; InputError where there are several."""
    rows = observations[observations["loss"].notna()]
    language = sorted(rows.loc[rows["loss_unit"] == "nats/token", "task"].unique())
    tasks = sorted(rows["task"].unique())
    if language or len(tasks) == 1:
        return str((language or tasks)[0])
    shown = ", ".join(tasks[:4]) + (", ..." if len(tasks) > 4 else "")
    raise InputError(f"no LM validation set; name a task with --task: {shown}")


def _case(
    runs: list[RunCurve],
    flops: Flops,
    question: Question,
    feature: str,
    replicates: int,
    seed: int,
) -> Case:
    sizes = sizes_of(runs)
    if len(sizes) < LEAST_SIZES:
        shown = " and ".join(f"{n:.3g}" for n in sizes)
        raise InputError(
            f"every finished run has {shown} params; a split of compute needs {LEAST_SIZES} sizes "
            "or more"
        )
    spent = np.log([float(flops.of(c.params, c.final_tokens)) for c in runs])
    if np.ptp(spent) > 0 and np.polyfit(spent, np.log([c.loss for c in runs]), 1)[0] >= 0:
        raise InputError(f"{feature!r}: does not fall with FLOPs; a split minimises a loss")
    rng = np.random.default_rng(seed)
    return Case(
        runs=runs,
        flops=flops,
        question=question,
        ranges=Ranges(
            _ends([c.params for c in runs]),
            _ends([c.final_tokens for c in runs]),
            _ends([float(flops.of(c.params, c.final_tokens)) for c in runs]),
        ),
        unit="",
        counts=rng.multinomial(len(runs), np.full(len(runs), 1 / len(runs)), size=replicates),
    )


def _ends(values: Sequence[float]) -> tuple[float, float]:
    return min(values), max(values)


def _table_flops(rows: pd.DataFrame) -> Flops:
    if "flops" not in rows:
        raise InputError("no column 'flops'; leave --exact out to use 6ND")
    last = rows.groupby("run", sort=False).tail(1)
    return flops_of_runs(*(last[c].to_numpy(dtype=float) for c in ("params", "tokens", "flops")))
