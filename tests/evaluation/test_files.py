"""A file is either whole or absent."""

from __future__ import annotations

from pathlib import Path

import pytest

from evaluation.files import InputError, atomic_write, read_json, write_json, write_text


def test_a_failed_write_keeps_the_old_contents(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    write_text(path, "old")

    def fail(temporary: Path) -> None:
        temporary.write_text("half")
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError):
        atomic_write(path, fail)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        write_text(tmp_path / "absent" / "x.txt", "")


def test_json_reads_back_and_bad_json_is_named(tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", {"a": [1, None]})
    assert read_json(tmp_path / "x.json") == {"a": [1, None]}
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(InputError, match="not readable as JSON"):
        read_json(tmp_path / "x.json")
    with pytest.raises(InputError, match="no such file"):
        read_json(tmp_path / "y.json")
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "z.json", float("nan"))
