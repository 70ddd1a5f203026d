"""In how many steps a chain forgets where it began, exactly; no torch."""

from __future__ import annotations

import numpy as np

from ladder.corpora.chain import Array, Chain

QUARTER = 0.25
"""Total-variation distance at which a chain counts as mixed (Levin and Peres 2017, section 4.5)."""

MOST_NODES = 2048
"""Nodes up to which it is computed: every power of the matrix has as many numbers as their square.
A power of a matrix this large takes about a second of one core, and 32 MiB."""

MOST_STEPS = 2**20
"""Steps beyond which it is not looked for."""


def mixing_time(chain: Chain, distance: float = QUARTER) -> tuple[int | None, str]:
    """The first step at which walks from every start are within `distance` of stationary.

    The distance is the worst start's in total variation, half the sum of absolute differences; it
    never rises from one step to the next. Powers of the transition matrix are squared until it is
    small enough, and what is between the last two is found by halves: exact to rounding. Starts
    are the nodes that a walk comes to. Where there is none, None and the reason.
    """
    if chain.period > 1:
        return None, f"never, for its period is {chain.period}"
    kept = np.flatnonzero(chain.visited)
    if len(kept) > MOST_NODES:
        return None, f"not computed for more than {MOST_NODES:,} nodes"
    pi = chain.stationary[kept]
    if 1 - pi.min() <= distance:
        return 0, ""
    powers = [chain.dense()[np.ix_(kept, kept)]]
    while _worst(powers[-1], pi) > distance:
        if 2 ** len(powers) > MOST_STEPS:
            return None, f"more than {MOST_STEPS:,} steps"
        powers.append(_product(powers[-1], powers[-1]))
    if len(powers) == 1:
        return 1, ""
    # The answer is above `steps` and at most twice that.
    now, steps = powers[-2], 2 ** (len(powers) - 2)
    for k in range(len(powers) - 3, -1, -1):
        then = _product(now, powers[k])
        if _worst(then, pi) > distance:
            now, steps = then, steps + 2**k
    return steps + 1, ""


def _worst(power: Array, pi: Array) -> float:
    """The largest total-variation distance of a row from the stationary distribution."""
    return float(np.abs(power - pi).sum(axis=1).max() / 2)


def _product(one: Array, other: Array) -> Array:
    """Two powers' product, rows kept at a sum of 1, so that rounding does not grow by squaring."""
    found = one @ other
    return np.asarray(found / found.sum(axis=1, keepdims=True))
