"""Graphs as a corpus: their edges, batches, losses and tasks, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from evaluation.files import InputError
from ladder.config import load_config
from ladder.corpora.chain_settings import GraphCorpus
from ladder.corpora.edges import barabasi_albert, erdos_renyi
from ladder.corpora.graph import Graph
from ladder.corpora.graphs import make_edges


def config_of(**settings: object) -> GraphCorpus:
    return GraphCorpus.model_validate({"kind": "graph", **settings})


ER = {"erdos_renyi": {"nodes": 60, "edges": 200}}


class Known:
    """A model that is a table of what follows a node."""

    def __init__(self, table: np.ndarray) -> None:
        self.table = table
        self.asked = 0

    def log_probabilities_of(
        self, tokens: np.ndarray, positions: np.ndarray, nodes: np.ndarray
    ) -> np.ndarray:
        self.asked = max(self.asked, tokens.size * len(self.table))
        return self.table[tokens.ravel()[positions], nodes]


@pytest.mark.parametrize("directed", [False, True])
@pytest.mark.parametrize("nodes", [30, 4000])
def test_erdos_renyi_graphs_have_as_many_different_edges_and_no_loops(
    nodes: int, directed: bool
) -> None:
    edges = erdos_renyi(nodes, 400, directed, np.random.default_rng(0))
    assert (edges.tails != edges.heads).all()
    if not directed:
        assert (edges.tails < edges.heads).all()
    assert len({*zip(edges.tails.tolist(), edges.heads.tolist(), strict=True)}) == 400
    assert max(edges.tails.max(), edges.heads.max()) < nodes


@pytest.mark.parametrize("listed", [2**22, 0])
def test_every_edge_of_an_erdos_renyi_graph_is_as_likely(
    listed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ladder.corpora.edges.LISTED", listed)
    rng, counts = np.random.default_rng(1), np.zeros((7, 7))
    for _ in range(3000):
        edges = erdos_renyi(7, 8, False, rng)
        np.add.at(counts, (edges.tails, edges.heads), 1)
    found = counts[np.triu_indices(7, 1)]
    # A given one of 21 pairs is among 8: mean 1142.9, variance 3000 x 8/21 x 13/21.
    assert abs(found - 3000 * 8 / 21).max() < 4.5 * np.sqrt(3000 * 8 / 21 * 13 / 21)


def test_barabasi_albert_graphs_have_the_edges_and_the_hubs_of_networkx() -> None:
    import networkx

    edges = barabasi_albert(3000, 3, np.random.default_rng(0))
    assert len(edges) == 2997 * 3
    graph = networkx.Graph(zip(edges.tails.tolist(), edges.heads.tolist(), strict=True))
    assert graph.number_of_edges() == 2997 * 3
    assert networkx.is_connected(graph)
    theirs = networkx.barabasi_albert_graph(3000, 3, seed=1)
    ours, other = (
        np.bincount([degree for _, degree in g.degree()], minlength=400)[:400]
        for g in (graph, theirs)
    )
    tail = [np.cumsum(d[::-1])[::-1][[4, 6, 10, 20, 40]] for d in (ours, other)]
    assert tail[0] == pytest.approx(tail[1], rel=0.35)
    assert ours[:3].sum() == 0


def test_a_graph_is_a_function_of_its_seed() -> None:
    one, same, other = (make_edges(config_of(**ER, seed=seed)) for seed in (3, 3, 4))
    assert (one.tails == same.tails).all()
    assert not np.array_equal(one.tails, other.tails)


def test_a_batch_is_a_function_of_seed_and_step_whichever_rows_are_asked_for(
    tmp_path: Path,
) -> None:
    for kappa in (0.0, 1.0):
        graph = Graph(config_of(**ER, kappa=kappa), tmp_path)
        one = graph.batch(1, 7, 6, 9)
        assert one.shape == (6, 9)
        assert (one == graph.batch(1, 7, 6, 9)).all()
        assert (one[2:5] == graph.batch(1, 7, 6, 9, slice(2, 5))).all()
        assert not (one == graph.batch(1, 8, 6, 9)).all()
        assert not (one == graph.batch(2, 7, 6, 9)).all()


@pytest.mark.parametrize("start", ["stationary", "uniform"])
def test_the_true_model_has_exactly_the_floor_as_its_loss_and_others_more(
    start: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ladder.corpora.chains.LOGITS", 60 * 40)
    graph = Graph(config_of(**ER, kappa=1.0, start=start, validation_walks=64), tmp_path)
    with np.errstate(divide="ignore"):
        truth = np.log(graph.chain.dense())
    model = Known(truth)
    assert graph.validation_loss(model, 12) == pytest.approx(graph.floor(12), rel=1e-12)
    assert model.asked <= 2 * 60 * 40
    blurred = np.log(0.9 * graph.chain.dense() + 0.1 / 60)
    divergence = (graph.chain.dense() * np.where(truth > -99, truth - blurred, 0)).sum(axis=1)
    loss = graph.validation_loss(Known(blurred), 12)
    assert loss > graph.floor(12)
    expected = graph.floor(12) + graph.chain.positions(start, 12) @ divergence
    assert loss == pytest.approx(expected, abs=4 * divergence.std() / np.sqrt(64 * 12))


def test_a_model_is_asked_as_a_table_would_answer() -> None:
    import torch

    from ladder.model import build_model
    from ladder.score import ModelScorer
    from ladder.settings import Model
    from ladder.shapes import Shape

    model = build_model(
        Model(sequence_length=8), Shape(layers=1, width=4, heads=1, hidden=8), 20, 0
    )
    scorer, tokens = ModelScorer(model.eval()), np.arange(12).reshape(2, 6)
    positions, nodes = np.array([0, 3, 11, 11]), np.array([5, 5, 2, 0])
    with torch.inference_mode():
        full = scorer.log_probabilities(tokens).reshape(12, 20)
        found = scorer.log_probabilities_of(tokens, positions, nodes)
    assert found == pytest.approx(full[positions, nodes], abs=1e-12)


def test_items_ask_for_the_one_node_to_which_an_edge_leads(tmp_path: Path) -> None:
    task = {"name": "next", "choices": 5, "items": 100, "context": 3}
    graph = Graph(config_of(**ER, tasks=[task]), tmp_path)
    (made,) = graph.tasks()
    assert len(made.items) == 100
    encode, matrix = graph.tokenizer().encode, graph.chain.dense()
    for item in made.items:
        walk = encode(item.context)
        assert len(walk) == 3
        nodes = [encode(choice)[0] for choice in item.choices]
        assert len(set(nodes)) == 5
        assert [matrix[walk[-1], node] > 0 for node in nodes] == [n == item.gold for n in range(5)]
    assert {item.gold for item in made.items} == set(range(5))
    crowded = {"erdos_renyi": {"nodes": 6, "edges": 15}, "tasks": [task]}
    with pytest.raises(InputError, match="next: only 0 of 100 items"):
        Graph(config_of(**crowded), tmp_path).tasks()


def test_runs_do_not_go_on_with_another_graph(tmp_path: Path) -> None:
    file = tmp_path / "graph.txt"
    file.write_text("0 1\n1 2\n2 0\n")
    config = config_of(edges=str(file))
    Graph(config, tmp_path / "corpus").prepare()
    Graph(config, tmp_path / "corpus").prepare()
    other = tmp_path / "other.txt"
    other.write_text("0 1\n1 2\n2 0\n0 3\n")
    with pytest.raises(InputError, match="not the one that these runs began with"):
        Graph(config_of(edges=str(other)), tmp_path / "corpus").prepare()


def test_a_bias_is_by_rank_in_an_order_of_each_node_or_by_degree(tmp_path: Path) -> None:
    graph = Graph(config_of(**ER, kappa=2.0), tmp_path)
    for node in range(60):
        begin, end = graph.chain.starts[node : node + 2]
        own = np.sort(graph.chain.probabilities[begin:end])[::-1]
        assert own / own[0] == pytest.approx(np.arange(1, end - begin + 1) ** -2.0)
    by_degree = Graph(config_of(**ER, kappa=2.0, bias="degree"), tmp_path).chain.dense()
    degrees = (by_degree > 0).sum(axis=0)
    expected = (by_degree > 0) * degrees**2.0
    assert by_degree == pytest.approx(expected / expected.sum(axis=1, keepdims=True))


SPARSE = {"erdos_renyi": {"nodes": 200, "edges": 120}}


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({}, "exactly one of erdos_renyi, barabasi_albert and edges; it has none"),
        ({**ER, "barabasi_albert": {"nodes": 9, "attach": 2}}, "it has erdos_renyi and barabasi"),
        ({"erdos_renyi": {"nodes": 5, "edges": 11}}, "5 nodes have no room for 11 edges"),
        ({"barabasi_albert": {"nodes": 5, "attach": 5}}, "attach 5 must be below the 5 nodes"),
        ({**ER, "kappa": -1}, "kappa"),
        ({**ER, "vocabulary": 50}, "vocabulary 50 is below the graph's 60 nodes"),
        ({"barabasi_albert": {"nodes": 9, "attach": 2}, "directed": True}, "cannot be directed"),
        ({**ER, "tasks": [{"name": "graph_validation"}]}, "held-out loss's name"),
    ],
)
def test_bad_settings_are_refused_in_one_line(settings: dict, problem: str) -> None:
    changes = [f"corpus={ ({'kind': 'graph', **settings}) }"]
    with pytest.raises(InputError, match=problem) as error:
        load_config("quickstart", tuple(changes))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        (SPARSE, "none of 100 graphs of 200 nodes and 120 edges is connected; ask for more edges"),
        (
            {**SPARSE, "connect": "refuse"},
            r"largest such part holds \d+ of 200 nodes; \d+ have no edges at all; add edges",
        ),
        ({**ER, "kappa": 500}, "corpus.kappa 500: leaves edges without any probability"),
        ({**ER, "kappa": 500, "bias": "degree"}, "corpus.kappa 500: leaves edges without any"),
    ],
)
def test_graphs_that_cannot_be_walked_are_refused_in_one_line(
    settings: dict, problem: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=problem) as error:
        _ = Graph(config_of(**settings), tmp_path).chain
    assert "\n" not in str(error.value)


def test_the_giant_part_keeps_its_numbers_and_the_rest_never_occurs(tmp_path: Path) -> None:
    graph = Graph(config_of(**SPARSE, connect="giant"), tmp_path)
    assert graph.vocabulary == 200
    assert graph.chain.visited.sum() < 200
    assert graph.chain.visited[graph.batch(0, 1, 500, 20)].all()
