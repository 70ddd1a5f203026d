"""Draws many walks of a sparse chain at once, one uniform number a token; no torch.

The whole part of the number times a node's transitions picks one of them. Where they are not all
as likely, the fraction decides between that one and its alias (Walker's alias method).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ladder.corpora.chain import Array, Chain, Ints, Start

Tokens = Ints


@dataclass(frozen=True, eq=False)
class Aliases:
    """For every transition (E,): the share of its slot that is its own, and who has the rest."""

    shares: Array
    nodes: Ints
    """Where the transition leads that has the rest."""


class Sampler:
    """Walks of a chain; every method is a pure function of its arguments."""

    def __init__(self, chain: Chain, start: Start) -> None:
        self.chain, self.start = chain, start

    @cached_property
    def unbiased(self) -> bool:
        """Whether all transitions of every node are as likely."""
        chain = self.chain
        return bool((chain.probabilities == (1 / np.maximum(chain.degrees, 1))[chain.rows]).all())

    @cached_property
    def aliases(self) -> Aliases:
        """Tables of the biased walk."""
        return make_aliases(self.chain)

    @cached_property
    def firsts(self) -> Array:
        """Cumulative probabilities of the first token, (V,)."""
        ends = np.cumsum(self.chain.begin(self.start))
        # No number below 1 may lie behind the last node that is visited.
        ends[int(np.flatnonzero(self.chain.visited)[-1]) :] = 1.0
        return ends

    def walk(self, uniforms: Array) -> Tokens:
        """Walks (B, T) from numbers (T, B) at least 0 and below 1, one for each token."""
        if self.chain.independent:
            found = self.firsts.searchsorted(uniforms, side="right")
            return np.ascontiguousarray(found.T)
        walks = np.empty(uniforms.shape, dtype=np.int64)
        walks[0] = self.firsts.searchsorted(uniforms[0], side="right")
        nodes, starts, degrees = self.chain.nodes, self.chain.starts, self.chain.degrees
        aliases = None if self.unbiased else self.aliases
        for t in range(1, len(walks)):
            now = walks[t - 1]
            scaled = uniforms[t] * degrees[now]
            places = scaled.astype(np.int64)
            if aliases is None:
                places += starts[now]
                walks[t] = nodes[places]
                continue
            scaled -= places
            places += starts[now]
            own = scaled < aliases.shares[places]
            walks[t] = np.where(own, nodes[places], aliases.nodes[places])
        return np.ascontiguousarray(walks.T)


def make_aliases(chain: Chain) -> Aliases:
    """Tables of all rows at once, as many rounds as the longest row has transitions.

    Transitions of a row, in the order of their probabilities, fill slots of equal size: from the
    lower end those that do not fill theirs, the rest of each being given by the one at the upper
    end that has more than its own; once that has given too much, it is filled by the one before it.
    """
    degrees = chain.degrees
    # One sort of integers orders all rows; it is faster than one of two keys.
    order = np.argsort((chain.rows << 39) + (chain.probabilities * 2.0**38).astype(np.int64))
    left = chain.probabilities[order] * degrees[chain.rows]
    shares, givers = np.ones(len(left)), np.arange(len(left))
    active = np.flatnonzero(degrees > 1)
    low, high = chain.starts[:-1][active], chain.starts[1:][active] - 1
    while len(low):
        over = left[high] >= 1
        # Of those that give no more, or are still below 1, each takes from the next.
        taker, giver = np.where(over, low, high), np.where(over, high, high - 1)
        short = np.minimum(left[taker], 1.0)
        shares[taker], givers[taker] = short, giver
        left[giver] -= 1 - short
        low, high = low + over, high - ~over
        going = low < high
        low, high = low[going], high[going]
    found, aliases = np.empty_like(shares), np.empty(len(left), dtype=np.int64)
    found[order], aliases[order] = shares, chain.nodes[order[givers]]
    return Aliases(found, aliases)
