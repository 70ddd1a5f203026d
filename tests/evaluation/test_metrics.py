"""Bits per byte of the right answer and accuracy per character, by hand."""

from __future__ import annotations

import math

import pytest

from evaluation.metrics import choice_bytes, choice_characters, score_task
from evaluation.tasks import Item, Task

TASK = Task(
    "x",
    (
        Item("1", "q", (" aa", " bbbb"), 1),
        Item("2", "q", (" é", " c"), 0),
    ),
)


def test_bytes_and_characters_leave_the_leading_space_out() -> None:
    assert choice_bytes(" é") == 2
    assert choice_characters(" é") == 1
    assert choice_bytes("  a") == 2


def test_loss_is_the_mean_over_items_of_the_gold_answers_bits_per_byte() -> None:
    score = score_task(TASK, [[-1.0, -2.0], [-3.0, -0.5]])
    first, second = 2 / (4 * math.log(2)), 3 / (2 * math.log(2))
    assert score.loss == pytest.approx((first + second) / 2)
    assert score.loss_se == pytest.approx(abs(first - second) / 2)


def test_the_answer_is_picked_per_character_the_first_at_a_tie() -> None:
    # Per character: -.5 against -.5 (tie: the first, wrong); -3 against -.5 (wrong).
    assert score_task(TASK, [[-1.0, -2.0], [-3.0, -0.5]]).accuracy == 0
    # By the raw sum the first item would be wrong; per character it is right.
    assert score_task(TASK, [[-1.1, -2.0], [-3.0, -3.5]]).accuracy == 1
    half = score_task(TASK, [[-1.1, -2.0], [-3.0, -0.5]])
    assert half.accuracy == 0.5
    assert half.accuracy_se == pytest.approx(math.sqrt(0.5 / 2))
    assert (half.instances, half.chance, half.accuracy_metric) == (2, 0.5, "acc_per_char")
