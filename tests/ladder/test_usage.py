"""Every command's help fits a screen, lists what the command takes, and shows what works."""

from __future__ import annotations

import contextlib
import functools
import io
import re
import shlex

import pytest
import tyro

from ladder.cli import main
from ladder.commands import COMMANDS
from ladder.usage import LINES, WIDTH, example, options, overview


def help_of(verb: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert main([verb, "--help"]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("verb", COMMANDS)
def test_the_help_fits_a_screen(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    lines = help_of(verb, capsys).splitlines()
    assert max(map(len, lines)) <= WIDTH
    assert len(lines) <= LINES


@pytest.mark.parametrize("verb", COMMANDS)
def test_the_help_lists_exactly_the_options_that_are_parsed(verb: str) -> None:
    told = {option.name for option in options(COMMANDS[verb]) if not option.positional}
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
        tyro.cli(COMMANDS[verb], args=["--help"])
    heads = [line[2:].split("  ")[0] for line in said.getvalue().splitlines()]
    shown = [head for head in heads if head.startswith("-")]
    parsed = {option for head in shown for option in re.findall(r"--[a-z][\w-]*", head)}
    assert told == parsed - {"--help", "--column"}


@pytest.mark.parametrize("verb", COMMANDS)
def test_every_option_says_what_it_means(verb: str) -> None:
    assert all(option.meaning.strip() for option in options(COMMANDS[verb]))


@pytest.mark.parametrize("verb", COMMANDS)
def test_the_example_is_one_that_the_command_can_read(
    verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command = COMMANDS[verb]
    shown = help_of(verb, capsys).partition("example:\n")[2]
    pasted = shown.replace("\\\n", " ")
    words = shlex.split(pasted.partition(">")[0])
    assert words == shlex.split(example(command).partition(">")[0])
    assert words[:2] == ["ladder", verb]

    @functools.wraps(command)
    def parsed(*values: object, **named: object) -> tuple[object, object]:
        return values, named

    tyro.cli(parsed, args=words[2:])


def test_the_overview_fits_80_columns_and_names_every_command() -> None:
    lines = overview(COMMANDS).splitlines()
    assert max(map(len, lines)) <= WIDTH
    listed = [line.split()[0] for line in lines if line.startswith("  ") and line[2] != " "]
    assert listed == list(COMMANDS)


def test_help_is_asked_for_wherever_it_stands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "absent.csv", "--json", "-h"]) == 0
    assert capsys.readouterr().out.startswith("usage: ladder predict OBSERVATIONS")
