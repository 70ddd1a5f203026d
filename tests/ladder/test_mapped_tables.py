"""Tables whose columns have other names are read with --map as ours are."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from command_line import document, fails
from conftest import synthetic

from ladder.cli import main


def test_a_csv_of_ones_own_is_imported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    theirs = tmp_path / "theirs.csv"
    table = synthetic().rename(columns={"run": "model", "params": "N"}).drop(columns="role")
    table.assign(accuracy=100 * table["accuracy"]).to_csv(theirs, index=False)
    out = tmp_path / "obs.parquet"
    options = ["--map", "run=model", "--map", "params=N", "--target", "T*", "--percent"]
    assert main(["import", "csv", str(theirs), "--out", str(out), *options]) == 0
    assert "16 ladder, 1 target" in capsys.readouterr().err
    assert document(capsys, "audit", out)["rows"]


MAPPED = {"run": "model", "params": "N", "tokens": "D", "loss": "bpb", "loss_unit": "unit"}
READERS = {
    "predict": (),
    "audit": (),
    "noise": ("--last", "3"),
    "allocate": ("--flops", "1e23", "--task", "quiz", "--replicates", "5"),
    "next": ("--target", "7B:7B:4T", "--budget", "1e22", "--candidate", "2B:2B:80B"),
    "exponents": ("--task", "quiz", "--replicates", "5", "--slices-only"),
}
"""Commands that read one table, and what else they need."""


@pytest.mark.parametrize("command", READERS)
def test_a_table_of_other_names_is_read_with_map_as_one_of_ours(
    command: str, table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frame = pd.read_parquet(table).drop(columns="schema_version")
    frame.rename(columns=MAPPED).to_csv(tmp_path / "theirs.csv", index=False, sep=";")
    pairs = [word for ours, theirs in MAPPED.items() for word in ("--map", f"{ours}={theirs}")]
    found = document(capsys, command, tmp_path / "theirs.csv", *READERS[command], *pairs)
    assert found == document(capsys, command, table, *READERS[command])
    wrong = [word.replace("=N", "=Nn") for word in pairs]
    said = fails(capsys, command, tmp_path / "theirs.csv", *READERS[command], *wrong)
    assert "no column 'Nn'; did you mean 'N'? there are model, role, N, D" in said
    bare = fails(capsys, command, tmp_path / "theirs.csv", *READERS[command])
    assert "did you mean --map run=model --map params=N --map tokens=D --map loss=bpb" in bare


def test_column_is_another_name_for_map(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frame = pd.read_parquet(table).rename(columns={"run": "model"})
    frame.to_csv(tmp_path / "theirs.csv", index=False)
    out = ["--out", str(tmp_path / "obs.csv")]
    assert main(["import", "csv", str(tmp_path / "theirs.csv"), *out, "--column", "run=model"]) == 0
    assert main(["predict", str(tmp_path / "theirs.csv"), "--column", "run=model"]) == 0
