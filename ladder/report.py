"""One self-contained HTML file from a fitted predictor: ladder, fits, predictions, errors."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from jinja2 import Environment, PackageLoader

from evaluation.files import write_text
from ladder import __version__
from ladder.truth import TruthCheck
from predict.audit import Audit
from predict.laws import get_law
from predict.plots import audit_figure, task_figure, to_svg
from predict.task_fit import Prediction, Target, TaskFit
from predict.two_stage import TwoStage


@dataclass(frozen=True)
class Result:
    """Everything that follows from an observations table."""

    model: TwoStage
    predictions: tuple[Prediction, ...]
    targets: tuple[Target, ...]
    audit: Audit | None
    """None where no target was measured."""
    truth: TruthCheck | None
    """None where the corpus's entropy is not known."""


def write_report(result: Result, observations: pd.DataFrame, title: str, path: Path) -> None:
    """Write the report, atomically; every name from the data is escaped."""
    environment = Environment(
        loader=PackageLoader("ladder", "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["points"] = _points
    environment.filters["signed"] = _signed
    environment.filters["loss"] = lambda x: f"{x:.4f}"
    environment.filters["figures"] = lambda x: "" if x is None else f"{x:.4g}"
    audit = result.audit
    measured = {r.prediction.target for r in audit.rows} if audit else set()
    scored = [r for r in audit.rows if r.error is not None] if audit else []
    html = environment.get_template("report.html").render(
        title=title,
        version=__version__,
        result=result,
        rows=scored,
        ahead=[p for p in result.predictions if p.target not in measured],
        losses=[r for r in audit.rows if r.error is None] if audit else [],
        misses=misses(result),
        overview=_image(to_svg(audit_figure(scored))) if scored else "",
        tasks=[_task(fitted, result) for fitted in result.model.fits_.values()],
        rungs=_rungs(result.model, observations),
        warnings=result.model.warnings(),
    )
    write_text(path, html)


def misses(result: Result) -> list[str]:
    """Predictions that are off by more than 5 points or no better than repeating the top rung."""
    lines = []
    for row in result.audit.rows if result.audit else ():
        if row.error is None or row.actual is None:
            continue
        name = f"{row.prediction.target}, {row.prediction.task}"
        if abs(row.error) > 0.05:
            lines.append(f"{name}: off by {_signed(row.error)} points")
        if row.top_rung is not None and abs(row.error) >= abs(row.top_rung - row.actual):
            lines.append(f"{name}: no closer than repeating the top rung's {_points(row.top_rung)}")
    if result.truth is not None:
        if abs(result.truth.floor_error) > 0.1:
            lines.append(f"irreducible loss: off by {result.truth.floor_error:+.1%} of the range")
        if result.truth.excess_error is not None and abs(result.truth.excess_error) > 0.3:
            lines.append(f"excess loss: off by {result.truth.excess_error:+.0%} of the predicted")
    return lines


def _task(fitted: TaskFit, result: Result) -> dict[str, object]:
    predictions = [p for p in result.predictions if p.task == fitted.task]
    rows = result.audit.rows if result.audit else ()
    actuals = [r for r in rows if r.prediction.task == fitted.task]
    return {
        "name": fitted.task,
        "image": _image(to_svg(task_figure(fitted, predictions, actuals))),
        "fits": [
            {
                "step": step,
                "formula": get_law(fit.law).formula,
                "parameters": fit.values(),
                "certificate": fit.certificate(),
                "certified": fit.certified,
            }
            for step, fit in fitted.steps()
        ],
    }


def _rungs(model: TwoStage, observations: pd.DataFrame) -> dict[str, object]:
    """The ladder and the targets: last row of each run, loss and accuracy on the first tasks."""
    tasks = list(model.fits_)[:6]
    used = {rung.run for fitted in model.fits_.values() for rung in fitted.rungs}
    table = observations[observations["run"].isin(used) | (observations["role"] == "target")]
    last = table.sort_values("step", kind="stable").groupby(["run", "task"], sort=False).tail(1)
    lines = []
    for run, part in last.groupby("run", sort=False):
        by_task = part.set_index("task")
        cells = []
        for task in tasks:
            if task not in by_task.index:
                cells.append("")
                continue
            accuracy = by_task.at[task, "accuracy"] if "accuracy" in by_task else None
            loss = f"{by_task.at[task, 'loss']:.3f}"
            cells.append(loss if pd.isna(accuracy) else f"{loss} / {_points(accuracy)}")
        first = part.iloc[0]
        flops = 6 * first["params"] * first["tokens"]
        lines.append(
            {
                "run": run,
                "role": first["role"],
                "params": f"{first['params']:,.0f}",
                "tokens": f"{first['tokens']:,.0f}",
                "flops": f"{flops:.3g}",
                "order": flops,
                "cells": cells,
            }
        )
    lines.sort(key=lambda line: (line["role"] == "target", line["order"]))
    return {"tasks": tasks, "lines": lines}


def _image(svg: str) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()


def _points(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f}"


def _signed(share: float | None) -> str:
    return "" if share is None else f"{100 * share:+.1f}"
