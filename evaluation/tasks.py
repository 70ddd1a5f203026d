"""Tasks and their items: multiple choice, or the loss of one right continuation; JSONL."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluation.bounds import lines_of
from evaluation.files import InputError, parse_json, write_text

METRIC = "acc_per_char"
"""How an answer is picked: the highest log-likelihood per character (arXiv 2412.04403, code)."""


LONGEST_NAME = 200
"""Bytes of a task's name: scores are kept in a file of that name."""


@dataclass(frozen=True)
class Item:
    """One question: the choices are continuations of the context, leading space included."""

    id: str
    context: str | tuple[str, ...]
    """What comes before the choices; a text for each where they differ, as in WinoGrande."""
    choices: tuple[str, ...]
    """One choice is a right continuation whose loss is measured."""
    gold: int
    """Index of the right choice."""

    @property
    def contexts(self) -> tuple[str, ...]:
        """The context of every choice."""
        if isinstance(self.context, tuple):
            return self.context
        return (self.context,) * len(self.choices)


@dataclass(frozen=True)
class Task:
    """A named list of items; all of them have one choice, or none."""

    name: str
    items: tuple[Item, ...]
    metric: str = METRIC
    """Name in evaluation.metrics of the accuracy that is reported first."""
    unconditional: str = ""
    """Context without the question, `Answer:`, against which acc_pmi compares; may be empty."""

    @property
    def has_choices(self) -> bool:
        """Whether the items are questions; otherwise only the loss of a text is measured."""
        return len(self.items[0].choices) > 1

    @property
    def chance(self) -> float | None:
        """Accuracy of guessing: the mean over items of one over their choices."""
        if not self.has_choices:
            return None
        return sum(1 / len(item.choices) for item in self.items) / len(self.items)

    def digest(self) -> str:
        """SHA-256 of all that is scored, to tell whether stored scores are of these items."""
        content = [(i.id, i.context, i.choices, i.gold) for i in self.items]
        return hashlib.sha256(json.dumps([self.name, content]).encode()).hexdigest()


def read_task(path: Path | str) -> Task:
    """Read `NAME.jsonl`, one item a line with id, context, choices and gold.

    Raises InputError naming file and line for anything that cannot be scored.
    """
    path = Path(path)
    entries = read_lines(path)
    items = tuple(parse_item(entry, f"{path}, line {line}") for line, entry in entries)
    return checked_task(Task(path.stem, items), str(path))


def write_task(task: Task, folder: Path) -> None:
    """Write a task's items to `folder/NAME.jsonl`, atomically."""
    lines = (
        json.dumps(
            {"id": i.id, "context": i.context, "choices": i.choices, "gold": i.gold},
            ensure_ascii=False,
        )
        for i in task.items
    )
    write_text(folder / f"{task.name}.jsonl", "\n".join(lines) + "\n")


def read_lines(path: Path) -> list[tuple[int, dict[str, Any]]]:
    """The JSON objects of a JSONL file with their line numbers; InputError naming a bad line."""
    entries, place = [], 0
    try:
        with path.open("rb") as file:
            # Bytes, for texts may hold U+2028 and its like, which end no line of JSONL.
            for number, line in enumerate(lines_of(file, str(path)), 1):
                text = _decoded(line, path, place)
                place += len(line)
                if text.strip():
                    entries.append((number, _entry(text, f"{path}, line {number}")))
    except FileNotFoundError:
        raise InputError(f"{path}: no such task file") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    return entries


def _decoded(line: bytes, path: Path, place: int) -> str:
    try:
        return line.decode("utf-8" if place else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 at byte {place + error.start}") from error


def _entry(text: str, where: str) -> dict[str, Any]:
    try:
        entry = parse_json(text)
    except ValueError as error:
        raise InputError(f"{where}: not JSON ({error})") from error
    if not isinstance(entry, dict):
        raise InputError(f"{where}: must be an object, such as {{...}}")
    return entry


def parse_item(entry: dict[str, Any], where: str) -> Item:
    """An item from its JSON; InputError saying where."""
    absent = [key for key in ("id", "context", "choices", "gold") if key not in entry]
    if absent:
        raise InputError(f"{where}: needs id, context, choices and gold; {absent[0]} is missing")
    context, choices = entry["context"], entry["choices"]
    if not isinstance(choices, list):
        raise InputError(f"{where}: choices must be a list of texts")
    item = Item(
        id=str(entry["id"]),
        context=tuple(context) if isinstance(context, list) else context,
        choices=tuple(choices),
        gold=entry["gold"],
    )
    check_item(item, where)
    return item


def checked_task(task: Task, source: str) -> Task:
    """The task itself, if it can be scored; InputError naming the item otherwise.

    Choices may repeat, as they do in ARC: the first of equal ones is picked.
    """
    if not task.items:
        raise InputError(f"{source}: has no items")
    if len(task.name.encode()) > LONGEST_NAME:
        raise InputError(f"{source}: the name is longer than {LONGEST_NAME} bytes, for a file")
    seen: set[str] = set()
    for item in task.items:
        where = f"{source}, item {item.id!r}"
        if item.id in seen:
            raise InputError(f"{where}: the id is given twice")
        seen.add(item.id)
        check_item(item, where)
        if (len(item.choices) > 1) != task.has_choices:
            raise InputError(
                f"{where}: has {len(item.choices)} choices and the first item has "
                f"{len(task.items[0].choices)}; one choice each measures the loss only"
            )
    return task


def check_item(item: Item, where: str) -> None:
    """Raise InputError, saying where, for an item that cannot be scored."""
    if not item.choices:
        raise InputError(f"{where}: has no choices")
    for choice in item.choices:
        if not isinstance(choice, str) or not choice.removeprefix(" "):
            raise InputError(f"{where}: the choice {choice!r} is no text or an empty one")
    if len(item.contexts) != len(item.choices):
        raise InputError(
            f"{where}: {len(item.contexts)} contexts for {len(item.choices)} choices; give one, or "
            "one each"
        )
    if not all(isinstance(context, str) for context in item.contexts):
        raise InputError(f"{where}: context must be a text, or a list of texts")
    if isinstance(item.gold, bool) or not isinstance(item.gold, int):
        raise InputError(f"{where}: gold {item.gold!r} must be the right choice's index")
    if not 0 <= item.gold < len(item.choices):
        last = len(item.choices) - 1
        raise InputError(f"{where}: gold {item.gold} must be an index from 0 to {last}")
    try:
        "".join((item.id, *item.contexts, *item.choices)).encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError(f"{where}: holds half a surrogate pair, which is no UTF-8") from error
