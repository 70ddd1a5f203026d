"""What commands print: tables for people, one JSON document for scripts, a file on request."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table

from evaluation.files import InputError, atomic_write, write_json

if TYPE_CHECKING:
    from predict.audit import Audit
    from predict.task_fit import Target
    from predict.two_stage import TwoStage


def check_out(
    out: Path | None, source: Path | None = None, endings: tuple[str, ...] = (".json", ".csv")
) -> None:
    """Raise InputError, before any work is done, where --out cannot or must not be written.

    `source` is the file that is read, never to be overwritten.
    """
    if out is not None and out.suffix not in endings:
        raise InputError(f"--out {out}: must end in {' or '.join(endings)}")
    if out is not None and not out.parent.is_dir():
        raise InputError(f"--out {out}: the folder {out.parent} does not exist; make it first")
    if out is not None and out.is_dir():
        raise InputError(f"--out {out}: is a folder; name a file")
    if out is not None and source is not None and out.exists() and out.samefile(source):
        raise InputError(f"--out {out}: is the table that is read; name another file")


def emit(
    document: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], as_json: bool, out: Path | None
) -> None:
    """Write the document to `out`, JSON or its rows as CSV; with `as_json` print it too."""
    check_out(out)
    if out is not None and out.suffix == ".json":
        write_json(out, document)
    elif out is not None:
        atomic_write(out, lambda temporary: pd.DataFrame(rows).to_csv(temporary, index=False))
    if as_json:
        sys.stdout.write(json.dumps(document, indent=2, allow_nan=False) + "\n")


def show(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table on standard output; the first column is text, the others are numbers."""
    table = Table(title=title, title_justify="left", header_style="bold", box=box.SIMPLE_HEAD)
    for index, name in enumerate(columns):
        table.add_column(name, justify="left" if index == 0 else "right", no_wrap=True)
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    # As wide as the table needs: a narrow terminal breaks lines rather than lose digits.
    width = Console(width=10_000).measure(table).maximum
    Console(width=width, highlight=False, markup=False).print(table)


def note(line: str) -> None:
    """Print one line on standard error."""
    print(line, file=sys.stderr)


def points(share: float | None, signed: bool = False) -> str:
    """An accuracy or an error in points; empty for none."""
    if share is None or share != share:
        return ""
    return f"{100 * share:+.1f}" if signed else f"{100 * share:.1f}"


def duration(seconds: float | None) -> str:
    """Seconds as 1h02m or 3m05s; empty for none."""
    if seconds is None:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02}m" if hours else f"{minutes}m{rest:02}s"


def warn(model: TwoStage, targets: Sequence[Target]) -> None:
    """Say on standard error what a reader of the fits must know."""
    from predict.audit import smaller_than_ladder

    bounds: dict[str, list[str]] = {}
    for task, fitted in model.fits_.items():
        for step, law_fit in fitted.steps():
            if not law_fit.certified:
                note(f"warning: {task}, {step}: {law_fit.doubt}")
            for parameter in law_fit.at_bound:
                bounds.setdefault(f"{step}, {parameter}", []).append(task)
    if model.unfinished_:
        note(f"warning: no final row, so not fitted: {_some(model.unfinished_)}")
    for line in smaller_than_ladder(model, targets):
        note(f"warning: {line}")
    for parameter, tasks in bounds.items():
        note(f"note: {parameter} is at a bound: {_some(tasks)}")
    reasons: dict[str, list[str]] = {}
    for task, why in model.left_out_.items():
        reasons.setdefault(why, []).append(task)
    for why, tasks in reasons.items():
        note(f"left out, {why}: {_some(tasks)}")


def show_audit(audited: Audit, model: TwoStage) -> None:
    """Print predicted against actual, accuracies and errors in points."""
    show(
        f"predicted against actual, method {model.method.name}; accuracy and errors in points",
        (
            "task",
            "target",
            "predicted",
            "actual",
            "error",
            "step 1",
            "step 2",
            "top rung",
            "loss predicted",
            "loss actual",
            "status",
        ),
        [
            (
                row.prediction.task,
                row.prediction.target,
                points(row.prediction.predicted),
                points(row.actual),
                points(row.error, signed=True),
                points(row.step1_error, signed=True),
                points(row.step2_error, signed=True),
                points(row.top_rung),
                f"{row.prediction.loss_predicted:.4f}",
                f"{row.loss_actual:.4f}",
                row.prediction.status,
            )
            for row in audited.rows
        ],
    )
    if audited.mean_abs_error is not None:
        print(f"mean absolute error: {points(audited.mean_abs_error)} points")


def _some(names: list[str], most: int = 4) -> str:
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")
