"""Whatever lies in a file, its reader gives valid data or one line that says why not."""

from __future__ import annotations

from pathlib import Path

import pytest
from fuzz_readers import readers
from fuzzing import LONG, fuzz, place

READERS = readers()


@pytest.mark.parametrize("name", READERS)
def test_valid_files_are_read(name: str, tmp_path: Path) -> None:
    place(tmp_path, READERS[name])
    READERS[name].read(tmp_path)


@pytest.mark.parametrize("cases", [60, pytest.param(LONG, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", READERS)
def test_a_damaged_file_is_read_or_refused_in_one_line(
    name: str, cases: int, tmp_path: Path
) -> None:
    fuzz(READERS[name], tmp_path, cases)
