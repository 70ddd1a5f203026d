"""The whole: one command, a second one that does nothing, and kills at any moment."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from evaluation.records import read_observations
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
    assert "entropy rate" in (whole / "report.html").read_text()
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


@pytest.mark.parametrize("seed", range(2))
def test_killed_at_any_moment_it_ends_with_the_same_observations(
    whole: Path, tiny_config: Path, tmp_path: Path, seed: int
) -> None:
    """kill -9 of the command, again and again, then of a worker; each time it is run again."""
    rng = random.Random(seed)
    command = [
        sys.executable, "-m", "ladder.cli", "run", str(tiny_config)
    ]  # fmt: skip
    for attempt in range(40):
        process = subprocess.Popen(
            command, cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
        )
        try:
            process.wait(timeout=rng.uniform(1, 9) + attempt)
        except subprocess.TimeoutExpired:
            victims = [process.pid]
            if rng.random() < 0.3:
                victims = _children(process.pid) or victims
            os.kill(rng.choice(victims), signal.SIGKILL)
            process.wait()
            continue
        if process.returncode == 0:
            break
    assert attempt > 0, "the run was never killed"
    assert process.returncode == 0
    assert same(whole, tmp_path / "runs" / "tiny")


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


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(")")[-1].split()[0] != "Z"
    except FileNotFoundError:
        return False
