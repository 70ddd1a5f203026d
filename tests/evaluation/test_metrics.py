"""Bits per byte of the right answer and accuracy per character, by hand."""

from __future__ import annotations

import math

import pytest

from evaluation.choices import ChoiceScores, ItemScores, choice_scores
from evaluation.metrics import Value, measure, score_row, weighted
from evaluation.tasks import Item, Task

TASK = Task(
    "x",
    (
        Item("1", "q", (" aa", " bbbb"), 1),
        Item("2", "q", (" é", " c"), 0),
    ),
)


def test_bytes_and_characters_leave_the_leading_space_out() -> None:
    odd = Task("x", (Item("1", "q", (" é", "  a", "b"), 0),))
    (item,) = choice_scores(odd, [-1.0, -1.0, -1.0], [1, 1, 1]).items
    assert item.bytes == (2, 2, 1)
    assert item.characters == (1, 2, 1)
    assert item.spaces == (1, 1, 0)


ONE = ItemScores(
    "1", 1, (-1.0, -2.0), bytes=(2, 4), characters=(2, 4), spaces=(1, 1), tokens=(1, 1)
)
TWO = ItemScores(
    "2", 0, (-3.0, -0.5), bytes=(2, 1), characters=(1, 1), spaces=(1, 0), tokens=(1, 1)
)


def test_every_metric_by_hand() -> None:
    found = measure(ChoiceScores("x", (ONE, TWO)))
    bits = [2 / math.log(2), 3 / math.log(2)]
    assert found["bpb"].value == pytest.approx((bits[0] / 4 + bits[1] / 2) / 2)
    assert found["bpb_v2"].value == pytest.approx((bits[0] / 5 + bits[1] / 3) / 2)
    assert found["bpb_corpus"].value == pytest.approx(sum(bits) / 6)
    assert found["acc"].value == 0
    assert found["acc_per_char"].value == 0  # a tie goes to the first, which is wrong
    assert found["acc_per_byte"].value == 0
    first = math.exp(-0.5) / (math.exp(-0.5) + math.exp(-0.5))
    second = math.exp(-3) / (math.exp(-3) + math.exp(-0.5))
    assert found["soft"].value == pytest.approx((first + second) / 2)
    assert found["task_ce"].value == pytest.approx(-(math.log(first) + math.log(second)) / 2)
    assert all(value.count == 2 and value.se >= 0 for value in found.values())


def test_nats_are_not_taken_for_bits_nor_token_means_for_sums() -> None:
    sure = ItemScores(
        "1", 0, (-math.log(2) * 8,), bytes=(8,), characters=(8,), spaces=(0,), tokens=(3,)
    )
    assert measure(ChoiceScores("x", (sure,)))["bpb"].value == pytest.approx(1.0)


def test_every_gold_counts_whichever_letter_it_is() -> None:
    last = ItemScores("1", 2, (-9.0, -9.0, -1.0), (1, 1, 1), (1, 1, 1), (0, 0, 0), (1, 1, 1))
    assert measure(ChoiceScores("x", (last,)))["bpb"].value == pytest.approx(1 / math.log(2))


def test_the_corpus_value_weighs_by_bytes_and_the_other_by_items() -> None:
    long = ItemScores("1", 0, (-math.log(2) * 10,), (100,), (100,), (0,), (9,))
    short = ItemScores("2", 0, (-math.log(2) * 10,), (1,), (1,), (0,), (1,))
    found = measure(ChoiceScores("x", (long, short)))
    assert found["bpb"].value == pytest.approx((0.1 + 10) / 2)
    assert found["bpb_corpus"].value == pytest.approx(20 / 101)


def row(*scores: float) -> dict:
    return score_row(TASK, choice_scores(TASK, scores, [1] * 4))


def test_loss_is_the_mean_over_items_of_the_gold_answers_bits_per_byte() -> None:
    found = row(-1.0, -2.0, -3.0, -0.5)
    first, second = 2 / (4 * math.log(2)), 3 / (2 * math.log(2))
    assert found["loss"] == pytest.approx((first + second) / 2)
    assert found["loss_se"] == pytest.approx(abs(first - second) / 2)


def test_the_answer_is_picked_per_character_the_first_at_a_tie() -> None:
    # Per character: -.5 against -.5 (tie: the first, wrong); -3 against -.5 (wrong).
    assert row(-1.0, -2.0, -3.0, -0.5)["accuracy"] == 0
    # By the raw sum the first item would be wrong; per character it is right.
    assert row(-1.1, -2.0, -3.0, -3.5)["accuracy"] == 1
    half = row(-1.1, -2.0, -3.0, -0.5)
    assert half["accuracy"] == 0.5
    assert half["accuracy_se"] == pytest.approx(math.sqrt(0.5 / 2))
    assert (half["instances"], half["chance"], half["accuracy_metric"]) == (2, 0.5, "acc_per_char")


def test_pmi_is_a_difference_and_needs_unconditional_scores() -> None:
    # The gains are 4 and .5; the ratios, which some take by mistake, .71 and .8.
    for gold, right in ((0, 1), (1, 0)):
        item = ItemScores("1", gold, (-10.0, -2.0), (1, 1), (1, 1), (0, 0), (1, 1), (-14.0, -2.5))
        assert measure(ChoiceScores("x", (item,)))["acc_pmi"].value == right
    assert "acc_pmi" not in measure(ChoiceScores("x", (ONE,)))


def test_a_right_continuation_has_a_loss_and_no_accuracy() -> None:
    task = Task("x", (Item("1", "q", (" aa",), 0),))
    found = score_row(task, choice_scores(task, [-1.0], [1]))
    assert found["loss"] == pytest.approx(0.5 / math.log(2))
    assert found["accuracy"] is found["accuracy_metric"] is found["chance"] is None
    assert not {"acc", "soft", "task_ce"} & set(found)


def test_a_weighted_mean_keeps_its_standard_error() -> None:
    parts = [{"bpb": Value(1.0, 0.3, 10), "acc": Value(0, 0, 10)}, {"bpb": Value(2.0, 0.4, 5)}]
    found = weighted(parts, (0.25, 0.75))
    assert set(found) == {"bpb"}
    assert found["bpb"].value == pytest.approx(1.75)
    assert found["bpb"].se == pytest.approx(math.hypot(0.25 * 0.3, 0.75 * 0.4))
    assert found["bpb"].count == 15


def test_one_item_alone_has_no_standard_error() -> None:
    assert all(value.se is None for value in measure(ChoiceScores("x", (ONE,))).values())
    parts = [{"bpb": Value(1.0, None, 1)}, {"bpb": Value(2.0, 0.4, 5)}]
    assert weighted(parts, (0.5, 0.5))["bpb"].se is None
