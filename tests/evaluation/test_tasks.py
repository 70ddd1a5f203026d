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
        ({"gold": -1}, "index from 0 to 1"),
        ({"gold": "0"}, "must be the right choice's index"),
        ({"gold": True}, "must be the right choice's index"),
        ({"choices": []}, "no choices"),
        ({"choices": [" 4", ""]}, "an empty one"),
        ({"choices": [" 4", " "]}, "an empty one"),
        ({"choices": [" 4", None]}, "no text"),
        ({"choices": " 4"}, "a list of texts"),
        ({"context": None}, "must be a text"),
        ({"context": ["a", "b", "c"]}, "3 contexts for 2 choices"),
        ({"context": "\ud800"}, "half a surrogate pair"),
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
    with pytest.raises(InputError, match="needs id, context, choices and gold; context is missing"):
        read_task(path)
    path.write_bytes(b"\xff")
    with pytest.raises(InputError, match="not UTF-8"):
        read_task(path)


def test_items_have_names_of_their_own_and_are_all_of_one_kind(tmp_path: Path) -> None:
    path = tmp_path / "sums.jsonl"
    path.write_text(f"{json.dumps(GOOD)}\n{json.dumps(GOOD)}\n")
    with pytest.raises(InputError, match="item '1': the id is given twice"):
        read_task(path)
    one = {**GOOD, "id": "2", "choices": [" 4"]}
    path.write_text(f"{json.dumps(GOOD)}\n{json.dumps(one)}\n")
    with pytest.raises(InputError, match="item '2': has 1 choices and the first item has 2"):
        read_task(path)


def test_one_choice_each_measures_the_loss_only(tmp_path: Path) -> None:
    path = tmp_path / "sums.jsonl"
    path.write_text(json.dumps({**GOOD, "choices": [" 4"]}))
    task = read_task(path)
    assert not task.has_choices
    assert task.chance is None


def test_a_context_for_each_choice_is_kept_apart(tmp_path: Path) -> None:
    path = tmp_path / "sums.jsonl"
    path.write_text(json.dumps({**GOOD, "context": ["Anna", "Otto"]}))
    (item,) = read_task(path).items
    assert item.contexts == ("Anna", "Otto")
    write_task(read_task(path), tmp_path)
    assert read_task(path).items == (item,)


def test_a_line_ends_with_a_line_feed_only(tmp_path: Path) -> None:
    path = tmp_path / "sums.jsonl"
    path.write_text(json.dumps({**GOOD, "context": "a\u2028b\x85c"}, ensure_ascii=False))
    assert read_task(path).items[0].context == "a\u2028b\x85c"


def test_the_digest_moves_with_anything_that_is_scored() -> None:
    item = Item("1", "a", (" b", " c"), 0)
    changed = [
        Task("x", (Item("1", "A", (" b", " c"), 0),)),
        Task("x", (Item("1", "a", (" b", " d"), 0),)),
        Task("x", (Item("1", "a", (" b", " c"), 1),)),
        Task("y", (item,)),
    ]
    assert len({task.digest() for task in (Task("x", (item,)), *changed)}) == 5
