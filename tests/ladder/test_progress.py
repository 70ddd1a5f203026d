"""What a terminal shows while runs train, tasks are scored and loops go on."""

from __future__ import annotations

import io
import re
from contextlib import redirect_stderr
from dataclasses import replace
from pathlib import Path

import pytest

from ladder.config import load_config
from ladder.plan import Plan, make_plan
from ladder.progress import scoring, steps, watching
from ladder.runs import Progress, RunsFolder


class Terminal(io.StringIO):
    """A standard error that is one, and what it shows, without the codes that move about."""

    def isatty(self) -> bool:
        return True

    @property
    def shown(self) -> str:
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.getvalue())


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    return Terminal()


@pytest.fixture
def plan(tiny_config: Path) -> Plan:
    return make_plan(load_config(str(tiny_config)))


def test_a_run_has_a_bar_while_it_trains_and_all_runs_have_one(
    terminal: Terminal, plan: Plan, tmp_path: Path
) -> None:
    runs, rung = RunsFolder(tmp_path), plan.run("c-4xC")
    folder = runs.rung(rung.name)
    folder.path.mkdir()
    # What stands there at the end is drawn for certain, whatever the clock says.
    with redirect_stderr(terminal), watching(plan) as watch, folder.lock():
        folder.write_manifest(rung, "running")
        folder.write_progress(Progress(167, rung.steps, 1.5, 1000.0, 0.0))
        watch(runs, plan)
    assert re.search(r"c-4xC \S+ +50% loss 1\.500 +1,000 tokens/s", terminal.shown)
    assert "0 of 10 finished" in terminal.shown
    with redirect_stderr(terminal), watching(plan) as watch:
        with folder.lock():
            watch(runs, plan)
        folder.write_manifest(rung, "finished")
        watch(runs, plan)
    assert "1 of 10 finished" in terminal.shown
    assert "c-4xC" not in terminal.shown.rstrip().splitlines()[-1]


def test_of_torchruns_ranks_the_first_alone_tells(
    terminal: Terminal, plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "1")
    with redirect_stderr(terminal), watching(plan) as watch:
        watch(RunsFolder(tmp_path), plan)
    assert terminal.shown == ""


def test_elsewhere_a_finished_run_is_a_line(
    plan: Plan, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs, rung = RunsFolder(tmp_path), plan.run("a-1xC")
    folder = runs.rung(rung.name)
    folder.path.mkdir()
    with watching(plan) as watch:
        watch(runs, plan)
        folder.write_manifest(rung, "finished")
        folder.write_progress(Progress(rung.steps, rung.steps, 2.25, 1000.0, 0.0))
        watch(runs, plan)
        watch(runs, replace(plan, rungs=(rung,), targets=()))
    said = capsys.readouterr().err
    assert re.fullmatch(r"\[\d+m\d\ds\] a-1xC finished, loss 2\.250; 1 of 10\n", said)


def test_what_is_scored_has_a_bar_of_its_own_with_its_name_as_it_is(terminal: Terminal) -> None:
    with redirect_stderr(terminal), scoring(True) as watch:
        for name in ("[red]first", "second"):
            tell = watch(name)
            tell(0.5)
            tell(1.0)
    assert "[red]first" in terminal.shown
    assert "second" in terminal.shown


def test_a_loop_gives_its_items_whether_or_not_it_is_shown(terminal: Terminal) -> None:
    with redirect_stderr(terminal):
        assert list(steps("splits")([1, 2, 3])) == [1, 2, 3]
    assert "splits" in terminal.shown
    assert steps("splits")([1, 2]) == [1, 2]
