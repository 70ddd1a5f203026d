"""By how much each item is answered right: the gold choice's score less the best other one's."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from evaluation.choices import ChoiceScores
from evaluation.files import InputError
from evaluation.metrics import Array, Choices, flat_choices

SCORES: Mapping[str, Callable[[Choices], Array]] = {
    "acc": lambda c: c.log_likelihoods,
    "acc_per_char": lambda c: c.log_likelihoods / c.characters,
    "acc_per_byte": lambda c: c.log_likelihoods / c.bytes,
}
"""What an accuracy picks the largest of, nats, or nats per character or byte; acc_pmi picks by a
difference that not every record has."""


def margins(scores: ChoiceScores, metric: str) -> Array:
    """Each item's margin under the score that `metric` picks by; above 0 where it is right.

    Raises InputError for a metric without a score, or one whose scores the record lacks.
    """
    choices = flat_choices(scores)
    if metric == "acc_pmi" and choices.unconditional is not None:
        values = choices.log_likelihoods - choices.unconditional
    elif metric in SCORES:
        values = SCORES[metric](choices)
    else:
        raise InputError(f"task {scores.task}: its record has no scores that {metric!r} picks by")
    others = values.copy()
    others[choices.gold] = -np.inf
    return np.asarray(values[choices.gold] - np.maximum.reduceat(others, choices.starts))
