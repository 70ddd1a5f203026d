"""By how much each item is answered right: the gold choice's score less the best other one's."""

from __future__ import annotations

import numpy as np

from evaluation.choices import ChoiceScores
from evaluation.files import InputError
from evaluation.metrics import SCORES, Array, flat_choices


def margins(scores: ChoiceScores, metric: str) -> Array:
    """Each item's margin under the score that `metric` picks by; above 0 where it is right.

    Raises InputError for a metric without a score, or one whose scores the record lacks.
    """
    choices = flat_choices(scores)
    if metric not in SCORES or (metric == "acc_pmi" and choices.unconditional is None):
        raise InputError(f"task {scores.task}: its record has no scores that {metric!r} picks by")
    values = SCORES[metric](choices)
    others = values.copy()
    others[choices.gold] = -np.inf
    return np.asarray(values[choices.gold] - np.maximum.reduceat(others, choices.starts))
