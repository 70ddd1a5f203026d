"""README and docs hold: every command and Python block runs, and prints what they say."""

from __future__ import annotations

import contextlib
import doctest
import importlib
import io
import json
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from elsewhere import ELSEWHERE
from pages import PAGES, ROOT, all_commands, blocks
from tiny_model import saved
from workshop import furnished

from ladder.cli import main
from ladder.commands import COMMANDS
from ladder.config import parse_config
from ladder.layout import WIDTH
from ladder.usage import example
from predict.laws import LAWS

TRAINS = ("run", "train", "evaluate", "coordinates", "items")
"""Verbs whose commands take minutes, unless they are a --dry-run."""

STANDS_FOR = {
    "allocate": {"OBS": "obs.parquet"},
    "exponents": {"OBS": "grid.parquet"},
}
"""What the placeholder of a verb's commands stands for."""

HERE = ("/scratch/$USER", "scratch")
"""The folder of a cluster's user, and what it is called here."""


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that the pages' commands name."""
    return furnished(tmp_path_factory.mktemp("docs"))


@pytest.fixture
def place(workshop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of one's own with those files; what is printed is as wide whatever the screen."""
    folder = tmp_path / "here"
    shutil.copytree(workshop, folder)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLUMNS", "200")
    laws = dict(LAWS)
    yield folder
    # A page registers a law, which other tests need not know.
    LAWS.clear()
    LAWS.update(laws)


def run(command: str, page: str) -> str:
    """Run a command of a page in this process; what it printed."""
    words = [
        STANDS_FOR.get(command.split()[1], {}).get(word, word.replace(*HERE))
        for word in shlex.split(command)
    ]
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main(words[1:])
    assert status == 0, f"{page}: {command}: {err.getvalue()}"
    assert out.getvalue() or err.getvalue(), f"{page}: {command}: prints nothing"
    if not {"--json", "--dry-run"} & set(words):
        wide = [line for line in out.getvalue().splitlines() if len(line) > WIDTH]
        assert not wide, f"{page}: {command}: {wide[0]!r} is wider than {WIDTH} columns"
    return out.getvalue()


def in_order(words: list[str], text: list[str]) -> str | None:
    """The first of the words that the text does not have behind those before it."""
    rest = iter(text)
    return next((word for word in words if word not in rest), None)


@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_tells_to_type_works_from_top_to_bottom(
    page: str, place: Path, olmo_logs: Path | None
) -> None:
    if olmo_logs:
        (place / "OLMo-ladder").symlink_to(olmo_logs)
    names: dict[str, object] = {"__name__": "page"}
    printed = ""
    for block in blocks(page):
        where = f"{page}, line {block.line}"
        if block.file:
            (place / block.file).write_text(block.text, encoding="utf-8")
        if block.language == "python":
            said = io.StringIO()
            with contextlib.redirect_stdout(said):
                exec(compile(block.text, where, "exec"), names)
        elif block.language == "sh":
            for command in block.commands:
                if command in ELSEWHERE:
                    continue
                assert command.startswith("ladder "), (
                    f"{where}: {command!r}: is no ladder command; name in ELSEWHERE what runs it"
                )
                assert command.split()[1] not in TRAINS or "--dry-run" in command, (
                    f"{where}: {command!r}: takes long; name in ELSEWHERE what runs it"
                )
                if "olmo-ladder" in command:
                    if olmo_logs:
                        run(command.replace("obs.parquet", "olmo.parquet"), page)
                    continue
                printed = run(command, page)
        elif block.language == "text":
            missing = in_order(block.text.split(), printed.split())
            assert missing is None, (
                f"{where}: {missing!r} is not what the command prints:\n{printed}"
            )
        elif block.language == "console" and olmo_logs:
            command, _, shown = block.text.removeprefix("$ ").partition("\n")
            printed = run(command.replace("obs.parquet", "olmo.parquet"), page)
            kept = [word for word in shown.split() if word != "..."]
            missing = in_order(kept, printed.split())
            assert missing is None, f"{where}: {missing!r} is not printed:\n{printed}"
        elif block.language == "json":
            for line in block.text.splitlines():
                json.loads(line)
        elif block.language == "yaml":
            document = yaml.safe_load(block.text)
            if {"name", "corpus", "model"} <= set(document):
                parse_config(document, where)


@pytest.fixture
def olmo_logs(request: pytest.FixtureRequest) -> Path | None:
    """The published logs where a machine has them, which CI must."""
    try:
        return request.getfixturevalue("olmo_ladder")
    except pytest.skip.Exception:
        return None


def test_commands_that_run_elsewhere_are_on_a_page_and_their_tests_exist() -> None:
    written = {command for page in PAGES for command in all_commands(page)}
    assert not set(ELSEWHERE) - written
    for command, (reason, place) in ELSEWHERE.items():
        file, _, test = place.partition("::")
        assert reason, command
        assert f"def {test}(" in (ROOT / file).read_text() if test else (ROOT / file).is_file(), (
            place
        )


BY_HAND = {
    "run": "ladder run quickstart --runs runs/mine",
    "train": "ladder train quickstart --rung '3K-*'",
    "scales": "ladder scales runs/recipes",
    "coordinates": "ladder coordinates quickstart --set recipe.parametrisation=mup",
    "doctor": "ladder doctor --runs /scratch/me/runs",
    "items": "ladder items runs/quickstart",
    "completion": "ladder completion bash > ~/.local/share/bash-completion/completions/ladder",
}
"""Examples of helps that no page has; each verb's own tests run their like."""


@pytest.mark.parametrize("verb", COMMANDS)
def test_the_example_of_a_commands_help_works(verb: str, place: Path) -> None:
    shown = example(COMMANDS[verb])
    written = {command for page in PAGES for command in all_commands(page)}
    if shown not in written and BY_HAND.get(verb) != shown:
        run(shown.replace("runs/quickstart", "scratch/runs/mine"), f"ladder {verb} --help")


INLINE = re.compile(r"`(ladder [^`]+)`")


@pytest.mark.parametrize("page", PAGES)
def test_commands_within_a_sentence_have_verbs_and_options_that_exist(page: str) -> None:
    text = re.sub(r"```.*?```", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.DOTALL)
    for found in INLINE.findall(text):
        words = found.replace("\n", " ").replace("\\|", "|").split()
        verb = words[1]
        if verb == "COMMAND":
            continue
        assert verb in COMMANDS, f"{page}: `{found}`"
        options = [re.match(r"--[a-z0-9-]+", word) for word in words]
        wanted = {option[0] for option in options if option}
        if wanted:
            assert wanted <= options_of(verb), f"{page}: `{found}`"


def test_the_readme_lists_every_command_and_tells_which_take_json() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    start = readme.index("| command | what it does |")
    listed = re.findall(r"`ladder (\w+)", readme[start : readme.index("## Gallery")])
    assert set(COMMANDS) <= set(listed)
    without = re.search(r"All but ([^.]+) take `--json`", readme)
    assert without
    assert set(re.findall(r"`(\w+)`", without[1])) == {
        verb for verb in COMMANDS if "--json" not in options_of(verb)
    }


def options_of(verb: str) -> set[str]:
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        assert main([verb, "--help"]) == 0
    return set(re.findall(r"--[a-z0-9-]+", said.getvalue()))


DOCUMENTED = (
    *("predict.two_stage", "predict.audit", "predict.backtest", "predict.fit", "predict.watch"),
    *("evaluation.records", "evaluation.metrics", "evaluation.plain"),
)
"""Modules of the Python API whose docstrings have examples."""


@pytest.mark.parametrize("name", DOCUMENTED)
def test_the_examples_of_docstrings_print_what_they_say(name: str, place: Path) -> None:
    found = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    assert found.attempted
    assert not found.failed


def test_every_module_with_an_example_is_among_those_that_run() -> None:
    folders = ("evaluation", "predict", "ladder")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    with_examples = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in files
        if re.search(r"^\s*>>> ", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert with_examples == set(DOCUMENTED)


def test_the_sessions_of_a_page_print_what_they_say(place: Path) -> None:
    saved(place / "my-model")
    asked = 0
    for page in PAGES:
        session = "\n".join(block.text for block in blocks(page) if block.language == "pycon")
        examples = doctest.DocTestParser().get_doctest(session, {}, page, page, 0)
        runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
        assert not runner.run(examples).failed, page
        asked += len(examples.examples)
    assert asked > 40
