"""How the arithmetic is done changes no loss: attention, recomputation, compilation, bf16."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

from evaluation.files import InputError
from evaluation.models import LoadedModel
from evaluation.tasks import read_task
from ladder import train as training
from ladder.config import load_config
from ladder.corpora import open_corpus
from ladder.model import build_model, scoring_attention
from ladder.optim import build_optimizers
from ladder.parallel import Parallel, blocks
from ladder.plan import make_plan
from ladder.runs import RunsFolder
from ladder.score import score_rung
from ladder.settings import Execution, Model, Recipe
from ladder.shapes import Architecture, Shape
from ladder.step import LossModel, optimizer_step

SHAPE = Shape(layers=2, width=16, heads=2, hidden=24)
ALONE = Parallel(0, 1, "none", torch.device("cpu"))
TOKENS = torch.randint(0, 50, (20, 4, 9), generator=torch.Generator().manual_seed(3)) // 7
"""Steps of rows with little to learn, so that the loss falls."""


STATE_SPACES = {
    "mamba2": Shape(layers=2, width=16, ssm={"state": 8, "groups": 2}),
    "falcon_h1": Shape(layers=2, width=16, heads=2, hidden=24, ssm={"heads": 3, "state": 8}),
}


def built(
    shape: Shape = SHAPE, attention: str = "sdpa", architecture: Architecture = "olmo2"
) -> Any:
    own = Model(architecture=architecture, sequence_length=8, sizes={"x": shape})
    return build_model(own, shape, 50, 0, attention)


def losses(
    steps: int = 10,
    shape: Shape = SHAPE,
    watch: Callable[..., None] = lambda *_: None,
    architecture: Architecture = "olmo2",
    **settings: Any,
) -> list[float]:
    """Losses of a tiny model's first steps; `watch` is called where its first block computes."""
    execution = Execution(device="cpu", **settings)
    model = built(shape, execution.attention, architecture)
    next(blocks(model)[0].children()).register_forward_pre_hook(watch)
    if execution.activation_checkpointing:
        model.gradient_checkpointing_enable()
    if execution.compile:
        for block in blocks(model):
            block.compile()
    optimizers = build_optimizers(model, Recipe())
    optimizers.set_learning_rate(0.01)
    loss_model = LossModel(model, 0.0)
    return [
        optimizer_step(loss_model, optimizers, rows, Recipe(), execution, ALONE, 4).loss
        for rows in TOKENS[:steps]
    ]


@pytest.fixture(scope="module")
def plain() -> list[float]:
    return losses(20)


def test_recomputed_activations_leave_the_losses_as_they_are(plain: list[float]) -> None:
    calls: list[int] = []
    found = losses(watch=lambda *_: calls.append(1), activation_checkpointing=True)
    assert found == pytest.approx(plain[:10], abs=1e-6)
    assert len(calls) == 20


@pytest.mark.parametrize("architecture", STATE_SPACES)
def test_a_state_space_is_recomputed_split_and_halved_as_a_transformer_is(
    architecture: Architecture,
) -> None:
    calls: list[int] = []

    def found(steps: int = 10, **settings: Any) -> list[float]:
        return losses(steps, STATE_SPACES[architecture], architecture=architecture, **settings)

    whole = found(20)
    again = found(watch=lambda *_: calls.append(1), activation_checkpointing=True)
    assert again == pytest.approx(whole[:10], abs=1e-6)
    assert len(calls) == 20
    assert found(micro_batch=1) == pytest.approx(whole[:10], abs=1e-5)
    half = found(20, precision="bf16")
    assert half != whole
    assert half == pytest.approx(whole, rel=0.02)
    assert half[-1] < half[0] - 0.5


@pytest.mark.parametrize("architecture", STATE_SPACES)
def test_the_block_of_a_state_space_is_one_graph(architecture: Architecture) -> None:
    """What torch.compile captures, run without compiling it, which takes a minute."""
    model = built(STATE_SPACES[architecture], architecture=architecture)
    rows = TOKENS[0]
    expected = model(input_ids=rows, labels=rows).loss
    for block in blocks(model):
        block.compile(backend="eager", fullgraph=True)
    found = model(input_ids=rows, labels=rows).loss
    found.backward()
    assert found.item() == pytest.approx(expected.item(), abs=1e-5)
    assert all(weight.grad is not None for weight in model.parameters())


def test_eager_attention_is_sdpa(plain: list[float]) -> None:
    assert built(attention="eager").config._attn_implementation == "eager"
    assert losses(attention="eager") == pytest.approx(plain[:10], abs=1e-5)


def test_bf16_learns_as_fp32_does(plain: list[float]) -> None:
    half = losses(20, precision="bf16")
    assert half != plain
    assert half == pytest.approx(plain, rel=0.02)
    assert half[-1] < half[0] - 0.5


COMPILED = """
import json, sys
sys.path.insert(0, sys.argv[1])
import torch
from test_execution import Shape, losses
shape = Shape(layers=1, width=8, heads=1, hidden=8)
found = [losses(10, shape, compile=True), losses(10, shape)]
print(json.dumps([*found, torch._dynamo.utils.counters["stats"]["unique_graphs"]]))
"""


@pytest.mark.slow
def test_compiled_blocks_leave_the_losses_as_they_are() -> None:
    """In a process of its own: the compiler wants setuptools before anything loads distutils."""
    here = str(Path(__file__).parent)
    command = [sys.executable, "-c", COMPILED, here]
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stderr[-2000:]
    compiled, plain, graphs = json.loads(said.stdout.splitlines()[-1])
    assert compiled == pytest.approx(plain, abs=1e-4)
    assert graphs == 1


@pytest.mark.skipif(find_spec("flash_attn") is not None, reason="flash-attn is installed")
def test_flash_attention_without_its_package_is_refused_in_one_line() -> None:
    with pytest.raises(InputError, match=r"attention flash_attention_2: .* take sdpa") as told:
        built(attention="flash_attention_2")
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ("{attention: flash_attention_2}", "needs precision bf16"),
        ("{attention: flash_attention_2, precision: bf16, device: cpu}", "needs a GPU"),
        ("{attention: magic}", "attention: "),
    ],
)
def test_attention_that_cannot_be_is_refused(tiny_config: Path, settings: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        load_config(str(tiny_config), (f"execution={settings}",))


def test_a_rung_with_flash_attention_is_scored_by_sdpa(
    tiny_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An attention that takes no fp32, as flash attention does, and fails where it is called."""
    from transformers import AttentionInterface

    def only_half(module: Any, query: torch.Tensor, *_: Any, **__: Any) -> Any:
        raise RuntimeError(f"takes no {query.dtype}")

    AttentionInterface.register("only_half", only_half)
    config = load_config(str(tiny_config))
    runs, rung = RunsFolder(tmp_path / "runs"), make_plan(config).run("b-2xC")
    runs.prepare(config)
    corpus = open_corpus(config.corpus, runs.corpus)
    model = build_model(config.model, rung.shape, corpus.vocabulary, 0).eval()
    loaded = LoadedModel(model, corpus.tokenizer())
    tasks = [loaded.encode(read_task(path)) for path in runs.task_files]

    def scored() -> list[dict[str, Any]]:
        base = rung.observed(1)
        return score_rung(base, corpus, rung.sequence_length, model, tasks, None)

    expected = scored()
    model.set_attn_implementation("only_half")
    with pytest.raises(RuntimeError, match=r"takes no torch\.float32"):
        model(input_ids=torch.tensor([[1, 2]]))
    assert scored() == expected
    assert model.config._attn_implementation == "only_half"


def test_eager_attention_scores_as_it_is() -> None:
    model = built(attention="eager")
    with scoring_attention(model):
        assert model.config._attn_implementation == "eager"


@pytest.mark.parametrize(
    ("setting", "holds"),
    [
        ("activation_checkpointing=true", lambda model: blocks(model)[0].gradient_checkpointing),
        ("compile=true", lambda model: blocks(model)[0]._compiled_call_impl is not None),
        ("attention=eager", lambda model: model.config._attn_implementation == "eager"),
    ],
    ids=["checkpointing", "compile", "attention"],
)
def test_training_does_as_the_settings_say(
    tiny_config: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    setting: str,
    holds: Callable[[Any], bool],
) -> None:
    found = []

    def stop(loss_model: LossModel, *_: Any) -> None:
        found.append(holds(loss_model.model))
        raise RuntimeError("seen")

    monkeypatch.setattr(training, "optimizer_step", stop)
    for sets in ((), (f"execution.{setting}",)):
        config = load_config(str(tiny_config), sets)
        runs = RunsFolder(tmp_path / str(len(sets)))
        runs.prepare(config)
        with pytest.raises(RuntimeError, match="seen"):
            training.train_rung(config, make_plan(config).run("a-1xC"), runs)
    assert found == [False, True]
