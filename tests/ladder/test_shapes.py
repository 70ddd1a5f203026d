"""Counts by hand and of published models; a shape that does not fit is refused in one line."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from evaluation.files import InputError
from ladder.config import load_config
from ladder.settings import Model
from ladder.shapes import (
    Shape,
    StateSpace,
    count_params,
    embedding_params,
    flops_per_token,
    misfit,
    mixing_flops,
    model_flops_per_token,
)

FALCON_H1 = Shape(
    layers=36,
    width=1024,
    heads=8,
    kv_heads=2,
    head_width=64,
    hidden=2048,
    ssm={"heads": 24, "head_width": 64, "state": 128},
)
"""Falcon-H1-0.5B (tiiuae), of 32,784 tokens."""


def test_published_sizes_are_what_their_authors_say() -> None:
    """Falcon-H1-0.5B has 0.52B; mamba2-130m, whose head is its embedding, 129M."""
    params = count_params(FALCON_H1, 32_784, "falcon_h1")
    assert params + embedding_params(FALCON_H1, 32_784) == 521_411_104
    shape = Shape(layers=24, width=768, ssm={})
    assert (shape.mixer.heads, shape.mixer.head_width, shape.mixer.state) == (24, 64, 128)
    assert count_params(shape, 50_288, "mamba2") == 128_989_632


def test_a_scan_costs_by_its_state_as_attention_does_by_its_sequence() -> None:
    """A token: L = 36 layers x (12 x 512 x S + 12 x 1536 x 128)."""
    for length in (128, 4096):
        by_hand = 36 * (12 * 512 * length + 12 * 1536 * 128)
        assert mixing_flops(FALCON_H1, length) == by_hand
    params = count_params(FALCON_H1, 32_784, "falcon_h1")
    whole = 6 * params + 4 * 32_784 * 1024 + by_hand
    assert flops_per_token(FALCON_H1, 32_784, 4096, "falcon_h1") == whole
    assert model_flops_per_token(params, FALCON_H1, 4096) == 6 * params + by_hand


def test_the_scans_flops_are_those_of_its_recurrence_counted_by_pytorch() -> None:
    """Forward and backward of h <- a h + (dt x) B^T, y = h C, written as matrix products."""
    torch = pytest.importorskip("torch")
    from torch.utils.flop_counter import FlopCounterMode

    shape = Shape(layers=1, width=8, ssm={"heads": 2, "head_width": 8, "state": 4})
    tokens, counter = 5, FlopCounterMode(display=False)
    x, b, c = (torch.randn(tokens, 2, n, 1, requires_grad=True) for n in (8, 4, 4))
    with counter:
        state, read = torch.zeros(2, 8, 4), []
        for token in range(tokens):
            state = 0.9 * state + x[token] @ b[token].mT
            read.append(state @ c[token])
        torch.stack(read).sum().backward()
    assert counter.get_total_flops() == tokens * mixing_flops(shape, tokens)


def test_mamba2_costs_the_same_whatever_the_sequence() -> None:
    shape = Shape(layers=2, width=16, ssm={})
    costs = {flops_per_token(shape, 50, length, "mamba2") for length in (8, 8192)}
    assert len(costs) == 1


@pytest.mark.parametrize("width", [2, 9, 16, 40, 128, 768, 4096])
def test_a_mixer_is_twice_the_width_by_default(width: int) -> None:
    mixer = StateSpace().sized(width)
    assert mixer.inner == 2 * width
    assert mixer.heads >= 4
    assert mixer.state == min(width, 128)
    if width >= 128:
        assert mixer.head_width == 64


ATTENTION = {"heads": 2, "hidden": 24}


@pytest.mark.parametrize(
    ("architecture", "size", "said"),
    [
        ("olmo2", {}, "size x: olmo2 needs heads and hidden"),
        ("llama", {"heads": 2}, "size x: llama needs hidden"),
        ("qwen3", {**ATTENTION, "ssm": {}}, "qwen3 has no state-space mixer; drop ssm"),
        ("falcon_h1", {"ssm": {}}, "falcon_h1 needs heads and hidden"),
        ("falcon_h1", ATTENTION, r"falcon_h1 needs ssm, such as ssm: \{state: 64\}"),
        ("mamba2", {}, "mamba2 needs ssm"),
        ("mamba2", {**ATTENTION, "ssm": {}}, "neither .* drop heads and hidden"),
        ("mamba2", {"ssm": {"heads": 3, "head_width": 8}}, "24, must be a multiple of width 16"),
        ("gpt_neox", {**ATTENTION, "kv_heads": 1}, "drop kv_heads"),
        ("gpt_neox", {**ATTENTION, "head_width": 4}, "drop head_width"),
        ("mamba2", {"ssm": {}, "kv_heads": 2}, "kv_heads and head_width need heads"),
        ("mamba2", {"ssm": {"groups": 3}}, "heads 4 must be a multiple of groups 3"),
        ("mamba2", {"ssm": {"chunk": 48}}, "chunk 48 must be a power of two"),
        ("mamba2", {"ssm": {"head_width": 5}}, "head_width 5 does not divide twice the width"),
        ("llama", {**ATTENTION, "head_width": 3}, "multiple of 2"),
    ],
)
def test_a_shape_that_is_none_of_the_architectures_is_refused(
    architecture: str, size: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValidationError, match=said):
        Model(
            architecture=architecture,
            sequence_length=8,
            sizes={"x": {"layers": 1, "width": 16, **size}},
        )


def test_what_does_not_fit_is_one_line_of_the_config() -> None:
    sets = ("model.architecture=mamba2",)
    with pytest.raises(InputError) as told:
        load_config("quickstart", sets)
    assert str(told.value).endswith(
        "quickstart.yaml: model: size 3K: mamba2 has neither attention nor feed-forward; drop "
        "heads and hidden"
    )


def test_the_published_sizes_are_no_mamba2() -> None:
    with pytest.raises(InputError, match="size 190M of the published ladder: mamba2 has neither"):
        load_config("olmo2", ("model.architecture=mamba2",))
    assert misfit(Shape(layers=1, width=8, ssm={}), "mamba2") is None


@pytest.mark.parametrize(
    ("architecture", "qk_norm", "built"),
    [
        ("olmo2", None, "olmo2"),
        ("olmo2", True, "olmo2"),
        ("llama", None, "llama"),
        ("llama", False, "llama"),
        ("llama", True, "qwen3"),
        ("qwen3", True, "qwen3"),
        ("qwen3", False, "llama"),
        ("gpt_neox", False, "gpt_neox"),
        ("mamba2", False, "mamba2"),
        ("falcon_h1", None, "falcon_h1"),
    ],
)
def test_norms_of_queries_and_keys_lead_from_one_plain_architecture_to_another(
    architecture: str, qk_norm: bool | None, built: str
) -> None:
    model = Model(architecture=architecture, qk_norm=qk_norm, sequence_length=8)
    assert model.built_as == built


@pytest.mark.parametrize(
    ("architecture", "qk_norm"),
    [("olmo2", False), ("gpt_neox", True), ("mamba2", True), ("falcon_h1", True)],
)
def test_norms_that_no_plain_architecture_has_are_refused(architecture: str, qk_norm: bool) -> None:
    with pytest.raises(ValidationError, match="no plain Hugging Face architecture is"):
        Model(architecture=architecture, qk_norm=qk_norm, sequence_length=8)
