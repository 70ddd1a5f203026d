"""Tasks and their items, read from and written to JSONL: a corpus's, or a user's own."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from evaluation.files import InputError, write_text


@dataclass(frozen=True)
class Item:
    """One question: the choices are continuations of the context, leading space included."""

    id: str
    context: str
    choices: tuple[str, ...]
    gold: int
    """Index of the right choice."""


@dataclass(frozen=True)
class Task:
    """A named list of items."""

    name: str
    items: tuple[Item, ...]

    @property
    def chance(self) -> float:
        """Accuracy of guessing: the mean over items of one over their choices."""
        return sum(1 / len(item.choices) for item in self.items) / len(self.items)


def read_task(path: Path | str) -> Task:
    """Read `NAME.jsonl`, one item a line with id, context, choices and gold.

    Raises InputError naming file and line for anything that cannot be scored.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise InputError(f"{path}: no such task file") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 at byte {error.start}") from error
    items = tuple(_item(line, f"{path}, line {n}") for n, line in enumerate(lines, 1) if line)
    if not items:
        raise InputError(f"{path}: has no items; give one JSON object a line")
    return Task(path.stem, items)


def write_task(task: Task, folder: Path) -> None:
    """Write a task to `folder/NAME.jsonl`, atomically."""
    lines = (json.dumps(asdict(item), ensure_ascii=False) for item in task.items)
    write_text(folder / f"{task.name}.jsonl", "\n".join(lines) + "\n")


def _item(line: str, where: str) -> Item:
    try:
        entry = json.loads(line)
        item = Item(
            id=str(entry["id"]),
            context=entry["context"],
            choices=tuple(entry["choices"]),
            gold=entry["gold"],
        )
    except json.JSONDecodeError as error:
        raise InputError(f"{where}: not JSON ({error.msg})") from error
    except (KeyError, TypeError) as error:
        raise InputError(f"{where}: needs id, context, choices and gold ({error!r})") from error
    if not isinstance(item.context, str) or not item.context:
        raise InputError(f"{where}: context must be a text that is not empty")
    if len(item.choices) < 2 or not all(isinstance(c, str) and c.strip() for c in item.choices):
        raise InputError(f"{where}: choices must be two or more texts that are not empty")
    if not isinstance(item.gold, int) or not 0 <= item.gold < len(item.choices):
        raise InputError(
            f"{where}: gold {item.gold!r} must be an index from 0 to {len(item.choices) - 1}"
        )
    return item
