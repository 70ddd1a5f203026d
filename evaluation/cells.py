"""CSV files of others as cells of text: read, charts unfolded, and how a cell is named."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable
from functools import reduce
from pathlib import Path

import pandas as pd

from evaluation.files import InputError
from evaluation.records import check_no_spreadsheet, place, reason, text_cells

Told = Callable[[int, Iterable[str]], str]
"""Where a cell is, in the words of its file: of its row, counted from 0, and its column there."""


def read_cells(path: Path) -> pd.DataFrame:
    """All cells as text; commas, semicolons or tabs between them."""
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    check_no_spreadsheet(path)
    try:
        cells = text_cells(path)
    except InputError:
        raise
    except (ValueError, OSError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read as CSV ({reason(error)})") from error
    names = [str(name).strip() for name in cells.iloc[0]]
    cells = cells.iloc[1:].reset_index(drop=True)
    if not len(cells):
        raise InputError(f"{path}: has no rows")
    if doubled := next((n for n in names if n and names.count(n) > 1), None):
        raise InputError(f"{path}: has the column {doubled!r} twice")
    cells.columns = pd.Index(names)
    return cells.loc[:, [bool(name) for name in names]]


def unfold_chart(cells: pd.DataFrame) -> pd.DataFrame | None:
    """A chart's export, `Step` and a column `RUN - METRIC` a run, as rows; None if it is none."""
    step = next((c for c in cells.columns if c.lower() in ("step", "_step")), None)
    series = [c for c in cells.columns if " - " in c and not re.search(r"__M(IN|AX)$", c)]
    if step is None or not series:
        return None
    parts: dict[str, list[pd.DataFrame]] = {}
    for name in series:
        run, metric = name.rsplit(" - ", 1)
        part = pd.DataFrame({"run": run, "step": cells[step], metric: cells[name]})
        parts.setdefault(run, []).append(part[measured(part[metric]) != ""])
    joined = [
        reduce(lambda a, b: a.merge(b, on=["run", "step"], how="outer"), own)
        for own in parts.values()
    ]
    return pd.concat(joined, ignore_index=True).fillna("")


def measured(cells: pd.Series) -> pd.Series:
    """The cells, empty where they say NaN, as W&B and pandas write what was not measured."""
    return cells.where(cells.str.strip().str.lower() != "nan", "").str.strip()


def check_run_table(cells: pd.DataFrame, source: str) -> None:
    """Refuse two runs of one name, which would be taken for checkpoints of one run."""
    if "Name" not in cells or "State" not in cells:
        return
    doubled = cells.index[cells["Name"].duplicated()]
    if len(doubled):
        name = cells["Name"].iloc[doubled[0]]
        first = cells.index[cells["Name"] == name][0]
        raise InputError(
            f"{source}: rows {first + 1} and {doubled[0] + 1} are two runs named {name!r}; keep "
            "one, or name one otherwise"
        )


def told_of(cells: pd.DataFrame, source: str, is_chart: bool) -> Told:
    """How the cells of a table are named, those of a chart as its file has them."""

    def of_chart(row: int, columns: Iterable[str]) -> str:
        run, step = cells["run"].iloc[row], cells["step"].iloc[row]
        metrics = set(cells.columns) - {"run", "step"}
        names = [f"{run} - {name}" if name in metrics else name for name in columns]
        return f"{source}: step {step}, column {', '.join(map(repr, names))}"

    return of_chart if is_chart else lambda row, columns: f"{source}: {place(row, *columns)}"
