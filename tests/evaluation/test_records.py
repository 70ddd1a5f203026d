"""The observations table takes what fits its schema and names what does not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from conftest import synthetic
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from evaluation.records import (
    COLUMNS,
    SCHEMA_VERSION,
    InputError,
    read_observations,
    validate,
    write_observations,
)


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_a_table_reads_back_as_it_was_written(
    tmp_path: Path, observations: pd.DataFrame, suffix: str
) -> None:
    observations["soft"] = 0.5
    path = tmp_path / f"obs{suffix}"
    write_observations(observations, path)
    back = read_observations(path)
    pd.testing.assert_frame_equal(back, validate(observations), rtol=1e-12)
    assert (back["schema_version"] == SCHEMA_VERSION).all()


@given(loss=st.floats(0, 1e60), accuracy=st.floats(0, 1), tokens=st.floats(1e-60, 1e60))
def test_any_finite_number_survives_a_csv(loss: float, accuracy: float, tokens: float) -> None:
    row = synthetic().head(1).assign(loss=loss, accuracy=accuracy, tokens=tokens)
    back = validate(validate(row).astype(str))
    assert back["loss"].iloc[0] == loss
    assert back["accuracy"].iloc[0] == accuracy
    assert back["tokens"].iloc[0] == tokens


@pytest.mark.parametrize("column", [c.name for c in COLUMNS if c.required])
def test_a_missing_column_is_named(observations: pd.DataFrame, column: str) -> None:
    with pytest.raises(InputError, match=f"needs the column {column}"):
        validate(observations.drop(columns=column))


@pytest.mark.parametrize(
    ("column", "value", "problem"),
    [
        ("loss", np.nan, "is empty"),
        ("loss", "abc", "'abc' is not a number"),
        ("loss", "nan", "'nan' is not a number"),
        ("loss", np.inf, "is infinite"),
        ("loss", -1.0, "is too small"),
        ("params", 0, "is too small"),
        ("tokens", -5, "is too small"),
        ("accuracy", 61.2, "is too large"),
        ("instances", 0.5, "is too small"),
        ("instances", 1.5, "is not a whole number"),
        ("step", 1e30, "is too large"),
        ("instances", 1e30, "is too large"),
        ("final", "maybe", "is not true or false"),
        ("role", "rung", "'rung' is unknown"),
        ("loss_unit", "nats", "'nats' is unknown"),
        ("task", "", "is empty"),
    ],
)
def test_a_bad_value_is_named_with_its_row_and_column(
    observations: pd.DataFrame, column: str, value: object, problem: str
) -> None:
    observations[column] = observations[column].astype(object)
    observations.loc[6, column] = value
    with pytest.raises(InputError) as error:
        validate(observations, "obs.csv")
    message = str(error.value)
    assert message.startswith("obs.csv: row 7")
    assert repr(column) in message
    assert problem in message
    assert "\n" not in message


def test_a_second_row_for_a_key_is_refused(observations: pd.DataFrame) -> None:
    doubled = pd.concat([observations, observations.iloc[[3]]])
    with pytest.raises(InputError, match=r"row \d+, columns run, step, task: a second row"):
        validate(doubled)


def test_a_run_has_one_size_and_one_final_step(observations: pd.DataFrame) -> None:
    changed = observations.copy()
    changed.loc[1, "params"] *= 2
    with pytest.raises(InputError, match="row 2, column 'params'"):
        validate(changed)
    early = observations.copy()
    early.loc[0, "final"] = True
    with pytest.raises(InputError, match=r"final.*before the run's last step"):
        validate(early)


def test_a_newer_schema_is_refused(observations: pd.DataFrame) -> None:
    with pytest.raises(InputError, match="newer"):
        validate(observations.assign(schema_version=SCHEMA_VERSION + 1))


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_observations(tmp_path / "absent.csv")
    (tmp_path / "obs.json").write_text("{}", encoding="utf-8")
    with pytest.raises(InputError, match=r"\.parquet or a \.csv"):
        read_observations(tmp_path / "obs.json")
    (tmp_path / "observations.parquet").touch()
    with pytest.raises(InputError, match=r"is a folder; name its table, .*observations\.parquet"):
        read_observations(tmp_path)
    broken = tmp_path / "broken.parquet"
    broken.write_bytes(b"PAR1 not really")
    with pytest.raises(InputError, match="cannot be read as parquet"):
        read_observations(broken)
    empty = tmp_path / "empty.csv"
    empty.write_text("")
    with pytest.raises(InputError, match="cannot be read as csv"):
        read_observations(empty)
    invalid = tmp_path / "invalid.csv"
    invalid.write_bytes(b"run,role\n\xff\xfe,x\n")
    with pytest.raises(InputError, match="cannot be read as csv"):
        read_observations(invalid)


@pytest.mark.parametrize(("name", "mark"), [("obs.CSV", ","), ("obs.tsv", "\t")])
def test_a_file_of_other_endings_that_is_a_csv_is_read(
    name: str, mark: str, tmp_path: Path, observations: pd.DataFrame
) -> None:
    observations.to_csv(tmp_path / name, sep=mark, index=False)
    pd.testing.assert_frame_equal(read_observations(tmp_path / name), validate(observations))


def test_a_spreadsheet_is_told_to_be_saved_as_csv(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a spreadsheet; save its sheet as CSV"):
        read_observations(tmp_path / "obs.xlsx")


def test_a_refused_table_leaves_the_old_file(tmp_path: Path, observations: pd.DataFrame) -> None:
    path = tmp_path / "obs.parquet"
    write_observations(observations, path)
    before = path.read_bytes()
    with pytest.raises(InputError):
        write_observations(observations.assign(loss=np.nan), path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["obs.parquet"]


def test_a_doubled_header_is_refused(tmp_path: Path, observations: pd.DataFrame) -> None:
    path = tmp_path / "obs.csv"
    observations.to_csv(path, index=False)
    lines = path.read_text().splitlines()
    path.write_text("\n".join(["loss," + lines[0], *("3.3," + line for line in lines[1:])]))
    with pytest.raises(InputError, match="column 'loss' stands twice"):
        read_observations(path)


def test_spreadsheets_habits_are_read(tmp_path: Path, observations: pd.DataFrame) -> None:
    """A byte-order mark, spaces around names, a trailing comma, 1.0 for true."""
    path = tmp_path / "obs.csv"
    table = observations.assign(final=observations["final"].astype(float))
    lines = table.to_csv(index=False).splitlines()
    lines = [line.replace(",", " , ", 1) + "," for line in lines]
    path.write_text("\ufeff" + "\n".join(lines), encoding="utf-8")
    pd.testing.assert_frame_equal(read_observations(path), validate(observations))


def test_an_extra_column_may_not_be_infinite(observations: pd.DataFrame) -> None:
    with pytest.raises(InputError, match="row 1, column 'ce': is infinite"):
        validate(observations.assign(ce=np.inf))


def test_what_arrow_has_not_implemented_is_one_line(
    tmp_path: Path, observations: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A damaged footer may claim integers of 128 bits, and the error is then no ValueError."""

    def read_metadata(path: Path) -> None:
        raise pa.ArrowNotImplementedError("Integers with more than 64 bits")

    path = tmp_path / "o.parquet"
    write_observations(validate(observations), path)
    monkeypatch.setattr(parquet, "read_metadata", read_metadata)
    with pytest.raises(InputError, match=r"o.parquet: cannot be read as parquet \(Integers with"):
        read_observations(path)


def test_bytes_that_are_no_text_are_refused_as_such(tmp_path: Path) -> None:
    path = tmp_path / "o.parquet"
    write_observations(synthetic(), path)
    table = parquet.read_table(path)
    bad = pa.array([b"\x80"] * len(table), pa.binary()).view(pa.string())
    parquet.write_table(table.set_column(table.column_names.index("task"), "task", bad), path)
    with pytest.raises(InputError, match=r"o\.parquet: cannot be read as parquet .*UTF8"):
        read_observations(path)
