"""`ladder compare`: its document, one table split by a column, what it refuses."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from command_line import document, fails
from conftest import synthetic

from evaluation.records import write_observations


def test_two_tables_of_other_names_are_compared_with_map(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = two_recipes(tmp_path)
    plain = document(capsys, "compare", one, two)
    for path in (one, two):
        pd.read_parquet(path).rename(columns={"params": "N"}).to_csv(
            path.with_suffix(".csv"), index=False
        )
    tables = one.with_suffix(".csv"), two.with_suffix(".csv")
    assert document(capsys, "compare", *tables, "--map", "params=N") == plain


def two_recipes(tmp_path: Path) -> tuple[Path, Path]:
    """Two tables of the same rungs, the first of a loss 2% lower."""
    paths = tmp_path / "good.parquet", tmp_path / "fair.parquet"
    for path, factor in zip(paths, (0.98, 1.0), strict=True):
        table = synthetic()
        write_observations(table.assign(loss=table["loss"] * factor), path)
    return paths


def test_compare_has_the_documented_shape(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = two_recipes(tmp_path)
    found = document(capsys, "compare", one, two)
    assert found["version"] == 1
    assert found["recipes"] == ["good", "fair"]
    (row,) = found["pairs"]
    assert row["loss_difference"] < 0 < row["accuracy_difference"] + 1
    assert row["loss_probability"] > 0.9
    assert row["gain"] > 1
    assert row["loss_actual"] < 0
    assert {p["parameter"] for p in found["parameters"]} == {"a", "alpha", "b", "beta", "E"}
    assert [d["measure"] for d in found["decisions"]] == ["loss"]


def test_compare_splits_one_table_by_a_column(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = two_recipes(tmp_path)
    whole = pd.concat(
        [
            pd.read_parquet(path).assign(recipe=path.stem).assign(run=lambda t: t.run + t.recipe)
            for path in (one, two)
        ]
    )
    write_observations(whole, tmp_path / "both.parquet")
    apart = document(capsys, "compare", one, two)
    together = document(capsys, "compare", tmp_path / "both.parquet", "--by", "recipe")
    assert together["recipes"] == ["good", "fair"]
    assert together["pairs"][0]["loss_difference"] == apart["pairs"][0]["loss_difference"]


def test_compare_says_what_is_missing_in_one_line(
    tmp_path: Path, table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = two_recipes(tmp_path)
    assert "needs two tables or more" in fails(capsys, "compare", one)
    assert "is given twice" in fails(capsys, "compare", one, one)
    assert "no such column" in fails(capsys, "compare", table, "--by", "mix")
    assert "takes one table, not 2" in fails(capsys, "compare", one, two, "--by", "recipe")
    frame = pd.read_parquet(one)
    write_observations(frame[frame["role"] == "ladder"], one)
    write_observations(pd.read_parquet(two).query("role == 'ladder'"), two)
    assert "no run has the role target" in fails(capsys, "compare", one, two)
    assert "must read NAME" in fails(capsys, "compare", one, two, "--target", "7B")
