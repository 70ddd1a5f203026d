"""Task files read back, and a bad line is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from evaluation.tasks import InputError, Item, Task, read_task, write_task

GOOD = {"id": "1", "context": "2 + 2 =", "choices": [" 4", " 5"], "gold": 0}


def test_a_task_reads_back_as_it_was_written(tmp_path: Path) -> None:
    task = Task("sums", (Item("1", "2 + 2 =", (" 4", " fünf"), 0), Item("2", "a", (" b", " c"), 1)))
    write_task(task, tmp_path)
    assert read_task(tmp_path / "sums.jsonl") == task


def test_chance_is_the_mean_over_items() -> None:
    two, four = Item("1", "a", (" b", " c"), 0), Item("2", "a", (" b", " c", " d", " e"), 0)
    assert Task("x", (two, four)).chance == pytest.approx(0.375)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"gold": 2}, "index from 0 to 1"),
        ({"gold": "0"}, "index from 0 to 1"),
        ({"choices": [" 4"]}, "two or more"),
        ({"choices": [" 4", ""]}, "not empty"),
        ({"context": ""}, "context"),
        ({"context": None}, "context"),
    ],
)
def test_a_bad_item_is_named_with_its_line(
    tmp_path: Path, change: dict[str, object], problem: str
) -> None:
    path = tmp_path / "sums.jsonl"
    path.write_text(json.dumps(GOOD) + "\n" + json.dumps({**GOOD, **change}) + "\n")
    with pytest.raises(InputError, match=problem) as error:
        read_task(path)
    assert f"{path}, line 2" in str(error.value)


def test_what_is_no_task_is_named(tmp_path: Path) -> None:
    path = tmp_path / "sums.jsonl"
    with pytest.raises(InputError, match="no such task file"):
        read_task(path)
    path.write_text("")
    with pytest.raises(InputError, match="no items"):
        read_task(path)
    path.write_text("{")
    with pytest.raises(InputError, match="line 1: not JSON"):
        read_task(path)
    path.write_text('{"id": 1}')
    with pytest.raises(InputError, match="needs id, context, choices and gold"):
        read_task(path)
    path.write_bytes(b"\xff")
    with pytest.raises(InputError, match="not UTF-8"):
        read_task(path)
