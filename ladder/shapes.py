"""Shapes of published models by name, and the exact counts of every architecture; no torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from ladder.section import Section

Architecture = Literal["olmo2", "llama", "qwen3", "gpt_neox"]


class Shape(Section):
    """Shape of a model."""

    layers: int = Field(ge=1, le=10_000)
    """Transformer blocks."""
    width: int = Field(ge=2, le=1_000_000)
    """Width of the residual stream, d."""
    heads: int = Field(ge=1)
    """Attention heads; width / heads is a head's width, even for rotary embeddings."""
    hidden: int = Field(ge=1, le=10_000_000)
    """Width of the hidden layer of the feed-forward block."""
    kv_heads: int | None = Field(None, ge=1)
    """Heads of keys and values, for grouped-query attention; as many as heads by default."""

    @model_validator(mode="after")
    def _divisible(self) -> Shape:
        if self.width % (2 * self.heads):
            raise ValueError(f"width {self.width} must be an even multiple of heads {self.heads}")
        if self.heads % self.keys:
            raise ValueError(f"heads {self.heads} must be a multiple of kv_heads {self.kv_heads}")
        return self

    @property
    def keys(self) -> int:
        """Heads of keys and values."""
        return self.kv_heads or self.heads

    @property
    def key_width(self) -> int:
        """Width of all keys together."""
        return self.width // self.heads * self.keys


OLMO2_SHAPES = {
    name: Shape(layers=layers, width=width, heads=heads, hidden=hidden)
    for name, layers, width, heads, hidden in (
        ("190M", 12, 768, 12, 3072),
        ("370M", 16, 1024, 16, 4096),
        ("600M", 16, 1344, 16, 5376),
        ("760M", 16, 1536, 16, 6144),
        ("1.3B", 16, 2048, 16, 8192),
        ("3B", 16, 3328, 16, 13312),
        ("7B", 32, 4096, 32, 11008),
        ("13B", 40, 5120, 40, 13824),
    )
}
"""Sizes of the published ladder and its targets (allenai/OLMo-ladder, src/ladder/ladder.py)."""


def count_params(shape: Shape, vocabulary: int, architecture: Architecture = "olmo2") -> int:
    """N: every parameter but the input embedding, the untied output head included.

    All have four attention matrices a block. OLMo-2, Llama and Qwen3 have three matrices of
    SwiGLU and two norms, OLMo-2 norms of all queries and keys, Qwen3 one for each head's;
    GPT-NeoX has two matrices of its feed-forward block, and biases everywhere but in the head.
    """
    d, h, k = shape.width, shape.hidden, shape.key_width
    attention = 2 * d * d + 2 * d * k
    if architecture == "gpt_neox":
        block = attention + 2 * d * h + (3 * d + d + h + d) + 4 * d
        return shape.layers * block + 2 * d + vocabulary * d
    norms = {"olmo2": d + k, "llama": 0, "qwen3": 2 * (d // shape.heads)}[architecture]
    block = attention + 3 * d * h + 2 * d + norms
    return shape.layers * block + d + vocabulary * d


def embedding_params(shape: Shape, vocabulary: int) -> int:
    """Parameters of the input embedding."""
    return vocabulary * shape.width


def flops_per_token(
    shape: Shape, vocabulary: int, sequence_length: int, architecture: Architecture = "olmo2"
) -> int:
    """Training FLOPs per token, 6N + 4 N_embedding + 12 L d S.

    The formula of the published ladder (allenai/OLMo, olmo/model.py): its backward pass counts
    the input embedding's parameters, its forward pass does not.
    """
    attention = 12 * shape.layers * shape.width * sequence_length
    params = count_params(shape, vocabulary, architecture)
    return 6 * params + 4 * embedding_params(shape, vocabulary) + attention


def model_flops_per_token(params: int, shape: Shape, sequence_length: int) -> int:
    """What MFU counts: 6N + 12 L d S (PaLM, arXiv 2204.02311, appendix B)."""
    return 6 * params + 12 * shape.layers * shape.width * sequence_length
