"""A real Slurm of one node trains a ladder, loses jobs on the way, and ends as it should."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from ladder.checkpoint import latest_checkpoint
from ladder.config import load_config
from ladder.plan import make_plan
from ladder.runs import RunsFolder
from ladder.scores import evaluation_steps

SCRIPT = Path(__file__).with_name("slurm.sh")

SETS = (
    "ladder={sizes: [a, b], multiples: [1, 4]}",
    "targets=[{size: big, multiple: 80, train: true}]",
    "predict.method=own",
)
"""Few jobs, one of which lasts long enough to be stopped halfway."""


@pytest.fixture(scope="module")
def slurm() -> Iterator[dict[str, str]]:
    """The environment in which Slurm's commands reach a Slurm of this test's own."""
    search = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    missing = [n for n in ("munged", "slurmctld", "slurmd") if shutil.which(n, path=search) is None]
    if missing:
        reason = f"no {', '.join(missing)}: apt-get install slurm-wlm munge"
        pytest.fail(f"CI needs Slurm: {reason}") if os.environ.get("CI") else pytest.skip(reason)
    # Under /tmp, for a socket's path is short; munged wants folders that others cannot write.
    with tempfile.TemporaryDirectory(prefix="slurm-", ignore_cleanup_errors=True) as folder:
        try:
            subprocess.run(["bash", str(SCRIPT), "start", folder], check=True)
            # Jobs run the code that is tested, wherever it is installed.
            code = str(SCRIPT.parent.parent)
            yield {**os.environ, "SLURM_CONF": f"{folder}/slurm.conf", "PYTHONPATH": code}
        finally:
            subprocess.run(["bash", str(SCRIPT), "stop", folder], check=True)


@pytest.fixture
def call(slurm: dict[str, str]) -> Callable[..., str]:
    """A function that runs a command within that Slurm, and returns what it printed."""

    def run(*words: object) -> str:
        done = subprocess.run(
            [str(w) for w in words], env=slurm, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout

    return run


@pytest.fixture(scope="module")
def whole(tiny_config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same ladder, trained by `ladder run`."""
    return run_here(tiny_config, tmp_path_factory.mktemp("whole") / "runs", SETS)


def run_here(config: Path, path: Path, sets: Sequence[str]) -> Path:
    """Train a ladder by `ladder run`, in one worker; returns its folder."""
    more = ["--workers", "1", *(word for text in sets for word in ("--set", text))]
    command = [sys.executable, "-m", "ladder.cli", "run", str(config), "--runs", str(path)]
    subprocess.run([*command, *more], check=True, capture_output=True)
    return path


def until(seconds: float, happens: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.1)


def test_a_ladder_trains_on_a_slurm_that_takes_jobs_back(
    whole: Path, tiny_config: Path, tmp_path: Path, call: Callable[..., str]
) -> None:
    path = tmp_path / "runs of 'mine'; $(touch pwned) %j"
    runs, config = RunsFolder(path), load_config(str(tiny_config), SETS)
    big = make_plan(config).run("big-80xC")
    ladder = (sys.executable, "-m", "ladder.cli")
    sets = [word for text in SETS for word in ("--set", text)]
    submit = (*ladder, "train", tiny_config, "--runs", path, *sets, "--engine", "slurm")

    def states() -> dict[str, dict[str, str]]:
        rows = json.loads(call(*ladder, "status", path, "--json"))["runs"]
        return {row["name"]: row for row in rows}

    def queue(job: str) -> str:
        return call("squeue", "--noheader", f"--jobs={job}", "--format=%T").strip()

    def log(name: str) -> str:
        return "".join(p.read_text() for p in (path / name).glob("slurm-*.out"))

    assert call(*submit).count(": job ") == 6
    ids = json.loads((path / "slurm" / "jobs.json").read_text())["jobs"]

    # Slurm takes a node back: it ends the job, perhaps before training listens, and queues it.
    other = ids["b-4xC"]
    until(180, lambda: queue(other) == "RUNNING", "b-4xC runs")
    call("scontrol", "requeue", other)
    assert call(*submit) == ""  # All are in the queue, or finished.

    # Slurm warns before the time limit: the job saves and queues itself.
    until(180, lambda: runs.rung("big-80xC").progress.is_file(), "big-80xC trains")
    # Asked here and not of the command line, in whose seconds the run might end.
    assert runs.rung("big-80xC").status(big).state == "running"
    call("scancel", "--signal=USR1", "--batch", ids["big-80xC"])
    until(180, lambda: "stopped as asked" in log("big-80xC"), "big-80xC stops")
    saved = latest_checkpoint(runs.rung("big-80xC").checkpoints)
    assert saved is not None
    assert saved[1] < big.steps
    assert saved[1] not in evaluation_steps(big, config.evaluation.at)
    until(90, lambda: queue(ids["big-80xC"]) == "PENDING", "big-80xC is queued again")
    status = states()["big-80xC"]
    assert (status["state"], status["job"]) == ("queued", ids["big-80xC"])

    until(180, lambda: not call("squeue", "--noheader").strip(), "all jobs end")
    assert {s["state"] for s in states().values()} == {"finished"}
    for name in ("b-4xC", "big-80xC"):
        said = call("scontrol", "show", "job", ids[name])
        assert re.search(r"Restarts=1 ", said), said
    for name in ("observations.parquet", "predictions.json", "audit.csv"):
        assert (path / name).read_bytes() == (whole / name).read_bytes()
    assert (path / "report.html").is_file()
    assert not list(tmp_path.rglob("pwned"))
    assert not Path("pwned").exists()


def test_processes_of_one_job_train_a_rung_together(
    whole: Path, tiny_config: Path, tmp_path: Path, call: Callable[..., str]
) -> None:
    """Two "GPUs", so two processes: they find each other, compute the same, and stop together."""
    path = tmp_path / "runs"
    sets = [word for text in (*SETS, "cluster.gpus=2") for word in ("--set", text)]
    more = ("--rung", "big-80xC", "--engine", "slurm")
    call(sys.executable, "-m", "ladder.cli", "train", tiny_config, "--runs", path, *sets, *more)
    job = json.loads((path / "slurm" / "jobs.json").read_text())["jobs"]["big-80xC"]
    rung = RunsFolder(path).rung("big-80xC")
    until(180, lambda: len(losses(rung.metrics)) >= 2, "big-80xC trains")
    # Later the learning rate of this tiny model makes much of rounding.
    assert losses(rung.metrics)[:2] == pytest.approx(
        losses(whole / "big-80xC" / "metrics.jsonl")[:2], abs=1e-4
    )
    call("scancel", "--signal=USR1", "--batch", job)
    state = ("squeue", "--noheader", f"--jobs={job}", "--format=%T")
    until(180, lambda: call(*state).strip() == "PENDING", "big-80xC is queued again")
    assert latest_checkpoint(rung.checkpoints) is not None
    call("scancel", job)


def test_branches_wait_for_their_trunk_and_the_report_for_all(
    tiny_config: Path, tmp_path: Path, call: Callable[..., str]
) -> None:
    """Jobs depend on jobs, and the whole is what one process after another makes of it."""
    wsd = (SETS[0], "targets=[{size: big, multiple: 40}]", SETS[2], "recipe.schedule=wsd")
    path = tmp_path / "runs"
    sets = [word for text in wsd for word in ("--set", text)]
    ladder = (sys.executable, "-m", "ladder.cli")
    call(*ladder, "train", tiny_config, "--runs", path, *sets, "--engine", "slurm")
    ids = json.loads((path / "slurm" / "jobs.json").read_text())["jobs"]
    assert set(ids) == {*(f"{s}-{m}" for s in "ab" for m in ("trunk", "1xC", "4xC")), "report"}
    waits = call("squeue", "--noheader", f"--jobs={ids['a-4xC']}", "--format=%E")
    assert waits.startswith(f"afterok:{ids['a-trunk']}")
    until(180, lambda: not call("squeue", "--noheader").strip(), "all jobs end")
    alone = run_here(tiny_config, tmp_path / "alone", wsd)
    for name in ("observations.parquet", "predictions.json"):
        assert (path / name).read_bytes() == (alone / name).read_bytes()


@pytest.mark.slow
def test_jobs_that_are_cancelled_run_out_of_time_or_are_not_known_lose_nothing(
    whole: Path, tiny_config: Path, tmp_path: Path, call: Callable[..., str]
) -> None:
    """Slurm ends a job at its time limit as it trains; the same commands end with the same."""
    path = tmp_path / "runs"
    runs = RunsFolder(path)
    # A minute is the shortest limit; most of it goes by before training starts.
    limited = "cluster={time: '00:01:00', signal_seconds: 4, setup: ['sleep 25']}"
    sets = [word for text in (*SETS, limited) for word in ("--set", text)]
    ladder = (sys.executable, "-m", "ladder.cli")
    submit = (*ladder, "train", tiny_config, "--runs", path, *sets, "--engine", "slurm")
    big = ("--rung", "big-80xC")

    def state(job: str) -> str:
        return call("squeue", "--noheader", f"--jobs={job}", "--format=%T").strip()

    assert call(*submit, *big).count(": job ") == 1
    kept = path / "slurm" / "jobs.json"
    job = json.loads(kept.read_text())["jobs"]["big-80xC"]
    # A command that was killed between Slurm's answer and its own note: the job is found.
    kept.unlink()
    assert call(*submit, *big) == ""
    assert json.loads(kept.read_text())["jobs"] == {"big-80xC": job}
    until(90, lambda: runs.rung("big-80xC").progress.is_file(), "big-80xC trains")
    call("scancel", job)
    until(90, lambda: not call("squeue", "--noheader").strip(), "it is gone")
    assert not runs.rung("big-80xC").finished
    assert call(*submit).count(": job ") == 6
    until(600, lambda: not call("squeue", "--noheader").strip(), "all jobs end")
    for name in ("observations.parquet", "predictions.json", "audit.csv"):
        assert (path / name).read_bytes() == (whole / name).read_bytes()


def losses(metrics: Path) -> list[float]:
    """The training loss of every tenth step."""
    if not metrics.is_file():
        return []
    whole, _, _ = metrics.read_text().rpartition("\n")
    lines = [json.loads(line) for line in whole.splitlines()]
    return [line["loss"] for line in lines if line["step"] % 10 == 0]
