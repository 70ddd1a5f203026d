"""SIGKILL at random moments of training, scoring and saving: nothing is lost, nothing changes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ladder.checkpoint import latest_checkpoint
from ladder.config import load_config
from ladder.runs import RungFolder, RunsFolder

RUNG = "c-8xC"
SETS = (
    "checkpoints.every=5",
    "ladder.multiples=[1, 8]",
    "evaluation.at=[0.2, 0.4, 0.6, 0.8]",
    "recipe.batch_divisor=8",
)

KILLER = """
import os, random, shutil, signal, sys, time
from pathlib import Path
import torch
torch.set_num_threads(1)
from safetensors.torch import load_file
import ladder.train
from ladder.checkpoint import checkpoints
from ladder.config import load_config
from ladder.plan import make_plan
from ladder.runs import RunsFolder

config_path, whole, broken, rung_name, kills, *sets = sys.argv[1:]
config = load_config(config_path, tuple(sets))
rung = make_plan(config).run(rung_name)

def train(path, dies_at=0):
    '''A process that trains, and kills itself at its so-manieth access to a file of the run.'''
    pid = os.fork()
    if pid:
        return pid
    place, count = str(path / rung_name), [0]
    def hook(event, arguments):
        if event in ("open", "os.rename", "os.remove", "os.mkdir", "shutil.rmtree"):
            if str(arguments[0]).startswith(place):
                count[0] += 1
                if count[0] == dies_at:
                    os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(hook)
    status = 1
    try:
        ladder.train.train_rung(config, rung, RunsFolder(path))
        (path / "accesses").write_text(str(count[0]))
        status = 0
    finally:
        os._exit(status)

start = time.monotonic()
_, status = os.waitpid(train(Path(whole)), 0)
assert status == 0
seconds, accesses = time.monotonic() - start, int((Path(whole) / "accesses").read_text())
drawn, dead, path = random.Random(0), 0, Path(broken)
while dead < int(kills):
    if dead % 2:
        pid = train(path, drawn.randint(1, accesses // 8))
    else:
        pid = train(path)
        time.sleep(drawn.uniform(0, seconds / 8))
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    if status == 0:
        # It came to its end before; the kills that are left are another run's, from its start.
        same = [Path(p) / rung_name / "scores.parquet" for p in (whole, broken)]
        assert same[0].read_bytes() == same[1].read_bytes()
        shutil.rmtree(path / rung_name)
        continue
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, (dead, status)
    dead += 1
    for found in checkpoints(path / rung_name / "checkpoints"):
        for file in found.rglob("*.safetensors"):
            load_file(file)
    print("after", dead, "kills:", [p.name for p in checkpoints(path / rung_name / "checkpoints")])
_, status = os.waitpid(train(path), 0)
assert status == 0
"""


def metrics(folder: RungFolder) -> list[dict]:
    lines = [json.loads(line) for line in folder.metrics.read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "tokens_per_second"} for line in lines]


def tensors(folder: RungFolder) -> dict[str, torch.Tensor]:
    found = latest_checkpoint(folder.checkpoints)
    assert found is not None
    return {k: v for p in found[0].rglob("*.safetensors") for k, v in load_file(p).items()}


@pytest.mark.parametrize("kills", [6, pytest.param(100, marks=pytest.mark.slow)])
def test_kills_lose_no_run_and_change_no_bit(tiny_config: Path, tmp_path: Path, kills: int) -> None:
    config = load_config(str(tiny_config), SETS)
    folders = [RunsFolder(tmp_path / name) for name in ("whole", "broken")]
    for runs in folders:
        runs.prepare(config)
    paths = [str(runs.path) for runs in folders]
    command = [sys.executable, "-c", KILLER, str(tiny_config), *paths, RUNG, str(kills), *SETS]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert f"after {kills} kills" in done.stdout
    whole, broken = (runs.rung(RUNG) for runs in folders)
    assert broken.finished
    assert whole.scores.read_bytes() == broken.scores.read_bytes()
    assert metrics(whole) == metrics(broken)
    one, other = tensors(whole), tensors(broken)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert not list(broken.checkpoints.glob(".*"))
