"""Edges of a graph: drawn from a seed, or read from a file; no torch."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.files import InputError
from ladder.corpora.chain import Array, Ints

LISTED = 2**22
"""Pairs of nodes up to which they are listed to draw edges from them."""
READ_BY_NETWORKX = {
    ".graphml": "read_graphml",
    ".gml": "read_gml",
    ".gexf": "read_gexf",
    ".net": "read_pajek",
}
"""Endings of files that networkx reads, and how."""


@dataclass(frozen=True, eq=False)
class Edges:
    """Edges (E,) between V nodes; an undirected one is there once."""

    tails: Ints
    heads: Ints
    weights: Array | None
    """Above 0; None where all are 1."""
    size: int
    """V."""
    directed: bool

    def __len__(self) -> int:
        return len(self.tails)


def erdos_renyi(nodes: int, edges: int, directed: bool, rng: np.random.Generator) -> Edges:
    """So many different edges between different nodes, every set of them as likely."""
    pairs = nodes * (nodes - 1) // (1 if directed else 2)
    if pairs <= LISTED:
        first, second = np.triu_indices(nodes, 1)
        if directed:
            first, second = np.r_[first, second], np.r_[second, first]
        chosen = rng.choice(pairs, edges, replace=False)
        return Edges(first[chosen], second[chosen], None, nodes, directed)
    keys = np.empty(0, dtype=np.int64)
    while len(keys) < edges:
        ends = rng.integers(0, nodes, (2, edges - len(keys) + 64))
        ends = ends[:, ends[0] != ends[1]]
        if not directed:
            ends.sort(axis=0)
        # Not np.unique: on so many integers a sort is ten times faster than its hashing.
        keys = np.sort(np.r_[keys, ends[0] * nodes + ends[1]])
        keys = keys[np.r_[True, keys[1:] != keys[:-1]]]
    # Of a set that is as likely as any other of its size, any subset drawn at random is too.
    keys = np.sort(rng.choice(keys, edges, replace=False))
    return Edges(keys // nodes, keys % nodes, None, nodes, directed)


def barabasi_albert(nodes: int, attach: int, rng: np.random.Generator) -> Edges:
    """A star of attach + 1 nodes, then one node after the other, each with `attach` edges.

    An edge leads to an old node in proportion to its degree, and not twice to the same.
    """
    count = (nodes - attach) * attach
    tails, heads = np.empty((2, count), dtype=np.int64)
    ends = [*range(1, attach + 1), *([0] * attach)]
    tails[:attach], heads[:attach] = 0, range(1, attach + 1)
    done = attach
    for node in range(attach + 1, nodes):
        chosen: dict[int, None] = {}
        while len(chosen) < attach:
            places = rng.integers(0, len(ends), attach - len(chosen)).tolist()
            chosen.update(dict.fromkeys(ends[place] for place in places))
        tails[done : done + attach], heads[done : done + attach] = node, list(chosen)
        done += attach
        ends += [*chosen, *([node] * attach)]
    return Edges(tails, heads, None, nodes, False)


@lru_cache(maxsize=2)
def read_edges(file: str, directed: bool) -> Edges:
    """The edges of a file, its nodes numbered in order.

    An edge that is there twice counts once. Raises InputError naming the line of what is no edge.
    """
    path = Path(file).expanduser()
    if not os.path.isfile(path):
        raise InputError(f"corpus.edges, {path}: no such file")
    if path.suffix in READ_BY_NETWORKX:
        return _numbered(_networkx_edges(path, directed), path, directed)
    return _numbered(_listed_edges(path), path, directed)


Found = list[tuple[str, str, float, str]]
"""Edges as they are read: the names of both ends, the weight, and where it is."""


def _listed_edges(path: Path) -> Found:
    found: Found = []
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, 1):
                words = line.split("#", 1)[0].split()
                if not words:
                    continue
                where = f"line {number}"
                if len(words) not in (2, 3):
                    raise InputError(
                        f"corpus.edges, {path}, {where}: must read `from to` or `from to weight`; "
                        f"it has {len(words)} {'word' if len(words) == 1 else 'words'}"
                    )
                weight = words[2] if len(words) == 3 else "1"
                found.append((words[0], words[1], _weight(weight, path, where), where))
    except UnicodeDecodeError as error:
        raise InputError(f"corpus.edges, {path}: not UTF-8 at byte {error.start}") from error
    except OSError as error:
        raise InputError(f"corpus.edges, {path}: cannot be read ({error.strerror})") from error
    return found


def _networkx_edges(path: Path, directed: bool) -> Found:
    import networkx

    try:
        graph: Any = getattr(networkx, READ_BY_NETWORKX[path.suffix])(path)
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"corpus.edges, {path}: networkx cannot read it ({type(error).__name__}: {reason})"
        ) from error
    if graph.is_directed() and not directed:
        raise InputError(
            f"corpus.edges, {path}: is a directed graph; set corpus.directed: true, or make its "
            "edges undirected"
        )
    names = list(graph.nodes())
    alone = next((name for name in names if not graph.degree(name)), None)
    if alone is not None:
        raise InputError(f"corpus.edges, {path}: node {alone} has no edges; remove it")
    found: Found = []
    for one, other, weight in graph.edges(data="weight", default=1):
        where = f"edge {one} to {other}"
        found.append((str(one), str(other), _weight(str(weight), path, where), where))
        if directed and not graph.is_directed() and one != other:
            found.append((str(other), str(one), found[-1][2], where))
    return found


def _weight(text: str, path: Path, where: str) -> float:
    try:
        weight = float(text)
    except ValueError:
        weight = math.nan
    if not 0 < weight < math.inf:
        raise InputError(f"corpus.edges, {path}, {where}: the weight {text!r} is no number above 0")
    return weight


def _numbered(found: Found, path: Path, directed: bool) -> Edges:
    if not found:
        raise InputError(f"corpus.edges, {path}: holds no edges")
    names = {name for one, other, _, _ in found for name in (one, other)}
    numeric = all(name.isascii() and name.isdecimal() for name in names)
    order = sorted(names, key=lambda name: (int(name), name)) if numeric else sorted(names)
    numbers = {name: number for number, name in enumerate(order)}
    kept: dict[tuple[int, int], float] = {}
    for one, other, weight, where in found:
        pair = numbers[one], numbers[other]
        if not directed and pair[0] > pair[1]:
            pair = pair[1], pair[0]
        if kept.setdefault(pair, weight) != weight:
            raise InputError(
                f"corpus.edges, {path}, {where}: the edge from {one} to {other} is there already, "
                f"with weight {kept[pair]:g}; keep one of them"
            )
    ends = np.array(list(kept), dtype=np.int64)
    weights = np.array(list(kept.values()))
    plain = bool((weights == 1).all())
    return Edges(ends[:, 0], ends[:, 1], None if plain else weights, len(names), directed)
