"""What a model gave every choice of a task: the record from which every metric is computed."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from evaluation.bounds import check_parquet_size
from evaluation.checksums import check_parquet, seal_parquet
from evaluation.files import InputError, atomic_write, parse_json
from evaluation.tasks import Task

SCHEMA = pa.schema(
    {
        "item": pa.string(),
        "choice": pa.int64(),
        "gold": pa.bool_(),
        "log_likelihood": pa.float64(),
        "unconditional": pa.float64(),
        "tokens": pa.int64(),
        "bytes": pa.int64(),
        "characters": pa.int64(),
        "space": pa.int64(),
    }
)
"""Columns of the stored table, a row a choice. `space` is 1 where the choice begins with a space,
which `bytes` and `characters` leave out; `unconditional` is empty where it was not scored."""

LABEL = b"task-ladder"

UNREADABLE = (OSError, ValueError, KeyError, TypeError, OverflowError, pa.ArrowException)
"""What reading a record raises that is none of ours, or damaged."""


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
    tokens: tuple[int, ...]
    unconditional: tuple[float, ...] | None = None
    """Log-likelihoods behind the unconditional context, where they were scored."""


@dataclass(frozen=True)
class ChoiceScores:
    """One task's items, each with its choices' scores."""

    task: str
    items: tuple[ItemScores, ...]
    digest: str = ""
    """Of the task that was scored, see Task.digest."""
    cut: int = 0
    """Contexts that were cut on the left to fit the model's window."""
    differ: int = 0
    """Choices whose tokens behind the context are not those of the choice alone."""
    unconditional: str = ""
    """The context of the unconditional scores, where there are any."""


def choice_scores(
    task: Task,
    log_likelihoods: Sequence[float],
    tokens: Sequence[int],
    unconditional: Sequence[float] | None = None,
    cut: int = 0,
    differ: int = 0,
) -> ChoiceScores:
    """The record of a task from the log-likelihood, nats, of every choice, in one flat list."""
    items, begin = [], 0
    for item in task.items:
        own = slice(begin, begin + len(item.choices))
        begin = own.stop
        items.append(
            item_scores(
                item.id,
                item.gold,
                item.choices,
                log_likelihoods[own],
                tokens[own],
                None if unconditional is None else unconditional[own],
            )
        )
    if not begin == len(log_likelihoods) == len(tokens):
        raise ValueError(f"{len(log_likelihoods)} scores for {begin} choices of {task.name}")
    context = "" if unconditional is None else task.unconditional
    return ChoiceScores(task.name, tuple(items), task.digest(), cut, differ, context)


def item_scores(
    id: str,
    gold: int,
    choices: Sequence[str],
    log_likelihoods: Sequence[float],
    tokens: Sequence[int],
    unconditional: Sequence[float] | None = None,
) -> ItemScores:
    """One item's record from its choices' texts and scores."""
    bare = [choice.removeprefix(" ") for choice in choices]
    return ItemScores(
        id=id,
        gold=gold,
        log_likelihoods=tuple(log_likelihoods),
        bytes=tuple(len(text.encode("utf-8")) for text in bare),
        characters=tuple(map(len, bare)),
        spaces=tuple(int(choice.startswith(" ")) for choice in choices),
        tokens=tuple(tokens),
        unconditional=None if unconditional is None else tuple(unconditional),
    )


def without_unconditional(scores: ChoiceScores) -> ChoiceScores:
    """The record as if nothing had been scored behind the unconditional context."""
    items = tuple(replace(item, unconditional=None) for item in scores.items)
    return replace(scores, items=items, unconditional="")


def write_choices(scores: ChoiceScores, path: Path) -> None:
    """Write the record of one task as Parquet, atomically."""
    columns: dict[str, list[object]] = {name: [] for name in SCHEMA.names}
    for item in scores.items:
        count = len(item.log_likelihoods)
        columns["item"] += [item.id] * count
        columns["choice"] += range(count)
        columns["gold"] += [index == item.gold for index in range(count)]
        columns["log_likelihood"] += item.log_likelihoods
        columns["unconditional"] += item.unconditional or [None] * count
        columns["tokens"] += item.tokens
        columns["bytes"] += item.bytes
        columns["characters"] += item.characters
        columns["space"] += item.spaces
    label = {
        "task": scores.task,
        "digest": scores.digest,
        "cut": scores.cut,
        "differ": scores.differ,
        "unconditional": scores.unconditional,
    }
    table = pa.table(columns, SCHEMA).replace_schema_metadata({LABEL: json.dumps(label)})

    def write(temporary: Path) -> None:
        pq.write_table(table, temporary)
        seal_parquet(temporary)

    atomic_write(path, write)


def read_choices(path: Path) -> ChoiceScores:
    """Read what `write_choices` wrote; raises InputError where it did not."""
    try:
        check_parquet_size(path)
        check_parquet(path)
        table = pq.read_table(path)
        label = parse_json((table.schema.metadata or {})[LABEL])
        columns = table.replace_schema_metadata().cast(SCHEMA).to_pydict()
        name, digest = str(label["task"]), str(label["digest"])
        cut, differ = int(label["cut"]), int(label["differ"])
        context = str(label["unconditional"])
    except UNREADABLE as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{path}: holds no scores of choices ({reason}); remove it") from error
    starts = [row for row, index in enumerate(columns["choice"]) if index == 0]
    items = tuple(
        _read_item({name: column[a:b] for name, column in columns.items()}, path)
        for a, b in pairwise([0, *starts[1:], len(columns["choice"])])
    )
    if len({len(item.log_likelihoods) > 1 for item in items}) > 1:
        raise InputError(f"{path}: has items of one choice and of several; remove the file")
    return ChoiceScores(name, items, digest, cut, differ, context)


def _read_item(columns: dict[str, list[Any]], path: Path) -> ItemScores:
    name = next(iter(columns["item"]), None)
    gold = [index for index, flag in enumerate(columns["gold"]) if flag]
    scores, bare = columns["log_likelihood"], columns["unconditional"]
    lengths = [columns[key] for key in ("bytes", "characters", "tokens", "space")]
    if (
        name is None
        or set(columns["item"]) != {name}
        or columns["choice"] != list(range(len(columns["choice"])))
        or len(gold) != 1
        or not all(score is not None and math.isfinite(score) for score in scores)
        or not all(score is None or math.isfinite(score) for score in bare)
        or not all(value is not None and value >= 0 for column in lengths for value in column)
        or not all((*columns["bytes"], *columns["characters"]))
    ):
        raise InputError(
            f"{path}: item {name}: needs one gold, its choices in order, finite scores and "
            "lengths; remove the file"
        )
    return ItemScores(
        id=name,
        gold=gold[0],
        log_likelihoods=tuple(scores),
        bytes=tuple(columns["bytes"]),
        characters=tuple(columns["characters"]),
        spaces=tuple(columns["space"]),
        tokens=tuple(columns["tokens"]),
        unconditional=None if None in bare else tuple(bare),
    )
