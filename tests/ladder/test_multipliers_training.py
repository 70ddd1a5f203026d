"""A rung with multipliers: the same on any ranks, compiled or resumed; saved, a plain model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from test_multipliers import product
from test_parallel import MULTIPLIED, RUNG, STOP, prepared, saved, train
from transformers import AutoModelForCausalLM

from ladder.checkpoint import latest_checkpoint


@pytest.fixture(scope="module")
def alone(tiny_config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs = prepared(tiny_config, tmp_path_factory.mktemp("alone") / "runs", MULTIPLIED)
    return train(tiny_config, runs, MULTIPLIED)


def test_the_multipliers_have_moved(alone: Path) -> None:
    found = {k: v for k, v in saved(alone).items() if k.rpartition(".")[2] in ("row", "column")}
    assert len(found) == 2 * (7 + 1)
    assert all(one.std() > 0.01 for one in found.values())


def test_a_run_that_was_stopped_goes_on_bit_for_bit(
    tiny_config: Path, alone: Path, tmp_path: Path
) -> None:
    runs = prepared(tiny_config, tmp_path / "runs", MULTIPLIED)
    train(tiny_config, runs, MULTIPLIED, STOP)
    train(tiny_config, runs, MULTIPLIED)
    whole, gone_on = ((r / RUNG / "checkpoints") for r in (alone, runs))
    files = sorted(path.relative_to(whole) for path in whole.rglob("*.safetensors"))
    assert {path.parent.name for path in files[:3]} >= {"multipliers", "optimizer"}
    for path in files:
        one, other = load_file(whole / path), load_file(gone_on / path)
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in one), path


def test_what_is_exported_is_a_plain_model_with_the_multipliers_in_its_weights(alone: Path) -> None:
    path, _ = latest_checkpoint(alone / RUNG / "checkpoints") or pytest.fail("none")
    model = AutoModelForCausalLM.from_pretrained(path)
    tokens = torch.arange(16)[None] % 32
    logits = model(input_ids=tokens).logits
    (file,) = (path / "optimizer").glob("*.safetensors")
    latents = {k.removeprefix("latent."): v for k, v in load_file(file).items() if "latent." in k}
    (file,) = (path / "multipliers").glob("*.safetensors")
    multipliers = load_file(file)
    assert len(latents) == 8
    with torch.no_grad():
        for name, latent in latents.items():
            module = name.removesuffix(".weight")
            sides = {side: multipliers[f"{module}.{side}"] for side in ("row", "column")}
            weight = model.get_parameter(name)
            assert not torch.allclose(weight, latent, atol=0.01)
            weight.copy_(product(latent, sides, None))
    torch.testing.assert_close(model(input_ids=tokens).logits, logits, rtol=0, atol=1e-5)


SHARED_OUT = """
import json, sys
sys.path.insert(0, sys.argv[1])
import torch
from torch import distributed
from test_multipliers import *
from ladder.parallel import joined

CASES = [
    (lambda: built("llama", GROUPED), {"kind": "both"}, "adamw"),
    (lambda: built("llama", GROUPED), {"kind": "both", "placement": "non_redundant"}, "muon"),
    (lambda: built("gpt_neox"), {"kind": "scalar", "placement": "non_redundant"}, "adamw"),
    (mamba, {"kind": "both", "placement": "non_redundant"}, "adamw"),
]

def trained(model, recipe, execution, parallel):
    parallel.shard(model, execution)
    optimizers = build_optimizers(model, recipe)
    optimizers.set_learning_rate(0.01)
    loss_model = parallel.replicate(LossModel(model, 0.0))
    rows = parallel.rows(4)
    norms = []
    for batch in TOKENS[:4]:
        own = batch[rows]
        done = optimizer_step(loss_model, optimizers, own, recipe, execution, parallel, 4)
        norms.append(done.gradient_norm)
    named = dict(model.named_parameters()) | dict(optimizers.names.named_parameters(prefix="own"))
    whole = {n: w.full_tensor() if hasattr(w, "full_tensor") else w for n, w in named.items()}
    return norms, whole, optimizers.multiplied.multipliers

# Ranks meet once, for both kinds.
join, part = distributed.init_process_group, distributed.destroy_process_group
distributed.init_process_group = lambda kind, **_: distributed.is_initialized() or join(kind)
distributed.destroy_process_group = lambda: None
torch.set_num_threads(1)

def compare(kind, parallel):
    execution = Execution(device="cpu", parallel=kind)
    for make, settings, optimizer in CASES:
        recipe = Recipe(multipliers=Multipliers(**settings), optimizer=optimizer, gradient_clip=0.5)
        torch.manual_seed(0)
        model = make().double()
        torch.manual_seed(0)
        plain = make().double()
        norms, found, multipliers = trained(model, recipe, execution, parallel)
        expected_norms, expected, _ = trained(plain, recipe, Execution(device="cpu"), ALONE)
        assert multipliers and found.keys() == expected.keys()
        # Muon's own matrices are made orthogonal in bfloat16.
        exact = {"rtol": 1e-6, "atol": 1e-6}
        near = {"rtol": 0.02, "atol": 5e-3} if optimizer == "muon" else exact
        assert all(abs(a / b - 1) < near["rtol"] for a, b in zip(norms, expected_norms))
        for name, weight in found.items():
            torch.testing.assert_close(weight, expected[name], **near, msg=name)
        if optimizer == "adamw":
            assert max((one.detach() - 1).abs().max().item() for one in multipliers.values()) > 0.01
        print(f"alike-{kind}", flush=True)  # In one write: ranks speak at once.

for kind in ("ddp", "fsdp"):
    with joined(Execution(device="cpu", parallel=kind)) as parallel:
        compare(kind, parallel)
part()
"""


@pytest.fixture(scope="module")
def shared_out(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What three ranks say of every case, in one launch."""
    script = tmp_path_factory.mktemp("ranks") / "shared_out.py"
    script.write_text(SHARED_OUT)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=3", str(script)]
    said = subprocess.run(
        [*command, str(Path(__file__).parent)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert said.returncode == 0, said.stderr[-3000:]
    return said.stdout


@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
@pytest.mark.slow
def test_ranks_with_unlike_shares_of_rows_step_as_one_process(kind: str, shared_out: str) -> None:
    assert shared_out.count(f"alike-{kind}") == 3 * 4


COMPILED = """
import json, sys
sys.path.insert(0, sys.argv[1])
import torch
from test_multipliers import TOKENS, Multipliers, Recipe, Shape, built, steps
from ladder.parallel import blocks
found = []
for compiled in (True, False):
    model = built("olmo2", Shape(layers=1, width=8, heads=1, hidden=8))
    for block in blocks(model) if compiled else ():
        block.compile()
    optimizers, norms = steps(model, Recipe(multipliers=Multipliers(kind="both")), TOKENS[:8], 0.01)
    values = torch.cat([one.detach() for one in optimizers.multiplied.multipliers.values()])
    found.append((norms, values.tolist()))
print(json.dumps([*found, torch._dynamo.utils.counters["stats"]["unique_graphs"]]))
"""


@pytest.mark.slow
def test_compiled_blocks_train_as_they_are() -> None:
    """In a process of its own: the compiler wants setuptools before anything loads distutils."""
    command = [sys.executable, "-c", COMPILED, str(Path(__file__).parent)]
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stderr[-2000:]
    compiled, plain, graphs = json.loads(said.stdout.splitlines()[-1])
    for one, other in zip(compiled, plain, strict=True):
        assert one == pytest.approx(other, abs=1e-4)
    assert graphs >= 1
