"""A packed tree gives what one sequence at a time gives, on every architecture."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Olmo2Config,
    Olmo2ForCausalLM,
    PreTrainedModel,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from evaluation.packed import (
    EncodedItem,
    common_prefix,
    packed_log_likelihoods,
    takes_packed_rows,
)

VOCABULARY = 97
SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 256,
}
MODELS = {
    "olmo2": lambda: Olmo2ForCausalLM(Olmo2Config(**SHAPE)),
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SHAPE, num_key_value_heads=2)),
    "neox": lambda: GPTNeoXForCausalLM(GPTNeoXConfig(**SHAPE)),
    "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**SHAPE, head_dim=8, num_key_value_heads=2)),
    "gpt2": lambda: GPT2LMHeadModel(
        GPT2Config(vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4, n_positions=256)
    ),
}


def made(name: str, scale: float = 4.0) -> PreTrainedModel:
    torch.manual_seed(0)
    model = MODELS[name]().eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.mul_(scale)  # far from uniform, so that a wrong mask shows
    return model


def items(prefix: int, count: int, seed: int = 0) -> list[EncodedItem]:
    rng = np.random.default_rng(seed)

    def tokens(length: int) -> tuple[int, ...]:
        return tuple(int(t) for t in rng.integers(3, VOCABULARY, length))

    shared = tokens(prefix)
    return [
        EncodedItem(
            (*shared, *tokens(int(rng.integers(1, 9)))),
            tuple(tokens(int(rng.integers(1, 7))) for _ in range(int(rng.integers(1, 6)))),
        )
        for _ in range(count)
    ]


def naive(model: PreTrainedModel, found: list[EncodedItem]) -> list[list[float]]:
    result = []
    for item in found:
        scores = []
        for choice in item.choices:
            ids = torch.tensor([[*item.context, *choice]])
            with torch.inference_mode():
                log_p = model(input_ids=ids).logits.double().log_softmax(-1)[0]
            start = len(item.context)
            scores.append(sum(float(log_p[start + i - 1, t]) for i, t in enumerate(choice)))
        result.append(scores)
    return result


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("prefix", [0, 40])
def test_log_likelihoods_are_those_of_one_sequence_at_a_time(name: str, prefix: int) -> None:
    model, found = made(name), items(prefix, 9)
    assert takes_packed_rows(model)
    for row_tokens in (1, 32, 192):
        packed = packed_log_likelihoods(model, found, row_tokens)
        for ours, theirs in zip(packed, naive(model, found), strict=True):
            assert ours == pytest.approx(theirs, abs=1e-4)


def test_the_order_and_company_of_items_change_nothing() -> None:
    model, found = made("olmo2"), items(20, 8)
    together = packed_log_likelihoods(model, found)
    backwards = packed_log_likelihoods(model, found[::-1])[::-1]
    alone = [packed_log_likelihoods(model, [item])[0] for item in found]
    for one, two, three in zip(together, backwards, alone, strict=True):
        assert one == pytest.approx(two, abs=1e-4)
        assert one == pytest.approx(three, abs=1e-4)


def test_the_prefix_leaves_a_token_of_every_context() -> None:
    assert common_prefix([(1, 2, 3), (1, 2, 4, 5)]) == [1, 2]
    assert common_prefix([(1, 2), (1, 2, 3)]) == [1]
    assert common_prefix([(1,)]) == []
    assert common_prefix([(5, 2), (1, 2)]) == []


def test_a_sliding_window_is_not_packed() -> None:
    window = MistralForCausalLM(MistralConfig(**SHAPE, num_key_value_heads=2, sliding_window=16))
    assert not takes_packed_rows(window)
    whole = MistralForCausalLM(MistralConfig(**SHAPE, num_key_value_heads=2, sliding_window=None))
    assert takes_packed_rows(whole)
