"""What corpora of walks share: their tokenizer and the loss expected over the next; no torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from ladder.corpora.chain import Array, Ints

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


def word(node: int, nodes: int) -> str:
    """A node's word: its number in hexadecimal, as long as that of the last of the nodes."""
    return f"{node:0{len(f'{nodes - 1:x}')}x}"


def node_tokenizer(nodes: int) -> PreTrainedTokenizerFast:
    """A word tokenizer whose tokens are the nodes."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {word(node, nodes): node for node in range(nodes)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token=None))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


def expected_loss(
    walks: Ints,
    row_entropy: Array,
    floor: float,
    cross_entropy: Callable[[Ints], Array],
    positions: int,
) -> float:
    """Expected cross-entropy, nats per token, of what follows every node of held-out walks (B, T).

    `cross_entropy` gives it for walks (b, T), of about `positions` nodes at once. The walks' own
    mean entropy is replaced by the exact `floor`: what is left of sampling noise is that of the
    divergence, which is never negative.
    """
    divergence, count = 0.0, 0
    for part in np.array_split(walks, max(1, walks.size // positions)):
        divergence += float((cross_entropy(part) - row_entropy[part]).sum())
        count += part.size
    return floor + divergence / count
