"""Log-likelihoods of choices -> bits per byte and accuracies, each with its standard error."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluation.choices import ChoiceScores
from evaluation.tasks import Task

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Value:
    """A mean over items, its standard error and how many items it is over."""

    value: float
    se: float | None
    """None where one item alone tells nothing of it."""
    count: int


@dataclass(frozen=True)
class Choices:
    """A task's choices one behind another, so that every metric is a few array operations."""

    log_likelihoods: Array
    bytes: Array
    characters: Array
    spaces: Array
    unconditional: Array | None
    starts: NDArray[np.int64]
    """Place of each item's first choice."""
    gold: NDArray[np.int64]
    """Place of each item's right choice."""


def flat_choices(scores: ChoiceScores) -> Choices:
    """The choices of a task's record."""
    items = scores.items
    counts = [len(item.log_likelihoods) for item in items]
    starts = np.cumsum([0, *counts[:-1]])
    bare = [item.unconditional for item in items]
    return Choices(
        _flat([item.log_likelihoods for item in items]),
        _flat([item.bytes for item in items]),
        _flat([item.characters for item in items]),
        _flat([item.spaces for item in items]),
        None if None in bare else _flat([own for own in bare if own is not None]),
        starts,
        starts + [item.gold for item in items],
    )


def bits_per_byte(choices: Choices) -> Array:
    """Bits per byte of the right answer, the leading space in the score and not in the bytes.

    That is OLMES's v1, which the published ladder logs.
    """
    return _bits(choices) / choices.bytes[choices.gold]


def bits_per_byte_v2(choices: Choices) -> Array:
    """Bits per byte of the right answer, the leading space in both: OLMES's v2."""
    return _bits(choices) / (choices.bytes + choices.spaces)[choices.gold]


def is_right(choices: Choices, scores: Array) -> Array:
    """1 where the gold choice has the highest score, else 0; the first of equal ones is picked."""
    best = _spread(np.maximum.reduceat(scores, choices.starts), choices)
    places = np.where(scores == best, np.arange(len(scores)), len(scores))
    return np.asarray((np.minimum.reduceat(places, choices.starts) == choices.gold).astype(float))


def task_ce(choices: Choices) -> Array:
    """Cross-entropy, nats, of the gold choice under a softmax of log-likelihoods per character."""
    scores = choices.log_likelihoods / choices.characters
    best = np.maximum.reduceat(scores, choices.starts)
    total = np.add.reduceat(np.exp(scores - _spread(best, choices)), choices.starts)
    return np.asarray(np.log(total) + best - scores[choices.gold])


def soft_accuracy(choices: Choices) -> Array:
    """Probability of the gold choice under that softmax."""
    return np.asarray(np.exp(-task_ce(choices)))


def gained(choices: Choices) -> Array:
    """What each choice gains over the unconditional context: a difference of log-likelihoods.

    log P(choice | question) - log P(choice | `Answer:`). Raises ValueError without the latter.
    """
    if choices.unconditional is None:
        raise ValueError("the record has no unconditional scores")
    return choices.log_likelihoods - choices.unconditional


LOSSES: Mapping[str, Callable[[Choices], Array]] = {
    "bpb": bits_per_byte,
    "bpb_v2": bits_per_byte_v2,
}
"""Losses of every item by name; a task's is their mean over items, not over bytes."""

SCORES: Mapping[str, Callable[[Choices], Array]] = {
    "acc": lambda c: c.log_likelihoods,
    "acc_per_char": lambda c: c.log_likelihoods / c.characters,
    "acc_per_byte": lambda c: c.log_likelihoods / c.bytes,
    "acc_pmi": gained,
}
"""What an accuracy picks the largest of; acc_pmi needs unconditional scores."""


def accuracy(name: str, choices: Choices) -> Array:
    """An accuracy of SCORES of every item, of questions only."""
    return is_right(choices, SCORES[name](choices))


ACCURACIES: Mapping[str, Callable[[Choices], Array]] = {
    name: partial(accuracy, name) for name in SCORES
}
"""Accuracies of every item by name."""

SOFT: Mapping[str, Callable[[Choices], Array]] = {"soft": soft_accuracy, "task_ce": task_ce}
"""What moves before accuracy does, of questions only."""


def measure(scores: ChoiceScores) -> dict[str, Value]:
    """Every metric that a task's record allows, and `bpb_corpus`, all bits over all bytes.

    >>> from evaluation.choices import choice_scores
    >>> from evaluation.metrics import measure
    >>> from evaluation.tasks import Item, Task
    >>> task = Task("sky", (Item("1", "The sky is", (" blue", " green"), 0),))
    >>> values = measure(choice_scores(task, log_likelihoods=[-2.0, -3.0], tokens=[1, 1]))
    >>> values["acc"].value
    1.0
    >>> round(values["bpb"].value, 3)  # 2 nats over the 4 bytes of "blue"
    0.721
    """
    choices = flat_choices(scores)
    metrics = dict(LOSSES)
    if len(scores.items[0].log_likelihoods) > 1:
        metrics |= {**ACCURACIES, **SOFT}
    if choices.unconditional is None:
        metrics.pop("acc_pmi", None)
    found = {name: _mean(metric(choices)) for name, metric in metrics.items()}
    return {**found, "bpb_corpus": _corpus(choices)}


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


def _flat(parts: Sequence[Sequence[float]]) -> Array:
    return np.fromiter(chain.from_iterable(parts), dtype=float)


def _spread(values: Array, choices: Choices) -> Array:
    """A value of each item, for each of its choices."""
    counts = np.diff(choices.starts, append=len(choices.log_likelihoods))
    return np.repeat(values, counts)


def _bits(choices: Choices) -> Array:
    return np.asarray(-choices.log_likelihoods[choices.gold] / math.log(2))


def _corpus(choices: Choices) -> Value:
    """All bits over all bytes, with the standard error of a ratio of means (delta method)."""
    bits, size = _bits(choices), choices.bytes[choices.gold]
    ratio = float(bits.sum() / size.sum())
    return Value(ratio, _standard_error((bits - ratio * size) / size.mean()), len(bits))


def _mean(values: Array) -> Value:
    return Value(float(np.mean(values)), _standard_error(values), len(values))


def _standard_error(values: Array) -> float | None:
    if len(values) < 2:
        return None
    return float(np.std(values, ddof=1) / math.sqrt(len(values)))
