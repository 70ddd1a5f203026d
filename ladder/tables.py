"""What commands print: tables for people, one JSON document for scripts, a file on request."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table

from evaluation.files import InputError, atomic_write, write_json


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
    table = Table(title=title, title_justify="left", header_style="bold")
    for index, name in enumerate(columns):
        table.add_column(name, justify="left" if index == 0 else "right", no_wrap=index == 0)
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    console = Console(highlight=False, markup=False)
    # As wide as the table, so that no column is cut off: a terminal wraps or scrolls it.
    console.width = (
        max(console.width, console.measure(table).maximum) if (console.is_terminal) else 10_000
    )
    console.print(table, soft_wrap=True)


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
