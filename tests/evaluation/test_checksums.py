"""Checksums: what is written is read, and no changed bit passes for what was written."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from evaluation import files
from evaluation.checksums import (
    CHECKSUMS,
    PARQUET_MARK,
    check_text,
    damage,
    sealed_text,
    write_checksums,
)
from evaluation.files import InputError, is_alive, read_json, sweep, temporary_of, write_json
from evaluation.records import read_observations, write_observations

FRAME = pd.DataFrame(
    {
        "run": ["a", "b"],
        "role": "ladder",
        "params": [1e6, 2e6],
        "tokens": [2e7, 4e7],
        "step": [10, 20],
        "final": True,
        "task": "quiz",
        "loss": [1.5, 1.25],
        "loss_unit": "bits/byte",
        "accuracy": [0.25, 0.5],
    }
)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "observations.parquet"
    write_observations(FRAME, path)
    return path


def test_no_flipped_bit_of_a_table_changes_what_is_read(table: Path) -> None:
    """Every byte of it: the table is refused, or it is the same table."""
    content, whole = table.read_bytes(), read_observations(table)
    draw, same = random.Random(0), 0
    for place in range(len(content)):
        changed = bytearray(content)
        changed[place] ^= 1 << draw.randrange(8)
        table.write_bytes(changed)
        try:
            found = read_observations(table)
        except InputError:
            continue
        pd.testing.assert_frame_equal(found, whole)
        same += 1
    # Flips in the mark itself, which is not the table.
    assert same <= len(PARQUET_MARK)


def test_a_table_cut_short_anywhere_is_refused(table: Path) -> None:
    content = table.read_bytes()
    for size in range(0, len(content), 97):
        table.write_bytes(content[:size])
        with pytest.raises(InputError):
            read_observations(table)


def test_any_other_tool_reads_a_sealed_table_and_writes_it_without_a_seal(table: Path) -> None:
    frame = pd.read_parquet(table)
    assert frame["loss"].tolist() == [1.5, 1.25]
    frame["loss"] = [1.0, 2.0]
    frame.to_parquet(table)
    assert read_observations(table)["loss"].tolist() == [1.0, 2.0]
    # A tool that keeps the file's metadata too.
    write_observations(FRAME, table)
    pq.write_table(pq.read_table(table).slice(0, 1), table)
    assert read_observations(table)["run"].tolist() == ["a"]


def test_a_sealed_document_is_read_without_its_checksum(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_json(path, {"a": {1: 0.1}, "b": (1, 2)}, sealed=True)
    assert read_json(path) == {"a": {"1": 0.1}, "b": [1, 2]}
    path.write_text(path.read_text().replace("0.1", "0.3"))
    with pytest.raises(InputError, match=r"x\.json: is damaged or was edited"):
        read_json(path)


def test_a_text_holds_its_own_digest_as_a_comment(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(sealed_text("seed: 0\n"))
    assert check_text(path) == "seed: 0\n"
    path.write_text(path.read_text().replace("0", "1", 1))
    with pytest.raises(InputError, match="is damaged or was edited"):
        check_text(path)
    path.write_text("seed: 0\n")
    assert check_text(path) == "seed: 0\n"
    with pytest.raises(InputError, match="cut short"):
        check_text(path, must=True)


def test_a_folder_names_the_file_that_is_not_what_was_written(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name, content in (("a", b"one"), ("in/b", b"two")):
        (tmp_path / name).write_bytes(content)
    write_checksums(tmp_path)
    assert damage(tmp_path) == ""
    (tmp_path / "in" / "b").write_bytes(b"2wo")
    assert damage(tmp_path) == "in/b is not what was written"
    assert damage(tmp_path, lambda name: "/" not in name) == ""
    assert [damage(tmp_path, share=slice(n, None, 2)) != "" for n in range(2)] == [False, True]
    (tmp_path / "in" / "b").write_bytes(b"tw")
    assert damage(tmp_path) == "in/b has 2 of 3 bytes"
    (tmp_path / "in" / "b").unlink()
    assert damage(tmp_path) == "in/b is missing"
    (tmp_path / CHECKSUMS).write_text('{"files": []}')
    assert damage(tmp_path) == f"{CHECKSUMS} is not what was written"


def test_temporary_files_go_with_their_writer(tmp_path: Path) -> None:
    mine = temporary_of(tmp_path / "x.json")
    dead = mine.with_name(mine.name.replace(f".{_own()}-", f".{_dead()}-"))
    foreign = tmp_path / ".x.json.77-00000000.tmp"
    theirs = tmp_path / ".note.tmp"
    for path in (mine, dead, foreign, theirs):
        path.write_text("x")
    assert dead != mine
    sweep(tmp_path)
    assert set(tmp_path.iterdir()) == {mine, foreign, theirs}


def test_temporary_files_of_another_container_of_this_name_are_kept_while_they_are_young(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its process has a number that nobody has here, and yet it may be writing."""
    path = temporary_of(tmp_path / "x.json")
    path = path.with_name(path.name.replace(f".{_own()}-", f".{_dead()}-"))
    path.write_text("x")
    monkeypatch.setattr(files, "processes_of", lambda: "one of another number")
    sweep(tmp_path)
    assert path.exists()
    os.utime(path, (0, 0))
    sweep(tmp_path)
    assert not path.exists()


def _own() -> int:
    return os.getpid()


def _dead() -> int:
    """A number that no process has."""
    return next(pid for pid in range(2**22 + 1, 2**23) if not is_alive(pid))
