"""Shapes of published models by name, and the exact counts of every architecture; no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from pydantic import Field, model_validator

from ladder.section import Section

Architecture = Literal["olmo2", "llama", "qwen3", "gpt_neox", "mamba2", "falcon_h1"]


@dataclass(frozen=True)
class Mixer:
    """A Mamba-2 mixer, every size of it known (arXiv 2405.21060, section 7)."""

    heads: int
    head_width: int
    state: int
    groups: int
    conv: int
    chunk: int

    @property
    def inner(self) -> int:
        """Width of all heads together."""
        return self.heads * self.head_width

    @property
    def channels(self) -> int:
        """What the convolution runs over: the heads, and B and C of every group."""
        return self.inner + 2 * self.groups * self.state

    def params(self, width: int, normed: bool) -> int:
        """Parameters: projections, convolution with its bias, A, D and the bias of dt.

        One matrix projects onto gate, channels and dt. `normed`: with an RMSNorm of the gated
        heads, as in Mamba-2; Falcon-H1 leaves it out.
        """
        projections = width * (self.inner + self.channels + self.heads) + self.inner * width
        scan = (self.conv + 1) * self.channels + 3 * self.heads
        return projections + scan + (self.inner if normed else 0)


class StateSpace(Section):
    """Mamba-2 mixer of every block; `{}` takes the defaults."""

    heads: int | None = Field(None, ge=1)
    """Heads; by default as many as are twice the width together, as published."""
    head_width: int | None = Field(None, ge=1)
    """Width of a head; by default the published 64, or the largest power of two below it of which
    at least four make up twice the width."""
    state: int | None = Field(None, ge=1)
    """State of a channel, numbers; by default the width, at most the published 128. Give it where
    sizes are to differ by their width alone."""
    groups: int = Field(1, ge=1)
    """Groups of heads that share their B and C."""
    conv: int = Field(4, ge=2)
    """Tokens that the causal convolution sees; the fast kernels have 2 to 4."""
    chunk: int = Field(128, ge=1)
    """Tokens of a chunk of the scan, a power of two, shorter where sequences are; changes speed and
    memory, not the result. 128 is Falcon-H1's; on a CPU smaller ones are faster."""

    def sized(self, width: int) -> Mixer:
        """The mixer in a model of that width; raises ValueError where the sizes do not fit."""
        inner = 2 * width
        head = self.head_width or math.gcd(64, 1 << (inner // 4).bit_length() - 1, inner)
        if self.heads is None and inner % head:
            raise ValueError(f"ssm head_width {head} does not divide twice the width; give heads")
        heads = self.heads or inner // head
        if heads % self.groups:
            raise ValueError(f"ssm heads {heads} must be a multiple of groups {self.groups}")
        if self.chunk & (self.chunk - 1):
            raise ValueError(f"ssm chunk {self.chunk} must be a power of two")
        state = self.state or min(width, 128)
        return Mixer(heads, head, state, self.groups, self.conv, self.chunk)


class Shape(Section):
    """Shape of a model; which fields it needs is the architecture's to say (`misfit`)."""

    layers: int = Field(ge=1, le=10_000)
    """Blocks."""
    width: int = Field(ge=2, le=1_000_000)
    """Width of the residual stream, d."""
    heads: int | None = Field(None, ge=1)
    """Attention heads."""
    hidden: int | None = Field(None, ge=1, le=10_000_000)
    """Width of the hidden layer of the feed-forward block."""
    kv_heads: int | None = Field(None, ge=1)
    """Heads of keys and values, for grouped-query attention; as many as heads by default."""
    head_width: int | None = Field(None, ge=2, multiple_of=2)
    """Width of an attention head, even for rotary embeddings; width / heads by default."""
    ssm: StateSpace | None = None
    """The state-space mixer of mamba2 and falcon_h1."""

    @model_validator(mode="after")
    def _divisible(self) -> Shape:
        if self.heads is None and (self.kv_heads or self.head_width):
            raise ValueError("kv_heads and head_width need heads")
        if self.heads and not self.head_width and self.width % (2 * self.heads):
            raise ValueError(f"width {self.width} must be an even multiple of heads {self.heads}")
        if self.heads and self.heads % self.keys:
            raise ValueError(f"heads {self.heads} must be a multiple of kv_heads {self.kv_heads}")
        if self.ssm is not None:
            self.ssm.sized(self.width)
        return self

    @property
    def keys(self) -> int:
        """Heads of keys and values."""
        return self.kv_heads or self.heads or 0

    @property
    def head(self) -> int:
        """Width of an attention head; 0 without attention."""
        return self.head_width or (self.width // self.heads if self.heads else 0)

    @property
    def query_width(self) -> int:
        """Width of all queries together."""
        return self.head * (self.heads or 0)

    @property
    def key_width(self) -> int:
        """Width of all keys together."""
        return self.head * self.keys

    @property
    def summed_over(self) -> dict[str, int]:
        """What logits and states are sums over, which muP wants to be the same at every width."""
        found = {"head width": self.head} if self.heads else {}
        if self.ssm:
            found |= {"ssm head_width": self.mixer.head_width, "ssm state": self.mixer.state}
        return found

    @property
    def mixer(self) -> Mixer:
        """The sizes of its state-space mixer; ValueError where it has none."""
        if self.ssm is None:
            raise ValueError("the shape has no ssm")
        return self.ssm.sized(self.width)


def misfit(shape: Shape, architecture: Architecture) -> str | None:
    """Why a shape is none of the architecture's, and how to mend it; None where it is."""
    if architecture == "mamba2":
        given = [name for name in ("heads", "hidden") if getattr(shape, name) is not None]
        if given:
            return f"mamba2 has neither attention nor feed-forward; drop {' and '.join(given)}"
    else:
        lacking = [name for name in ("heads", "hidden") if getattr(shape, name) is None]
        if lacking:
            return f"{architecture} needs {' and '.join(lacking)}"
    if architecture not in ("mamba2", "falcon_h1"):
        if shape.ssm is not None:
            return f"{architecture} has no state-space mixer; drop ssm"
    elif shape.ssm is None:
        return f"{architecture} needs ssm, such as ssm: {{state: 64}}; ssm: {{}} is the usual one"
    if architecture == "mamba2" and shape.mixer.inner % shape.width:
        return (
            f"mamba2's ssm heads x head_width, {shape.mixer.inner}, must be a multiple of width "
            f"{shape.width}"
        )
    if architecture == "gpt_neox" and shape.keys != shape.heads:
        return "gpt_neox has no grouped-query attention; drop kv_heads"
    if architecture == "gpt_neox" and shape.head_width is not None:
        return "gpt_neox has heads of width / heads; drop head_width"
    return None


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

    Attention has four matrices a block. OLMo-2, Llama and Qwen3 have three matrices of SwiGLU and
    two norms, OLMo-2 norms of all queries and keys, Qwen3 one for each head's; GPT-NeoX has two
    matrices of its feed-forward block, and biases everywhere but in the head. Mamba-2 has its
    mixer and a norm, Falcon-H1 the mixer beside attention, then SwiGLU, and two norms.
    """
    d, h, q, k = shape.width, shape.hidden or 0, shape.query_width, shape.key_width
    outside = d + vocabulary * d  # last norm, head
    if architecture == "mamba2":
        return shape.layers * (shape.mixer.params(d, normed=True) + d) + outside
    attention = 2 * d * q + 2 * d * k
    if architecture == "gpt_neox":
        block = attention + 2 * d * h + (3 * d + d + h + d) + 4 * d
        return shape.layers * block + outside + d
    block = attention + 3 * d * h + 2 * d
    if architecture == "olmo2":
        block += q + k
    elif architecture == "qwen3":
        block += 2 * shape.head
    elif architecture == "falcon_h1":
        block += shape.mixer.params(d, normed=False)
    return shape.layers * block + outside


def embedding_params(shape: Shape, vocabulary: int) -> int:
    """Parameters of the input embedding."""
    return vocabulary * shape.width


def mixing_flops(shape: Shape, sequence_length: int) -> int:
    """Training FLOPs per token between tokens, which no parameter takes part in.

    12 L d S of attention, d the width of all queries; 12 L d_inner N_state of state spaces.
    Attention is a product with S keys and one with S values, 4 d S forward, and twice that
    backward (PaLM, arXiv 2204.02311, appendix B). The recurrence h <- a h + (dt x) B^T, y = h C
    (arXiv 2405.21060, section 2) likewise adds an outer product to a state of d_inner N_state
    numbers and reads it: 4 d_inner N_state forward, whatever the chunk; a scan in chunks does more
    arithmetic, as attention that masks does. The decay, the skip by D and the gate are not
    counted, as softmax is not.
    """
    attention = 12 * shape.query_width * sequence_length
    scan = 12 * shape.mixer.inner * shape.mixer.state if shape.ssm else 0
    return shape.layers * (attention + scan)


def flops_per_token(
    shape: Shape, vocabulary: int, sequence_length: int, architecture: Architecture = "olmo2"
) -> int:
    """Training FLOPs per token, 6N + 4 N_embedding + mixing_flops.

    The formula of the published ladder (allenai/OLMo, olmo/model.py): its backward pass counts
    the input embedding's parameters, its forward pass does not.
    """
    params = count_params(shape, vocabulary, architecture)
    embedding = embedding_params(shape, vocabulary)
    return 6 * params + 4 * embedding + mixing_flops(shape, sequence_length)


def model_flops_per_token(params: int, shape: Shape, sequence_length: int) -> int:
    """What MFU counts: 6N + mixing_flops, 6N + 12 L d S of a transformer (PaLM, appendix B)."""
    return 6 * params + mixing_flops(shape, sequence_length)
