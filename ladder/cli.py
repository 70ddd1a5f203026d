"""The command `ladder`: finds the verb, reads its options, turns errors into one line."""

from __future__ import annotations

import contextlib
import difflib
import functools
import io
import os
import sys
from collections.abc import Callable
from typing import Any

from evaluation.files import InputError
from evaluation.plain import plain
from ladder.commands import COMMANDS
from ladder.usage import overview, page


def main(arguments: list[str] | None = None) -> int:
    """Run one verb; returns the exit status: 2 for a user's mistake, 1 for a failure."""
    given = sys.argv[1:] if arguments is None else arguments
    try:
        if not given or given[0] in ("-h", "--help"):
            print(overview(COMMANDS), flush=True)
            return 0
        if given[0] == "--version":
            from ladder import __version__

            print(__version__, flush=True)
            return 0
        return _dispatch(given)
    except InputError as error:
        print(f"ladder: {_one_line(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("ladder: interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except MemoryError:
        print(
            "ladder: not enough memory for what the files hold, or say that they hold",
            file=sys.stderr,
        )
        return 1
    except Exception as error:
        if os.environ.get("LADDER_DEBUG"):
            raise
        print(
            f"ladder: {type(error).__name__}: {_one_line(error)}; LADDER_DEBUG=1 shows where",
            file=sys.stderr,
        )
        return 1


def _dispatch(given: list[str]) -> int:
    verb, rest = given[0], given[1:]
    if verb not in COMMANDS:
        near = difflib.get_close_matches(verb, COMMANDS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(COMMANDS)}"
        raise InputError(f"{verb!r}: no such command; {hint}")
    command = COMMANDS[verb]
    if {"-h", "--help"} & set(rest):
        print(page(verb, command), flush=True)
        return 0
    import tyro

    @functools.wraps(command)
    def parsed(*values: Any, **named: Any) -> Callable[[], None]:
        return functools.partial(command, *values, **named)

    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            call = tyro.cli(parsed, args=rest, prog=f"ladder {verb}")
    except SystemExit as stop:
        if stop.code:
            raise InputError(f"{_boxed(said.getvalue())}; see `ladder {verb} --help`") from None
        return 0
    from ladder.progress import telling

    with telling():
        call()
    return 0


def _boxed(text: str) -> str:
    """The first paragraph of the parser's framed message, and the option it would rather see."""
    paragraphs: list[list[str]] = [[]]
    for line in text.splitlines()[1:]:
        words = line.strip("│╭╮╰╯─| -+").strip() if set(line) - set("│ ─-+|") else ""
        if words:
            paragraphs[-1].append(words)
        elif set(line) & set("─-"):
            paragraphs.append([])
    first, *others = [" ".join(p) for p in paragraphs if p] or ["the command cannot be read"]
    nearest = [p.split()[3].strip(",") for p in others if p.startswith("Perhaps you meant: ")]
    # The parser lists the older of an option's two names first.
    names = ["map" if name == "column" else name for name in nearest]
    hint = f"; did you mean --{names[0]}?" if names else ""
    return first.rstrip(".") + hint


def _one_line(error: BaseException) -> str:
    return plain(" ".join(str(error).split()))


def entry() -> None:
    """Entry point of the console script."""
    raise SystemExit(main())


if __name__ == "__main__":
    entry()
