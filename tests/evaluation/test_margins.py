"""Margins of items: signs agree with accuracies, values with a hand count."""

from __future__ import annotations

import numpy as np
import pytest

from evaluation.choices import ChoiceScores, ItemScores
from evaluation.files import InputError
from evaluation.margins import margins
from evaluation.metrics import ACCURACIES, flat_choices


def item(gold: int, scores: list[float], lengths: list[int], bare: list[float]) -> ItemScores:
    return ItemScores(
        id="x",
        gold=gold,
        log_likelihoods=tuple(scores),
        bytes=tuple(2 * n for n in lengths),
        characters=tuple(lengths),
        spaces=(1,) * len(scores),
        tokens=tuple(lengths),
        unconditional=tuple(bare),
    )


SCORES = ChoiceScores(
    "quiz",
    (
        item(0, [-2.0, -3.0, -6.0], [1, 3, 4], [-1.0, -3.0, -5.0]),
        item(1, [-4.0, -9.0], [2, 9], [-2.0, -9.5]),
    ),
)


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        ("acc", [1.0, -5.0]),
        ("acc_per_char", [-1.0, 1.0]),
        ("acc_per_byte", [-0.5, 0.5]),
        ("acc_pmi", [-1.0, 2.5]),
    ],
)
def test_a_margin_is_the_golds_score_less_the_best_others(
    metric: str, expected: list[float]
) -> None:
    assert margins(SCORES, metric) == pytest.approx(expected)


@pytest.mark.parametrize("metric", list(ACCURACIES))
def test_an_item_is_right_where_its_margin_is_above_zero(metric: str) -> None:
    generator = np.random.default_rng(0)
    items = tuple(
        item(
            int(generator.integers(n)),
            list(-generator.exponential(5, n)),
            list(generator.integers(1, 9, n)),
            list(-generator.exponential(5, n)),
        )
        for n in generator.integers(2, 6, 200)
    )
    scores = ChoiceScores("quiz", items)
    right = ACCURACIES[metric](flat_choices(scores))
    assert ((margins(scores, metric) > 0) == (right == 1)).all()


def test_a_metric_without_scores_is_one_line() -> None:
    with pytest.raises(InputError, match="no scores that 'exact_match' picks by"):
        margins(SCORES, "exact_match")
