"""Log-likelihoods of choices -> bits per byte and accuracies, each with its standard error."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluation.choices import ChoiceScores, ItemScores
from evaluation.tasks import Task

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Value:
    """A mean over items, its standard error and how many items it is over."""

    value: float
    se: float | None
    """None where one item alone tells nothing of it."""
    count: int


def bits_per_byte(item: ItemScores) -> float:
    """Bits per byte of the right answer, the leading space in the score and not in the bytes.

    That is OLMES's v1, which the published ladder logs.
    """
    return _bits(item) / item.bytes[item.gold]


def bits_per_byte_v2(item: ItemScores) -> float:
    """Bits per byte of the right answer, the leading space in both: OLMES's v2."""
    return _bits(item) / (item.bytes[item.gold] + item.spaces[item.gold])


def _is_right(item: ItemScores, scores: Array) -> float:
    """Whether the gold choice has the highest score; the first of equal ones is picked."""
    return float(int(np.argmax(scores)) == item.gold)


def task_ce(item: ItemScores) -> float:
    """Cross-entropy, nats, of the gold choice under a softmax of log-likelihoods per character."""
    scores = _per_char(item)
    return float(np.logaddexp.reduce(scores) - scores[item.gold])


def soft_accuracy(item: ItemScores) -> float:
    """Probability of the gold choice under that softmax."""
    return math.exp(-task_ce(item))


def accuracy_pmi(item: ItemScores) -> float:
    """Whether the gold choice gains most log-likelihood over the unconditional context.

    The gain is a difference, log P(choice | question) - log P(choice | `Answer:`).
    """
    if item.unconditional is None:
        raise ValueError(f"item {item.id} has no unconditional scores")
    return _is_right(item, np.array(item.log_likelihoods) - np.array(item.unconditional))


LOSSES: Mapping[str, Callable[[ItemScores], float]] = {
    "bpb": bits_per_byte,
    "bpb_v2": bits_per_byte_v2,
}
"""Losses of one item by name; a task's is their mean over items, not over bytes."""

ACCURACIES: Mapping[str, Callable[[ItemScores], float]] = {
    "acc": lambda item: _is_right(item, np.array(item.log_likelihoods)),
    "acc_per_char": lambda item: _is_right(item, _per_char(item)),
    "acc_per_byte": lambda item: _is_right(
        item, np.array(item.log_likelihoods) / np.array(item.bytes)
    ),
    "acc_pmi": accuracy_pmi,
}
"""Accuracies of one item by name, of questions only; acc_pmi needs unconditional scores."""

SOFT: Mapping[str, Callable[[ItemScores], float]] = {"soft": soft_accuracy, "task_ce": task_ce}
"""What moves before accuracy does, of questions only."""


def measure(scores: ChoiceScores) -> dict[str, Value]:
    """Every metric that a task's record allows, and `bpb_corpus`, all bits over all bytes."""
    metrics = dict(LOSSES)
    if len(scores.items[0].log_likelihoods) > 1:
        metrics |= {**ACCURACIES, **SOFT}
    if any(item.unconditional is None for item in scores.items):
        metrics.pop("acc_pmi", None)
    found = {
        name: _mean([metric(item) for item in scores.items]) for name, metric in metrics.items()
    }
    return {**found, "bpb_corpus": _corpus(scores)}


def score_row(task: Task, scores: ChoiceScores) -> dict[str, Any]:
    """A task's row of results: loss, accuracy by the task's own metric, and every metric."""
    values = measure(scores)
    return values_row(task.name, values, values.get(task.metric), task.metric, task.chance)


def values_row(
    name: str,
    values: Mapping[str, Value],
    accuracy: Value | None,
    metric: str,
    chance: float | None,
) -> dict[str, Any]:
    """A row of results: bits per byte, one accuracy if there is any, and all the values."""
    return {
        "task": name,
        "loss": values["bpb"].value,
        "loss_unit": "bits/byte",
        "loss_se": values["bpb"].se,
        "accuracy": accuracy.value if accuracy else None,
        "accuracy_metric": metric if accuracy else None,
        "accuracy_se": accuracy.se if accuracy else None,
        "chance": chance,
        "instances": values["bpb"].count,
        **{name: value.value for name, value in values.items()},
        **{f"{name}_se": value.se for name, value in values.items()},
    }


def weighted(parts: Sequence[Mapping[str, Value]], weights: Sequence[float]) -> dict[str, Value]:
    """The weighted mean, weights summing to 1, of every metric that all the parts have."""
    shared = [name for name in parts[0] if all(name in part for part in parts)]
    found = {}
    for name in shared:
        own = [part[name] for part in parts]
        found[name] = Value(
            sum(w * v.value for w, v in zip(weights, own, strict=True)),
            _joined_error([v.se for v in own], weights),
            sum(v.count for v in own),
        )
    return found


def _joined_error(errors: Sequence[float | None], weights: Sequence[float]) -> float | None:
    known = [error for error in errors if error is not None]
    if len(known) < len(errors):
        return None
    return math.sqrt(sum((w * error) ** 2 for w, error in zip(weights, known, strict=True)))


def _bits(item: ItemScores) -> float:
    return -item.log_likelihoods[item.gold] / math.log(2)


def _per_char(item: ItemScores) -> Array:
    return np.asarray(np.array(item.log_likelihoods) / np.array(item.characters))


def _corpus(scores: ChoiceScores) -> Value:
    """All bits over all bytes, with the standard error of a ratio of means (delta method)."""
    bits = np.array([_bits(item) for item in scores.items])
    size = np.array([item.bytes[item.gold] for item in scores.items], dtype=float)
    ratio = float(bits.sum() / size.sum())
    return Value(ratio, _standard_error((bits - ratio * size) / size.mean()), len(bits))


def _mean(values: Sequence[float]) -> Value:
    return Value(float(np.mean(values)), _standard_error(values), len(values))


def _standard_error(values: Sequence[float] | Array) -> float | None:
    if len(values) < 2:
        return None
    return float(np.std(values, ddof=1) / math.sqrt(len(values)))
