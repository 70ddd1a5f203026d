"""Commands as tests run them."""

from __future__ import annotations

import json

import pytest

from ladder.cli import main


def fails(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Run a command that must end with status 2 and one line on standard error."""
    assert main([str(a) for a in arguments]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("ladder: ")
    assert said.err.count("\n") == 1
    return said.err


def document(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict:
    """Run a command with --json; its standard output must be one document."""
    assert main([*(str(a) for a in arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)
