"""The report of a fitted predictor: ladder, fits, predictions, errors, as one HTML file.

A section is a function in ladder.report_sections.SECTIONS; ladder.report_page makes them a page.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from ladder.report_context import Context
from ladder.report_page import Card, Head, write_page
from ladder.report_parts import Section, plural
from ladder.report_provenance import Origin
from ladder.report_sections import SECTIONS
from ladder.result import Result
from predict.drawing import flops_text

__all__ = ["Result", "Section", "misses", "write_report"]


def write_report(
    result: Result,
    observations: pd.DataFrame,
    title: str,
    path: Path,
    *,
    origin: Origin | None = None,
    figures: Path | None = None,
    full: bool = False,
    more: Sequence[Section] = (),
) -> None:
    """Write the report, atomically; every name from the data is escaped.

    `origin` says what it was made from; `figures` is a folder that gets every figure as SVG and
    PNG; `full` cuts the ladder and fits it again however long that takes; `more` are sections
    before the last one, which tells the provenance.
    """
    context = Context(result, observations, origin, full)
    sections = [s for make in SECTIONS if (s := make(context)) is not None]
    sections[-1:-1] = more
    write_page(_head(context, title), sections, path, figures)


def misses(result: Result) -> list[str]:
    """Predictions that are off by more than 5 points or no better than repeating the top rung."""
    lines = []
    for row in result.audit.rows if result.audit else ():
        if row.error is None or row.actual is None:
            continue
        name = f"{row.prediction.target}, {row.prediction.task}"
        if abs(row.error) > 0.05:
            lines.append(f"{name}: off by {100 * row.error:+.1f} points")
        if row.top_rung is not None and abs(row.error) >= abs(row.top_rung - row.actual):
            top = f"{100 * row.top_rung:.1f}"
            lines.append(f"{name}: no closer than repeating the top rung's {top}")
    if result.truth is not None:
        if abs(result.truth.floor_error) > 0.1:
            lines.append(f"irreducible loss: off by {result.truth.floor_error:+.1%} of the range")
        if result.truth.excess_error is not None and abs(result.truth.excess_error) > 0.3:
            lines.append(f"excess loss: off by {result.truth.excess_error:+.0%} of the predicted")
    return lines


def _head(context: Context, title: str) -> Head:
    result = context.result
    error = result.audit.mean_abs_error if result.audit else None
    if error is not None:
        lead = f"The predicted accuracies are off by {100 * error:.1f} points on average."
    elif result.predictions:
        lead = "Predictions; no target has been measured yet."
    else:
        lead = "A fitted ladder; no target was named."
    missed = misses(result)
    well = (
        "Every prediction is within 5 points and closer than repeating the top rung's accuracy."
        if error is not None and not missed
        else ""
    )
    method = result.model.method
    return Head(
        title=title,
        method=f"Method {method.name} ({method.source})",
        lead=lead,
        cards=tuple(_cards(context)),
        lines=tuple(result.truth.lines()) if result.truth else (),
        misses=tuple(missed),
        well=well,
    )


def _cards(context: Context) -> list[Card]:
    """The numbers that a reader looks for first."""
    result, rungs = context.result, context.rungs
    audit, scored = result.audit, context.scored
    total = sum(6 * r.params * r.tokens for r in rungs)
    cards = []
    if audit and audit.mean_abs_error is not None:
        several = len({r.prediction.target for r in scored}) > 1
        pooled = audit.pooled[-1]
        note = f"mean of {plural(len(scored), 'prediction')}"
        error = f"{100 * audit.mean_abs_error:.1f} points"
        cards.append(Card("error", error, note + (", all targets" if several else "")))
        if pooled.with_interval:
            inside = f"{pooled.inside80} of {pooled.with_interval}"
            cards.append(Card("inside 80%", inside, f"{pooled.inside95} inside 95%"))
    tasks = [f for f in result.model.fits_.values() if f.step2 is not None]
    losses = len(result.model.fits_) - len(tasks)
    note = "" if not losses else f"and {losses} loss" + ("" if losses == 1 else "es")
    cards.append(Card("tasks", str(len(tasks)), note))
    sizes = plural(len({r.params for r in rungs}), "size")
    cards.append(Card("rungs", str(len(rungs)), f"{sizes}, {flops_text(total)} FLOPs"))
    for target in result.targets[:2]:
        share = total / (6 * target.params * target.tokens)
        cards.append(Card(f"of {target.name}", f"{share:.2%}", "what the ladder costs"))
    return cards
