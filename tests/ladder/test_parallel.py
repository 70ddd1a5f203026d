"""Under torchrun a rung trains as one process does; a checkpoint goes on with other ranks.

Run by torchrun, this file is what its ranks do: all that the tests need, in one launch.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch import distributed

from evaluation.records import read_observations
from ladder import train as training
from ladder.checkpoint import latest_checkpoint
from ladder.config import load_config
from ladder.plan import make_plan
from ladder.runs import RunsFolder

RUNG = "c-1xC"
CALM = ("checkpoints.every=20", "recipe.learning_rate_base=0.02", "recipe.batch_divisor=8")
"""At the tiny config's own rate the last bit of a sum grows a thousandfold in a hundred steps. Of
batches of 17 sequences 67 steps are enough, and two ranks cannot share one out alike."""
FSDP = ("execution.parallel=fsdp",)
MUON = ("recipe.optimizer=muon", "recipe.learning_rate_base=0.005", "evaluation.at=[1]", *FSDP)
MULTIPLIED = (
    "recipe.multipliers={kind: both, learning_rate_scale: 2}",
    # Rows that two ranks cannot share out alike.
    "model.sizes.c={layers: 1, heads: 1, width: 8, hidden: 15}",
    "evaluation.at=[1]",
)
STOP = 50
"""Steps after which a run that is to be gone on with is stopped."""
PAIR = {
    "ddp": (0, ("execution.parallel=ddp",)),
    "fsdp": (0, FSDP),
    "half-2": (STOP, FSDP),
    "half-1-then-2": (0, FSDP),
    "micro-2": (0, ("execution.micro_batch=1", *FSDP)),
    "mamba2-2": (0, ("execution.parallel=ddp",)),
    "falcon_h1-2": (0, FSDP),
    "multiplied-ddp": (0, ("execution.parallel=ddp", *MULTIPLIED)),
    "multiplied-half-2": (STOP, (*FSDP, *MULTIPLIED)),
    "multiplied-half-1-then-2": (0, (*FSDP, *MULTIPLIED)),
    "muon-2": (0, MUON),
}
"""What two ranks train: where they stop, and settings, by the name of the runs folder."""
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


def train(config: Path, runs: Path, sets: Sequence[str] = (), stop_after: int = 0) -> Path:
    """Train the rung in this process, or on all ranks of which it is one; returns the runs."""
    real, calls = training.optimizer_step, []

    def step(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) > stop_after > 0:
            raise RuntimeError("stopped")
        return real(*arguments)

    loaded = load_config(str(config), (*CALM, *sets))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "optimizer_step", step)
        try:
            training.train_rung(loaded, make_plan(loaded).run(RUNG), RunsFolder(runs))
        except RuntimeError as error:
            if not stop_after or str(error) != "stopped":
                raise
        else:
            assert not stop_after
    return runs


def train_pair(config: Path, folder: Path) -> None:
    """What every rank does; the ranks join for the first run and part after the last."""
    join, part = distributed.init_process_group, distributed.destroy_process_group
    distributed.init_process_group = lambda kind, **_: distributed.is_initialized() or join(kind)
    distributed.destroy_process_group = lambda: None
    for name, (stop_after, sets) in PAIR.items():
        print(f"{name} begins", file=sys.stderr, flush=True)
        if name == list(PAIR)[-1]:
            distributed.destroy_process_group = part
        train(config_of(name, config, folder), folder / name, sets, stop_after)


def config_of(name: str, tiny_config: Path, folder: Path) -> Path:
    """The config of a run: the tiny one, or its like with a state space and, once, frozen norms."""
    architecture = name.split("-")[0]
    if architecture not in STATE_SPACES:
        return tiny_config
    config = folder / f"{architecture}.yaml"
    if not config.exists():
        document = yaml.safe_load(tiny_config.read_text())
        sizes = {"c": STATE_SPACES[architecture]}
        document["model"] = {"architecture": architecture, "sequence_length": 16, "sizes": sizes}
        document["ladder"] |= {"sizes": ["c"], "tokens_per_param": 5}
        document |= {"targets": [], "evaluation": {"at": [1]}}
        document["recipe"]["train_norms"] = architecture == "mamba2"
        config.write_text(yaml.safe_dump(document))
    return config


def losses(runs: Path) -> dict[int, float]:
    lines = (runs / RUNG / "metrics.jsonl").read_text().splitlines()
    return {line["step"]: line["loss"] for line in map(json.loads, lines)}


def held_out(runs: Path) -> list[float]:
    return read_observations(runs / RUNG / "scores.parquet")["loss"].tolist()


def saved(runs: Path) -> dict[str, torch.Tensor]:
    """Weights and multipliers of a run's last checkpoint."""
    path, _ = latest_checkpoint(runs / RUNG / "checkpoints") or pytest.fail("none")
    files = (*path.glob("*.safetensors"), *(path / "multipliers").glob("*.safetensors"))
    return {name: tensor for file in files for name, tensor in load_file(file).items()}


def assert_alike(one: Path, other: Path) -> None:
    """The same run but for rounding."""
    assert losses(one) == pytest.approx(losses(other), abs=1e-4)
    assert saved(one).keys() == saved(other).keys()
    for name, tensor in saved(one).items():
        torch.testing.assert_close(tensor, saved(other)[name], rtol=0.01, atol=1e-3, msg=name)


def prepared(config: Path, runs: Path, sets: Sequence[str] = ()) -> Path:
    """A runs folder in which training can begin."""
    RunsFolder(runs).prepare(load_config(str(config), (*CALM, *sets)))
    return runs


@pytest.fixture(scope="module")
def alone(tiny_config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tiny_config, prepared(tiny_config, tmp_path_factory.mktemp("alone") / "runs"))


@pytest.fixture(scope="module")
def pair(tiny_config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of all that two ranks of torchrun trained, and of half a run that one did."""
    folder = tmp_path_factory.mktemp("pair")
    for half, sets in (("half-1", FSDP), ("multiplied-half-1", (*FSDP, *MULTIPLIED))):
        stopped = train(tiny_config, prepared(tiny_config, folder / half, sets), sets, STOP)
        shutil.copytree(stopped, folder / f"{half}-then-2")
    # Back to a step that is scored, before its scores were written.
    half = folder / "half-1-then-2" / RUNG
    shutil.rmtree(half / "checkpoints" / "step-40")
    assert latest_checkpoint(half / "checkpoints") == (half / "checkpoints" / "step-34", 34)
    (half / "scores.parquet").unlink()
    for name in PAIR:
        if not (folder / name).exists():
            prepared(config_of(name, tiny_config, folder), folder / name, PAIR[name][1])
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", __file__]
    done = subprocess.run(
        [*command, str(tiny_config), str(folder)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
def test_two_ranks_have_the_losses_of_one(alone: Path, pair: Path, kind: str) -> None:
    assert losses(pair / kind) == pytest.approx(losses(alone), abs=1e-4)
    assert held_out(pair / kind) == pytest.approx(held_out(alone), abs=1e-4)


@pytest.mark.parametrize(("first", "then"), [(2, 1), (1, 2)])
def test_a_checkpoint_goes_on_with_another_number_of_ranks(
    tiny_config: Path, alone: Path, pair: Path, first: int, then: int
) -> None:
    half, whole = pair / f"half-{first}", pair / f"half-{first}-then-{then}"
    assert 0 < max(losses(half)) <= STOP
    newest = latest_checkpoint(half / RUNG / "checkpoints")
    assert newest is not None
    assert newest[1] == 40
    if then == 1:
        shutil.copytree(half, whole)
        train(tiny_config, whole, FSDP)
    assert losses(whole) == pytest.approx(losses(alone), abs=1e-4)


def test_shares_that_are_scored_before_their_first_step_train_on(pair: Path, alone: Path) -> None:
    """What one process made of step 34 was lost, so that two ranks begin by scoring it."""
    assert losses(pair / "half-1-then-2") == pytest.approx(losses(alone), abs=1e-4)
    assert held_out(pair / "half-1-then-2") == pytest.approx(held_out(alone), abs=1e-4)


def test_micro_batches_and_chunks_of_the_loss_add_up(
    tiny_config: Path, alone: Path, pair: Path, tmp_path: Path
) -> None:
    runs = prepared(tiny_config, tmp_path / "runs")
    train(tiny_config, runs, ("execution.micro_batch=1",))
    assert losses(runs) == pytest.approx(losses(alone), abs=1e-4)
    assert losses(pair / "micro-2") == pytest.approx(losses(alone), abs=1e-4)


@pytest.mark.parametrize("architecture", list(STATE_SPACES))
def test_state_spaces_on_two_ranks_have_the_losses_of_one(
    tiny_config: Path, pair: Path, tmp_path: Path, architecture: str
) -> None:
    """With shares of 3-D convolutions, and with frozen norms."""
    config, two = config_of(architecture, tiny_config, pair), pair / f"{architecture}-2"
    one = train(config, prepared(config, tmp_path / "runs"), PAIR[two.name][1])
    assert losses(two) == pytest.approx(losses(one), abs=1e-4)
    assert held_out(two) == pytest.approx(held_out(one), abs=1e-4)


def test_muon_on_shares_of_its_matrices_is_muon(
    tiny_config: Path, pair: Path, tmp_path: Path
) -> None:
    """Its Newton-Schulz runs in bfloat16, so that rounding shows sooner than in AdamW."""
    runs = prepared(tiny_config, tmp_path / "runs")
    one, two = losses(train(tiny_config, runs, MUON)), losses(pair / "muon-2")
    assert two == pytest.approx(one, abs=2e-3)
    assert one[max(one)] < one[min(one)] - 0.05


@pytest.fixture(scope="module")
def multiplied(tiny_config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs = prepared(tiny_config, tmp_path_factory.mktemp("multiplied") / "runs", MULTIPLIED)
    return train(tiny_config, runs, MULTIPLIED)


def test_replicated_multipliers_are_those_of_one_process(pair: Path, multiplied: Path) -> None:
    assert_alike(pair / "multiplied-ddp", multiplied)


@pytest.mark.parametrize(("first", "then"), [(2, 1), (1, 2)])
def test_sharded_multipliers_are_and_go_on_with_another_number_of_ranks(
    tiny_config: Path, pair: Path, multiplied: Path, first: int, then: int
) -> None:
    half = pair / f"multiplied-half-{first}"
    whole = pair / f"{half.name}-then-{then}"
    if then == 1:
        shutil.copytree(half, whole)
        train(tiny_config, whole, (*FSDP, *MULTIPLIED))
    assert_alike(whole, multiplied)


if __name__ == "__main__":
    train_pair(Path(sys.argv[1]), Path(sys.argv[2]))
