"""Jobs submitted to a Slurm that is scripted here: what is queued, left out, refused, told."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from test_slurm import scripts

from evaluation.files import InputError
from evaluation.records import write_observations
from ladder import slurm
from ladder.cli import main
from ladder.config import load_config
from ladder.plan import make_plan
from ladder.runs import Progress, RunsFolder

FAKES = {
    "sbatch": """
echo "$@" >>"$FAKE/sbatch.log"
case "$*" in *"$(cat "$FAKE/refused")") echo 'sbatch: error: invalid partition' >&2; exit 1;; esac
id=$(($(wc -l <"$FAKE/sbatch.log") + 100))
echo "$id|PENDING|Priority" >>"$FAKE/queue"
echo "$id;somewhere"
""",
    "squeue": """
echo "$@" >>"$FAKE/squeue.log"
if [ -e "$FAKE/closed" ]; then echo 'squeue: error: Connection refused' >&2; exit 1; fi
if [ ! -s "$FAKE/queue" ]; then echo 'slurm_load_jobs error: Invalid job id' >&2; exit 1; fi
cat "$FAKE/queue"
""",
    "scancel": 'echo "$@" >>"$FAKE/scancel.log"',
}


class Fake:
    """What the scripted Slurm keeps: a queue, and what it was asked."""

    def __init__(self, path: Path) -> None:
        self.path = path
        (path / "refused").write_text("nothing")

    def lines(self, name: str) -> list[str]:
        path = self.path / name
        return path.read_text().splitlines() if path.is_file() else []

    def queue(self, *lines: str) -> None:
        (self.path / "queue").write_text("".join(f"{line}\n" for line in lines))


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fake:
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, body in FAKES.items():
        (folder / name).write_text(f"#!/bin/bash\n{body}")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setenv("FAKE", str(folder))
    return Fake(folder)


ENDS = "trap 'exit {status}' USR1; echo ready; while :; do sleep 0.05; done"


@pytest.mark.parametrize(
    ("python", "signal", "state", "requeued"),
    [
        ("exit 0", False, "RUNNING", False),
        ("exit 1", False, "RUNNING", False),
        ("exit 85", False, "RUNNING", True),
        (ENDS.format(status=85), True, "RUNNING", True),
        (ENDS.format(status=85), True, "COMPLETING", False),
        (ENDS.format(status=0), True, "RUNNING", False),
        ("echo ready; sleep 30", True, "RUNNING", True),
    ],
)
def test_a_job_queues_itself_again_exactly_if_it_was_asked_to_stop(
    tiny_config: Path,
    tmp_path: Path,
    fake: Fake,
    python: str,
    signal: bool,
    state: str,
    requeued: bool,
) -> None:
    recorder = tmp_path / "python"
    recorder.write_text(f"#!/bin/bash\n{python}\n")
    recorder.chmod(0o755)
    (fake.path / "squeue").write_text(f"#!/bin/bash\necho {state}\n")
    (fake.path / "scontrol").write_text('#!/bin/bash\necho "$@" >>"$FAKE/scontrol.log"\n')
    (fake.path / "scontrol").chmod(0o755)
    script = scripts(tiny_config, tmp_path / "runs", f"cluster.python={recorder}")["a-1xC"]
    job = subprocess.Popen(
        ["bash", "-c", script],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "SLURM_JOB_ID": "7"},
    )
    if signal:
        assert job.stdout is not None
        job.stdout.readline()
        job.send_signal(10)  # USR1
    job.wait(timeout=20)
    assert fake.lines("scontrol.log") == (["requeue 7"] if requeued else [])


@pytest.fixture
def submit(
    tiny_config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    def call(*more: str) -> tuple[int, str, str]:
        given = ["train", str(tiny_config), "--runs", str(tmp_path / "runs"), "--engine", "slurm"]
        status = main([*given, *more])
        said = capsys.readouterr()
        return status, said.out, said.err

    return call


def test_jobs_are_submitted_and_kept(
    fake: Fake, submit: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    status, out, _ = submit()
    assert status == 0
    assert out.startswith("big-4xC: job 101\nc-4xC: job 102\n")
    kept = json.loads((tmp_path / "runs" / "slurm" / "jobs.json").read_text())
    assert kept["version"] == 1
    assert kept["jobs"]["big-4xC"] == "101"
    assert kept["jobs"]["report"] == "111"
    ids = ":".join(str(n) for n in range(101, 111))
    folder = tmp_path / "runs" / "slurm"
    assert fake.lines("sbatch.log")[0] == f"--parsable {folder}/big-4xC.sbatch"
    wait = f"--dependency=afterany:{ids}"
    assert fake.lines("sbatch.log")[-1] == f"--parsable {wait} {folder}/report.sbatch"
    assert (tmp_path / "runs" / "a-1xC").is_dir()  # Slurm writes its output there, or nowhere.
    assert len(list(folder.glob("*.sbatch"))) == 11
    # What squeue has known for ten years; --me came with Slurm 20.02.
    asked = {word.partition("=")[0] for line in fake.lines("squeue.log") for word in line.split()}
    assert asked == {"--user", "--noheader", "--format"}
    assert f"--user={os.getuid()}" in " ".join(fake.lines("squeue.log"))


def test_a_folder_whose_config_is_gone_is_known_by_its_jobs(
    fake: Fake, submit: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    submit()
    runs = tmp_path / "runs"
    (runs / "config.yaml").unlink()
    said = submit()[2]
    assert f"bring it back, or remove {runs} to start anew" in said
    assert len(fake.lines("sbatch.log")) == 11


def test_what_is_queued_or_finished_is_left_out(
    fake: Fake,
    submit: Callable[..., tuple[int, str, str]],
    tiny_config: Path,
    tmp_path: Path,
) -> None:
    submit()
    config = load_config(str(tiny_config))
    rung = make_plan(config).run("a-1xC")
    folder = RunsFolder(tmp_path / "runs").rung("a-1xC")
    folder.write_manifest(rung, "finished")
    assert "left out, finished" not in submit()[2]  # Without its scores it is to be scored again.
    row = {"task": "walks", "loss": 1.0, "loss_unit": "nats/token"}
    write_observations(pd.DataFrame([{**rung.observed(rung.steps), **row}]), folder.scores)
    status, out, err = submit("--set", "cluster.partition=other")
    assert (status, out) == (0, "")
    assert "big-4xC: left out, in the queue as job 101" in err
    assert "left out, finished: a-1xC" in err
    assert "nothing to submit" in err
    assert len(fake.lines("sbatch.log")) == 11
    # All but the report and one rung left the queue without finishing.
    fake.queue("102|RUNNING|None", "111|PENDING|Dependency")
    status, out, err = submit()
    assert out.count(": job ") == 9
    assert "c-4xC: left out, in the queue as job 102" in err
    assert fake.lines("scancel.log") == ["--state=PENDING 111"]
    assert fake.lines("sbatch.log")[-1].startswith("--parsable --dependency=afterany:102:112:")


def test_named_rungs_come_without_a_report(
    fake: Fake, submit: Callable[..., tuple[int, str, str]]
) -> None:
    status, out, _ = submit("--rung", "a-1xC", "--rung", "b-1xC")
    assert (status, out) == (0, "b-1xC: job 101\na-1xC: job 102\n")
    assert submit("--rung", "nobody")[0] == 2


def test_a_slurm_that_refuses_is_one_line_and_loses_nothing(
    fake: Fake, submit: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    (fake.path / "refused").write_text("c-2xC.sbatch")
    status, out, err = submit()
    assert (status, out) == (2, "")
    assert err == (
        "ladder: c-2xC: sbatch refused: sbatch: error: invalid partition; submitted before it: "
        "big-4xC (101), c-4xC (102); the same command submits the rest\n"
    )
    kept = json.loads((tmp_path / "runs" / "slurm" / "jobs.json").read_text())
    assert kept["jobs"] == {"big-4xC": "101", "c-4xC": "102"}
    (fake.path / "refused").write_text("nothing")
    status, out, _ = submit()
    assert status == 0
    assert out.count(": job ") == 9
    assert "big-4xC" not in out


def test_a_machine_without_slurm_is_told_so(
    submit: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    status, _, err = submit()
    assert status == 2
    assert err.startswith("ladder: sbatch: not found; ")
    assert not (tmp_path / "runs").exists()


def test_a_queue_that_does_not_answer_lets_nothing_be_submitted_twice(
    fake: Fake,
    submit: Callable[..., tuple[int, str, str]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    submit()
    (fake.path / "closed").touch()
    status, _, err = submit()
    assert status == 2
    assert err == "ladder: the queue: squeue refused: squeue: error: Connection refused\n"
    assert len(fake.lines("sbatch.log")) == 11
    assert main(["status", str(tmp_path / "runs"), "--json"]) == 0
    said = capsys.readouterr()
    assert said.err.startswith("without the queue's word: ")
    assert {r["state"] for r in json.loads(said.out)["runs"]} == {"pending"}


def test_status_reads_the_queue(
    fake: Fake,
    submit: Callable[..., tuple[int, str, str]],
    tiny_config: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    submit()
    config = load_config(str(tiny_config))
    plan, runs = make_plan(config), RunsFolder(tmp_path / "runs")
    # Trained on other machines, whose locks are not seen from here.
    for name in ("c-4xC", "c-2xC"):
        runs.rung(name).write_manifest(plan.run(name), "running")
        runs.rung(name).write_progress(Progress(10, plan.run(name).steps, 2.0, 1000.0, 0.0))
    fake.queue("101|PENDING|Priority", "102|RUNNING|None")
    assert main(["status", str(tmp_path / "runs"), "--json"]) == 0
    found = {r["name"]: r for r in json.loads(capsys.readouterr().out)["runs"]}
    assert (found["big-4xC"]["state"], found["big-4xC"]["job"]) == ("queued", "101")
    assert (found["c-4xC"]["state"], found["c-4xC"]["job"]) == ("running", "102")
    rung = plan.run("c-4xC")
    assert found["c-4xC"]["seconds_left"] == (rung.steps - 10) * rung.batch_tokens / 1000
    assert (found["c-2xC"]["state"], found["c-2xC"]["job"]) == ("interrupted", None)
    assert main(["status", str(tmp_path / "runs")]) == 0
    assert "101 (Priority)" in capsys.readouterr().out
    fake.queue()
    assert main(["status", str(tmp_path / "runs"), "--json"]) == 0
    assert {r["job"] for r in json.loads(capsys.readouterr().out)["runs"]} == {None}


def test_damaged_job_ids_are_named(
    fake: Fake, submit: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    submit()
    for text in ("{", "[]", '{"jobs": {"a-1xC": "1; rm"}}'):
        (tmp_path / "runs" / "slurm" / "jobs.json").write_text(text)
        status, _, err = submit()
        assert status == 2
        assert "jobs.json" in err


def test_branches_are_submitted_after_their_trunk_and_only_if_it_succeeds(
    fake: Fake, tiny_config: Path, tmp_path: Path
) -> None:
    config = load_config(str(tiny_config), ("recipe.schedule=wsd", "ladder.sizes=[a, b]"))
    plan, runs = make_plan(config), RunsFolder(tmp_path / "runs")
    done = slurm.submit(config, plan, (), runs).submitted
    assert list(done)[:2] == ["b-trunk", "a-trunk"]
    said = {line.split("/")[-1].removesuffix(".sbatch"): line for line in fake.lines("sbatch.log")}
    wait = f"--dependency=afterok:{done['a-trunk']} --kill-on-invalid-dep=yes"
    assert wait in said["a-4xC"]
    assert "--dependency" not in said["a-trunk"]
    assert "afterany:" in said["report"]
    shown = slurm.dry_run(config, plan, ("a-1xC",), runs)
    assert "--dependency=afterok:'<a-trunk>'" in shown or "--dependency=afterok:<a-trunk>" in shown


def test_a_rung_that_has_finished_and_still_leaves_the_queue_is_told_once(
    fake: Fake, submit: Callable[..., tuple[int, str, str]], tiny_config: Path, tmp_path: Path
) -> None:
    submit("--rung", "a-1xC")
    rung = make_plan(load_config(str(tiny_config))).run("a-1xC")
    folder = RunsFolder(tmp_path / "runs").rung("a-1xC")
    folder.write_manifest(rung, "finished")
    row = {"task": "walks", "loss": 1.0, "loss_unit": "nats/token"}
    write_observations(pd.DataFrame([{**rung.observed(rung.steps), **row}]), folder.scores)
    fake.queue("101|COMPLETING|None")
    err = submit("--rung", "a-1xC")[2]
    assert "left out, finished: a-1xC" in err
    assert "in the queue" not in err


def test_a_trunk_that_has_finished_and_is_gone_is_named_before_anything_is_submitted(
    fake: Fake, tiny_config: Path, tmp_path: Path
) -> None:
    config = load_config(str(tiny_config), ("recipe.schedule=wsd",))
    plan, runs = make_plan(config), RunsFolder(tmp_path / "runs")
    runs.prepare(config)
    trunk = plan.run("a-1xC").trunk
    assert trunk is not None
    folder = runs.rung(trunk.name)
    folder.path.mkdir()
    folder.write_manifest(trunk, "finished")
    row = {"task": "walks", "loss": 1.0, "loss_unit": "nats/token"}
    write_observations(pd.DataFrame([{**trunk.observed(trunk.steps), **row}]), folder.scores)
    for call in (slurm.submit, slurm.dry_run):
        with pytest.raises(InputError, match=r"step-\d+: is gone, and a-1xC needs it; remove"):
            call(config, plan, ("a-1xC",), runs)
    assert not (fake.path / "sbatch.log").exists()


def test_jobs_are_not_submitted_for_a_config_that_another_command_changed_meanwhile(
    fake: Fake, tiny_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, runs = load_config(str(tiny_config)), RunsFolder(tmp_path / "runs")
    runs.prepare(load_config(str(tiny_config), ("recipe.eps=1e-9",)))
    monkeypatch.setattr(RunsFolder, "prepare", lambda self, config: None)
    with pytest.raises(InputError, match=r"another config: recipe\.eps: 1e-09 -> 1e-08"):
        slurm.submit(config, make_plan(config), (), runs)
    assert not (fake.path / "sbatch.log").exists()


def test_a_branch_whose_trunk_has_come_so_far_waits_for_nothing(
    fake: Fake, tiny_config: Path, tmp_path: Path
) -> None:
    config = load_config(str(tiny_config), ("recipe.schedule=wsd",))
    plan, runs = make_plan(config), RunsFolder(tmp_path / "runs")
    runs.prepare(config)
    runs.trunk_of(plan.run("a-1xC")).mkdir(parents=True)
    assert list(slurm.submit(config, plan, ("a-1xC",), runs).submitted) == ["a-1xC"]
    assert "--dependency" not in fake.lines("sbatch.log")[-1]
