"""What commands print fits 80 columns, on a terminal of that width and in a pipe."""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import platform
import re
import struct
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import synthetic
from flights import in_flight
from safetensors.numpy import save_file

from evaluation.files import InputError
from evaluation.records import write_observations
from ladder import progress, tables
from ladder.cli import main
from ladder.commands import COMMANDS
from ladder.config import load_config
from ladder.layout import WIDTH
from ladder.plan import make_plan
from ladder.runs import Progress, RunsFolder
from predict.curve import Curve, CurvePoint
from predict.items import ItemRow
from predict.watch import each

TASKS = ("mmlu_social_sciences_test_rc_5shot", "arc_challenge_test_rc_5shot")
TARGETS = ((6.9e9, 4e12), (1.3e10, 5e12))
ANSI = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tables of long names and two targets, and folders of runs."""
    path = tmp_path_factory.mktemp("screen")
    table = synthetic(tasks=TASKS, targets=TARGETS)
    random = np.random.default_rng(0)
    for name in ("loss", "accuracy"):
        table[name] *= 1 + 0.01 * random.normal(size=len(table))
    sets = synthetic(tasks=("dolma_common-crawl-validation",), targets=TARGETS)
    sets = sets.drop(columns=["accuracy", "chance", "instances"])
    whole = pd.concat([table, sets.assign(loss_unit="nats/token")], ignore_index=True)
    write_observations(whole, path / "obs.parquet")
    for recipe, factor in (("adamw-wsd", 1.0), ("muon-wsd", 0.99), ("sgd-wsd", 1.01)):
        write_observations(table.assign(loss=factor * table["loss"]), path / f"{recipe}.csv")
    runs = RunsFolder(path / "runs")
    runs.prepare(load_config("quickstart"))
    step = path / "tuned" / "190M-1xC" / "checkpoints" / "step-70"
    (step / "multipliers").mkdir(parents=True)
    (step / "config.json").write_text("{}")
    tensors = {"model.layers.0.mlp.up_proj.row": np.array([1.0, 3.0], np.float32)}
    save_file(tensors, step / "multipliers" / "model-00001-of-00001.safetensors")
    write_observations(in_flight(until=0.5), path / "flight.parquet")
    return path


COMMAND_LINES = {
    "predict": "predict obs.parquet",
    "predict --target": "predict obs.parquet --target 7B-4T:6.89e9:3.95T --method published",
    "audit": "audit obs.parquet",
    "backtest": "backtest obs.parquet --tasks mmlu_*",
    "noise": "noise obs.parquet --last 3",
    "compare": "compare adamw-wsd.csv muon-wsd.csv sgd-wsd.csv --tasks mmlu_*",
    "allocate": "allocate obs.parquet --flops 1e23 --replicates 20",
    "allocate --target-loss": "allocate --flops 1e23",
    "next": "next obs.parquet --target 7B-4T:6.89e9:3.95T --budget 1e21 --config olmo2 "
    "--rungs 190M-* 370M-*",
    "exponents": "exponents obs.parquet --replicates 20 --slices-only",
    "plan": "plan quickstart",
    "plan --mfu": "plan olmo2 --mfu 0.4 --gpu A100",
    "plan recipes": "plan recipes",
    "status": "status runs",
    "entropy": "entropy quickstart",
    "scales": "scales tuned/190M-1xC/checkpoints/step-70",
    "doctor": "doctor",
    "tasks": "tasks",
    "version": "version",
}
"""Commands of seconds that print a table, by a name for the test."""

SLOW = ("backtest", "compare", "predict", "audit", "allocate", "next", "exponents", "doctor")
"""Those whose tables are laid out once here, in a pipe; a terminal as wide shows the same."""

ELSEWHERE = {
    "run": "trains; prints what audit, compare and exponents do",
    "train": "prints scripts and lines",
    "tokenise": "prints a line on standard error",
    "evaluate": "below, without a model",
    "items": "below, without scores of choices",
    "forecast": "below, on a run in flight",
    "coordinates": "trains; tests/ladder/test_coordinates.py",
    "import": "prints lines on standard error",
    "report": "prints lines on standard error",
    "completion": "prints a script",
}
"""Commands that COMMAND_LINES lacks, and why."""


@contextlib.contextmanager
def terminal(columns: int) -> Iterator[io.StringIO]:
    """Standard output and error are a terminal of so many columns; what it was sent."""
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    sent, before = io.StringIO(), (sys.stdout, sys.stderr)

    def listen() -> None:
        with contextlib.suppress(OSError):
            while block := os.read(ours, 65536):
                sent.write(block.decode("utf-8", "replace"))

    listener = threading.Thread(target=listen)
    listener.start()
    with os.fdopen(theirs, "w", encoding="utf-8") as screen:
        sys.stdout = sys.stderr = screen
        try:
            yield sent
        finally:
            sys.stdout, sys.stderr = before
    listener.join(timeout=10)
    os.close(ours)


def lines_of(text: str) -> list[str]:
    return re.split(r"[\r\n]+", ANSI.sub("", text))


def on_terminal(do: Callable[[], object], columns: int = 80) -> list[str]:
    with terminal(columns) as sent:
        do()
    return lines_of(sent.getvalue())


def in_pipe(do: Callable[[], object]) -> list[str]:
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(io.StringIO()):
        do()
    return said.getvalue().splitlines()


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("TERM", "xterm-256color")
    for name in ("COLUMNS", "NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)


def too_wide(lines: list[str], width: int = WIDTH) -> list[str]:
    return [line for line in lines if len(line) > width]


def test_every_command_is_here_or_says_why_not() -> None:
    assert {name.split()[0] for name in COMMAND_LINES} | set(ELSEWHERE) == set(COMMANDS)


@pytest.mark.parametrize("name", COMMAND_LINES)
def test_what_a_command_prints_fits_80_columns(
    name: str, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    def do() -> None:
        with contextlib.suppress(SystemExit):  # doctor's own status
            assert main(COMMAND_LINES[name].split()) == 0

    piped = in_pipe(do)
    assert piped
    assert not too_wide(piped)
    if name in SLOW:
        return
    monkeypatch.setenv("COLUMNS", "200")
    assert in_pipe(do) == piped
    monkeypatch.delenv("COLUMNS")
    assert not too_wide(on_terminal(do))


def test_the_compute_curve_fits_80_columns() -> None:
    rest = dict.fromkeys(CurvePoint.__dataclass_fields__, 0.123456)
    points = [
        CurvePoint(**{**rest, "cut": "multiple", "target": target, "rungs": 16, "unpredictable": 9})
        for target in ("peteish-7B-4T", "peteish-13B-5T")
    ]
    lines = on_terminal(lambda: tables.show_curve(Curve(tuple(points), ())))
    assert len(lines) > 4
    assert not too_wide(lines)


def test_a_forecast_fits_80_columns(folder: Path) -> None:
    def do() -> None:
        assert main(["forecast", "flight.parquet", "--run", "big", "--tokens", "1.38T"]) == 0

    assert not too_wide(in_pipe(do))


def test_scores_of_a_model_fit_80_columns() -> None:
    rows = [
        {
            "run": f"190M-{m}xC",
            "task": task,
            "loss": 1.23456,
            "loss_se": 0.01,
            "loss_unit": "bits/byte",
            "accuracy": 0.5,
            "accuracy_se": 0.01,
            "accuracy_metric": "acc_per_char",
            "instances": 14042,
        }
        for m in (1, 10)
        for task in TASKS
    ]
    lines = on_terminal(lambda: tables.show_scores("runs/quickstart", rows))
    assert len(lines) > 8
    assert not too_wide(lines)


def test_items_fit_80_columns(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rest = dict.fromkeys(ItemRow.__dataclass_fields__, 0.5)
    rows = [ItemRow(**{**rest, "task": t, "target": "13B-5T", "chosen": "compute"}) for t in TASKS]
    monkeypatch.setattr("ladder.item_margins.read_margins", lambda *_: None)
    monkeypatch.setattr("predict.items.predict_items", lambda *_: rows)
    (folder / "observations.parquet").write_bytes((folder / "obs.parquet").read_bytes())
    lines = on_terminal(lambda: main(["items", "."]))
    assert len(lines) > 3
    assert not too_wide(lines)


def test_a_wider_terminal_shows_the_table_whole(folder: Path) -> None:
    wide = on_terminal(lambda: main(["audit", "obs.parquet"]), 200)
    narrow = on_terminal(lambda: main(["audit", "obs.parquet"]), 80)
    assert len(wide) < len(narrow)
    assert max(map(len, wide)) > WIDTH
    assert any("predicted" in line and "loss actual" in line for line in wide)


def test_colours_are_for_terminals_that_want_them(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [("190M-1xC", "finished"), ("190M-2xC", "failed")]

    def do() -> None:
        tables.show("runs", ("run", "state"), rows)

    with terminal(80) as sent:
        do()
    assert "\x1b[31m  failed" in sent.getvalue()
    assert not any("\x1b" in line for line in in_pipe(do))
    monkeypatch.setenv("NO_COLOR", "1")
    with terminal(80) as sent:
        do()
    assert "failed" in sent.getvalue()
    assert "\x1b[3" not in sent.getvalue().replace("\x1b[3m", "")


def test_a_long_loop_has_a_bar_with_the_time_left_on_a_terminal_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(progress, "PATIENCE", 0.0)

    def do() -> None:
        with progress.telling():
            for _ in each(range(3), "resamples"):
                time.sleep(0.15)
            for _ in each(range(2), "cuts"):
                time.sleep(0.15)

    lines = on_terminal(do)
    assert any(re.search(r"resamples .* [123] of 3 .*:\d\d", line) for line in lines)
    assert any("cuts" in line for line in lines)
    assert not too_wide(lines)
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        assert in_pipe(do) == []
    assert said.getvalue() == ""


def test_a_short_loop_has_no_bar() -> None:
    def do() -> None:
        with progress.telling():
            list(each(range(3), "resamples"))

    assert "resamples" not in "".join(on_terminal(do))


def test_a_loop_that_fails_under_a_bar_is_told_in_one_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "PATIENCE", 0.0)

    def fails(*_: object) -> None:
        for _ in each(range(3), "resamples"):
            time.sleep(0.1)
            if _ == 1:
                raise InputError("of the user's")

    monkeypatch.setitem(COMMANDS, "version", lambda: fails())
    lines = on_terminal(lambda: main(["version"]))
    assert [line for line in lines if line.strip()][-1] == "ladder: of the user's"


def test_status_of_a_ladder_in_flight_says_who_has_what_and_fits_80_columns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load_config("quickstart")
    planned, runs = make_plan(config), RunsFolder(tmp_path / "runs")
    runs.prepare(config)
    done, going, broken, *_ = planned.rungs
    runs.rung(done.name).path.mkdir()
    runs.rung(done.name).write_manifest(done, "finished")
    for rung, state, more in (
        (going, "running", {}),
        (broken, "failed", {"error": "MemoryError: " + "too large a batch, " * 5}),
    ):
        runs.rung(rung.name).path.mkdir()
        runs.rung(rung.name).write_manifest(rung, state, **more)
        runs.rung(rung.name).write_progress(Progress(100, rung.steps, 4.3211, 123456.7, 0.0))
    with runs.rung(going.name).lock():
        lines = in_pipe(lambda: main(["status", str(runs.path)]))
        assert (
            on_terminal(lambda: main(["status", str(runs.path)]))[:4]
            == [line for line in lines if line][:4]
        )
    assert not too_wide(lines)
    row = next(line for line in lines if line.startswith(going.name)).split()
    assert row[1:6] == ["running", "100", "/", f"{going.steps:,}", "4.3211"]
    assert row[6] == "123,457"
    assert row[8:] == ["process", str(os.getpid()), "on", platform.node()]
    assert any(line.startswith(f"{broken.name}: failed: MemoryError") for line in lines)
    assert lines[-1] == "1 finished, 1 running, 1 failed, 14 pending"
