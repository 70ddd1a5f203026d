"""The whole: one command, a second one that does nothing, and kills at any moment."""

from __future__ import annotations

import html
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import yaml

from evaluation.records import read_observations
from ladder.config import load_config
from ladder.machine import machine_name
from ladder.plan import make_plan
from ladder.runs import RunsFolder
from predict import TwoStage


def ladder(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ladder.cli", *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def tiny_config(tiny_config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same experiment in larger batches, so 910 steps in all: what is done counts here."""
    document = yaml.safe_load(tiny_config.read_text())
    document["recipe"]["batch_divisor"] = 8
    path = tmp_path_factory.mktemp("brisk") / "tiny.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


@pytest.fixture(scope="module")
def whole(tiny_config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A runs folder that one undisturbed command made."""
    folder = tmp_path_factory.mktemp("whole")
    done = ladder("run", tiny_config, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "report: " in done.stdout
    return folder / "runs" / "tiny"


def test_one_command_leaves_everything_behind(whole: Path) -> None:
    table = read_observations(whole / "observations.parquet")
    assert set(table.loc[table["role"] == "target", "run"]) == {"big-4xC"}
    assert table.loc[table["role"] == "ladder", "run"].nunique() == 9
    predictions = json.loads((whole / "predictions.json").read_text())
    assert {r["task"] for r in predictions["rows"]} == {"next", "walks_validation"}
    audit = pd.read_csv(whole / "audit.csv").set_index("task")
    fitted = TwoStage("published").fit(table).predict_one("next", next(iter(_targets(table))))
    assert audit.at["next", "predicted"] == pytest.approx(fitted.predicted)
    report = (whole / "report.html").read_text()
    assert "entropy rate" in report
    assert f"of {machine_name().partition(' of ')[2]}"[:60] in html.unescape(report)
    assert {"ladder.svg", "ladder.png", "fits-next.svg"} <= {
        p.name for p in (whole / "figures").iterdir()
    }
    assert {p.name for p in (whole / "a-1xC").iterdir()} >= {
        "config.yaml",
        "manifest.json",
        "metrics.jsonl",
        "checkpoints",
        "scores.parquet",
    }


def test_a_second_command_does_nothing_but_say_so(whole: Path, tiny_config: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in whole.rglob("*") if p.is_file()}
    done = ladder("run", tiny_config, cwd=whole.parent.parent)
    assert done.returncode == 0
    assert done.stderr.startswith("nothing to do: 10 of 10 runs have finished")
    assert {p: p.stat().st_mtime_ns for p in whole.rglob("*") if p.is_file()} == before


def test_a_lost_report_is_made_again_without_training(whole: Path, tiny_config: Path) -> None:
    (whole / "report.html").unlink()
    done = ladder("run", tiny_config, cwd=whole.parent.parent)
    assert done.returncode == 0
    assert "0 runs trained, 10 found finished" in done.stderr
    assert (whole / "report.html").is_file()


def test_another_config_is_refused(whole: Path, tiny_config: Path) -> None:
    done = ladder("run", tiny_config, "--set", "corpus.gain=1", cwd=whole.parent.parent)
    assert done.returncode == 2
    assert "corpus.gain: 2.0 -> 1.0" in done.stderr
    assert done.stderr.count("\n") == 1


def test_status_tells_every_run(whole: Path) -> None:
    done = ladder("status", whole, "--json", cwd=whole)
    runs = json.loads(done.stdout)["runs"]
    assert [r["state"] for r in runs] == ["finished"] * 10


@pytest.mark.slow
def test_training_in_parts_gives_the_same_observations(
    whole: Path, tiny_config: Path, tmp_path: Path
) -> None:
    for rung in ("c-4xC", "a-1xC"):
        done = ladder("train", tiny_config, "--rung", rung, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    states = json.loads(ladder("status", "runs/tiny", "--json", cwd=tmp_path).stdout)["runs"]
    assert sorted(r["name"] for r in states if r["state"] == "finished") == ["a-1xC", "c-4xC"]
    assert ladder("run", tiny_config, "--workers", "1", cwd=tmp_path).returncode == 0
    assert same(whole, tmp_path / "runs" / "tiny")


@pytest.mark.parametrize(
    ("seed", "kills"),
    [(0, 3), *(pytest.param(seed, 6, marks=pytest.mark.slow) for seed in (1, 2, 3))],
)
def test_killed_at_any_moment_it_ends_with_the_same_observations(
    whole: Path, tiny_config: Path, tmp_path: Path, seed: int, kills: int
) -> None:
    """kill -9 of the command and of a worker in turn, at moments told by what is on the disk."""
    rng = random.Random(seed)
    runs = tmp_path / "runs" / "tiny"
    for moment in range(kills):
        process = start(tiny_config, tmp_path)
        goal = events(runs) + (0 if moment == 0 else rng.randint(1, 25))
        while process.poll() is None and events(runs) < goal:
            time.sleep(0.002)
        assert process.poll() is None, f"it ended before kill {moment}"
        workers = [pid for pid in _children(process.pid) if "spawn_main" in _command(pid)]
        victims = workers if moment % 2 and workers else [process.pid]
        os.kill(rng.choice(victims), signal.SIGKILL)
        process.wait()
    done = ladder("run", tiny_config, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert same(whole, runs)


@pytest.mark.slow
def test_an_interrupt_stops_all_of_it_and_says_how_to_go_on(
    whole: Path, tiny_config: Path, tmp_path: Path
) -> None:
    process = start(tiny_config, tmp_path)
    while process.poll() is None and events(tmp_path / "runs" / "tiny") < 8:
        time.sleep(0.01)
    children = _children(process.pid)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert said.endswith("ladder: interrupted; the same command goes on from here\n")
    deadline = time.monotonic() + 20
    while any(map(_alive, children)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(_alive, children))
    assert ladder("run", tiny_config, cwd=tmp_path).returncode == 0
    assert same(whole, tmp_path / "runs" / "tiny")


@pytest.mark.slow
def test_a_target_that_is_not_trained_is_predicted_all_the_same(
    whole: Path, tiny_config: Path, tmp_path: Path
) -> None:
    """Rungs are those of the other ladder, which has the same; a target is trained on top."""
    both = "targets=[{size: big, multiple: 1, train: true}, {size: big, multiple: 100}]"
    for name, targets in (("both", both), ("none", "targets=[{size: big, multiple: 100}]")):
        config = load_config(str(tiny_config), (targets,))
        RunsFolder(tmp_path / name).prepare(config)
        for rung in make_plan(config).rungs:
            shutil.copytree(whole / rung.name, tmp_path / name / rung.name)
        done = ladder("run", tiny_config, "--runs", name, "--set", targets, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        trained = 1 if name == "both" else 0
        assert f"{trained} runs trained, 9 found finished" in done.stderr
        rows = json.loads((tmp_path / name / "predictions.json").read_text())["rows"]
        assert "big-100xC" in {row["target"] for row in rows}
        assert "big-100xC" in (tmp_path / name / "report.html").read_text()
    assert len(pd.read_csv(tmp_path / "none" / "audit.csv")) == 0
    assert set(pd.read_csv(tmp_path / "both" / "audit.csv")["target"]) == {"big-1xC"}


def test_outputs_of_other_scores_are_made_again(whole: Path, tiny_config: Path) -> None:
    before = (whole / "observations.parquet").read_bytes()
    (whole / "observations.parquet").write_bytes(b"stale")
    done = ladder("run", tiny_config, cwd=whole.parent.parent)
    assert "0 runs trained, 10 found finished" in done.stderr
    assert (whole / "observations.parquet").read_bytes() == before


def test_orphans_stop_when_the_command_is_killed(tiny_config: Path, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "ladder.cli", "run", str(tiny_config)],
        cwd=tmp_path,
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    children: list[int] = []
    while not children and process.poll() is None:
        children = _children(process.pid)
        time.sleep(0.05)
    process.kill()
    process.wait()
    deadline = time.monotonic() + 20
    while any(_alive(pid) for pid in children) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(_alive(pid) for pid in children)


def start(config: Path, folder: Path) -> subprocess.Popen[str]:
    """`ladder run`, in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "ladder.cli", "run", str(config)],
        cwd=folder,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
        # A shell that starts the tests in the background has interrupts ignored, and that is
        # inherited.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def events(runs: Path) -> int:
    """Files and folders that a run leaves as it goes: more at every score and checkpoint."""
    steps = [int(p.name[5:]) for p in runs.glob("*/checkpoints/step-*")]
    return len(list(runs.glob("*"))) + len(list(runs.glob("*/*"))) + sum(steps) // 8


def same(one: Path, other: Path) -> bool:
    """Whether two runs folders hold the same observations, to the last bit."""
    names = ["observations.parquet", "predictions.json", "audit.csv"]
    return all((one / n).read_bytes() == (other / n).read_bytes() for n in names)


def _targets(table: pd.DataFrame) -> list:
    from predict.audit import targets_of

    return targets_of(table)


def _children(pid: int) -> list[int]:
    path = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(p) for p in path.read_text().split()] if path.is_file() else []


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(")")[-1].split()[0] != "Z"
    except FileNotFoundError:
        return False
