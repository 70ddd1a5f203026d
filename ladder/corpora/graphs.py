"""The chain of a random walk on a graph: which edges, how likely each is to be taken; no torch."""

from __future__ import annotations

import numpy as np

from evaluation.files import InputError
from ladder.corpora.chain import Array, Chain, Ints, summed
from ladder.corpora.chain_settings import GraphCorpus
from ladder.corpora.edges import Edges, barabasi_albert, erdos_renyi, read_edges

DRAWS = 100
"""Graphs that are drawn at most until one is connected."""
GRAPH, RANKS = 11, 12
"""Streams of random numbers beside those of walks (ladder.corpora.graph)."""


def make_edges(config: GraphCorpus) -> Edges:
    """The edges of a config's graph, a connected one, every node with its number.

    With connect giant the other parts' edges are left out. Raises InputError for a graph that
    walks cannot go all over.
    """
    for draw in range(DRAWS):
        edges = _drawn(config, draw)
        parts = _parts(edges)
        if parts.max() == 0:
            return edges
        if config.connect == "giant":
            return _largest(edges, parts)
        if config.connect == "refuse" or config.edges is not None:
            raise InputError(_disconnected(edges, parts))
    raise InputError(
        f"corpus: none of {DRAWS} graphs of {edges.size:,} nodes and {len(edges):,} edges is "
        "connected; ask for more edges, or set corpus.connect: giant"
    )


def make_chain(config: GraphCorpus, edges: Edges) -> Chain:
    """The walk on a graph; InputError where kappa leaves an edge without probability."""
    size = edges.size
    tails, heads, weights = _both_ways(edges)
    order = np.argsort(tails * size + heads)
    tails, heads, weights = tails[order], heads[order], weights[order]
    degrees = np.bincount(tails, minlength=size)
    starts = np.r_[0, np.cumsum(degrees)]
    log_weights = np.log(weights)
    closed: Array | None = None
    if not edges.directed and (config.kappa == 0 or config.bias == "degree"):
        # Taken as often in both directions: the weight of both ends, times the edge's own.
        pull = config.kappa * np.log(np.maximum(degrees, 1))
        both = log_weights + pull[tails] + pull[heads]
        closed = summed(tails, np.exp(both - both.max()), size)
    if config.kappa and config.bias == "degree":
        log_weights += config.kappa * np.log(np.bincount(heads, minlength=size))[heads]
    elif config.kappa:
        log_weights -= config.kappa * np.log(_ranks(config.seed, tails, starts))
    probabilities = _normalised(log_weights, tails, starts)
    lost = (probabilities < np.finfo(float).tiny).any()
    if lost or (closed is not None and (closed[degrees > 0] < np.finfo(float).tiny).any()):
        raise InputError(
            f"corpus.kappa {config.kappa:g}: leaves edges without any probability that a float "
            "can hold; lower it"
        )
    return Chain(starts, heads, probabilities, size, closed, closed is not None)


def _drawn(config: GraphCorpus, draw: int) -> Edges:
    rng = np.random.default_rng([config.seed, draw, GRAPH])
    if config.erdos_renyi is not None:
        asked = config.erdos_renyi
        return erdos_renyi(asked.nodes, asked.edges, config.directed, rng)
    if config.barabasi_albert is not None:
        return barabasi_albert(config.barabasi_albert.nodes, config.barabasi_albert.attach, rng)
    return read_edges(str(config.edges), config.directed)


def _parts(edges: Edges) -> Ints:
    """The connected part that each node is in, numbered from 0; strongly connected ones."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    ones = np.ones(len(edges), dtype=np.int8)
    graph = coo_array((ones, (edges.tails, edges.heads)), shape=(edges.size, edges.size)).tocsr()
    _, parts = connected_components(graph, directed=edges.directed, connection="strong")
    return np.asarray(parts, dtype=np.int64)


def _largest(edges: Edges, parts: Ints) -> Edges:
    inside = parts == np.bincount(parts).argmax()
    if inside.sum() < 2:
        raise InputError("corpus: no edges of the graph lead back to where they came from")
    kept = inside[edges.tails] & inside[edges.heads]
    weights = None if edges.weights is None else edges.weights[kept]
    return Edges(edges.tails[kept], edges.heads[kept], weights, edges.size, edges.directed)


def _disconnected(edges: Edges, parts: Ints) -> str:
    touched = np.zeros(edges.size, dtype=bool)
    touched[edges.tails] = touched[edges.heads] = True
    inside = np.bincount(parts).max()
    what = "strongly connected" if edges.directed else "connected"
    alone = int((~touched).sum())
    without = f"; {alone:,} have no edges at all" if alone else ""
    return (
        f"corpus: the graph is not {what}: its largest such part holds {inside:,} of "
        f"{edges.size:,} nodes{without}; add edges, or set corpus.connect: giant"
    )


def _both_ways(edges: Edges) -> tuple[Ints, Ints, Array]:
    weights = np.ones(len(edges)) if edges.weights is None else edges.weights
    if edges.directed:
        return edges.tails, edges.heads, weights
    # A loop leads back to where it is, and is there once.
    back = edges.tails != edges.heads
    return (
        np.r_[edges.tails, edges.heads[back]],
        np.r_[edges.heads, edges.tails[back]],
        np.r_[weights, weights[back]],
    )


def _ranks(seed: int, tails: Ints, starts: Ints) -> Ints:
    """The rank from 1 of every edge among those that leave its node, in an order of its own."""
    chance = np.random.default_rng([seed, RANKS]).integers(0, 2**40, len(tails))
    order = np.argsort((tails << 40) + chance, kind="stable")
    ranks = np.empty(len(tails), dtype=np.int64)
    ranks[order] = np.arange(len(tails)) - starts[tails] + 1
    return ranks


def _normalised(log_weights: Array, tails: Ints, starts: Ints) -> Array:
    """Probabilities of each node's edges, from the logs of their weights up to a constant."""
    begins = starts[:-1][np.diff(starts) > 0]
    highest = np.zeros(len(starts) - 1)
    highest[tails[begins]] = np.maximum.reduceat(log_weights, begins)
    weights = np.exp(log_weights - highest[tails])
    return np.asarray(weights / summed(tails, weights, len(highest))[tails])
