"""The observations table: one row per (run, step, task); schema, validation, reading, writing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from evaluation.bounds import check_csv, check_parquet_size
from evaluation.checksums import check_parquet, seal_parquet
from evaluation.columns import hints, with_known_names
from evaluation.files import InputError, atomic_write, load_json, write_text

if TYPE_CHECKING:
    from pandas import DataFrame, Series

__all__ = [
    "COLUMNS",
    "KEY",
    "SCHEMA_VERSION",
    "BadCellError",
    "InputError",
    "check_required",
    "load_json",
    "place",
    "read_observations",
    "validate",
    "write_observations",
    "write_text",
]

SCHEMA_VERSION = 1
"""Version of the table's columns and their meanings; written into every file."""

KEY = ("run", "step", "task")
"""The columns that together name a row."""

LOSS_UNITS = ("bits/byte", "nats/token")
ROLES = ("ladder", "target", "extra")


class BadCellError(InputError):
    """A cell that breaks the schema, for whoever knows the table it came from by other names."""

    def __init__(self, source: str, row: int, columns: tuple[str, ...], problem: str) -> None:
        super().__init__(f"{source}: {place(row, *columns)}: {problem}")
        self.row = row
        """Counted from 0."""
        self.columns = columns
        self.problem = problem


def place(row: int, *columns: str) -> str:
    """A cell's row, counted from 1, and its column; or the columns of one row."""
    if len(columns) == 1:
        return f"row {row + 1}, column {columns[0]!r}"
    return f"row {row + 1}, columns {', '.join(columns)}"


@dataclass(frozen=True)
class Column:
    """One column of the table: its name, type, permitted range and meaning."""

    name: str
    kind: Literal["text", "number", "count", "flag"]
    meaning: str
    required: bool = False
    low: float = -np.inf
    high: float = np.inf
    above_low: bool = False
    values: tuple[str, ...] = ()


SMALLEST, LARGEST = 1e-60, 1e60
"""Params, tokens and losses that are no mistake, whatever the unit: products of them are finite."""

COLUMNS = (
    Column("run", "text", "rung or target, `190M-5xC`, `7B-4T`", required=True),
    Column(
        "role",
        "text",
        "ladder, target, or extra (known, not fitted by default)",
        required=True,
        values=ROLES,
    ),
    Column(
        "params",
        "number",
        "N: every parameter but the input embedding",
        required=True,
        low=SMALLEST,
        high=LARGEST,
    ),
    Column("tokens", "number", "D: tokens trained on", required=True, low=0, high=LARGEST),
    Column("flops", "number", "C: training FLOPs; may be empty", low=0),
    Column("step", "count", "optimizer step", required=True, low=0),
    Column("final", "flag", "whether the step is the run's last", required=True),
    Column("task", "text", "task or LM validation set", required=True),
    Column(
        "loss", "number", "the feature that links both fits", required=True, low=0, high=LARGEST
    ),
    Column("loss_unit", "text", "unit of loss", required=True, values=LOSS_UNITS),
    Column("accuracy", "number", "share of right answers; empty for LM sets", low=0, high=1),
    Column("accuracy_metric", "text", "how an answer was picked, `acc_per_char`"),
    Column("chance", "number", "accuracy of guessing", low=0, high=1),
    Column("instances", "count", "number of documents scored", low=1),
    Column("loss_se", "number", "standard error of loss", low=0),
    Column("accuracy_se", "number", "standard error of accuracy", low=0),
    Column("recipe", "text", "training recipe"),
    Column("seed", "count", "training seed", low=0),
    Column("batch_tokens", "number", "tokens a step", low=0, above_low=True),
    Column("unique_tokens", "number", "distinct tokens, where data was repeated", low=0),
    Column("params_total", "number", "every parameter, embeddings included", low=0),
    Column("schema_version", "count", "version of this schema", low=1),
)

_BY_NAME = {column.name: column for column in COLUMNS}
_FLAGS = {
    **dict.fromkeys(("true", "1", "1.0", "yes"), True),
    **dict.fromkeys(("false", "0", "0.0", "no"), False),
}

LONGEST_HEAD = 2**20
"""Characters of a CSV's first line that are looked at for what parts its cells."""

LARGEST_COUNT = 2**53
"""Counts up to here are exact as a float."""


def read_observations(path: Path | str) -> DataFrame:
    """Read and validate a table from `.parquet` or `.csv`.

    Raises InputError, naming file, row (counted from 1, header apart) and column, for a missing
    file, a missing or ill-typed column, a value out of range, or a duplicate key.

    >>> from evaluation.records import read_observations
    >>> table = read_observations("mine.csv")
    >>> table["run"].nunique(), table["loss_unit"].unique().tolist()
    (16, ['bits/byte'])
    """
    path = Path(path)
    return validate(with_known_names(read_frame(path), _BY_NAME), str(path))


def read_frame(path: Path) -> DataFrame:
    """A table's cells as they lie in the file; InputError if it is none."""
    check_no_spreadsheet(path)
    ending = path.suffix.lower()
    if path.is_dir() and (path / "observations.parquet").is_file():
        raise InputError(f"{path}: is a folder; name its table, {path / 'observations.parquet'}")
    if ending not in (".parquet", ".csv", ".tsv") and path.exists():
        raise InputError(f"{path}: observations are a .parquet or a .csv file")
    if not path.is_file():
        raise InputError(f"{path}: no such file; `ladder import` makes one, .parquet or .csv")
    try:
        if ending == ".parquet":
            check_parquet(path)
        frame = _read_parquet(path) if ending == ".parquet" else _read_csv(path)
    except InputError:
        raise
    except (ValueError, OSError) as error:
        raise InputError(f"{path}: cannot be read as {ending[1:]} ({reason(error)})") from error
    return frame


def check_no_spreadsheet(path: Path) -> None:
    """Refuse a file that a spreadsheet program keeps for itself, and say what to save instead."""
    if path.suffix.lower() in (".xlsx", ".xls", ".ods", ".numbers"):
        raise InputError(f"{path}: is a spreadsheet; save its sheet as CSV (UTF-8)")


def reason(error: Exception) -> str:
    """Why a table could not be read, in one line."""
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8; save it as CSV UTF-8"
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def separator(path: Path) -> str:
    """What stands between the cells of a CSV file: a comma, a semicolon or a tab."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        head = file.readline(LONGEST_HEAD)
    return max((",", ";", "\t"), key=head.count)


def _read_parquet(path: Path) -> DataFrame:
    from pyarrow import ArrowException, parquet, types

    try:
        check_parquet_size(path)
        # A reader takes bytes that are no UTF-8 for text, which fails wherever they are used.
        schema = parquet.read_schema(path)
        texts = [field.name for field in schema if not types.is_primitive(field.type)]
        parquet.read_table(path, columns=texts).validate(full=True)
        return pd.read_parquet(path)
    except ArrowException as error:  # not all of them are ValueErrors
        raise ValueError(str(error)) from error


def text_cells(path: Path) -> DataFrame:
    """A CSV's cells as text, commas, semicolons or tabs between them.

    The header is a row, so that a doubled column and a row that is too long are seen.
    """
    check_csv(path)
    mark = separator(path)
    cells = pd.read_csv(
        path,
        sep=mark,
        header=None,
        dtype=str,
        keep_default_na=False,
        encoding="utf-8-sig",
    )
    return cells.fillna("")


def _read_csv(path: Path) -> DataFrame:
    cells = text_cells(path)
    frame = cells.iloc[1:].reset_index(drop=True)
    frame.columns = pd.Index([str(name).strip() for name in cells.iloc[0]])
    nameless = (frame.columns == "") & (frame == "").all(axis=0).to_numpy()
    return frame.loc[:, ~nameless]


def write_observations(frame: DataFrame, path: Path | str) -> None:
    """Validate a table and write it, atomically, as Parquet or CSV by the file's ending."""
    path = Path(path)
    if path.suffix not in (".parquet", ".csv"):
        raise InputError(f"{path}: observations are written to a .parquet or a .csv file")
    frame = validate(frame, str(path))
    if path.suffix == ".parquet":
        atomic_write(path, lambda temporary: _write_parquet(frame, temporary))
    else:
        atomic_write(path, lambda temporary: frame.to_csv(temporary, index=False))


def _write_parquet(frame: DataFrame, path: Path) -> None:
    frame.to_parquet(path, index=False)
    seal_parquet(path)


def validate(frame: DataFrame, source: str = "observations") -> DataFrame:
    """Return the table with every known column typed, in the schema's order; extras follow.

    `source` names the table in errors. Raises InputError at the first row that breaks the schema.
    """
    doubled = frame.columns[frame.columns.duplicated()]
    if len(doubled):
        raise InputError(f"{source}: column {doubled[0]!r} stands twice; keep one")
    check_required(frame.columns, frame.columns, source)
    if not len(frame):
        raise InputError(f"{source}: has no rows")
    typed: dict[str, Any] = {}
    for column in COLUMNS:
        if column.name in frame.columns:
            typed[column.name] = _typed(frame[column.name].reset_index(drop=True), column, source)
    _check_version(typed.get("schema_version"), source)
    typed["schema_version"] = pd.Series(SCHEMA_VERSION, index=range(len(frame)))
    for name in frame.columns:
        if name not in _BY_NAME:
            typed[str(name)] = _extra(frame[name].reset_index(drop=True), str(name), source)
    result = pd.DataFrame(typed)
    _check_rows(result, source)
    return result


def check_required(given: Iterable[str], found: Iterable[str], source: str) -> None:
    """Raise InputError where a required column is not `given`; `found` are those of the file."""
    known, there = set(given), list(map(str, found))
    missing = [c.name for c in COLUMNS if c.required and c.name not in known]
    if missing:
        raise InputError(
            f"{source}: needs the column{'s' * (len(missing) > 1)} {', '.join(missing)}; "
            f"it has {', '.join(there) or 'none'}; "
            f"{hints(missing, there, _BY_NAME, {'loss_unit': LOSS_UNITS})}"
        )


def _typed(values: Series, column: Column, source: str) -> Series:
    if column.kind == "text":
        return _text(values, column, source)
    empty = _is_empty(values)
    if column.required and empty.any():
        _fail(source, empty, column.name, "is empty", "give a value")
    if column.kind == "flag":
        flags = values.astype(str).str.strip().str.lower().map(_FLAGS)
        _fail(source, flags.isna(), column.name, "is not true or false", "write one", values)
        return flags.astype(bool)
    if not pd.api.types.is_numeric_dtype(values) or pd.api.types.is_bool_dtype(values):
        values = values.astype(str)
    numbers = pd.to_numeric(values.where(~empty), errors="coerce").astype(float)
    _fail(source, numbers.isna() & ~empty, column.name, "is not a number", "give a number", values)
    _fail(source, np.isinf(numbers), column.name, "is infinite", "give a finite number", values)
    low = numbers <= column.low if column.above_low else numbers < column.low
    bound = f"{'above' if column.above_low else 'at least'} {column.low:g}"
    _fail(source, low, column.name, "is too small", f"it must be {bound}", values)
    highest = min(column.high, LARGEST_COUNT) if column.kind == "count" else column.high
    high = numbers > highest
    hint = f"it must be at most {highest:g}"
    if column.high == 1:
        hint += " (a share, not per cent; `ladder import csv --percent` divides)"
    _fail(source, high, column.name, "is too large", hint, values)
    if column.kind == "count":
        broken = (numbers % 1 != 0) & ~empty
        _fail(source, broken, column.name, "is not a whole number", "give a count", values)
        return numbers.astype("int64" if column.required else "Int64")
    return numbers


def _text(values: Series, column: Column, source: str) -> Series:
    empty = _is_empty(values)
    if column.required:
        _fail(source, empty, column.name, "is empty", "give a value")
    text = values.astype(str).str.strip().where(~empty, "")
    if column.values:
        wrong = ~text.isin(column.values)
        hint = f"it is one of {', '.join(column.values)}"
        _fail(source, wrong, column.name, "is unknown", hint, values)
    return text


def _extra(values: Series, name: str, source: str) -> Series:
    """A column beyond the schema: numbers where every value is one, else as it is."""
    empty = _is_empty(values)
    numbers = pd.to_numeric(values.where(~empty), errors="coerce")
    if not (numbers.notna() | empty).all():
        return values
    _fail(source, np.isinf(numbers.astype(float)), name, "is infinite", "give a finite number")
    return values if pd.api.types.is_numeric_dtype(values) else numbers.astype(float)


def _is_empty(values: Series) -> Series:
    blank = values.isna()
    if not pd.api.types.is_numeric_dtype(values):
        blank |= values.astype(str).str.strip() == ""
    return blank


def _check_version(versions: Series | None, source: str) -> None:
    if versions is not None and (versions > SCHEMA_VERSION).any():
        raise InputError(
            f"{source}: schema version {versions.max()} is newer than {SCHEMA_VERSION}; "
            "upgrade task-ladder"
        )


def _check_rows(frame: DataFrame, source: str) -> None:
    duplicate = frame.duplicated(list(KEY), keep="first")
    if duplicate.any():
        row = int(np.flatnonzero(duplicate)[0])
        run, step, task = (frame[name].iloc[row] for name in KEY)
        raise BadCellError(source, row, KEY, f"a second row for ({run}, {step}, {task}); keep one")
    tiny = (frame["tokens"] > 0) & (frame["tokens"] < SMALLEST)
    hint = f"it must be 0 or at least {SMALLEST:g}"
    _fail(source, tiny, "tokens", "is too small", hint, frame["tokens"])
    for name in ("role", "params"):
        first = frame.groupby("run", sort=False)[name].transform("first")
        _fail(
            source,
            frame[name] != first,
            name,
            "differs from the run's first row",
            "a run has one",
            frame[name],
        )
    for group, name in ((["run", "task"], "final"), (["task"], "loss_unit")):
        if name == "final":
            wrong = frame["final"] & (frame.groupby(group)["step"].transform("max") > frame["step"])
            problem, hint = "is true before the run's last step", "mark only the last step final"
        else:
            wrong = frame[name] != frame.groupby(group)[name].transform("first")
            problem, hint = "differs from the task's first row", "a task has one unit"
        _fail(source, wrong, name, problem, hint, frame[name])


def _fail(
    source: str,
    wrong: Series | np.ndarray,
    column: str,
    problem: str,
    hint: str,
    values: Sequence[Any] | Series | None = None,
) -> None:
    """Raise for the first row where `wrong` holds; return where there is none."""
    rows = np.flatnonzero(np.asarray(wrong, dtype=bool))
    if not len(rows):
        return
    shown = "" if values is None else f"{list(values)[rows[0]]!r} "
    raise BadCellError(source, int(rows[0]), (column,), f"{shown}{problem}; {hint}")
