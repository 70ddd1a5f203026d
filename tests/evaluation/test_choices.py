"""Stored scores of choices give the same metrics without the model."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from evaluation.choices import choice_scores, read_choices, write_choices
from evaluation.files import InputError
from evaluation.metrics import measure
from evaluation.tasks import Item, Task

TASK = Task("x", (Item("b", "q", (" aa", " bé"), 1), Item("a", "q", ("c", " d", " e"), 0)))
SCORES = choice_scores(TASK, [-1.5, -2.25, -3.0, -0.5, -1 / 3], [1, 2, 1, 1, 1], cut=1, differ=2)
BARE = [-1.0, -1 / 7, -1.0, -2.0, -3.0]


def test_what_was_stored_is_read_back_to_the_last_digit(tmp_path: Path) -> None:
    path = tmp_path / "c.parquet"
    for scores in (SCORES, choice_scores(TASK, [-1.0] * 5, [1] * 5, BARE)):
        write_choices(scores, path)
        assert read_choices(path) == scores
        assert measure(read_choices(path)) == measure(scores)
    assert (SCORES.cut, SCORES.differ, SCORES.digest) == (1, 2, TASK.digest())


def test_a_record_needs_a_score_for_every_choice() -> None:
    for scores in ([-1.0] * 4, [-1.0] * 6):
        with pytest.raises(ValueError, match="scores for 5 choices"):
            choice_scores(TASK, scores, [1] * 5)


def test_what_is_no_record_is_named(tmp_path: Path) -> None:
    path = tmp_path / "c.parquet"
    path.write_text("nonsense")
    with pytest.raises(InputError, match="holds no scores"):
        read_choices(path)
    pd.DataFrame({"a": [1]}).to_parquet(path)
    with pytest.raises(InputError, match="holds no scores"):
        read_choices(path)
    write_choices(SCORES, path)
    table = pq.read_table(path)
    gold = table.schema.get_field_index("gold")
    pq.write_table(table.set_column(gold, "gold", pa.array([False] * 5)), path)
    with pytest.raises(InputError, match="item b: needs one gold"):
        read_choices(path)
    write_choices(SCORES, path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match="remove it"):
        read_choices(path)


@pytest.mark.parametrize(
    ("column", "values", "problem"),
    [
        ("choice", [1, 2, 3, 4, 5], "item b: needs one gold, its choices in order"),
        ("choice", [0, 2, 0, 1, 2], "item b: needs one gold, its choices in order"),
        ("choice", [0, 1, 0, 1, None], "item a: needs one gold, its choices in order"),
        ("item", ["b", "c", "a", "a", "a"], "item b: needs"),
        ("item", [None, None, "a", "a", "a"], "item None: needs"),
        ("bytes", [2, 0, 1, 1, 1], "item b: needs .* lengths"),
        ("characters", [2, 2, 1, None, 1], "item a: needs .* lengths"),
        ("tokens", [1, 2, 1, 1, -1], "item a: needs .* lengths"),
        ("unconditional", [-1.0, float("inf"), -1.0, -1.0, -1.0], "item b: needs .* finite"),
    ],
)
def test_rows_that_are_no_items_are_refused(
    column: str, values: list[object], problem: str, tmp_path: Path
) -> None:
    path = tmp_path / "c.parquet"
    write_choices(SCORES, path)
    table = pq.read_table(path)
    place = table.schema.get_field_index(column)
    pq.write_table(table.set_column(place, column, pa.array(values)), path)
    with pytest.raises(InputError, match=problem):
        read_choices(path)


def test_a_record_without_rows_or_with_two_kinds_of_items_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.parquet"
    write_choices(SCORES, path)
    table = pq.read_table(path)
    pq.write_table(table.slice(0, 0), path)
    with pytest.raises(InputError, match="item None: needs one gold"):
        read_choices(path)
    pq.write_table(table.slice(0, 3), path)
    with pytest.raises(InputError, match="items of one choice and of several"):
        read_choices(path)
