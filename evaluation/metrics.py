"""Log-likelihoods of choices -> bits per byte and accuracy, each with its standard error."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evaluation.tasks import Task

ACCURACY_METRIC = "acc_per_char"
"""How an answer is picked: the highest log-likelihood per character (arXiv 2412.04403, code)."""


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


def choice_bytes(choice: str) -> int:
    """UTF-8 bytes of a choice without its leading space (bpb v1 of OLMES and the paper)."""
    return len(choice.removeprefix(" ").encode("utf-8"))


def choice_characters(choice: str) -> int:
    """Characters of a choice without its leading space."""
    return len(choice.removeprefix(" "))


def score_task(task: Task, log_likelihoods: Sequence[Sequence[float]]) -> TaskScore:
    """Score a task from the summed log-probability, nats, of every choice of every item.

    The right answer's bits per byte are averaged over items, not over bytes; an item is right
    where the gold choice has the highest log-likelihood per character, the first at a tie.
    """
    bits, right = [], []
    for item, scores in zip(task.items, log_likelihoods, strict=True):
        gold = item.choices[item.gold]
        bits.append(-scores[item.gold] / (choice_bytes(gold) * math.log(2)))
        per_character = [
            score / choice_characters(choice)
            for score, choice in zip(scores, item.choices, strict=True)
        ]
        right.append(int(np.argmax(per_character)) == item.gold)
    return TaskScore(
        task=task.name,
        loss=float(np.mean(bits)),
        loss_se=_standard_error(bits),
        accuracy=float(np.mean(right)),
        accuracy_se=_standard_error(right),
        accuracy_metric=ACCURACY_METRIC,
        chance=task.chance,
        instances=len(task.items),
    )


def _standard_error(values: Sequence[float]) -> float:
    if len(values) < 2:
        return 0.0
    return float(np.std(values, ddof=1) / math.sqrt(len(values)))
