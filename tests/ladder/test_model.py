"""Counts equal those of the built model and of the published ladder."""

from __future__ import annotations

import pytest
import torch

from ladder.config import load_config
from ladder.model import build_model
from ladder.settings import Model
from ladder.shapes import Shape, count_params, embedding_params, flops_per_token

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


@pytest.mark.parametrize(
    ("architecture", "keys"),
    [
        *((name, None) for name in ("olmo2", "llama", "qwen3", "gpt_neox")),
        *((name, 2) for name in ("olmo2", "llama", "qwen3")),
    ],
)
def test_every_architecture_is_counted_as_it_is_built(architecture: str, keys: int | None) -> None:
    shape = Shape(layers=2, width=16, heads=4, hidden=20, kv_heads=keys)
    config = Model(architecture=architecture, sequence_length=8, sizes={"x": shape})
    model = build_model(config, shape, 50, seed=0)
    whole = sum(weight.numel() for weight in model.parameters())
    assert whole - embedding_params(shape, 50) == count_params(shape, 50, architecture)
    assert model(input_ids=torch.tensor([[1, 2, 3]])).logits.shape == (1, 3, 50)


def test_gpt_neox_has_no_grouped_queries() -> None:
    shape = Shape(layers=2, width=16, heads=4, hidden=20, kv_heads=2)
    with pytest.raises(ValueError, match="drop kv_heads of x"):
        Model(architecture="gpt_neox", sequence_length=8, sizes={"x": shape})


def test_a_normal_start_is_cut_at_three_deviations() -> None:
    shape = Shape(layers=2, width=64, heads=4, hidden=160)
    config = Model(sequence_length=8, sizes={"x": shape}, init="normal", init_std=0.02)
    for name, weight in build_model(config, shape, 500, seed=0).named_parameters():
        if weight.ndim == 2:
            assert weight.abs().max() <= 0.06, name
            assert weight.std().item() == pytest.approx(0.0197, rel=0.05), name


def test_initial_weights_are_a_function_of_the_seed_and_of_the_stated_scale() -> None:
    config = load_config("quickstart").model
    shape = config.sizes["29K"]
    torch.manual_seed(1)
    one = build_model(config, shape, 256, seed=5).state_dict()
    torch.manual_seed(2)
    same = build_model(config, shape, 256, seed=5).state_dict()
    other = build_model(config, shape, 256, seed=6).state_dict()
    assert all(torch.equal(one[k], same[k]) for k in one)
    assert not torch.equal(one["lm_head.weight"], other["lm_head.weight"])
    assert one["model.embed_tokens.weight"].std().item() == pytest.approx(1, rel=0.05)
    head = 0.3 / shape.width**0.5
    assert one["lm_head.weight"].std().item() == pytest.approx(head, rel=0.05)
