"""Hugging Face models from a config, with exact parameter and FLOP counts.

The counts need no torch; building a model imports it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ladder.config import Model, Shape

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def count_params(shape: Shape, vocabulary: int) -> int:
    """N of an OLMo-2 model: every parameter but the input embedding, the output head included.

    A block has four attention matrices, three of SwiGLU and four norms (after attention and
    feed-forward, of queries and of keys); one norm and the head follow the last block.
    """
    d, h = shape.width, shape.hidden
    return shape.layers * (4 * d * d + 3 * d * h + 4 * d) + d + vocabulary * d


def embedding_params(shape: Shape, vocabulary: int) -> int:
    """Parameters of the input embedding."""
    return vocabulary * shape.width


def flops_per_token(shape: Shape, vocabulary: int, sequence_length: int) -> int:
    """Training FLOPs per token, 6N + 4 N_embedding + 12 L d S.

    The formula of the published ladder (allenai/OLMo, olmo/model.py): its backward pass counts
    the input embedding's parameters, its forward pass does not.
    """
    attention = 12 * shape.layers * shape.width * sequence_length
    params = count_params(shape, vocabulary)
    return 6 * params + 4 * embedding_params(shape, vocabulary) + attention


def build_model(config: Model, shape: Shape, vocabulary: int, seed: int) -> PreTrainedModel:
    """An OLMo-2 model with seeded initial weights, fp32, untied."""
    import torch
    from transformers import Olmo2Config, Olmo2ForCausalLM

    model = Olmo2ForCausalLM(
        Olmo2Config(
            vocab_size=vocabulary,
            hidden_size=shape.width,
            intermediate_size=shape.hidden,
            num_hidden_layers=shape.layers,
            num_attention_heads=shape.heads,
            num_key_value_heads=shape.heads,
            max_position_embeddings=config.sequence_length,
            tie_word_embeddings=False,
            use_cache=False,
            pad_token_id=None,
            bos_token_id=None,
            eos_token_id=None,
        )
    )
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim < 2:
                continue
            std = weight.shape[1] ** -0.5
            if name.endswith("embed_tokens.weight"):
                std = config.embedding_std
            elif name.endswith("lm_head.weight"):
                std *= config.head_scale
            weight.normal_(0, std, generator=generator)
    return model
