"""Under torchrun a rung trains as one process does; a checkpoint goes on with other ranks."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from evaluation.records import read_observations
from ladder.config import load_config
from ladder.runs import RunsFolder

RUNG = "c-1xC"
CALM = ("checkpoints.every=20", "recipe.learning_rate_base=0.02")
"""At the tiny config's own rate the last bit of a sum grows a thousandfold in a hundred steps."""
TRAIN = """
import sys
from pathlib import Path
from ladder import train
from ladder.config import load_config
from ladder.plan import make_plan
from ladder.runs import RunsFolder
config = load_config(sys.argv[1], tuple(sys.argv[4:]))
stop_after, real, calls = int(sys.argv[3]), train.optimizer_step, []
def step(*arguments):
    calls.append(1)
    if len(calls) > stop_after > 0:
        raise RuntimeError("stopped")
    return real(*arguments)
train.optimizer_step = step
train.train_rung(config, make_plan(config).run("c-1xC"), RunsFolder(Path(sys.argv[2])))
"""


def train(config: Path, runs: Path, world: int, *sets: str, stop_after: int = 0) -> None:
    folder = RunsFolder(runs)
    folder.prepare(load_config(str(config)))
    command = [sys.executable]
    if world > 1:
        command += ["-m", "torch.distributed.run", f"--nproc-per-node={world}"]
    script = runs.parent / "train.py"
    script.parent.mkdir(parents=True, exist_ok=True)
    script.write_text(TRAIN)
    done = subprocess.run(
        [
            *command,
            str(script),
            str(config),
            str(runs),
            str(stop_after),
            "checkpoints.every=20",
            *CALM,
            *sets,
        ],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert ("stopped" in done.stderr) if stop_after else done.returncode == 0, done.stderr[-3000:]


def losses(runs: Path) -> dict[int, float]:
    lines = (runs / RUNG / "metrics.jsonl").read_text().splitlines()
    return {line["step"]: line["loss"] for line in map(json.loads, lines)}


def held_out(runs: Path) -> list[float]:
    return read_observations(runs / RUNG / "scores.parquet")["loss"].tolist()


@pytest.fixture(scope="module")
def alone(tiny_config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs = tmp_path_factory.mktemp("alone") / "runs"
    train(tiny_config, runs, 1)
    return runs


@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
def test_two_ranks_have_the_losses_of_one(
    tiny_config: Path, alone: Path, tmp_path: Path, kind: str
) -> None:
    train(tiny_config, tmp_path / "runs", 2, f"execution.parallel={kind}")
    assert losses(tmp_path / "runs") == pytest.approx(losses(alone), abs=1e-4)
    assert held_out(tmp_path / "runs") == pytest.approx(held_out(alone), abs=1e-4)


@pytest.mark.parametrize(("first", "then"), [(2, 1), (1, 2)])
def test_a_checkpoint_goes_on_with_another_number_of_ranks(
    tiny_config: Path, alone: Path, tmp_path: Path, first: int, then: int
) -> None:
    runs = tmp_path / "runs"
    train(tiny_config, runs, first, "execution.parallel=fsdp", stop_after=50)
    assert 0 < max(losses(runs)) <= 50
    (checkpoint,) = (runs / RUNG / "checkpoints").glob("step-*")
    assert checkpoint.name == "step-40"
    train(tiny_config, runs, then, "execution.parallel=fsdp")
    assert losses(runs) == pytest.approx(losses(alone), abs=1e-4)


def test_micro_batches_and_chunks_of_the_loss_add_up(
    tiny_config: Path, alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(tiny_config, tmp_path / "runs", 1, "execution.micro_batch=1")
    assert losses(tmp_path / "runs") == pytest.approx(losses(alone), abs=1e-4)
    shutil.rmtree(tmp_path / "runs")
    train(tiny_config, tmp_path / "runs", 2, "execution.micro_batch=1", "execution.parallel=fsdp")
    assert losses(tmp_path / "runs") == pytest.approx(losses(alone), abs=1e-4)


STATE_SPACES = {
    "mamba2": {"layers": 2, "width": 8, "ssm": {"state": 4}},
    "falcon_h1": {
        "layers": 2,
        "width": 8,
        "heads": 2,
        "kv_heads": 1,
        "hidden": 12,
        "ssm": {"state": 4, "heads": 3, "head_width": 4},
    },
}


@pytest.mark.parametrize(("architecture", "kind"), [("mamba2", "ddp"), ("falcon_h1", "fsdp")])
def test_state_spaces_on_two_ranks_have_the_losses_of_one(
    tiny_config: Path, tmp_path: Path, architecture: str, kind: str
) -> None:
    """With shares of 3-D convolutions, and with frozen norms."""
    document = yaml.safe_load(tiny_config.read_text())
    sizes = {"c": STATE_SPACES[architecture]}
    document["model"] = {"architecture": architecture, "sequence_length": 16, "sizes": sizes}
    document["ladder"] |= {"sizes": ["c"], "tokens_per_param": 5}
    document |= {"targets": [], "evaluation": {"at": [1]}}
    document["recipe"]["train_norms"] = architecture == "mamba2"
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(document))
    for world in (1, 2):
        train(config, tmp_path / f"{world}" / "runs", world, f"execution.parallel={kind}")
    one, two = (tmp_path / f"{world}" / "runs" for world in (1, 2))
    assert losses(two) == pytest.approx(losses(one), abs=1e-4)
    assert held_out(two) == pytest.approx(held_out(one), abs=1e-4)


def test_muon_on_shares_of_its_matrices_is_muon(tiny_config: Path, tmp_path: Path) -> None:
    """Its Newton-Schulz runs in bfloat16, so that rounding shows sooner than in AdamW."""
    sets = ("recipe.optimizer=muon", "recipe.learning_rate_base=0.005", "evaluation.at=[1]")
    for world in (1, 2):
        train(tiny_config, tmp_path / f"{world}" / "runs", world, "execution.parallel=fsdp", *sets)
    one, two = (losses(tmp_path / f"{world}" / "runs") for world in (1, 2))
    assert two == pytest.approx(one, abs=2e-3)
    assert one[max(one)] < one[min(one)] - 0.05
