"""Sections of a report on single tasks' fits and single runs."""

from __future__ import annotations

import pandas as pd

from ladder.report_parts import Cell, Picture, Section, Table, flops_cell
from ladder.result import Result
from predict.laws import get_law
from predict.numbers import human
from predict.plots import task_figure
from predict.task_fit import TaskFit
from predict.two_stage import TwoStage

SHOWN_TASKS = 6
"""Tasks whose scores stand in the table of runs."""


def fits(result: Result, most: int) -> Section:
    """Both steps of the first `most` tasks."""
    tasks = list(result.model.fits_.values())
    text = [
        "Step 1 is the loss by parameters, a curve each, and tokens; step 2 the accuracy by the "
        "loss. Rings are predictions with their 80% intervals, stars what came, grey dots "
        "checkpoints. Bands are 80% intervals of the fit, step 2's if the loss were known; the "
        "range beyond the ladder is shaded.",
    ]
    if len(result.model.method.chains) > 1:
        text.append(
            "Curves are those of the task's own loss; where other chains vote too, the predicted "
            "accuracy is the median of all and may lie off the curve."
        )
    if len(tasks) > most:
        text.append(f"The first {most} of {len(tasks)} tasks are drawn.")
    return Section(
        "The fits",
        tuple(text),
        sections=tuple(_task(f, result, i < most) for i, f in enumerate(tasks)),
    )


def runs(model: TwoStage, observations: pd.DataFrame) -> Section:
    """The ladder and the targets: last row of each run, loss and accuracy on the first tasks."""
    tasks = list(model.fits_)[:SHOWN_TASKS]
    used = {rung.run for fitted in model.fits_.values() for rung in fitted.rungs}
    table = observations[observations["run"].isin(used) | (observations["role"] == "target")]
    last = table.sort_values("step", kind="stable").groupby(["run", "task"], sort=False).tail(1)
    lines = []
    for run, part in last.groupby("run", sort=False):
        by_task = part.set_index("task")
        first = part.iloc[0]
        flops = 6 * first["params"] * first["tokens"]
        cells: list[Cell | str] = [
            str(run),
            Cell(human(first["params"]), float(first["params"]), f"{first['params']:,.0f}"),
            Cell(human(first["tokens"]), float(first["tokens"]), f"{first['tokens']:,.0f}"),
            flops_cell(flops),
        ]
        for task in tasks:
            if task not in by_task.index:
                cells.append("")
                continue
            loss = float(by_task.at[task, "loss"])
            accuracy = by_task.at[task, "accuracy"] if "accuracy" in by_task else None
            text = f"{loss:.3f}"
            if accuracy is not None and not pd.isna(accuracy):
                text += f" / {100 * accuracy:.1f}"
            cells.append(Cell(text, loss))
        lines.append((first["role"] == "target", flops, tuple(cells)))
    lines.sort(key=lambda line: line[:2])
    more = len(model.fits_) - len(tasks)
    return Section(
        "The runs",
        tables=(
            Table(
                ("run", "params", "tokens", "FLOPs", *tasks),
                tuple(cells for *_, cells in lines),
                "Loss / accuracy of each run's last checkpoint; FLOPs by 6ND"
                + (f"; {more} more tasks are in the observations." if more > 0 else "."),
                frozenset(i for i, (is_target, *_) in enumerate(lines) if is_target),
            ),
        ),
    )


def warnings(model: TwoStage) -> Section | None:
    """What a reader of the fits must know."""
    found = model.warnings() + [f"{t}: left out, {why}" for t, why in model.left_out_.items()]
    return Section("Warnings of the fits", lines=tuple(found)) if found else None


def _task(fitted: TaskFit, result: Result, drawn: bool) -> Section:
    predictions = [p for p in result.predictions if p.task == fitted.task]
    rows = result.audit.rows if result.audit else ()
    actuals = [r for r in rows if r.prediction.task == fitted.task]
    table = Table(
        ("step", "law", "parameters", "certificate"),
        tuple(
            (
                step,
                get_law(fit.law).formula,
                fit.values(),
                fit.certificate() + ("" if fit.certified else "; not certified"),
            )
            for step, fit in fitted.steps()
        ),
        folded="laws, parameters and certificates",
    )
    pictures = (
        Picture(
            f"fits-{fitted.task}",
            task_figure(fitted, predictions, actuals, result.model.method),
            f"Fits of {fitted.task}: loss against tokens for every size"
            + ("" if fitted.step2 is None else ", and accuracy against loss"),
        ),
    )
    reasons = [f"{p.target}: {p.status}, {p.reason}." for p in predictions if p.reason]
    text = (" ".join(reasons),) if reasons else ()
    return Section(fitted.task, text, pictures if drawn else (), (table,))
