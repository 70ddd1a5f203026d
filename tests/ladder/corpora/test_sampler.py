"""Samplers draw starts and transitions as often as the chain says, in numpy and in torch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import chi2

from ladder.corpora.chain import Chain
from ladder.corpora.chain_settings import GraphCorpus
from ladder.corpora.graph import Graph
from ladder.corpora.sampler import Sampler, make_aliases
from ladder.corpora.torch_sampler import TorchSampler

GRAPHS = {
    "unbiased": {"erdos_renyi": {"nodes": 40, "edges": 120}},
    "biased": {"erdos_renyi": {"nodes": 40, "edges": 120}, "kappa": 1.0},
    "uniform start": {"barabasi_albert": {"nodes": 40, "attach": 2}, "start": "uniform"},
    "part": {"erdos_renyi": {"nodes": 40, "edges": 40}, "connect": "giant", "kappa": 2.0},
}
SKEWED = Chain(np.array([0, 4]), np.array([1, 2, 4, 5]), np.array([0.6, 0.3, 0.099, 0.001]), 7)


def sampler_of(name: str) -> Sampler:
    if name == "independent":
        return Sampler(SKEWED, "stationary")
    settings = {"kind": "graph", **GRAPHS[name]}
    return Graph(GraphCorpus.model_validate(settings), None).sampler


def numpy_walks(sampler: Sampler, sequences: int, length: int) -> np.ndarray:
    return sampler.walk(np.random.default_rng(5).random((length, sequences)))


def torch_walks(sampler: Sampler, sequences: int, length: int) -> np.ndarray:
    return TorchSampler(sampler, "cpu").batch(5, 1, sequences, length).numpy()


def p_value(counts: np.ndarray, expected: np.ndarray) -> float:
    """Of a chi-square test, where what is too rare to be tested is lumped together."""
    assert (counts[expected == 0] == 0).all()
    common = expected >= 5
    counts = np.append(counts[common], counts[~common].sum())
    expected = np.append(expected[common], expected[~common].sum())
    kept = expected > 0
    statistic = ((counts - expected)[kept] ** 2 / expected[kept]).sum()
    return float(chi2.sf(statistic, kept.sum() - 1))


def transitions_p_value(walks: np.ndarray, matrix: np.ndarray) -> float:
    """Of a chi-square test of all transitions, given how often each node was left."""
    counts = np.zeros(matrix.shape)
    np.add.at(counts, (walks[:, :-1].ravel(), walks[:, 1:].ravel()), 1)
    expected = counts.sum(axis=1, keepdims=True) * matrix
    assert (counts[expected == 0] == 0).all()
    common = expected >= 5
    statistic = ((counts - expected)[common] ** 2 / expected[common]).sum()
    return float(chi2.sf(statistic, common.sum() - common.any(axis=1).sum()))


@pytest.mark.parametrize("draw", [numpy_walks, torch_walks])
@pytest.mark.parametrize("name", [*GRAPHS, "independent"])
def test_starts_and_transitions_pass_chi_square_tests(
    name: str, draw: Callable[[Sampler, int, int], np.ndarray]
) -> None:
    sampler = sampler_of(name)
    chain = sampler.chain
    walks = draw(sampler, 20_000, 12)
    assert walks.shape == (20_000, 12)
    starts = np.bincount(walks[:, 0], minlength=chain.size)
    assert p_value(starts, 20_000 * chain.begin(sampler.start)) > 1e-4
    assert transitions_p_value(walks, chain.dense()) > 1e-4
    assert (np.bincount(walks.ravel(), minlength=chain.size) > 0).tolist() == chain.visited.tolist()
    ends = np.bincount(walks[:, -1], minlength=chain.size)
    if sampler.start == "stationary":
        assert p_value(ends, 20_000 * chain.stationary) > 1e-4


def test_the_chi_square_test_sees_a_small_error() -> None:
    sampler = sampler_of("biased")
    chain = sampler.chain
    wrong = chain.dense()
    wrong = 0.95 * wrong + 0.05 * (wrong > 0) / (wrong > 0).sum(axis=1, keepdims=True)
    walks = numpy_walks(sampler, 20_000, 12)
    assert transitions_p_value(walks, wrong) < 1e-8
    assert p_value(np.bincount(walks[:, 0], minlength=40), np.full(40, 500.0)) < 1e-8


@pytest.mark.parametrize("degree", [1, 2, 3, 50])
def test_alias_tables_hold_exactly_the_probabilities(degree: int) -> None:
    rng = np.random.default_rng(degree)
    rows = rng.dirichlet(np.full(degree, 0.3), size=20)
    rows[0] = 1 / degree
    nodes = np.tile(np.arange(degree), 20) * 3
    chain = Chain(np.arange(21) * degree, nodes, rows.ravel(), 3 * degree)
    tables = make_aliases(chain)
    assert ((tables.shares >= 0) & (tables.shares <= 1)).all()
    found = np.zeros((20, 3 * degree))
    row = np.repeat(np.arange(20), degree)
    np.add.at(found, (row, nodes), tables.shares / degree)
    np.add.at(found, (row, tables.nodes), (1 - tables.shares) / degree)
    assert found[:, ::3] == pytest.approx(rows, abs=1e-9)


def test_the_ends_of_the_numbers_stay_inside_the_graph() -> None:
    for name in (*GRAPHS, "independent"):
        sampler = sampler_of(name)
        for number in (0.0, np.nextafter(1.0, 0.0)):
            walk = sampler.walk(np.full((50, 2), number))
            assert sampler.chain.visited[walk].all()
            if not sampler.chain.independent:
                assert (sampler.chain.dense()[walk[:, :-1], walk[:, 1:]] > 0).all()


def test_torch_walks_are_a_function_of_seed_and_step() -> None:
    sampler = TorchSampler(sampler_of("biased"), "cpu")
    one = sampler.batch(1, 7, 4, 9)
    assert (one == sampler.batch(1, 7, 4, 9)).all()
    assert not (one == sampler.batch(1, 8, 4, 9)).all()
    assert not (one == sampler.batch(2, 7, 4, 9)).all()
