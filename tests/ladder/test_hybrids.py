"""Rungs with a state-space mixer are planned, trained, saved, resumed and scored as any other."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file
from tiny_model import naive

from evaluation.encoding import Branch
from evaluation.models import check_kernels, load_model
from evaluation.scoring import is_packable, log_likelihoods
from ladder import train as training
from ladder.checkpoint import latest_checkpoint
from ladder.config import load_config
from ladder.model import build_model
from ladder.plan import make_plan
from ladder.runs import RunsFolder
from ladder.settings import Model
from ladder.shapes import Shape

ATTENTION = {"heads": 2, "kv_heads": 1, "hidden": 12}
SIZES = {
    "mamba2": {"ssm": {"state": 8, "groups": 2, "chunk": 8}},
    "falcon_h1": {**ATTENTION, "ssm": {"heads": 3, "head_width": 4, "state": 8}},
}
RUNG = "c-1xC"


def config_of(tiny_config: Path, folder: Path, architecture: str, **recipe: object) -> Path:
    """The tiny experiment with one rung of that architecture."""
    document = yaml.safe_load(tiny_config.read_text())
    size = {"layers": 2, "width": 8, **SIZES[architecture]}
    document["model"] = {"architecture": architecture, "sequence_length": 16, "sizes": {"c": size}}
    document["ladder"] = {"sizes": ["c"], "multiples": [1], "tokens_per_param": 3}
    document["recipe"] |= recipe
    document["targets"], document["evaluation"] = [], {"at": [1]}
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{architecture}.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


def tensors(checkpoint: Path) -> dict[str, torch.Tensor]:
    """All tensors of a checkpoint, those of the optimizer among them."""
    files = checkpoint.rglob("*.safetensors")
    return {name: tensor for file in files for name, tensor in load_file(file).items()}


@pytest.mark.parametrize("architecture", SIZES)
def test_planning_loads_no_torch(tiny_config: Path, tmp_path: Path, architecture: str) -> None:
    path = config_of(tiny_config, tmp_path, architecture)
    code = (
        f"from ladder.cli import main; assert main(['plan', {str(path)!r}]) == 0; import sys; "
        "assert not {'torch', 'transformers'} & sys.modules.keys()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert RUNG in done.stdout


@pytest.mark.parametrize(
    ("architecture", "recipe"),
    [
        ("mamba2", {}),
        ("falcon_h1", {}),
        ("falcon_h1", {"optimizer": "muon", "train_norms": False, "z_loss": 1e-4}),
    ],
)
def test_a_run_that_died_ends_as_one_that_did_not_and_loads_anywhere(
    tiny_config: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    architecture: str,
    recipe: dict[str, object],
) -> None:
    from transformers import AutoModelForCausalLM

    path = config_of(tiny_config, tmp_path, architecture, **recipe)
    config = load_config(str(path), ("checkpoints.every=10",))
    rung = make_plan(config).run(RUNG)
    whole, broken = RunsFolder(tmp_path / "whole"), RunsFolder(tmp_path / "broken")
    real, trained, died = training.optimizer_step, [], []

    def seen(loss_model: torch.nn.Module, *arguments: object) -> object:
        trained.append(loss_model)
        return real(loss_model, *arguments)

    def dying(*arguments: object) -> object:
        died.append(1)
        if len(died) > rung.steps // 2:
            raise RuntimeError("node lost")
        return real(*arguments)

    whole.prepare(config)
    monkeypatch.setattr(training, "optimizer_step", seen)
    training.train_rung(config, rung, whole)
    broken.prepare(config)
    monkeypatch.setattr(training, "optimizer_step", dying)
    with pytest.raises(RuntimeError, match="node lost"):
        training.train_rung(config, rung, broken)
    monkeypatch.setattr(training, "optimizer_step", real)
    training.train_rung(config, rung, broken)
    assert whole.rung(RUNG).scores.read_bytes() == broken.rung(RUNG).scores.read_bytes()
    path, other_path = (
        latest_checkpoint(runs.rung(RUNG).checkpoints)[0] for runs in (whole, broken)
    )
    one, other = tensors(path), tensors(other_path)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[key], other[key]) for key in one)
    gains = [one[key] for key in one if key.endswith(("norm.weight", "norm_f.weight"))]
    assert len(gains) >= 5
    assert all((gain == 1).all() for gain in gains) is (recipe.get("train_norms") is False)

    rows = torch.arange(32).view(2, 16) % 32
    with torch.inference_mode():
        expected = trained[-1].model.eval()(input_ids=rows).logits
        for model in (AutoModelForCausalLM.from_pretrained(path), load_model(str(path)).model):
            assert model.config.model_type == architecture
            assert torch.equal(model.eval()(input_ids=rows).logits, expected)


@pytest.mark.parametrize("architecture", SIZES)
def test_scores_are_those_of_one_sequence_at_a_time(architecture: str) -> None:
    """Rows of a pass differ in length, and end within a chunk, on its edge and beyond it."""
    shape = Shape(layers=2, width=16, **SIZES[architecture])
    config = Model(architecture=architecture, sequence_length=64, sizes={"x": shape}, head_scale=4)
    model = build_model(config, shape, 50, seed=0).eval()
    rng, place = np.random.default_rng(0), iter(range(1000))

    def tokens(length: int) -> tuple[int, ...]:
        return tuple(int(t) for t in rng.integers(0, 50, length))

    shared = tokens(20)
    branches = [
        Branch((*shared, *tokens(more)), tuple((next(place), tokens(n)) for n in (1, 2, 5, 9)))
        for more in (1, 3, 4, 8, 11, 12, 17)
    ]
    assert not is_packable(model)
    expected = [naive(model, b.context, choice) for b in branches for _, choice in b.choices]
    assert np.std(expected) > 1
    assert log_likelihoods(model, branches) == pytest.approx(expected, abs=1e-4)


def test_on_a_cpu_nothing_is_said_of_faster_kernels(caplog: pytest.LogCaptureFixture) -> None:
    from transformers.integrations import hub_kernels

    shape = Shape(layers=1, width=16, ssm={})
    config = Model(architecture="mamba2", sequence_length=8, sizes={"x": shape})
    model = build_model(config, shape, 50, seed=0)

    def said() -> str:
        caplog.clear()
        type(hub_kernels.logger).warning_once.cache_clear()
        model(input_ids=torch.tensor([[1, 2]]))
        return caplog.text

    filters = hub_kernels.logger.filters[:]
    hub_kernels.logger.addHandler(caplog.handler)
    try:
        hub_kernels.logger.filters.clear()
        assert "falling back to its reference" in said()
        check_kernels(model, "execution.device")
        assert said() == ""
    finally:
        hub_kernels.logger.removeHandler(caplog.handler)
        hub_kernels.logger.filters[:] = filters
