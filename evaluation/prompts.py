"""A user's own task: a CSV or JSONL file of rows, and a YAML file that says how they are asked."""

from __future__ import annotations

import csv
import string
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from evaluation.bounds import check_csv, read_yaml
from evaluation.files import InputError
from evaluation.tasks import Item, Task, check_item, checked_task, read_lines

Row = Mapping[str, Any]


class Prompt(BaseModel):
    """How rows become questions. In templates `{column}` stands for a row's value."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    data: str
    """File of rows, .csv or .jsonl, beside the YAML file."""
    context: str
    """Template of what comes before the choices, such as `Question: {question}\\nAnswer:`."""
    choices: tuple[str, ...] | str
    """A template for each choice, leading space included; or the column that holds a list."""
    gold: str | None = None
    """Column that says which choice is right; none where there is one choice."""
    gold_as: Literal["index", "letter", "text"] = "index"
    """How that column says it: from 0, from A, or in the choice's own words."""
    id: str | None = None
    """Column of the rows' names; their numbers by default."""
    examples: str | None = None
    """File of solved rows for few-shot prompts."""
    shots: int = Field(0, ge=0)
    """How many of them, from the first on, stand before every question."""
    preamble: str = ""
    """Text before the examples."""
    separator: str = "\n\n"
    """Text after every example."""
    metric: Literal["acc", "acc_per_char", "acc_per_byte", "acc_pmi"] = "acc_per_char"
    """The accuracy that is reported first."""
    unconditional: str = ""
    """Context without the question, for acc_pmi."""


def read_prompted(path: Path) -> Task:
    """Read the task NAME from NAME.yaml; raises InputError naming file, row or key."""
    prompt = _read_prompt(path)
    for key, name in (("data", prompt.data), ("examples", prompt.examples)):
        if name is not None and not _is_below(name):
            raise InputError(f"{path}: {key}: {name!r} must be a file beside it, or below")
    rows = _read_rows(path.parent / prompt.data)
    head = prompt.preamble
    if prompt.shots:
        if prompt.examples is None:
            raise InputError(f"{path}: shots needs examples, a file of rows that are not asked")
        if (path.parent / prompt.examples).resolve() == (path.parent / prompt.data).resolve():
            raise InputError(f"{path}: examples must be other rows than data, which are asked")
        solved = _read_rows(path.parent / prompt.examples)
        if len(solved) < prompt.shots:
            raise InputError(f"{path}: {prompt.shots} shots, and {len(solved)} examples")
        for where, row in solved[: prompt.shots]:
            item = _item(prompt, row, "", "", where)
            check_item(item, where)
            head += item.contexts[0] + item.choices[item.gold] + prompt.separator
    items = []
    for number, (where, row) in enumerate(rows):
        name = str(number) if prompt.id is None else str(_value(row, prompt.id, where))
        items.append(_item(prompt, row, head, name, where))
    task = Task(path.stem, tuple(items), prompt.metric, prompt.unconditional)
    if prompt.metric == "acc_pmi" and not prompt.unconditional:
        raise InputError(f"{path}: acc_pmi needs unconditional, such as 'Answer:'")
    return checked_task(task, str(path))


def _is_below(name: str) -> bool:
    """Whether a path stays in its folder, and is one of a file's at all."""
    path = Path(name)
    return name.isprintable() and not path.is_absolute() and ".." not in path.parts


def _read_prompt(path: Path) -> Prompt:
    if not path.exists():
        raise InputError(f"{path}: no such task file")
    try:
        return Prompt.model_validate(read_yaml(path))
    except ValidationError as error:
        problem = error.errors()[0]
        key = ".".join(map(str, problem["loc"])) or "the file"
        known = ", ".join(Prompt.model_fields)
        message = problem["msg"].removeprefix("Value error, ")
        raise InputError(f"{path}: {key}: {message}; known keys are {known}") from None


def _read_rows(path: Path) -> list[tuple[str, Row]]:
    """Rows with where they stand."""
    if path.suffix == ".jsonl":
        return [(f"{path}, line {line}", entry) for line, entry in read_lines(path)]
    if path.suffix != ".csv":
        raise InputError(f"{path}: must be .csv or .jsonl")
    try:
        check_csv(path)
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            names = reader.fieldnames or []
            if doubled := next((name for name in names if names.count(name) > 1), None):
                raise InputError(f"{path}: has the column {doubled!r} twice")
            rows: list[tuple[str, Row]] = []
            for row in reader:
                where = f"{path}, line {reader.line_num}"
                if None in row or None in row.values():
                    raise InputError(f"{where}: has more or fewer cells than the header")
                rows.append((where, row))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (csv.Error, UnicodeDecodeError, OSError) as error:
        raise InputError(f"{path}: not readable as CSV in UTF-8 ({error})") from error
    return rows


def _item(prompt: Prompt, row: Row, head: str, name: str, where: str) -> Item:
    if isinstance(prompt.choices, str):
        listed = _value(row, prompt.choices, where)
        if not isinstance(listed, list):
            raise InputError(
                f"{where}: {prompt.choices!r} must hold a list of choices; for one template write "
                f"choices: [{prompt.choices!r}]"
            )
        # Bare texts of a list follow the context as words do.
        choices = tuple(
            f" {c}" if isinstance(c, str) and not c.startswith(" ") else c for c in listed
        )
    else:
        choices = tuple(_fill(template, row, where) for template in prompt.choices)
    context = head + _fill(prompt.context, row, where)
    return Item(name, context, choices, _gold(prompt, row, choices, where))


def _gold(prompt: Prompt, row: Row, choices: Sequence[Any], where: str) -> int:
    if prompt.gold is None:
        if len(choices) > 1:
            raise InputError(f"{where}: {len(choices)} choices, and no gold says which is right")
        return 0
    value = str(_value(row, prompt.gold, where)).strip()
    if prompt.gold_as == "text":
        texts = [str(choice).strip() for choice in choices]
        if value not in texts:
            raise InputError(f"{where}: gold {value!r} is none of the choices {texts}")
        return texts.index(value)
    if prompt.gold_as == "letter" and len(value) == 1 and value.upper() in string.ascii_uppercase:
        return string.ascii_uppercase.index(value.upper())
    if prompt.gold_as == "index" and value.isascii() and value.isdigit():
        return int(value)
    raise InputError(
        f"{where}: gold {value!r} is no {prompt.gold_as}; say gold_as: index, letter or text"
    )


def _fill(template: str, row: Row, where: str) -> str:
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError as error:
        raise InputError(f"{where}: template {template!r}: {error}; write {{{{ for {{") from None
    text = ""
    for literal, column, form, conversion in parts:
        text += literal
        if column is None:
            continue
        if form or conversion:
            raise InputError(f"{where}: template {template!r}: only {{column}} is known")
        value = _value(row, column, where)
        if isinstance(value, list | dict):
            raise InputError(f"{where}: {column!r} holds no text for template {template!r}")
        text += str(value)
    return text


def _value(row: Row, column: str, where: str) -> Any:
    if column not in row:
        raise InputError(f"{where}: no column {column!r}; there are {', '.join(map(str, row))}")
    if row[column] is None:
        raise InputError(f"{where}: {column!r} is null")
    return row[column]
