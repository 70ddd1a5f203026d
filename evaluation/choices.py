"""What a model gave every choice of a task: the record from which every metric is computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from evaluation.files import InputError, atomic_write
from evaluation.tasks import Task

COLUMNS = {
    "task": str,
    "item": str,
    "choice": int,
    "gold": bool,
    "log_likelihood": float,
    "bytes": int,
    "characters": int,
    "space": int,
}
"""Columns of the stored table, a row a choice, and their types. `space` is 1 where the choice
begins with a space, which `bytes` and `characters` leave out."""


@dataclass(frozen=True)
class ItemScores:
    """One item: for every choice the summed log-probability in nats, and its lengths."""

    id: str
    gold: int
    log_likelihoods: tuple[float, ...]
    bytes: tuple[int, ...]
    """UTF-8 bytes without a leading space."""
    characters: tuple[int, ...]
    spaces: tuple[int, ...]
    """1 where the choice begins with a space."""


@dataclass(frozen=True)
class ChoiceScores:
    """One task's items, each with its choices' scores."""

    task: str
    items: tuple[ItemScores, ...]


def choice_scores(task: Task, log_likelihoods: Sequence[Sequence[float]]) -> ChoiceScores:
    """The record of a task from the log-likelihood, nats, of every choice of every item."""
    items = []
    for item, scores in zip(task.items, log_likelihoods, strict=True):
        bare = [choice.removeprefix(" ") for choice in item.choices]
        items.append(
            ItemScores(
                id=item.id,
                gold=item.gold,
                log_likelihoods=tuple(scores),
                bytes=tuple(len(text.encode("utf-8")) for text in bare),
                characters=tuple(map(len, bare)),
                spaces=tuple(int(c.startswith(" ")) for c in item.choices),
            )
        )
    return ChoiceScores(task.name, tuple(items))


def write_choices(scores: Sequence[ChoiceScores], path: Path) -> None:
    """Write the records of tasks as Parquet, atomically."""
    rows = [
        (task.task, item.id, index, index == item.gold, *values)
        for task in scores
        for item in task.items
        for index, values in enumerate(
            zip(item.log_likelihoods, item.bytes, item.characters, item.spaces, strict=True)
        )
    ]
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    atomic_write(path, lambda temporary: frame.to_parquet(temporary, index=False))


def read_choices(path: Path) -> list[ChoiceScores]:
    """Read what `write_choices` wrote; raises InputError where it did not."""
    try:
        frame = pd.read_parquet(path).astype(COLUMNS)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: holds no scores of choices ({error})") from error
    tasks = []
    for name, rows in frame.groupby("task", sort=False):
        items = []
        for item, own in rows.groupby("item", sort=False):
            gold = np.flatnonzero(own["gold"])
            if len(gold) != 1 or not np.isfinite(own["log_likelihood"]).all():
                raise InputError(f"{path}: task {name}, item {item}: needs one gold, finite scores")
            items.append(
                ItemScores(
                    id=str(item),
                    gold=int(gold[0]),
                    log_likelihoods=tuple(own["log_likelihood"]),
                    bytes=tuple(own["bytes"]),
                    characters=tuple(own["characters"]),
                    spaces=tuple(own["space"]),
                )
            )
        tasks.append(ChoiceScores(str(name), tuple(items)))
    return tasks
