"""What `ladder --help` and `ladder COMMAND --help` print, from signatures and docstrings."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, get_args, get_origin, get_type_hints

WIDTH = 80
"""Characters of a line of help, whatever the screen: it is read in files and manuals too."""

LINES = 48
"""Lines that the help of a command takes at most: a screen."""

INDENT = 26
"""Characters before what an option means."""

VALUE = re.compile(r"([A-Z]+(?:[:=,][A-Z]+)+)[,:]? ?")
"""What a docstring begins with to say how a value is written, such as NAME:PARAMS:TOKENS."""


VALUES = {
    **dict.fromkeys(("rungs", "rung", "recipe", "score"), "PATTERN"),
    **dict.fromkeys(("flops", "params", "tokens", "served", "unique_tokens", "budget"), "COUNT"),
    **dict.fromkeys(("horizon",), "COUNT"),
    **dict.fromkeys(("method", "methods", "law", "link", "run", "task", "against"), "NAME"),
    **dict.fromkeys(("feature", "by"), "COLUMN"),
    "tasks": "TASK",
    "set": "KEY=VALUE",
    "config": "CONFIG",
    "gpu": "GPU",
}
"""What stands for the value of an option of text, by the option's name."""


@dataclass(frozen=True)
class Option:
    """One argument or option of a command."""

    name: str
    """As it is typed, `--rungs`; of an argument what stands for it, such as OBSERVATIONS."""
    value: str
    """What follows an option; empty for a flag."""
    meaning: str
    positional: bool
    required: bool

    @property
    def label(self) -> str:
        """As the help's left column shows it."""
        return f"{self.name} {self.value}".strip()


def overview(commands: Mapping[str, Callable[..., None]]) -> str:
    """What `ladder --help` prints."""
    lines = [
        "Train a ladder of small language models, predict a big one's scores, audit the",
        "error.",
        "",
        "usage: ladder COMMAND ...",
        "",
    ]
    for name, command in commands.items():
        lines += _entry(f"  {name}", summary(command), 14)
    lines += ["", "`ladder COMMAND --help` says more; `ladder run quickstart` shows all of it."]
    return "\n".join(lines)


def page(verb: str, command: Callable[..., None]) -> str:
    """What `ladder COMMAND --help` prints: usage, purpose, arguments, options, an example."""
    listed = list(options(command))
    arguments = [o for o in listed if o.positional]
    named = [o for o in listed if not o.positional]
    words = [o.name if o.required else f"[{o.name}]" for o in arguments]
    words += [o.label for o in named if o.required]
    lines = _entry("usage:", " ".join(["ladder", verb, *words, "[OPTION ...]"]), 7)
    about, example = _prose(command)
    for paragraph in about:
        lines += ["", *textwrap.wrap(paragraph, WIDTH)]
    lines += [""] * bool(arguments)
    for option in arguments:
        lines += _entry(f"  {option.name}", option.meaning, INDENT)
    lines.append("")
    for option in named:
        lines += _entry(f"  {option.label}", option.meaning, INDENT)
    return "\n".join([*lines, "", *_example(example)])


def summary(command: Callable[..., None]) -> str:
    """What a command does, in a line."""
    return _prose(command)[0][0]


def example(command: Callable[..., None]) -> str:
    """A command line that a command's help shows."""
    return _prose(command)[1]


def options(command: Callable[..., None]) -> Iterator[Option]:
    """Arguments and options of a command, in the order of its signature."""
    told, hints = _told(command), get_type_hints(command, include_extras=True)
    for name, parameter in inspect.signature(command).parameters.items():
        hint = hints[name]
        group = _dataclass_in(hint)
        if group is None:
            yield _option(name, hint, parameter.default, told[name])
        else:
            own, about = get_type_hints(group, include_extras=True), _field_docs(group)
            for field in fields(group):
                yield _option(field.name, own[field.name], field.default, about[field.name])


def _option(name: str, hint: Any, default: Any, told: str) -> Option:
    marks = str(hint)
    positional = "_PositionalCall" in marks or "Positional" in marks
    required = default is inspect.Parameter.empty
    value, meaning = _value(hint), told
    value = VALUES.get(name, value) if value == "TEXT" else value
    found = VALUE.match(told)
    if found and value:
        value, meaning = found[1], told[found.end() :]
    many = "UseAppendAction" in marks or "AppendAction" in marks
    several = not many and "tuple[" in marks and value != ""
    if many:
        meaning += " (repeatable)"
    elif isinstance(default, int | float | str) and not isinstance(default, bool):
        meaning += f" [{default}]"
    if several:
        value += " ..."
    if positional:
        shown = name.rstrip("_").upper() + " ..." * several
        return Option(shown, "", meaning, True, required)
    return Option("--" + name.replace("_", "-"), value, meaning, False, required)


def _value(hint: Any) -> str:
    """How the value of a type is shown; empty for a flag, which has none."""
    kinds = set(_leaves(hint))
    if bool in kinds:
        return ""
    words = [leaf for leaf in kinds if isinstance(leaf, str)]
    if words:
        return "|".join(leaf for leaf in _leaves(hint) if isinstance(leaf, str))
    names = {int: "COUNT", float: "NUMBER"}
    return next((shown for kind, shown in names.items() if kind in kinds), "") or (
        "PATH" if any(getattr(kind, "__name__", "") == "Path" for kind in kinds) else "TEXT"
    )


def _leaves(hint: Any) -> Iterator[Any]:
    """The types, and the words of a Literal, that a hint is made of."""
    if get_origin(hint) is None and not get_args(hint):
        yield hint
    for part in get_args(hint):
        yield from _leaves(part)


def _dataclass_in(hint: Any) -> type | None:
    return next(
        (leaf for leaf in _leaves(hint) if isinstance(leaf, type) and is_dataclass(leaf)), None
    )


def _told(command: Callable[..., None]) -> dict[str, str]:
    """What the docstring's Args say, by the argument's name."""
    text = (inspect.getdoc(command) or "").partition("\nArgs:\n")[2]
    found: dict[str, str] = {}
    for line in text.splitlines():
        if match := re.match(r" {4}(\w+): (.*)", line):
            name = match[1]
            found[name] = match[2]
        elif line.strip():
            found[name] += " " + line.strip()
    return found


def _prose(command: Callable[..., None]) -> tuple[list[str], str]:
    """The docstring's paragraphs, and its example."""
    text = (inspect.getdoc(command) or "").partition("\nArgs:\n")[0]
    paragraphs = [" ".join(part.split()) for part in text.split("\n\n") if part.strip()]
    about = [part for part in paragraphs if not part.startswith("Example: ")]
    shown = next((part for part in paragraphs if part.startswith("Example: ")), "")
    return about, shown.removeprefix("Example: ")


def _field_docs(group: type) -> dict[str, str]:
    """The docstrings below a dataclass's fields."""
    body = ast.parse(textwrap.dedent(inspect.getsource(group))).body[0]
    assert isinstance(body, ast.ClassDef)  # noqa: S101
    found: dict[str, str] = {}
    for before, after in zip(body.body, body.body[1:], strict=False):
        if isinstance(before, ast.AnnAssign) and isinstance(after, ast.Expr):
            target, text = before.target, after.value
            if isinstance(target, ast.Name) and isinstance(text, ast.Constant):
                found[target.id] = " ".join(str(text.value).split())
    return found


def _entry(head: str, text: str, indent: int) -> list[str]:
    """A line with what it means beside it, or below where it is long."""
    lines = textwrap.wrap(text, WIDTH - indent, break_long_words=False, break_on_hyphens=False)
    if len(head) > indent - 1:
        return [head, *(" " * indent + line for line in lines)]
    first, *rest = lines or [""]
    return [f"{head:<{indent}}{first}".rstrip(), *(" " * indent + line for line in rest)]


def _example(command: str) -> list[str]:
    """The example, which may be pasted where it takes several lines."""
    lines = textwrap.wrap(command, WIDTH - 6, break_long_words=False, break_on_hyphens=False)
    return [
        "example:",
        *(
            f"  {'  ' * bool(i)}{line}" + " \\" * (i < len(lines) - 1)
            for i, line in enumerate(lines)
        ),
    ]
