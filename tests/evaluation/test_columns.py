"""Columns that others name otherwise are found, or the nearest ones are told."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from evaluation.columns import hints, nearest, there_is_no, with_known_names
from evaluation.files import InputError
from evaluation.records import COLUMNS, read_observations
from evaluation.tabular import ColumnMap, TaskColumns, import_csv, read_mapped

KNOWN = [column.name for column in COLUMNS]
ROW = {
    "run": "190M-1xC",
    "role": "ladder",
    "params": 1.9e8,
    "tokens": 3.8e9,
    "step": 10,
    "final": True,
    "task": "arc",
    "loss": 1.25,
    "loss_unit": "bits/byte",
    "accuracy": 0.5,
    "soft": 0.25,
}
MINE = {"run": "model", "params": "N", "loss": "bpb"}


def written(path: Path, separator: str = ",", **renamed: str) -> Path:
    frame = pd.DataFrame([ROW, {**ROW, "run": "190M-2xC"}]).rename(columns=renamed)
    if path.suffix == ".parquet":
        frame.to_parquet(path)
    else:
        frame.to_csv(path, sep=separator, index=False)
    return path


@pytest.mark.parametrize(
    ("name", "close"),
    [
        ("parms", "params"),
        ("Params", "params"),
        ("n_params", "params"),
        ("N", "params"),
        ("acc", "accuracy"),
        ("loss unit", "loss_unit"),
        ("toknes", "tokens"),
    ],
)
def test_the_nearest_known_name_comes_first(name: str, close: str) -> None:
    assert nearest(name, KNOWN)[0] == close


def test_a_name_like_none_has_no_nearest() -> None:
    assert nearest("zzz", KNOWN) == []
    assert there_is_no("zzz", ["a", "b"]) == "no column 'zzz'; there are a, b"


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_table_is_read_whatever_parts_its_cells_and_however_heads_are_capitalised(
    separator: str, tmp_path: Path
) -> None:
    plain = read_observations(written(tmp_path / "plain.csv"))
    other = written(
        tmp_path / "other.csv", separator, run="Run", role=" ROLE", loss_unit="Loss Unit"
    )
    pd.testing.assert_frame_equal(read_observations(other), plain)


def test_of_two_heads_that_differ_in_capitals_neither_is_taken() -> None:
    frame = pd.DataFrame([[1, 2]], columns=["Run", "RUN"])
    assert list(with_known_names(frame, KNOWN)) == ["Run", "RUN"]
    frame = pd.DataFrame([[1, 2]], columns=["run", "RUN"])
    assert list(with_known_names(frame, KNOWN)) == ["run", "RUN"]


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_mapped_table_is_the_same_as_one_with_our_names(ending: str, tmp_path: Path) -> None:
    plain = read_observations(written(tmp_path / f"plain.{ending}"))
    theirs = written(tmp_path / f"theirs.{ending}", **MINE)
    mapped = read_mapped(theirs, MINE)
    pd.testing.assert_frame_equal(mapped[plain.columns], plain)


def test_a_column_of_words_may_be_given_one_for_all_rows(tmp_path: Path) -> None:
    path = written(tmp_path / "theirs.csv", loss_unit="unit")
    assert set(read_mapped(path, {"loss_unit": "nats/token"})["loss_unit"]) == {"nats/token"}


@pytest.mark.parametrize(
    ("renamed", "pairs", "said"),
    [
        (MINE, {"params": "Nn"}, "no column 'Nn'; did you mean 'N'? there are model, role, N,"),
        (MINE, {"run": "modell"}, "no column 'modell'; did you mean 'model'?"),
        ({"params": "N"}, {"parms": "N"}, "no column 'parms'; did you mean params=N?"),
        (MINE, {"params": "N", "run": "model"}, "did you mean --map loss=bpb?"),
        (
            {"loss_unit": "zzz"},
            {"loss": "loss"},
            "did you mean --map loss_unit=bits/byte?",
        ),
        ({"task": "zzz"}, {"loss": "loss"}, "needs the column task; it has run, role,"),
    ],
)
def test_a_wrong_name_is_answered_with_the_columns_found_and_the_nearest(
    renamed: dict[str, str], pairs: dict[str, str], said: str, tmp_path: Path
) -> None:
    path = written(tmp_path / "theirs.csv", **renamed)
    with pytest.raises(InputError) as raised:
        read_mapped(path, pairs)
    assert said in str(raised.value)
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_feature_of_ones_own_needs_no_known_name(tmp_path: Path) -> None:
    path = written(tmp_path / "theirs.csv", soft="prob")
    assert read_mapped(path, {"soft": "prob"})["soft"].tolist() == [0.25, 0.25]


def test_an_unmapped_table_says_how_to_map_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"did you mean --map run=model --map params=N --map loss"):
        read_observations(written(tmp_path / "theirs.csv", **MINE))


def test_a_hint_is_quoted_for_the_shell_and_tells_the_accuracy_too() -> None:
    said = hints(["run", "loss"], ["Model Name", "BPB", "Acc"])
    assert said == "did you mean --map 'run=Model Name' --map loss=BPB --map accuracy=Acc?"
    assert "accuracy" not in hints(["run"], ["model", "accuracy", "Acc"])


def test_a_column_may_be_mapped_by_the_name_it_has_though_capitals_alone_tell_it_from_ours(
    tmp_path: Path,
) -> None:
    source = tmp_path / "theirs.csv"
    source.write_text(
        "Run,Params,tokens,Accuracy,bpb,ce\na,1e8,2e9,0.4,1.0,2\nb,2e8,4e9,0.5,0.9,1\n"
    )
    mapping = ColumnMap(
        columns={"run": "Run", "params": "Params", "task_ce": "ce"},
        tasks=(TaskColumns("arc", "bpb", "Accuracy"),),
        values={"loss_unit": "bits/byte"},
    )
    table = import_csv(source, mapping)
    assert table["params"].tolist() == [1e8, 2e8]
    assert table["accuracy"].tolist() == [0.4, 0.5]
    assert "task_ce" in table


def test_a_table_without_a_task_is_sent_to_the_importer() -> None:
    assert "ladder import csv --task" in hints(["task", "loss"], ["run", "arc_bpb", "arc_acc"])
    assert "--map task=benchmark" in hints(["task"], ["run", "benchmark"])
