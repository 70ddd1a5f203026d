"""metrics.jsonl is whole after a kill; a Weights & Biases run is real, offline, and goes on."""

from __future__ import annotations

import json
import os
import pickle
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from evaluation.files import InputError
from ladder import tracker as tracking
from ladder.config import Experiment, differences, load_config
from ladder.plan import Rung, make_plan
from ladder.runs import RungFolder
from ladder.stopping import Stopped
from ladder.tracker import JsonLines, Tracker, WeightsAndBiases, check_tracking, open_tracker

OFFLINE = "tracking.wandb={project: ladders, mode: offline}"


@pytest.fixture
def folder(tmp_path: Path) -> RungFolder:
    path = tmp_path / "runs" / "b-2xC"
    path.mkdir(parents=True)
    return RungFolder(path)


def planned(tiny_config: Path, *sets: str) -> tuple[Experiment, Rung]:
    config = load_config(str(tiny_config), sets)
    return config, make_plan(config).run("b-2xC")


def await_end(path: Path) -> None:
    """wandb writes the file out shortly after it says that the run has ended."""
    deadline = time.monotonic() + 20
    while path.stat().st_size < 100 and time.monotonic() < deadline:
        time.sleep(0.05)


def offline_runs(folder: RungFolder) -> list[list[Any]]:
    """Records of every offline run, oldest first, read from the files themselves.

    They are LevelDB logs: blocks of 32 KiB, in which every part of a record has a checksum, a
    length and a kind (1 whole, 2 first, 3 middle, 4 last).
    """
    from wandb.proto.wandb_internal_pb2 import Record

    found = []
    paths = (folder.path / "wandb").glob("offline-run-*/*.wandb")
    for path in sorted(paths, key=lambda path: path.stat().st_mtime):
        await_end(path)
        data, at, part, records = path.read_bytes(), 7, b"", []
        while at + 7 <= len(data):
            if (room := 32768 - at % 32768) < 7:
                at += room
                continue
            _, length, kind = struct.unpack("<IHB", data[at : at + 7])
            part += data[at + 7 : at + 7 + length]
            at += 7 + length
            if kind in (1, 4):
                records.append(Record.FromString(part))
                part = b""
        found.append(records)
    return found


def logged(records: list[Any]) -> dict[int, float]:
    """Losses of an offline run by step."""
    rows = [
        {item.nested_key[0]: json.loads(item.value_json) for item in record.history.item}
        for record in records
        if record.HasField("history")
    ]
    return {row["_step"]: row["loss"] for row in rows}


def one_step(tracker: Tracker, step: int, end: BaseException) -> None:
    """A run that writes one step and ends so."""
    with tracker:
        tracker.write(step, {"loss": 1.0})
        raise end


def only(records: list[Any], kind: str) -> Any:
    (record,) = (record for record in records if record.HasField(kind))
    return getattr(record, kind)


def test_every_step_is_a_line_of_metrics(folder: RungFolder) -> None:
    with Tracker(JsonLines(folder, 0)) as tracker:
        tracker.write(10, {"loss": 2.5, "mfu": 0.4})
        tracker.write(20, {"loss": 2.25})
    lines = [json.loads(line) for line in folder.metrics.read_text().splitlines()]
    assert lines == [{"step": 10, "loss": 2.5, "mfu": 0.4}, {"step": 20, "loss": 2.25}]


@pytest.mark.parametrize(
    ("left", "start", "kept"),
    [
        ('{"step": 10}\n{"step": 20}\n{"step": 30}\n', 20, [10, 20]),
        ('{"step": 10}\n{"step": 20}\n', 0, []),
        ('{"step": 10}\n{"step": 20, "lo', 20, [10]),
        ("", 20, []),
    ],
)
def test_lines_beyond_the_checkpoint_and_one_cut_short_are_dropped(
    folder: RungFolder, left: str, start: int, kept: list[int]
) -> None:
    folder.metrics.write_text(left)
    JsonLines(folder, start).write(99, {"loss": 1.0})
    lines = folder.metrics.read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [*kept, 99]


def test_without_a_section_only_metrics_are_written(tiny_config: Path, folder: RungFolder) -> None:
    with open_tracker(*planned(tiny_config), folder, 0) as tracker:
        tracker.write(1, {"loss": 2.0})
    assert [path.name for path in folder.path.iterdir()] == ["metrics.jsonl"]


def test_an_offline_run_holds_the_rungs_config_and_every_step(
    tiny_config: Path, folder: RungFolder
) -> None:
    config, rung = planned(tiny_config, OFFLINE)
    with open_tracker(config, rung, folder, 0) as tracker:
        for step in (10, 20, 30):
            tracker.write(step, {"loss": 30 / step, "tokens": 64.0 * step})
    (records,) = offline_runs(folder)
    assert logged(records) == {10: 3.0, 20: 1.5, 30: 1.0}
    run = only(records, "run")
    assert (run.project, run.run_group, run.display_name) == ("ladders", "tiny", "b-2xC")
    said = {item.key: json.loads(item.value_json) for item in run.config.update}
    assert {key: said[key] for key in rung.describe()} == rung.describe()
    assert only(records, "exit").exit_code == 0


def test_a_run_that_goes_on_is_the_same_run_and_a_new_folder_another(
    tiny_config: Path, folder: RungFolder, tmp_path: Path
) -> None:
    config, rung = planned(tiny_config, OFFLINE)
    for step, end in ((10, Stopped("asked")), (20, RuntimeError("node lost"))):
        with pytest.raises(type(end)):
            one_step(open_tracker(config, rung, folder, step - 10), step, end)
    other = RungFolder(tmp_path)
    open_tracker(config, rung, other, 0).close()
    one, two = offline_runs(folder)
    (three,) = offline_runs(other)
    ids = [only(records, "run").run_id for records in (one, two, three)]
    assert ids[0] == ids[1] != ids[2]
    assert (logged(one), logged(two)) == ({10: 1.0}, {20: 1.0})
    # One that was asked to stop has not failed.
    assert [only(records, "exit").exit_code for records in (one, two)] == [0, 1]
    assert [json.loads(x)["step"] for x in folder.metrics.read_text().splitlines()] == [10, 20]


def test_steps_that_the_run_holds_already_are_not_logged_again(
    tiny_config: Path, folder: RungFolder, capfd: pytest.CaptureFixture[str]
) -> None:
    with open_tracker(*planned(tiny_config, OFFLINE), folder, 0) as tracker:
        for step, loss in ((10, 3.0), (20, 2.0), (10, 9.0), (20, 9.0), (30, 1.0)):
            tracker.write(step, {"loss": loss})
    (records,) = offline_runs(folder)
    assert logged(records) == {10: 3.0, 20: 2.0, 30: 1.0}
    assert capfd.readouterr().err == ""


def test_steps_that_a_kill_kept_from_the_run_are_logged_later(
    tiny_config: Path, folder: RungFolder
) -> None:
    folder.metrics.write_text('{"step": 10, "loss": 3.0}\n{"step": 20, "loss": 2.0}\n')
    config, rung = planned(tiny_config, OFFLINE)
    run = WeightsAndBiases(config, config.tracking.wandb, rung, folder)
    run.write(10, {"loss": 3.0})
    run.catch_up(folder.metrics)
    run.close()
    (records,) = offline_runs(folder)
    assert logged(records) == {10: 3.0, 20: 2.0}


def test_training_goes_on_where_the_process_of_wandb_is_lost(
    tiny_config: Path, folder: RungFolder
) -> None:
    config, rung = planned(tiny_config, OFFLINE)
    code = """
import os, pickle, signal, sys, time
from pathlib import Path
from ladder.tracker import open_tracker
config, rung, folder = pickle.load(sys.stdin.buffer)
with open_tracker(config, rung, folder, 0) as tracker:
    tracker.write(10, {"loss": 2.0})
    parents = {
        path.parent.name: path.read_text().rpartition(")")[2].split()[1]
        for path in Path("/proc").glob("[0-9]*/stat")
    }
    (child,) = (pid for pid, parent in parents.items() if parent == str(os.getpid()))
    os.kill(int(child), signal.SIGKILL)
    time.sleep(0.5)
    tracker.write(20, {"loss": 1.0})
    tracker.write(30, {"loss": 1.0})
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=pickle.dumps((config, rung, folder)),
        capture_output=True,
        check=False,
        # Otherwise it shares this process's wandb.
        env={k: v for k, v in os.environ.items() if k != "WANDB_SERVICE"},
    )
    assert done.returncode == 0, done.stderr.decode()
    assert done.stderr.decode().count("b-2xC: goes on without Weights & Biases") == 1
    assert len(folder.metrics.read_text().splitlines()) == 3


def test_what_cannot_be_tracked_is_refused_before_training(
    tiny_config: Path, folder: RungFolder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config, rung = planned(tiny_config, "tracking.wandb.project=ladders")
    for name in ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    with pytest.raises(InputError, match="no API key; run `wandb login`"):
        open_tracker(config, rung, folder, 0)
    monkeypatch.setattr(tracking, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'task-ladder\[wandb\]'"):
        check_tracking(config)
    check_tracking(planned(tiny_config)[0])


def test_tracking_makes_no_other_experiment(tiny_config: Path) -> None:
    one, other = planned(tiny_config)[0], planned(tiny_config, OFFLINE)[0]
    assert one != other
    assert differences(one, other) == []
