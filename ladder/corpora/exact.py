"""What is exactly known of a corpus that a Markov chain makes: entropies and mixing; no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any

from ladder.corpora.chain import Chain, Start, entropy
from ladder.corpora.mixing import mixing_time


@dataclass(frozen=True)
class Exact:
    """Entropies in nats per token, of sequences of `length` tokens."""

    vocabulary: int
    nodes: int
    """Tokens that occur."""
    edges: int
    """Edges of the graph, an undirected one counted once; of other corpora as transitions."""
    transitions: int
    """Pairs of a token and one that may follow."""
    start: Start
    length: int
    entropy_rate: float
    """Entropy of the next token in the long run."""
    floor: float
    """Loss that no model can fall below: the entropy rate, where sequences start stationary."""
    unigram_entropy: float
    """Entropy of a token anywhere in a sequence: the loss of the best model without context."""
    bigram_entropy: float
    """Entropy of a token and the next one together."""
    stationary_entropy: float
    """Entropy of a token in the long run."""
    uniform_entropy: float
    """Log of the nodes: the loss of a model that knows nothing but them."""
    period: int
    """The number that divides the lengths of all ways back to a node; 2 on a bipartite graph."""
    second_eigenvalue: float
    """Second largest modulus of the transition matrix's eigenvalues."""
    relaxation_time: float | None
    """1 / (1 - second_eigenvalue), steps; None where a period keeps it from mixing."""
    chain: Chain = field(repr=False, compare=False)
    """What all of it follows from."""

    @property
    def mixing_time(self) -> int | None:
        """Steps until walks from the worst start are within a total variation of 1/4 of stationary.

        Computed when it is asked for: of 2,000 nodes that takes many seconds.
        """
        return self._mixing[0]

    @property
    def mixing_time_reason(self) -> str:
        """Why that is None; empty where it is known."""
        return self._mixing[1]

    @cached_property
    def _mixing(self) -> tuple[int | None, str]:
        return mixing_time(self.chain)

    def document(self) -> dict[str, Any]:
        """All of it, as JSON has it."""
        names = [own.name for own in fields(self) if own.name != "chain"]
        return {name: getattr(self, name) for name in (*names, "mixing_time", "mixing_time_reason")}


def exactly(chain: Chain, start: Start, length: int, edges: int | None = None) -> Exact:
    """All that is known of a chain's sequences of `length` tokens.

    Raises InputError where the stationary distribution or the second eigenvalue does not settle.
    """
    anywhere = chain.positions(start, length)
    unigram, floor = entropy(anywhere), chain.floor(start, length)
    nodes, transitions = int(chain.visited.sum()), len(chain.nodes)
    if chain.independent:
        transitions *= nodes
    return Exact(
        vocabulary=chain.size,
        nodes=nodes,
        edges=transitions if edges is None else edges,
        transitions=transitions,
        start=start,
        length=length,
        entropy_rate=chain.entropy_rate,
        floor=floor,
        unigram_entropy=unigram,
        bigram_entropy=unigram + floor,
        stationary_entropy=entropy(chain.stationary),
        uniform_entropy=math.log(nodes),
        period=chain.period,
        second_eigenvalue=chain.second_eigenvalue,
        relaxation_time=chain.relaxation_time,
        chain=chain,
    )
