"""Counts equal those of the built model and of the published ladder."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from evaluation.files import InputError
from ladder.config import load_config
from ladder.model import build_model, freeze_norms, hugging_face_config
from ladder.settings import Model
from ladder.shapes import Shape, count_params, embedding_params, flops_per_token
from ladder.step import LossModel

PUBLISHED = {
    "190M": (12, 768, 12, 3072, 190_354_176, 1_903_391_232),
    "370M": (16, 1024, 16, 4096, 371_262_464, 3_443_922_944),
    "600M": (16, 1344, 16, 5376, 597_382_464, 5_180_751_744),
    "760M": (16, 1536, 16, 6144, 758_220_288, 6_373_843_968),
    "1B": (16, 2048, 16, 8192, 1_279_395_840, 10_109_071_360),
    "3B": (16, 3328, 16, 13312, 3_169_537_280, 22_970_355_200),
    "7B": (32, 4096, 32, 11008, 6_887_575_552, 49_412_071_424),
    "13B": (40, 5120, 40, 13824, 13_202_396_160, 91_335_915_520),
}
"""Layers, width, heads, hidden, N and FLOPs per token (allenai/OLMo-ladder)."""


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_sizes_are_counted_exactly(name: str) -> None:
    layers, width, heads, hidden, params, flops = PUBLISHED[name]
    shape = Shape(layers=layers, width=width, heads=heads, hidden=hidden)
    assert count_params(shape, 100_352) == params
    assert flops_per_token(shape, 100_352, 4096) == flops


@pytest.mark.parametrize("layers", [1, 3])
def test_the_count_is_that_of_the_built_model(layers: int) -> None:
    shape = Shape(layers=layers, width=12, heads=3, hidden=20)
    model = build_model(Model(sequence_length=8, sizes={"x": shape}), shape, 50, seed=0)
    weights = dict(model.named_parameters())
    embedding = sum(w.numel() for name, w in weights.items() if "embed_tokens" in name)
    assert embedding == embedding_params(shape, 50)
    assert sum(w.numel() for w in weights.values()) - embedding == count_params(shape, 50)


ATTENTION = {"heads": 4, "hidden": 20}
GROUPED = {**ATTENTION, "kv_heads": 2}
WIDE = {**GROUPED, "head_width": 6}
SHAPES = [
    *((name, ATTENTION) for name in ("olmo2", "llama", "qwen3", "gpt_neox")),
    *((name, size) for name in ("olmo2", "llama", "qwen3") for size in (GROUPED, WIDE)),
    ("mamba2", {"ssm": {}}),
    ("mamba2", {"ssm": {"heads": 6, "head_width": 8, "state": 5, "groups": 3, "conv": 3}}),
    ("falcon_h1", {**ATTENTION, "ssm": {}}),
    ("falcon_h1", {**WIDE, "ssm": {"heads": 3, "head_width": 8, "state": 5, "groups": 3}}),
]
"""Shapes of every architecture: usual, grouped, and with widths of their own."""


def made(architecture: str, size: dict[str, Any], seed: int = 0, **more: Any) -> PreTrainedModel:
    shape = Shape(layers=2, width=16, **size)
    config = Model(architecture=architecture, sequence_length=8, sizes={"x": shape}, **more)
    return build_model(config, shape, 50, seed)


@pytest.mark.parametrize(("architecture", "size"), SHAPES)
def test_every_architecture_is_counted_as_it_is_built(
    architecture: str, size: dict[str, Any]
) -> None:
    model, shape = made(architecture, size), Shape(layers=2, width=16, **size)
    assert model.config.model_type == architecture
    whole = sum(weight.numel() for weight in model.parameters())
    assert whole - embedding_params(shape, 50) == count_params(shape, 50, architecture)
    assert model(input_ids=torch.tensor([[1, 2, 3]])).logits.shape == (1, 3, 50)


@pytest.mark.parametrize(
    ("architecture", "vocabulary", "shape"),
    [
        (
            "falcon_h1",
            32_784,
            {
                "layers": 36,
                "width": 1024,
                "heads": 8,
                "kv_heads": 2,
                "head_width": 64,
                "hidden": 2048,
                "ssm": {"heads": 24},
            },
        ),
        ("mamba2", 50_288, {"layers": 24, "width": 768, "ssm": {}}),
    ],
)
def test_published_hybrids_are_counted_as_transformers_builds_them(
    architecture: str, vocabulary: int, shape: dict[str, Any]
) -> None:
    own = Shape(**shape)
    config = hugging_face_config(
        Model(architecture=architecture, sequence_length=2048), own, vocabulary
    )
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    whole = sum(weight.numel() for weight in model.parameters())
    counted = count_params(own, vocabulary, architecture)
    assert whole - embedding_params(own, vocabulary) == counted


@pytest.mark.parametrize(("architecture", "size"), SHAPES)
def test_the_loss_is_the_models_own(architecture: str, size: dict[str, Any]) -> None:
    """Ours calls the body, then the head: a factor between them would be lost."""
    model = made(architecture, size)
    rows = torch.randint(0, 50, (3, 9), generator=torch.Generator().manual_seed(0))
    loss, nats = LossModel(model, z_loss=0.0)(rows)
    assert loss.item() == nats.item()
    assert loss.item() / 24 == pytest.approx(model(input_ids=rows, labels=rows).loss.item())


@pytest.mark.parametrize(("architecture", "size"), SHAPES)
def test_weights_follow_from_the_seed_alone(architecture: str, size: dict[str, Any]) -> None:
    found = []
    for seed, outside in ((5, 1), (5, 2), (6, 2)):
        torch.manual_seed(outside)
        found.append(made(architecture, size, seed).state_dict())
    one, same, other = found
    assert all(torch.equal(one[k], same[k]) for k in one)
    drawn = {k for k in one if not torch.equal(one[k], other[k])}
    constant = {k for k in one if k.endswith(("norm.weight", "norm_f.weight", "bias", "D"))}
    constant |= {k for k in one if "layernorm" in k}
    assert drawn == set(one) - constant | {k for k in one if k.endswith("dt_bias")}


@pytest.mark.parametrize("init", ["fan_in", "normal"])
@pytest.mark.parametrize(("architecture", "size"), SHAPES[-4:])
def test_a_state_space_starts_with_its_own_values(
    architecture: str, size: dict[str, Any], init: str
) -> None:
    size = {**size, "ssm": {"heads": 96, "head_width": 2, "conv": 4}}
    for name, weight in made(architecture, size, init=init).named_parameters():
        if name.endswith("A_log"):
            rate = weight.exp()
            assert 1 <= rate.min() < 2
            assert 15 < rate.max() <= 16
            assert rate.mean().item() == pytest.approx(8.5, abs=1.5)
        elif name.endswith("dt_bias"):
            dt = torch.nn.functional.softplus(weight)
            assert 0.001 <= dt.min() < 0.0015
            assert 0.07 < dt.max() <= 0.1
            assert dt.log().mean().exp().item() == pytest.approx(0.01, rel=0.5)
        elif name.endswith(".D"):
            assert (weight == 1).all()
        elif name.endswith("conv1d.bias"):
            assert (weight == 0).all()
        elif name.endswith("conv1d.weight"):
            assert weight.std().item() == pytest.approx(0.5, rel=0.1)
        elif name.endswith("in_proj.weight"):
            expected = 0.02 if init == "normal" else 0.25
            assert weight.std().item() == pytest.approx(expected, rel=0.05)


def test_falcon_h1_has_no_multipliers_of_its_own() -> None:
    config = made("falcon_h1", {**ATTENTION, "ssm": {}}).config.to_dict()
    given = {name: value for name, value in config.items() if "multiplier" in name}
    assert len(given) == 9
    assert all(value == 1 or set(value) == {1} for value in given.values())


@pytest.mark.parametrize("architecture", ["mamba2", "falcon_h1"])
def test_the_chunk_of_a_scan_changes_no_logits(architecture: str) -> None:
    rows = torch.arange(24).view(2, 12)
    found = []
    for chunk in (1, 4, 8, 128):
        size = {"ssm": {"chunk": chunk}, **(GROUPED if architecture == "falcon_h1" else {})}
        model = made(architecture, size)
        sizes = {getattr(model.config, n, None) for n in ("chunk_size", "mamba_chunk_size")}
        assert min(chunk, 8) in sizes
        found.append(model(input_ids=rows).logits)
    for logits in found[1:]:
        assert torch.allclose(logits, found[0], rtol=0, atol=1e-5)


def test_attention_that_mamba2_does_not_have_is_refused() -> None:
    shape = Shape(layers=1, width=8, ssm={})
    config = Model(architecture="mamba2", sequence_length=8, sizes={"x": shape})
    with pytest.raises(InputError, match="attention flash_attention_2: mamba2 has no attention"):
        build_model(config, shape, 50, 0, "flash_attention_2")


def test_llama_with_norms_of_queries_and_keys_is_qwen3_and_without_them_is_llama() -> None:
    one, other = made("llama", GROUPED, qk_norm=True), made("qwen3", GROUPED)
    assert one.config.to_dict() == other.config.to_dict()
    assert {n for n, _ in one.named_parameters() if "q_norm" in n}
    plain = made("qwen3", GROUPED, qk_norm=False)
    assert plain.config.to_dict() == made("llama", GROUPED).config.to_dict()
    assert not {n for n, _ in plain.named_parameters() if "q_norm" in n}


@pytest.mark.parametrize(("architecture", "size"), SHAPES)
def test_frozen_norms_are_all_vectors_of_ones(architecture: str, size: dict[str, Any]) -> None:
    model = made(architecture, size)
    freeze_norms(model)
    for name, weight in model.named_parameters():
        is_gain = weight.ndim == 1 and not name.endswith(("bias", "A_log", ".D"))
        assert weight.requires_grad is not is_gain, name
        assert not is_gain or (weight == 1).all()


def test_a_normal_start_is_cut_at_three_deviations() -> None:
    shape = Shape(layers=2, width=64, heads=4, hidden=160)
    config = Model(sequence_length=8, sizes={"x": shape}, init="normal", init_std=0.02)
    for name, weight in build_model(config, shape, 500, seed=0).named_parameters():
        if weight.ndim == 2:
            assert weight.abs().max() <= 0.06, name
            assert weight.std().item() == pytest.approx(0.0197, rel=0.05), name


def test_initial_weights_are_of_the_stated_scale() -> None:
    config = load_config("quickstart").model
    shape = config.sizes["29K"]
    one = build_model(config, shape, 256, seed=5).state_dict()
    assert one["model.embed_tokens.weight"].std().item() == pytest.approx(1, rel=0.05)
    head = 0.3 / shape.width**0.5
    assert one["lm_head.weight"].std().item() == pytest.approx(head, rel=0.05)
