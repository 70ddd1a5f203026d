"""Whatever lies in a file, its reader gives valid data or one line that says why not."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fuzz_readers import Reader, place, readers
from fuzzing import BYTES, EDITS
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from evaluation.files import InputError

LONG = 10_000
"""Cases of every reader in the long tier."""


def fuzz(
    reader: Reader, folder: Path, cases: int, told: Callable[[bool], None] = lambda good: None
) -> None:
    """Damage one of the reader's files in each case, and read; `told` hears whether it was read."""
    place(folder, reader)
    valid = {name: file.bytes() for name, file in sorted(reader.files.items())}

    @settings(
        max_examples=cases,
        database=None,
        deadline=None,
        derandomize=cases < LONG,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
    )
    @given(st.sampled_from(list(valid)), EDITS, BYTES)
    def one(name: str, edits: list[Any], cuts: list[Any]) -> None:
        file, path = reader.files[name], folder / name
        path.write_bytes(file.bytes(edits, cuts))
        os.utime(path)
        try:
            reader.read(folder)
        except InputError as error:
            said = str(error)
            assert said.strip()
            assert said.isprintable(), f"not one line of plain text: {said!r}"
            assert len(said) < 5000, f"{len(said)} characters"
            told(False)
        else:
            told(True)
        finally:
            path.write_bytes(valid[name])
            os.utime(path, ns=(0, 0))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        one()


@pytest.mark.parametrize("name", sorted(readers()))
def test_valid_files_are_read(name: str, tmp_path: Path) -> None:
    reader = readers()[name]
    place(tmp_path, reader)
    reader.read(tmp_path)


@pytest.mark.parametrize("name", sorted(readers()))
@pytest.mark.parametrize("cases", [150, pytest.param(LONG, marks=pytest.mark.slow)])
def test_a_damaged_file_is_read_or_refused_in_one_line(
    name: str, cases: int, tmp_path: Path
) -> None:
    fuzz(readers()[name], tmp_path, cases)
