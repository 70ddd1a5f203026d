"""After any fault the next command makes the same, or says in one line what to do."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from fault_ladder import RUNG, TINY

from ladder.runs import RunsFolder

CAMPAIGN = Path(__file__).with_name("fault_campaign.py")
QUICK = ("kills", "damages", "tokenising", "submitting", "pairs")
"""What takes seconds; the others need a mount, other commands or several processes."""


@pytest.mark.parametrize(
    ("seed", "more", "least"),
    [
        (1, ["--small", *(word for name in QUICK for word in ("--only", name))], 30),
        pytest.param(1, [], 250, marks=pytest.mark.slow),
    ],
)
def test_no_fault_loses_a_run_or_passes_for_a_result(
    tmp_path: Path, seed: int, more: list[str], least: int
) -> None:
    out = tmp_path / "faults.json"
    command = [sys.executable, str(CAMPAIGN), "--seed", str(seed), "--out", str(out), *more]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    found = json.loads(out.read_text())
    assert found["faults"] >= least
    assert found["bad"] == 0


@pytest.mark.slow
def test_a_rank_that_dies_under_torchrun_loses_nothing(tmp_path: Path) -> None:
    config = tmp_path / "tiny.yaml"
    config.write_text(yaml.safe_dump(TINY))

    def train(path: Path) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
        command += ["--standalone", "-m", "ladder.cli", "train", str(config)]
        command += ["--engine", "here", "--rung", RUNG, "--runs", str(path)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)

    whole, broken = (RunsFolder(tmp_path / name).rung(RUNG) for name in ("whole", "broken"))
    first = train(tmp_path / "whole")
    assert first.communicate()[1].count("Traceback") == 0
    assert first.returncode == 0
    process = train(tmp_path / "broken")
    while not list(broken.checkpoints.glob("step-*")):
        assert process.poll() is None
        time.sleep(0.01)
    ranks = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(ranks[-1]), signal.SIGKILL)
    process.communicate()
    assert process.returncode != 0
    again = train(tmp_path / "broken")
    again.communicate()
    assert again.returncode == 0
    assert broken.scores.read_bytes() == whole.scores.read_bytes()
