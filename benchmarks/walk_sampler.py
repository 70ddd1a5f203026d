"""Times how fast walks on graphs are drawn, on one core, against the plain ways to draw them.

    OMP_NUM_THREADS=1 python benchmarks/walk_sampler.py [--small] [--device cuda]

Ours are the numpy sampler (ladder.corpora.sampler), in batches of 100 walks, as the paper trains,
and of 4096, and the torch sampler on a device, in batches of 4096 on a CPU and of a million on a
GPU. The rivals walk one node after the other: the standard library's random over networkx's
neighbours, the same over lists of neighbours and cumulative weights that were made before, and
numpy's Generator.choice over a node's row. Tokens a second of the process's own time, so that other
work on the machine counts little, but of a GPU's wall clock; medians of five. The ratio is that of
batches of 100 walks to the fastest rival. --small leaves out the graph of two million edges.
benchmarks/walk_sampler.md holds a run.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import networkx
import numpy as np
import torch

from ladder.corpora.chain_settings import GraphCorpus
from ladder.corpora.graph import Graph
from ladder.corpora.torch_sampler import TorchSampler

LENGTH, REPEATS = 51, 5
GRAPHS = {"1K/5K": (1_000, 5_000), "8K/50K": (8_000, 50_000), "50K/2M": (50_000, 2_000_000)}


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--device", default="cpu")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    large = f"torch {asked.device}, {'4096' if asked.device == 'cpu' else 'a million'}"
    columns = ("numpy, 100", "numpy, 4096", large, "networkx", "lists", "Generator.choice")
    print("`python benchmarks/walk_sampler.py`, millions of tokens a second\n")
    print(f"| graph | {' | '.join(columns)} | ours over the fastest rival |")
    print(f"| --- |{' --- |' * (len(columns) + 1)}")
    for name, (nodes, edges) in GRAPHS.items():
        if asked.small and edges > 100_000:
            continue
        for kappa in (0.0, 1.0):
            config = GraphCorpus.model_validate(
                {
                    "kind": "graph",
                    "erdos_renyi": {"nodes": nodes, "edges": edges},
                    "kappa": kappa,
                }
            )
            graph = Graph(config, Path())
            speeds = [
                speed(lambda n, g=graph: g.batch(0, n, 100, LENGTH), 100, 100),
                speed(lambda n, g=graph: g.batch(0, n, 4096, LENGTH), 4096, 4),
                torch_speed(graph, asked.device),
                networkx_speed(graph),
                list_speed(graph),
                choice_speed(graph),
            ]
            ratio = speeds[0] / max(speeds[3:])
            cells = " | ".join(f"{s / 1e6:.3g}" for s in speeds)
            kind = "biased" if kappa else "unbiased"
            print(f"| {name}, {kind} | {cells} | {ratio:.0f} |", flush=True)


def speed(
    draw: Callable[[int], object],
    walks: int,
    calls: int,
    clock: Callable[[], float] = time.process_time,
) -> float:
    """Tokens a second; `draw` is told a number that counts up."""
    draw(1)
    seconds = []
    for repeat in range(REPEATS):
        begin = clock()
        for call in range(calls):
            draw(2 + repeat * calls + call)
        seconds.append(clock() - begin)
    return walks * LENGTH * calls / statistics.median(seconds)


def torch_speed(graph: Graph, device: str) -> float:
    """The torch sampler's, results waited for."""
    sampler, walks = TorchSampler(graph.sampler, device), 4096 if device == "cpu" else 2**20

    def draw(number: int) -> None:
        sampler.batch(0, number, walks, LENGTH)
        if device != "cpu":
            torch.cuda.synchronize()

    return speed(draw, walks, 1, time.process_time if device == "cpu" else time.perf_counter)


def networkx_speed(graph: Graph) -> float:
    """A walk over networkx's neighbours, weighted where the walk is biased."""
    chain = graph.chain
    made = networkx.DiGraph()
    made.add_weighted_edges_from(
        zip(chain.rows.tolist(), chain.nodes.tolist(), chain.probabilities.tolist(), strict=True)
    )
    unbiased = graph.sampler.unbiased

    def draw(number: int) -> list[int]:
        rng, walk = random.Random(number), [number % chain.size]
        while len(walk) < 20 * LENGTH:
            near = made[walk[-1]]
            if unbiased:
                walk.append(rng.choice(list(near)))
            else:
                walk += rng.choices(list(near), [edge["weight"] for edge in near.values()])
        return walk

    return speed(draw, 20, 1)


def list_speed(graph: Graph) -> float:
    """A walk over lists of neighbours and of their cumulative probabilities."""
    chain, unbiased = graph.chain, graph.sampler.unbiased
    near = [part.tolist() for part in np.split(chain.nodes, chain.starts[1:-1])]
    parts = np.split(chain.probabilities, chain.starts[1:-1])
    ends = [np.cumsum(part).tolist() for part in parts]

    def draw(number: int) -> list[int]:
        rng, walk = random.Random(number), [number % chain.size]
        while len(walk) < 20 * LENGTH:
            if unbiased:
                walk.append(rng.choice(near[walk[-1]]))
            else:
                walk += rng.choices(near[walk[-1]], cum_weights=ends[walk[-1]])
        return walk

    return speed(draw, 20, 1)


def choice_speed(graph: Graph) -> float:
    """A walk by numpy's choice from the row of the present node."""
    chain = graph.chain
    unbiased = graph.sampler.unbiased

    def draw(number: int) -> list[int]:
        rng, walk = np.random.default_rng(number), [number % chain.size]
        while len(walk) < 20 * LENGTH:
            row = slice(*chain.starts[walk[-1] : walk[-1] + 2])
            p = None if unbiased else chain.probabilities[row]
            walk.append(int(rng.choice(chain.nodes[row], p=p)))
        return walk

    return speed(draw, 20, 1)


if __name__ == "__main__":
    main()
