"""A packed tree gives what one sequence at a time gives, on every architecture."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny_model import naive
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    FalconH1Config,
    FalconH1ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoConfig,
    GPTNeoForCausalLM,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    Mamba2Config,
    Mamba2ForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    MptConfig,
    MptForCausalLM,
    Olmo2Config,
    Olmo2ForCausalLM,
    PreTrainedModel,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from evaluation.encoding import Branch
from evaluation.packed import PackedRows, common_prefix, packed_span
from evaluation.rows import groups, score_groups
from evaluation.scoring import _passes, is_packable, log_likelihoods

VOCABULARY = 97
SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 256,
}
PACKED = {
    "olmo2": lambda: Olmo2ForCausalLM(Olmo2Config(**SHAPE)),
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SHAPE, num_key_value_heads=2)),
    "neox": lambda: GPTNeoXForCausalLM(GPTNeoXConfig(**SHAPE)),
    "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**SHAPE, head_dim=8, num_key_value_heads=2)),
    "gpt2": lambda: GPT2LMHeadModel(
        GPT2Config(vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4, n_positions=256)
    ),
}
PADDED = {
    "sliding window": lambda: MistralForCausalLM(
        MistralConfig(**SHAPE, num_key_value_heads=2, sliding_window=16)
    ),
    "local attention": lambda: GPTNeoForCausalLM(
        GPTNeoConfig(
            vocab_size=VOCABULARY,
            hidden_size=32,
            num_layers=2,
            num_heads=4,
            attention_types=[[["global", "local"], 1]],
            window_size=8,
            max_position_embeddings=256,
        )
    ),
    "ALiBi in MPT": lambda: MptForCausalLM(
        MptConfig(vocab_size=VOCABULARY, d_model=32, n_layers=2, n_heads=4, max_seq_len=256)
    ),
    "long rope": lambda: LlamaForCausalLM(
        LlamaConfig(
            **{**SHAPE, "max_position_embeddings": 128},
            num_key_value_heads=2,
            rope_parameters={
                "rope_type": "longrope",
                "rope_theta": 10000.0,
                "factor": 8.0,
                "short_factor": [1.0] * 4,
                "long_factor": [4.0] * 4,
                "original_max_position_embeddings": 24,
            },
        )
    ),
    "ALiBi": lambda: BloomForCausalLM(
        BloomConfig(vocab_size=VOCABULARY, hidden_size=32, n_layer=2, n_head=4)
    ),
    "state space": lambda: Mamba2ForCausalLM(
        Mamba2Config(
            vocab_size=VOCABULARY,
            hidden_size=32,
            num_hidden_layers=2,
            num_heads=4,
            head_dim=16,
            state_size=8,
            n_groups=1,
            chunk_size=16,
        )
    ),
    "state space beside attention": lambda: FalconH1ForCausalLM(
        FalconH1Config(
            **SHAPE,
            num_key_value_heads=2,
            mamba_d_ssm=48,
            mamba_n_heads=3,
            mamba_d_state=8,
            mamba_chunk_size=16,
            pad_token_id=None,
        )
    ),
}


def made(name: str, scale: float = 4.0) -> PreTrainedModel:
    torch.manual_seed(0)
    model = {**PACKED, **PADDED}[name]().eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() == 2:
                weight.mul_(scale)  # far from uniform, so that a wrong mask shows
    return model


def branches(prefix: int, count: int, seed: int = 0) -> list[Branch]:
    rng = np.random.default_rng(seed)
    place = iter(range(10_000))

    def tokens(length: int) -> tuple[int, ...]:
        return tuple(int(t) for t in rng.integers(3, VOCABULARY, length))

    shared = tokens(prefix)
    return [
        Branch(
            (*shared, *tokens(int(rng.integers(1, 9)))),
            tuple(
                (next(place), tokens(int(rng.integers(1, 7))))
                for _ in range(int(rng.integers(1, 6)))
            ),
        )
        for _ in range(count)
    ]


def expected(model: PreTrainedModel, found: list[Branch]) -> list[float]:
    return [naive(model, b.context, choice) for b in found for _, choice in b.choices]


@pytest.mark.parametrize("name", PACKED)
@pytest.mark.parametrize("prefix", [0, 40])
def test_log_likelihoods_are_those_of_one_sequence_at_a_time(name: str, prefix: int) -> None:
    model, found = made(name), branches(prefix, 9)
    assert is_packable(model)
    for limit in (1, 32, 192):
        with torch.inference_mode():
            rows = PackedRows(model, common_prefix([branch.context for branch in found]))
            total = torch.zeros(sum(len(b.choices) for b in found)).double()
            for part in score_groups(rows, groups(rows, found, limit), lambda tokens: None):
                total.index_add_(0, part.place, part.log_p)
        assert total.tolist() == pytest.approx(expected(model, found), abs=1e-4)


@pytest.mark.parametrize("name", PADDED)
def test_other_models_are_scored_without_packing(name: str) -> None:
    model, found = made(name), branches(20, 7)
    assert not is_packable(model) or packed_span(model) < 20
    assert log_likelihoods(model, found) == pytest.approx(expected(model, found), abs=1e-4)


def test_a_sliding_window_is_packed_where_everything_lies_inside() -> None:
    torch.manual_seed(0)
    options = {**SHAPE, "num_key_value_heads": 2, "sliding_window": 64}
    model = MistralForCausalLM(MistralConfig(**options)).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(4 if weight.dim() == 2 else 1)
    for prefix in (20, 58):
        found = branches(prefix, 9)
        rows, _ = _passes(model, found)
        assert isinstance(rows, PackedRows) == (prefix == 20)
        assert log_likelihoods(model, found) == pytest.approx(expected(model, found), abs=1e-4)


def test_a_model_that_gives_something_else_for_packed_rows_is_found_out() -> None:
    class Blind(LlamaForCausalLM):
        """Takes a mask of four dimensions and does not heed it."""

        def forward(self, *args: object, attention_mask: object = None, **more: object) -> object:
            return super().forward(*args, **more)

    torch.manual_seed(0)
    model = Blind(LlamaConfig(**SHAPE, num_key_value_heads=2)).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(4 if weight.dim() == 2 else 1)
    assert not is_packable(model)


def test_the_order_and_company_of_items_change_nothing() -> None:
    model, found = made("olmo2"), branches(20, 8)
    together = log_likelihoods(model, found)
    assert log_likelihoods(model, found[::-1]) == pytest.approx(together, abs=1e-4)
    for branch in found:
        alone = Branch(branch.context, tuple(enumerate(c for _, c in branch.choices)))
        places = [place for place, _ in branch.choices]
        assert log_likelihoods(model, [alone]) == pytest.approx(
            [together[place] for place in places], abs=1e-4
        )


def test_the_prefix_leaves_a_token_of_every_context() -> None:
    assert common_prefix([(1, 2, 3), (1, 2, 4, 5)]) == (1, 2)
    assert common_prefix([(1, 2), (1, 2, 3)]) == (1,)
    assert common_prefix([(1,)]) == ()
    assert common_prefix([(5, 2), (1, 2)]) == ()
    assert common_prefix([(7, 8, 9), (7, 8, 9)]) == (7, 8)
