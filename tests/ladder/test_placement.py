"""Which weights have multipliers of each kind and placement, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from test_multipliers import GROUPED, SMALL, built, falcon, mamba
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    GPT2Config,
    PhiConfig,
)

from evaluation.files import InputError
from ladder.optim import build_optimizers
from ladder.placement import placements
from ladder.settings import Multipliers, Recipe


def sides(model: Any, **settings: Any) -> dict[str, str]:
    """What the weights of the first block and outside of blocks have, by the layer's name."""
    found = placements(model, Multipliers(**{"kind": "both", **settings}))
    said = {}
    for name, one in found.items():
        letters = "s" * one.scalar + "r" * one.row + "c" * one.column
        reached = "" if one.rows is None else f" {int(one.rows.sum())}/{len(one.rows)}"
        if ".1." not in name:
            said[name.removesuffix(".weight").rpartition(".")[2]] = letters + reached
    return said


GATED = {"gate_proj": "r", "down_proj": "rc", "q_proj": "r", "o_proj": "rc"}


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (built, {**GATED, "embed_tokens": "rc"}),
        (lambda: built("llama", GROUPED), {**GATED, "embed_tokens": "rc"}),
        (lambda: built("qwen3", GROUPED), {**GATED, "embed_tokens": "rc"}),
        (
            lambda: built("gpt_neox"),
            {
                "query_key_value": "r 16/48",
                "dense": "rc",
                "dense_h_to_4h": "r",
                "dense_4h_to_h": "rc",
                "embed_in": "rc",
            },
        ),
        (mamba, {"in_proj": "r 36/76", "out_proj": "r", "embeddings": "rc"}),
        (
            lambda: falcon(mamba_rms_norm=True),
            {**GATED, "in_proj": "r 36/76", "out_proj": "r", "embed_tokens": "rc"},
        ),
        (
            lambda: falcon(mamba_rms_norm=False),
            {**GATED, "in_proj": "r 36/76", "out_proj": "rc", "embed_tokens": "rc"},
        ),
    ],
    ids=["olmo2", "llama", "qwen3", "gpt_neox", "mamba2", "falcon_h1", "falcon_h1-no-norm"],
)
def test_the_non_redundant_set_is_the_papers(
    make: Callable[[], Any], expected: dict[str, str]
) -> None:
    model = make()
    assert sides(model, placement="non_redundant") == expected
    everything = sides(model)
    assert set(everything.values()) == {"rc"}
    assert everything.keys() >= expected.keys()
    assert "lm_head" not in everything
    assert "conv1d" not in everything


def test_rows_without_a_multiplier_are_those_of_x_b_and_c() -> None:
    found = placements(mamba(), Multipliers(kind="both", placement="non_redundant"))
    (rows,) = (one.rows for name, one in found.items() if "layers.0.mixer.in_proj" in name)
    # Gate of 32, then x of 32, B and C of 4 each, and the steps of 4 heads.
    assert rows.tolist() == [True] * 32 + [False] * 40 + [True] * 4


def test_rows_with_a_multiplier_are_each_heads_queries() -> None:
    """A multiplier of 2 there doubles queries, and leaves keys and values."""
    model = built("gpt_neox")
    attention = model.gpt_neox.layers[0].attention
    found = placements(model, Multipliers(kind="both", placement="non_redundant"))
    rows = found["gpt_neox.layers.0.attention.query_key_value.weight"].rows
    hidden = torch.randn(1, 5, 16)
    plain = attention.query_key_value(hidden).view(1, 5, 4, 12).chunk(3, -1)
    with torch.no_grad():
        attention.query_key_value.weight[rows] *= 2
    query, key, value = attention.query_key_value(hidden).view(1, 5, 4, 12).chunk(3, -1)
    torch.testing.assert_close(query, 2 * plain[0])
    assert torch.equal(key, plain[1])
    assert torch.equal(value, plain[2])


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("row", {**dict.fromkeys(GATED, "r"), "embed_tokens": "r"}),
        ("column", {"down_proj": "c", "o_proj": "c", "embed_tokens": "c"}),
        ("scalar", {**dict.fromkeys(GATED, "s"), "embed_tokens": "s"}),
        ("none", {}),
    ],
)
def test_a_kind_takes_its_own_of_a_placement(kind: str, expected: dict[str, str]) -> None:
    assert sides(built(), placement="non_redundant", kind=kind) == expected


def test_the_embedding_may_go_without() -> None:
    assert "embed_tokens" not in sides(built(), embedding=False)


def said(model: Any, **settings: Any) -> str:
    recipe = Recipe(multipliers=Multipliers(**{"kind": "both", **settings}))
    with pytest.raises(InputError) as told:
        build_optimizers(model, recipe)
    assert "\n" not in str(told.value)
    return str(told.value)


def test_a_tied_embedding_is_refused() -> None:
    options = {**SMALL, "intermediate_size": 24, "num_attention_heads": 4}
    options["tie_word_embeddings"] = True
    tied = AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", **options))
    assert "multipliers on a tied embedding" in said(tied)
    assert "multipliers on a tied embedding" in said(tied, placement="non_redundant", kind="row")
    recipe = Recipe(multipliers=Multipliers(kind="both", embedding=False))
    optimizers = build_optimizers(tied, recipe)
    assert "model.embed_tokens.weight" not in optimizers.multiplied


def test_a_model_whose_matrices_are_not_known_is_refused() -> None:
    own = {"intermediate_size": 24, "num_attention_heads": 4}
    phi = AutoModelForCausalLM.from_config(PhiConfig(**{**SMALL, **own}))
    assert said(phi, placement="non_redundant").endswith(
        "of PhiForCausalLM has no place in non_redundant; take placement all"
    )
    recipe = Recipe(multipliers=Multipliers(kind="both"))
    assert len(build_optimizers(phi, recipe).multiplied) == 2 * 6 + 1
    gpt2 = GPT2Config(n_embd=16, n_layer=1, n_head=2, vocab_size=50, tie_word_embeddings=False)
    assert "c_attn.weight of GPT2LMHeadModel is no linear layer" in said(
        AutoModelForCausalLM.from_config(gpt2)
    )
