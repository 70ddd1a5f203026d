"""Stored scores of choices give the same metrics without the model."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from evaluation.choices import choice_scores, read_choices, write_choices
from evaluation.files import InputError
from evaluation.metrics import measure
from evaluation.tasks import Item, Task

TASK = Task("x", (Item("b", "q", (" aa", " bé"), 1), Item("a", "q", ("c", " d", " e"), 0)))
SCORES = choice_scores(TASK, [[-1.5, -2.25], [-3.0, -0.5, -1 / 3]])


def test_what_was_stored_is_read_back_to_the_last_digit(tmp_path: Path) -> None:
    other = choice_scores(Task("y", TASK.items[:1]), [[-1.0, -2.0]])
    write_choices([SCORES, other], tmp_path / "c.parquet")
    assert read_choices(tmp_path / "c.parquet") == [SCORES, other]
    assert measure(read_choices(tmp_path / "c.parquet")[0]) == measure(SCORES)


def test_what_is_no_record_is_named(tmp_path: Path) -> None:
    path = tmp_path / "c.parquet"
    path.write_text("nonsense")
    with pytest.raises(InputError, match="holds no scores"):
        read_choices(path)
    write_choices([SCORES], path)
    frame = pd.read_parquet(path)
    frame.assign(gold=False).to_parquet(path)
    with pytest.raises(InputError, match="item b: needs one gold"):
        read_choices(path)
