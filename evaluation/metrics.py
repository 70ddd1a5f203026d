"""Log-likelihoods of choices -> bits per byte and accuracies, each with its standard error."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluation.choices import ChoiceScores, ItemScores, choice_scores
from evaluation.tasks import Task

Array = NDArray[np.float64]

ACCURACY_METRIC = "acc_per_char"
"""How an answer is picked: the highest log-likelihood per character (arXiv 2412.04403, code)."""


@dataclass(frozen=True)
class Value:
    """A mean over items, its standard error and how many items it is over."""

    value: float
    se: float
    count: int


@dataclass(frozen=True)
class TaskScore:
    """One model's score on one task; standard errors are those of a mean over instances."""

    task: str
    loss: float
    """Bits per byte of the right answer, mean over items."""
    loss_se: float
    accuracy: float
    accuracy_se: float
    accuracy_metric: str
    chance: float
    instances: int


def bits_per_byte(item: ItemScores) -> float:
    """Bits per byte of the right answer, the leading space in the score and not in the bytes.

    That is OLMES's v1, which the published ladder logs.
    """
    return _bits(item) / item.bytes[item.gold]


def bits_per_byte_v2(item: ItemScores) -> float:
    """Bits per byte of the right answer, the leading space in both: OLMES's v2."""
    return _bits(item) / (item.bytes[item.gold] + item.spaces[item.gold])


def accuracy(item: ItemScores, lengths: Sequence[int] | None = None) -> float:
    """Whether the gold choice has the highest log-likelihood, over its length if one is given.

    The first of equal ones is picked.
    """
    return float(int(np.argmax(_normalised(item, lengths))) == item.gold)


def soft_accuracy(item: ItemScores) -> float:
    """Probability of the gold choice under a softmax of the log-likelihoods per character."""
    return math.exp(-task_ce(item))


def task_ce(item: ItemScores) -> float:
    """Cross-entropy, nats, of the gold choice under that softmax."""
    scores = _normalised(item, item.characters)
    return float(np.logaddexp.reduce(scores) - scores[item.gold])


METRICS: dict[str, Callable[[ItemScores], float]] = {
    "bpb": bits_per_byte,
    "bpb_v2": bits_per_byte_v2,
    "acc": accuracy,
    "acc_per_char": lambda item: accuracy(item, item.characters),
    "acc_per_byte": lambda item: accuracy(item, item.bytes),
    "soft": soft_accuracy,
    "task_ce": task_ce,
}
"""Metrics of one item by name; a task's is their mean over items."""


def measure(scores: ChoiceScores) -> dict[str, Value]:
    """Every metric of a task, and `bpb_corpus`, all bits over all bytes."""
    found = {
        name: _mean([metric(item) for item in scores.items]) for name, metric in METRICS.items()
    }
    return {**found, "bpb_corpus": _corpus(scores)}


def score_task(task: Task, log_likelihoods: Sequence[Sequence[float]]) -> TaskScore:
    """Score a task from the summed log-probability, nats, of every choice of every item.

    The right answer's bits per byte are averaged over items, not over bytes; an item is right
    where the gold choice has the highest log-likelihood per character, the first at a tie.
    """
    scores = choice_scores(task, log_likelihoods)
    loss = _mean([bits_per_byte(item) for item in scores.items])
    right = _mean([METRICS[ACCURACY_METRIC](item) for item in scores.items])
    return TaskScore(
        task=task.name,
        loss=loss.value,
        loss_se=loss.se,
        accuracy=right.value,
        accuracy_se=right.se,
        accuracy_metric=ACCURACY_METRIC,
        chance=task.chance,
        instances=len(task.items),
    )


def _bits(item: ItemScores) -> float:
    return -item.log_likelihoods[item.gold] / math.log(2)


def _normalised(item: ItemScores, lengths: Sequence[int] | None) -> Array:
    scores = np.array(item.log_likelihoods)
    return scores if lengths is None else scores / np.array(lengths)


def _corpus(scores: ChoiceScores) -> Value:
    """All bits over all bytes, with the standard error of a ratio of means (delta method)."""
    bits = np.array([_bits(item) for item in scores.items])
    size = np.array([item.bytes[item.gold] for item in scores.items], dtype=float)
    ratio = float(bits.sum() / size.sum())
    return Value(ratio, _standard_error((bits - ratio * size) / size.mean()), len(bits))


def _mean(values: Sequence[float]) -> Value:
    return Value(float(np.mean(values)), _standard_error(values), len(values))


def _standard_error(values: Sequence[float] | Array) -> float:
    if len(values) < 2:
        return 0.0
    return float(np.std(values, ddof=1) / math.sqrt(len(values)))
