"""The exact mixing time, against step after step of the transition matrix and closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from ladder.corpora import mixing
from ladder.corpora.chain import Chain, dense_chain, eliminated
from ladder.corpora.chain_settings import GraphCorpus
from ladder.corpora.graphs import make_chain, make_edges
from ladder.corpora.mixing import mixing_time


def graph_chain(**settings: object) -> Chain:
    config = GraphCorpus.model_validate({"kind": "graph", **settings})
    return make_chain(config, make_edges(config))


def of_matrix(matrix: np.ndarray) -> Chain:
    return dense_chain(matrix, eliminated(matrix))


def step_by_step(chain: Chain, distance: float) -> int:
    """Distributions from every start, moved on one step at a time."""
    kept = np.flatnonzero(chain.visited)
    for steps in range(100_000):
        if steps == 0:
            now = [np.eye(chain.size)[node] for node in kept]
        if max(np.abs(d - chain.stationary).sum() / 2 for d in now) <= distance:
            return steps
        now = [chain.advance(d) for d in now]
    raise AssertionError


GRAPHS = {
    "sparse": {"erdos_renyi": {"nodes": 30, "edges": 60}, "connect": "giant"},
    "dense": {"erdos_renyi": {"nodes": 30, "edges": 200}},
    "biased": {"erdos_renyi": {"nodes": 30, "edges": 90}, "kappa": 2.0},
    "directed": {"erdos_renyi": {"nodes": 30, "edges": 200}, "directed": True, "kappa": 1.0},
    "scale-free": {"barabasi_albert": {"nodes": 40, "attach": 2}},
}


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("distance", [0.9, 0.25, 0.1, 1e-3])
def test_it_is_the_step_at_which_the_worst_start_is_within_the_distance(
    name: str, distance: float
) -> None:
    chain = graph_chain(**GRAPHS[name])
    assert mixing_time(chain, distance) == (step_by_step(chain, distance), "")


@pytest.mark.parametrize("stay", [0.5, 0.6, 0.75, 0.9, 0.99, 0.9999])
def test_two_nodes_mix_as_their_second_eigenvalue_says(stay: float) -> None:
    """From either node the distance is (2 stay - 1)^t / 2."""
    chain = of_matrix(np.array([[stay, 1 - stay], [1 - stay, stay]]))
    eigenvalue = 2 * stay - 1
    wanted = 1 if eigenvalue < 1e-9 else int(np.ceil(np.log(0.5) / np.log(eigenvalue) - 1e-9))
    assert mixing_time(chain) == (wanted, "")


def test_independent_tokens_are_mixed_after_one_step_and_a_single_node_at_once() -> None:
    chain = Chain(np.array([0, 3]), np.array([0, 2, 3]), np.array([0.5, 0.25, 0.25]), 5)
    assert mixing_time(chain) == (1, "")
    assert mixing_time(of_matrix(np.ones((1, 1)))) == (0, "")


def test_where_there_is_none_the_reason_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    tree = graph_chain(barabasi_albert={"nodes": 30, "attach": 1})
    assert mixing_time(tree) == (None, "never, for its period is 2")
    slow = of_matrix(np.array([[1 - 1e-8, 1e-8], [1e-8, 1 - 1e-8]]))
    assert mixing_time(slow) == (None, "more than 1,048,576 steps")
    monkeypatch.setattr(mixing, "MOST_NODES", 29)
    big = graph_chain(**GRAPHS["dense"])
    assert mixing_time(big) == (None, "not computed for more than 29 nodes")
