"""What corpora that a sparse Markov chain makes have in common; no torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from ladder.corpora.chain import Array, Chain, Start, summed
from ladder.corpora.exact import Exact, exactly
from ladder.corpora.nodes import expected_loss
from ladder.corpora.sampler import Sampler, Tokens

if TYPE_CHECKING:
    from ladder.corpora import Scorer

ALL = slice(None)
LOGITS = 2**22
"""Logits that the held-out loss asks a model for at once, so that memory stays small."""
HELD_OUT, TASKS = 13, 14
"""Streams of random numbers beside those of training, which are of two numbers."""


class Chains(ABC):
    """A corpus of sequences that a chain makes; who inherits says which chain."""

    vocabulary: int
    start: Start = "stationary"
    held_out: tuple[int, int]
    """Seed and number of the held-out sequences."""
    edges: int | None = None
    """Edges, where the corpus is an undirected graph."""

    @property
    @abstractmethod
    def chain(self) -> Chain:
        """The chain."""

    @cached_property
    def sampler(self) -> Sampler:
        """What draws sequences of the chain."""
        return Sampler(self.chain, self.start)

    @property
    def entropy_rate(self) -> float:
        """The loss, nats per token, that no model can fall below in the long run."""
        return self.chain.entropy_rate

    def floor(self, length: int) -> float:
        """The loss, nats per token, that no model can fall below on sequences of `length`."""
        return self.chain.floor(self.start, length)

    def exact(self, length: int) -> Exact:
        """Entropies of sequences of `length` tokens, and how fast the chain mixes."""
        return exactly(self.chain, self.start, length, self.edges)

    def batch(self, seed: int, step: int, sequences: int, length: int, rows: slice = ALL) -> Tokens:
        """Sequences of `length` tokens, (B, T): a pure function of its arguments.

        A row is the same whichever `rows` are asked for.
        """
        uniforms = np.random.default_rng([seed, step]).random((length, sequences))
        return self.sampler.walk(uniforms[:, rows])

    def check(self, sequences: int, length: int) -> None:  # noqa: B027
        """Nothing: there are sequences without end."""

    def validation_loss(self, scorer: Scorer, length: int) -> float:
        """Expected cross-entropy, nats per token, of a model on held-out sequences of `length`.

        At each position the expectation over the next token is exact, and only log-probabilities
        of tokens that may come next are asked for.
        """
        seed, count = self.held_out
        uniforms = np.random.default_rng([seed, HELD_OUT]).random((length, count))
        chain = self.chain

        def cross_entropy(part: Tokens) -> Array:
            rows = chain.row_of(part.ravel())
            counts = chain.degrees[rows]
            positions = np.repeat(np.arange(part.size), counts)
            begins = np.cumsum(counts) - counts
            entries = np.arange(len(positions)) + (chain.starts[rows] - begins)[positions]
            log_q = scorer.log_probabilities_of(part, positions, chain.nodes[entries])
            losses = summed(positions, -chain.probabilities[entries] * log_q, part.size)
            return losses.reshape(part.shape)

        most = max(1, LOGITS // self.vocabulary)
        walks = self.sampler.walk(uniforms)
        floor = self.floor(length)
        return expected_loss(walks, chain.row_entropy, floor, cross_entropy, most)
