"""What is exactly known of a chain, against dense linear algebra and exhaustive enumeration."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from evaluation.files import InputError
from ladder.corpora import chain as chains
from ladder.corpora.chain import Chain, dense_chain, entropy
from ladder.corpora.chain_settings import GraphCorpus
from ladder.corpora.exact import exactly
from ladder.corpora.graphs import make_chain, make_edges


def graph_chain(**settings: object) -> Chain:
    config = GraphCorpus.model_validate({"kind": "graph", **settings})
    return make_chain(config, make_edges(config))


def sparse(matrix: np.ndarray) -> Chain:
    """A chain of a matrix of which nothing else is told."""
    made = dense_chain(matrix, np.ones(len(matrix)))
    return Chain(made.starts, made.nodes, made.probabilities, made.size)


def by_eigenvectors(matrix: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eig(matrix.T)
    found = np.real(vectors[:, np.argmin(np.abs(values - 1))])
    return found / found.sum()


CHAINS = {
    "unbiased": {"erdos_renyi": {"nodes": 30, "edges": 90}},
    "ranked": {"erdos_renyi": {"nodes": 30, "edges": 90}, "kappa": 1.5},
    "by degree": {"erdos_renyi": {"nodes": 30, "edges": 90}, "kappa": 0.7, "bias": "degree"},
    "directed": {"erdos_renyi": {"nodes": 30, "edges": 200}, "directed": True, "kappa": 1.0},
    "scale-free": {"barabasi_albert": {"nodes": 30, "attach": 2}},
    "a tree": {"barabasi_albert": {"nodes": 30, "attach": 1}},
    "a part": {
        "erdos_renyi": {"nodes": 30, "edges": 40},
        "connect": "giant",
        "kappa": 1.0,
        "seed": 1,
    },
}


@pytest.mark.parametrize("name", CHAINS)
@pytest.mark.parametrize("small", [512, 2])
def test_exact_quantities_are_those_of_dense_linear_algebra(
    name: str, small: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Small chains are solved densely; with SMALL at 2 the same ones go the way of big ones."""
    monkeypatch.setattr(chains, "SMALL", small)
    chain = graph_chain(**CHAINS[name])
    matrix = chain.dense()[np.ix_(chain.visited, chain.visited)]
    assert matrix.sum(axis=1) == pytest.approx(1, abs=1e-12)
    pi = by_eigenvectors(matrix)
    assert chain.stationary[chain.visited] == pytest.approx(pi, abs=1e-11)
    assert (chain.stationary[~chain.visited] == 0).all()
    logs = np.log(np.where(matrix > 0, matrix, 1))
    rate = -(pi[:, None] * matrix * logs).sum()
    assert chain.entropy_rate == pytest.approx(rate, rel=1e-10)
    moduli = np.sort(np.abs(np.linalg.eigvals(matrix)))
    assert chain.second_eigenvalue == pytest.approx(moduli[-2], rel=2e-3)
    # A chain of period p has p eigenvalues of modulus 1.
    assert chain.period == (moduli > 1 - 1e-9).sum() == (2 if name == "a tree" else 1)
    found = exactly(chain, "stationary", 7)
    pairs = (pi[:, None] * matrix).ravel()
    assert found.bigram_entropy == pytest.approx(entropy(pairs), rel=1e-10)
    assert found.unigram_entropy == pytest.approx(entropy(pi), rel=1e-10)
    assert found.floor == found.entropy_rate


def test_the_closed_form_is_what_power_iteration_finds() -> None:
    for settings in (CHAINS["unbiased"], CHAINS["by degree"]):
        chain = graph_chain(**settings)
        assert chain.weights is not None
        blind = Chain(chain.starts, chain.nodes, chain.probabilities, chain.size)
        assert chain.stationary == pytest.approx(blind.stationary, abs=1e-12)


def test_an_unbiased_walk_is_at_a_node_in_proportion_to_its_degree() -> None:
    chain = graph_chain(erdos_renyi={"nodes": 500, "edges": 3000})
    degrees = np.diff(chain.starts)
    assert chain.stationary == pytest.approx(degrees / 6000)
    assert chain.entropy_rate == pytest.approx((degrees * np.log(degrees)).sum() / 6000)


def test_the_mixing_time_is_computed_once_and_only_where_it_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = []

    def counted(chain: Chain) -> tuple[int | None, str]:
        asked.append(chain)
        return 7, ""

    monkeypatch.setattr("ladder.corpora.exact.mixing_time", counted)
    chain = graph_chain(**CHAINS["unbiased"])
    found = exactly(chain, "stationary", 7)
    assert found.floor == found.entropy_rate
    assert asked == []
    assert found.document()["mixing_time"] == found.mixing_time == 7
    assert "chain" not in found.document()
    assert asked == [chain]


@pytest.mark.parametrize("start", ["stationary", "uniform"])
def test_the_floor_of_short_sequences_is_that_of_all_sequences_enumerated(start: str) -> None:
    chain = graph_chain(erdos_renyi={"nodes": 6, "edges": 9}, kappa=1.0, seed=3)
    matrix, begin = chain.dense(), chain.begin(start)
    length, pair, single = 4, np.zeros((6, 6)), np.zeros(6)
    for walk in itertools.product(range(6), repeat=length + 1):
        p = begin[walk[0]]
        for one, other in itertools.pairwise(walk):
            p *= matrix[one, other]
        for one, other in itertools.pairwise(walk):
            pair[one, other] += p / length
            single[one] += p / length
    # What follows depends on the present node only, so the best loss is the conditional entropy.
    floor = -sum(
        pair[i, j] * np.log(matrix[i, j]) for i in range(6) for j in range(6) if matrix[i, j] > 0
    )
    found = exactly(chain, start, length)
    assert found.floor == pytest.approx(floor, rel=1e-12)
    assert found.unigram_entropy == pytest.approx(entropy(single), rel=1e-12)
    # Both of a pair's nodes: the conditional entropy is the same wherever the first one is.
    assert found.bigram_entropy == pytest.approx(entropy(pair.ravel()), rel=1e-12)
    assert (found.floor == found.entropy_rate) == (start == "stationary")


@pytest.mark.parametrize("small", [512, 1])
def test_periodic_chains_have_a_stationary_distribution_and_never_mix(
    small: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chains, "SMALL", small)
    three = sparse(np.array([[0, 0.3, 0.7, 0], [0, 0, 0, 1], [0, 0, 0, 1], [1.0, 0, 0, 0]]))
    assert three.period == 3
    assert three.stationary == pytest.approx([1 / 3, 0.1, 0.7 / 3, 1 / 3])
    assert three.entropy_rate == pytest.approx(entropy(np.array([0.3, 0.7])) / 3)
    assert three.second_eigenvalue == 1
    assert three.relaxation_time is None


def test_independent_tokens_have_the_entropy_of_their_distribution() -> None:
    p = np.array([0.5, 0.25, 0.25])
    chain = Chain(np.array([0, 3]), np.array([0, 2, 3]), p, 5)
    found = exactly(chain, "stationary", 9)
    assert found.entropy_rate == found.unigram_entropy == pytest.approx(1.5 * np.log(2))
    assert found.bigram_entropy == pytest.approx(3 * np.log(2))
    assert (found.nodes, found.transitions, found.second_eigenvalue) == (3, 9, 0)
    assert chain.stationary == pytest.approx([0.5, 0, 0.25, 0.25, 0])


@pytest.mark.parametrize("leak", [1e-6, 1e-20])
def test_parts_that_hardly_leak_into_each_other_are_solved_or_refused(
    leak: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two pairs of nodes; what leaks out of the first comes back a third as often."""
    pair = np.array([[0.5, 0.5], [0.5, 0.5]])
    matrix = np.kron(np.eye(2), pair)
    matrix[0, 2], matrix[2, 0] = leak, leak / 3
    slow = sparse(matrix)
    assert slow.stationary == pytest.approx([0.125, 0.125, 0.375, 0.375], rel=1e-5)
    if leak < 1e-9:
        with pytest.raises(InputError, match="walks hardly mix, too slowly to tell"):
            _ = slow.relaxation_time
    monkeypatch.setattr(chains, "SMALL", 1)
    with pytest.raises(InputError, match="stationary distribution does not settle: parts of"):
        _ = sparse(matrix).stationary
