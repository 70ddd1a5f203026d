"""Files that ask for endless memory or time are refused, in a line, with little of either."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import blow_ups
import pytest
from blow_ups import CASES

from evaluation import bounds, files, lm_eval_files
from evaluation.files import InputError
from ladder.corpora import documents

MOST_MIB, MOST_SECONDS = 1024, 20
"""A quarter of the memory that a reader gets, and seconds of the processor."""


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_a_bomb_is_refused_in_little_memory_and_time(name: str, tmp_path: Path) -> None:
    command = [sys.executable, blow_ups.__file__, name, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert re.search(CASES[name][3], found["said"])
    assert found["peak_memory_mib"] < MOST_MIB
    assert found["cpu_seconds"] < MOST_SECONDS


@pytest.mark.parametrize("name", CASES)
def test_bounds_a_thousand_times_smaller_refuse_bombs_a_thousand_times_smaller(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    smaller = {
        bounds: {
            "LONGEST_LINE": 2**16,
            "LARGEST_YAML": 2**18,
            "MOST_COLUMNS": 100,
            "MOST_CELLS": 200_000,
            "LARGEST_FOOTER": 2**16,
        },
        documents: {"LONGEST_DOCUMENT": 2**18},
        files: {"LARGEST_JSON": 2**18},
        lm_eval_files: {"LARGEST_JSON": 2**18},
        blow_ups: {"LINE": 2**20, "COLUMNS": 1000, "ROWS": 10**6, "DEPTH": 20_000},
    }
    for module, values in smaller.items():
        for key, value in values.items():
            monkeypatch.setattr(module, key, value)
    file, make, read, said = CASES[name]
    make(tmp_path / file)
    with pytest.raises(InputError, match=said) as caught:
        read(tmp_path / file)
    assert str(caught.value).isprintable()


def test_what_is_large_but_within_bounds_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounds, "MOST_COLUMNS", 1000)
    item = {"id": "a", "context": "x" * 2**22, "choices": [" y"], "gold": 0}
    (tmp_path / "q.jsonl").write_text(json.dumps(item))
    assert len(blow_ups._task(tmp_path / "q.jsonl").items[0].context) == 2**22
    names = [f"c{n}" for n in range(bounds.MOST_COLUMNS)]
    (tmp_path / "o.csv").write_text(",".join(names) + "\n" + ",".join("1" for _ in names) + "\n")
    with pytest.raises(InputError, match="needs the columns run"):
        blow_ups._observations(tmp_path / "o.csv")
    deep = "a: " + "[" * 90 + "]" * 90
    assert bounds.parse_yaml(deep)["a"]
    assert bounds.parse_yaml("a: &x [1, 2]\nb: [*x, *x]\nc: {<<: {d: 1}}") == {
        "a": [1, 2],
        "b": [[1, 2], [1, 2]],
        "c": {"d": 1},
    }


@pytest.mark.parametrize("length", [2**20 - 1, 2**20, 2**20 + 1, 3 * 2**20])
def test_a_line_is_as_long_as_it_is_wherever_files_are_read_in_pieces(
    length: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "o.csv"
    path.write_bytes(b"a" * (2**20 - 7) + b"\n" + b"b" * length + b"\nc\n")
    monkeypatch.setattr(bounds, "LONGEST_LINE", max(length, 2**20))
    bounds.check_lines(path)
    monkeypatch.setattr(bounds, "LONGEST_LINE", length - 1)
    if length > 2**20:
        with pytest.raises(InputError, match="is longer than"):
            bounds.check_lines(path)
