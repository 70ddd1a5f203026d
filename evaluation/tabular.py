"""CSV files of others -> observations: columns mapped by name, and Weights & Biases exports."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatch
from functools import reduce
from pathlib import Path

import numpy as np
import pandas as pd

from evaluation.cells import Told, check_run_table, measured, read_cells, told_of, unfold_chart
from evaluation.columns import (
    hints,
    import_hints,
    nearest,
    some,
    there_is_no,
    with_known_names,
)
from evaluation.files import InputError
from evaluation.records import (
    COLUMNS,
    BadCellError,
    check_required,
    read_frame,
    validate,
)

LAST = "_last"
"""Column that a run's last step has until the table is whole."""

SUFFIXES = {"K": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}

_NAMES = [column.name for column in COLUMNS]
_WORDS = {column.name: column.values for column in COLUMNS if column.values}

_NEEDED = ("run", "params", "tokens", "task", "loss", "loss_unit")
"""What a table must say; the rest is filled in."""


@dataclass(frozen=True)
class TaskColumns:
    """One task of a wide table: a column of losses, and one of accuracies if it has any."""

    task: str
    loss: str
    accuracy: str | None = None


@dataclass(frozen=True)
class ColumnMap:
    """How the columns of a CSV become those of the observations table.

    A column of the same name is taken as it is. `step` defaults to the order of a run's rows,
    `final` to a run's last step, `role` to `ladder`, `tokens` to step x batch_tokens.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    """Observations column, or a feature's name -> the CSV's. In the place of a column's name one of
    the words that the column may hold, such as bits/byte for loss_unit, stands for every row."""
    values: Mapping[str, str] = field(default_factory=dict)
    """Observations column -> one value for all rows."""
    tasks: tuple[TaskColumns, ...] = ()
    """A wide table's tasks; without them the table is long, one row a task."""
    targets: tuple[str, ...] = ()
    """Patterns of runs of role target."""
    runs: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Params and final tokens of runs whose rows do not say."""
    percent: bool = False
    """Whether accuracies are percentages."""
    keep: bool = False
    """Whether columns that observations do not know stay, as further features."""


def count(text: str) -> float:
    """A count such as 6887575552, 6.89e9, 6,887,575,552 or 6.89B; ValueError otherwise."""
    text = text.strip()
    if re.match(r"\d{1,3}(,\d{3})+(\.\d*)?\D?$", text):
        text = text.replace(",", "")
    scale = SUFFIXES.get(text[-1:].upper())
    return float(text[:-1]) * scale if scale else float(text)


def import_csv(path: Path, mapping: ColumnMap) -> pd.DataFrame:
    """A CSV file as observations; raises InputError, naming the column or row, where it cannot."""
    return _observations(read_cells(path), mapping, str(path))


def read_mapped(path: Path, columns: Mapping[str, str]) -> pd.DataFrame:
    """A table of observations whose columns have other names, .csv or .parquet.

    `columns` maps ours to theirs; all other columns stay. What is missing is filled in as ColumnMap
    says. Raises InputError as `import_csv` does.
    """
    if path.suffix.lower() == ".parquet":
        cells = read_frame(path).map(lambda cell: "" if pd.isna(cell) else str(cell))
    else:
        cells = read_cells(path)
    return _observations(cells, ColumnMap(columns=columns, keep=True), str(path))


def import_wandb(path: Path, mapping: ColumnMap) -> pd.DataFrame:
    """A CSV export of Weights & Biases, or a folder of them, as observations.

    Known are a chart's export (a column `RUN - METRIC` each), whose files are joined by run and
    step, and a run table's (a row a run, with `Name`).
    """
    files = sorted(path.glob("*.csv")) if path.is_dir() else [path]
    if not files:
        raise InputError(f"{path}: holds no .csv file")
    charts = [unfold_chart(read_cells(file)) for file in files]
    known = [chart for chart in charts if chart is not None]
    if len(files) == 1:
        cells = known[0] if known else read_cells(files[0])
    elif len(known) < len(files):
        other = next(f for f, chart in zip(files, charts, strict=True) if chart is None)
        raise InputError(f"{other}: is no chart's export; name the one file to read")
    else:
        seen = [name for chart in known for name in chart.columns if name not in ("run", "step")]
        if doubled := next((n for n in seen if seen.count(n) > 1), None):
            raise InputError(f"{path}: two files hold {doubled!r}; keep one of them")
        cells = reduce(lambda a, b: a.merge(b, on=["run", "step"], how="outer"), known).fillna("")
    if not known:
        check_run_table(cells, str(path))
    columns = dict(mapping.columns)
    for ours, theirs in (("run", "Name"), ("step", "_step"), ("step", "Step")):
        if ours not in columns and ours not in cells and theirs in cells:
            columns[ours] = theirs
    return _observations(cells, replace(mapping, columns=columns), str(path), bool(known))


def _observations(
    cells: pd.DataFrame, mapping: ColumnMap, source: str, is_chart: bool = False
) -> pd.DataFrame:
    """Cells, all of them text, as observations; those of a chart were unfolded from its file."""
    mapping = _with_words(mapping, cells)
    scores = [column for task in mapping.tasks for column in (task.loss, task.accuracy)]
    cells = with_known_names(cells, _NAMES, {*mapping.columns.values(), *scores})
    told = told_of(cells, source, is_chart)
    base = _base(cells, mapping, source)
    for name in base.columns.intersection(["run", "task"]):
        base[name] = base[name].str.strip()
    # Numbers are read before a wide table is folded, so that a mistake is named by its own row.
    for name in ("params", "tokens", "batch_tokens", "step", "flops"):
        if name in base:
            theirs, may_be_empty = mapping.columns.get(name, name), name == "flops"
            base[name] = [
                value if may_be_empty and not value else _number(value, theirs, row, told)
                for row, value in enumerate(base[name])
            ]
    for task in mapping.tasks:
        for column in filter(None, (task.loss, task.accuracy)):
            for row, cell in enumerate(_cells(cells, column, source)):
                if cell.strip():
                    _score_cell(cell, column, row, told)
    if not mapping.keep:
        _check_given(cells, base, mapping, source)
    if "step" in base and "run" in base:
        # A run may go on after its last evaluation.
        base[LAST] = base.groupby("run", sort=False)["step"].transform("max")
    if mapping.tasks:
        parts = []
        for task in mapping.tasks:
            part = base.assign(task=task.task, loss=_cells(cells, task.loss, source))
            if task.accuracy is not None:
                part["accuracy"] = _cells(cells, task.accuracy, source)
            parts.append(part[part["loss"].str.strip() != ""])
        table = pd.concat(parts)
    else:
        table = base
    if "run" not in table:
        raise InputError(
            f"{source}: no column holds the runs' names; there are {some(cells.columns)}; "
            f"{hints(['run'], cells.columns)}"
        )
    if not len(table):
        raise InputError(f"{source}: no row has a value in the columns that were named")
    rows = table.index.to_numpy()
    table = _complete(table.reset_index(drop=True), mapping, source)

    def own(row: int, columns: Iterable[str]) -> str:
        """The same place in the file."""
        theirs = [_theirs(name, str(table["task"].iloc[row]), mapping) for name in columns]
        return told(rows[row], [name for name in theirs if name in cells] or theirs)

    check_required(table.columns, cells.columns, source)
    if mapping.percent:
        table = _as_shares(table, source, own)
    try:
        return validate(table.drop(columns=LAST, errors="ignore"), source)
    except BadCellError as error:
        raise InputError(f"{own(error.row, error.columns)}: {error.problem}") from None


def _theirs(name: str, task: str, mapping: ColumnMap) -> str:
    """What a column of observations is called in the file, of a wide table by the row's task."""
    for one in mapping.tasks:
        if one.task == task and name in ("loss", "accuracy"):
            return str(getattr(one, name))
    return mapping.columns.get(name, name)


def _with_words(mapping: ColumnMap, cells: pd.DataFrame) -> ColumnMap:
    """The map with values where it names words that a column may hold, and no column."""
    values = {
        ours: theirs
        for ours, theirs in mapping.columns.items()
        if theirs not in cells and theirs in _WORDS.get(ours, ())
    }
    columns = {ours: theirs for ours, theirs in mapping.columns.items() if ours not in values}
    return replace(mapping, columns=columns, values={**mapping.values, **values})


def _base(cells: pd.DataFrame, mapping: ColumnMap, source: str) -> pd.DataFrame:
    for name in mapping.values:
        if name not in _NAMES:
            close = nearest(name, _NAMES, 1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            raise InputError(
                f"{name!r}: no column of observations; {hint}there are {', '.join(_NAMES)}"
            )
    _check_ours(mapping, cells, source)
    base = pd.DataFrame(index=cells.index)
    # A name of the user's own is a further feature.
    for name in dict.fromkeys((*_NAMES, *mapping.columns)):
        if name in mapping.columns:
            base[name] = _cells(cells, mapping.columns[name], source)
        elif name in mapping.values:
            base[name] = mapping.values[name]
        elif name in cells:
            base[name] = _cells(cells, name, source)
    if mapping.keep:
        taken = {*base.columns, *mapping.columns.values()}
        for name in cells.columns:
            if name not in taken:
                base[name] = cells[name]
    return base


def _check_given(cells: pd.DataFrame, base: pd.DataFrame, mapping: ColumnMap, source: str) -> None:
    """Refuse at once all that nothing gives, told with the file's own columns."""
    given = {*base.columns}
    given |= {"task", "loss"} if mapping.tasks else set()
    given |= {"params", "tokens"} if mapping.runs else set()
    given |= {"tokens"} if "batch_tokens" in given else set()
    if missing := [name for name in _NEEDED if name not in given]:
        scores = {column for task in mapping.tasks for column in (task.loss, task.accuracy)}
        taken = {*_NAMES, *mapping.columns.values(), *scores}
        left = [name for name in cells.columns if name not in taken]
        raise InputError(
            f"{source}: needs {', '.join(missing)}; there are {some(cells.columns)}; "
            f"{import_hints(missing, left)}"
        )


def _check_ours(mapping: ColumnMap, cells: pd.DataFrame, source: str) -> None:
    """Refuse a name that is like one of observations that nothing gives, rather than a feature."""
    given = {*mapping.columns, *mapping.values, *cells.columns}
    given |= {"task", "loss"} if mapping.tasks else set()
    given |= {"params", "tokens"} if mapping.runs else set()
    for ours, theirs in mapping.columns.items():
        if ours in _NAMES:
            continue
        absent = [column.name for column in COLUMNS if column.required and column.name not in given]
        if close := nearest(ours, absent, 1):
            raise InputError(
                f"{source}: {ours}={theirs}: observations have no column {ours!r}; did you mean "
                f"{close[0]}={theirs}? there are {', '.join(_NAMES)}"
            )


def _complete(table: pd.DataFrame, mapping: ColumnMap, source: str) -> pd.DataFrame:
    """Fill in what the rows do not say: counts, steps, final, role."""
    given = [n for n in ("params", "tokens") if n not in table and mapping.runs]
    for name in given:
        known = {run: pair[name == "tokens"] for run, pair in mapping.runs.items()}
        table[name] = table["run"].map(known)
        missing = table.loc[table[name].isna(), "run"]
        if len(missing):
            raise InputError(
                f"{source}: run {missing.iloc[0]!r} has no {name}; add --run NAME:PARAMS:TOKENS"
            )
    if "step" not in table:
        table["step"] = _order(table, source)
        table[LAST] = table.groupby("run", sort=False)["step"].transform("max")
    if "tokens" in given:
        whole = table[LAST].where(table[LAST] > 0)
        table["tokens"] = table["tokens"] * (table["step"] / whole).fillna(1.0)
    elif "tokens" not in table and "batch_tokens" in table:
        table["tokens"] = table["step"] * table["batch_tokens"]
    if "final" not in table:
        last = table.groupby("run", sort=False)["step"].transform("max")
        table["final"] = table["step"] == last
    for pattern in mapping.targets:
        if "role" in table:
            raise InputError(
                f"--target {pattern}: {source} tells every run's role itself; leave --target out, "
                "or that column"
            )
        if not any(fnmatch(str(run), pattern) for run in table["run"]):
            raise InputError(f"--target {pattern}: matches no run of {source}")
    if "role" not in table:
        is_target = [any(fnmatch(str(r), p) for p in mapping.targets) for r in table["run"]]
        table["role"] = ["target" if flag else "ladder" for flag in is_target]
    return table


def _order(table: pd.DataFrame, source: str) -> pd.Series:
    """Steps of a table without them: the order of a run's tokens, which must differ."""
    keys = ["run", "task"] if "task" in table else ["run"]
    doubled = table.duplicated([*keys, "tokens"] if "tokens" in table else keys)
    if doubled.any():
        run = table.loc[doubled, "run"].iloc[0]
        raise InputError(
            f"{source}: run {run!r} has several rows and none says its step; map one with --map "
            "step=NAME, or keep one row a run and task"
        )
    if "tokens" not in table:
        return pd.Series(0, index=table.index)
    return table.groupby("run", sort=False)["tokens"].rank(method="dense").astype(int) - 1


def _as_shares(table: pd.DataFrame, source: str, own: Told) -> pd.DataFrame:
    """Accuracies and their standard errors from percentages; chance where it is one, too."""
    for name in ("accuracy", "accuracy_se", "chance"):
        if name not in table:
            continue
        numbers = pd.to_numeric(table[name].astype(str).str.rstrip("% "), errors="coerce")
        if name == "accuracy" and numbers.max() <= 1:
            raise InputError(
                f"{source}: no accuracy is above 1, so they are no percentages; leave out --percent"
            )
        if name == "chance" and not numbers.max() > 1:
            continue
        wrong = np.flatnonzero((numbers < 0) | (numbers > 100))
        if len(wrong):
            cell = table[name].iloc[wrong[0]]
            raise InputError(
                f"{own(int(wrong[0]), (name,))}: {cell!r} is no percentage; write one from 0 to 100"
            )
        table[name] = (numbers / 100).where(numbers.notna(), table[name])
    return table


def _score_cell(cell: str, column: str, row: int, told: Told) -> None:
    try:
        float(cell.strip().rstrip("%"))
    except ValueError:
        raise InputError(f"{told(row, (column,))}: {cell!r} is not a number{_mend(cell)}") from None


def _mend(cell: str) -> str:
    return "; write a decimal point" if cell.count(",") == 1 else ""


def _number(value: object, name: str, row: int, told: Told) -> float:
    try:
        return count(str(value))
    except ValueError:
        raise InputError(
            f"{told(row, (name,))}: {value!r} is not a count, such as 6.9e9 or "
            f"6.9B{_mend(str(value))}"
        ) from None


def _cells(cells: pd.DataFrame, name: str, source: str) -> pd.Series:
    if name not in cells:
        raise InputError(f"{source}: {there_is_no(name, cells.columns)}")
    return measured(cells[name])
