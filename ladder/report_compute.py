"""Sections of a report on compute: the ladder and its cost, the best size, a smaller ladder."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from evaluation.columns import some
from evaluation.files import InputError
from ladder.report_context import Context
from ladder.report_parts import (
    Cell,
    Picture,
    Section,
    Table,
    flops_cell,
    number,
    plural,
    points,
)
from predict.curve import MEASURES, compute_curve, limits
from predict.drawing import flops_text
from predict.figures_errors import curve_figure
from predict.figures_ladder import ladder_figure, optimal_figure
from predict.numbers import human
from predict.optimal_curve import optimal_curve
from predict.points import RungPoint
from predict.two_stage import TwoStage


def the_ladder(context: Context) -> Section:
    """N against D, and what it costs."""
    rungs, targets = context.rungs, context.result.targets
    total = sum(6 * r.params * r.tokens for r in rungs)
    rows = [
        (
            target.name,
            Cell(human(target.params), target.params),
            Cell(human(target.tokens), target.tokens),
            number(target.tokens / target.params, ".3g"),
            flops_cell(6 * target.params * target.tokens),
            number(total / (6 * target.params * target.tokens), ".2%"),
        )
        for target in targets
    ]
    table = Table(
        ("target", "params N", "tokens D", "D / N", "FLOPs", "the ladder costs"),
        tuple(rows),
        caption="FLOPs by 6ND; every rung counted in full.",
    )
    sizes = len({r.params for r in rungs})
    text = (
        f"{plural(len(rungs), 'rung')} of {plural(sizes, 'size')}, {flops_text(total)} FLOPs by "
        "6ND altogether.",
    )
    picture = Picture(
        "ladder",
        ladder_figure(rungs, targets),
        f"Parameters against tokens of {plural(len(rungs), 'rung')} and "
        f"{plural(len(targets), 'target')}, and the FLOPs of each",
        "Colour: size. Stars: targets.",
    )
    return Section("The ladder", text, (picture,), (table,) if rows else ())


def compute_optimal(context: Context) -> Section:
    """The best N and D for a budget, by approach 3, where the ladder tells."""
    title, targets = "Compute-optimal size", context.result.targets
    name, rungs = _loss_to_minimise(context.result.model)
    if rungs is None:
        return Section(title, (f"Not told: {name}.",))
    spent = [6 * t.params * t.tokens for t in targets] + [6 * r.params * r.tokens for r in rungs]
    try:
        curve = optimal_curve(rungs, max(spent))
    except InputError as error:
        return Section(title, (f"Not told, on {name}: {error}.",))
    rows = []
    for target in targets:
        budget = 6 * target.params * target.tokens
        best, low, high = (
            float(np.exp(np.interp(np.log(budget), np.log(curve.flops), np.log(sizes))))
            for sizes in (curve.params, curve.lower80, curve.upper80)
        )
        rows.append(
            (
                target.name,
                flops_cell(budget),
                Cell(human(target.params), target.params),
                Cell(human(best), best),
                Cell(f"{human(low)} to {human(high)}", high / low),
                Cell(human(budget / 6 / best), budget / 6 / best),
                number(budget / 6 / best**2, ".3g"),
            )
        )
    columns = ("budget of", "FLOPs", "its N", "best N", "80%", "best D", "best D / N")
    text = [
        f"Approach 3 of Hoffmann et al. 2022 on {name}: a law of N and D, minimised along "
        f"C = 6ND. The best N grows as C^{curve.exponent:.2f} "
        f"(80% {curve.exponent80[0]:.2f} to {curve.exponent80[1]:.2f}). Intervals come from "
        "rungs drawn again; shaded is beyond the ladder.",
        f"{curve.certificate}.",
    ]
    ratios = [r.tokens / r.params for r in rungs]
    shares = curve.tokens / curve.params
    if not min(ratios) / 1.05 <= shares[-1] <= max(ratios) * 1.05:
        text.append(
            f"Mind that at the largest budget the best size has {shares[-1]:.2g} tokens a "
            f"parameter, where the rungs have {min(ratios):.3g} to {max(ratios):.3g}: the "
            "law speaks beyond what was trained."
        )
    picture = Picture(
        "compute-optimal",
        optimal_figure(curve, rungs, targets),
        "The compute-optimal number of parameters, and of tokens a parameter, for every budget",
    )
    tables = (Table(columns, tuple(rows)),) if rows else ()
    return Section(title, tuple(text), (picture,), tables)


def compute_against_error(context: Context) -> Section | None:
    """What a smaller ladder would have erred by."""
    title, model = "Compute against error", context.result.model
    if not context.scored:
        return None
    cuts = tuple(MEASURES) if context.full else ("size",)
    refits = sum(len(limits(context.rungs, cut)) for cut in cuts) * len(model.fits_)
    if not context.can_refit(refits + context.splits * len(model.fits_)):
        return Section(
            title,
            (
                f"Not told: it would take {refits} refits more. `ladder audit --curve` runs them, "
                "and so does `ladder report --full`.",
            ),
        )
    settings = model.settings()
    curve = compute_curve(lambda: TwoStage.from_settings(settings), context.observations, cuts)
    rows = tuple(
        (
            p.cut,
            number(p.limit, ".3g"),
            p.target,
            number(p.rungs, "d"),
            flops_cell(p.ladder_flops),
            number(p.share_of_target, ".2%"),
            points(p.mean_abs_error),
            number(p.mean_abs_relative_error, ".1%"),
        )
        for p in curve.points
    )
    columns = ("cut", "up to", "target", "rungs", "FLOPs", "of target", "error", "relative")
    picture = Picture(
        "compute-against-error",
        curve_figure(curve),
        "Mean absolute error against the FLOPs of the rungs that were fitted",
        f"The ladder cut by {', '.join(cuts)} and fitted again"
        + ("." if context.full else "; `ladder report --full` cuts it by tokens and FLOPs too."),
    )
    left_out = tuple(f"left out: {line}" for line in curve.left_out)
    table = Table(columns, rows, "Error: mean over tasks, in points.", folded="every cut")
    return Section(title, (), (picture,), (table,), left_out)


def _loss_to_minimise(model: TwoStage) -> tuple[str, tuple[RungPoint, ...] | None]:
    """The LM set or pooled loss that says most of N and D; or why there is none."""
    language = sorted(t for t, f in model.fits_.items() if f.loss_unit == "nats/token")
    if language:
        return language[0], model.fits_[language[0]].rungs
    shared: Iterable[tuple[RungPoint, ...]] = (
        p.rungs for p in model.points_.get("shared", {}).values()
    )
    if best := max(shared, key=len, default=None):
        return f"the shared loss, the geometric mean of {some(model.pooled_, 4)}", best
    if len(model.fits_) == 1:
        ((task, fitted),) = model.fits_.items()
        return task, fitted.rungs
    return (
        f"no LM validation set, and method {model.method.name} pools no losses; `ladder allocate "
        "--task TASK` takes one task's"
    ), None
