"""Files of edges: read as they are written, and refused with the line where they are not."""

from __future__ import annotations

from pathlib import Path

import networkx
import numpy as np
import pytest

from evaluation.files import InputError
from ladder.corpora.chain_settings import GraphCorpus
from ladder.corpora.edges import Edges, read_edges
from ladder.corpora.graph import Graph


def read(path: Path, text: str, directed: bool = False) -> Edges:
    path.write_text(text)
    read_edges.cache_clear()
    return read_edges(str(path), directed)


def test_nodes_are_numbered_in_order_and_weights_are_kept(tmp_path: Path) -> None:
    edges = read(tmp_path / "g.txt", "# a comment\n10 2 1.5\n\n2 7  # joined\n7 10\n10 7\n")
    assert edges.size == 3
    assert edges.tails.tolist() == [0, 0, 1]
    assert edges.heads.tolist() == [2, 1, 2]
    assert edges.weights is not None
    assert edges.weights.tolist() == [1.5, 1, 1]
    words = read(tmp_path / "w.txt", "b a\na c\n")
    assert (words.tails.tolist(), words.heads.tolist()) == ([0, 0], [1, 2])
    assert words.weights is None


def test_an_edge_is_taken_in_proportion_to_its_weight(tmp_path: Path) -> None:
    read(tmp_path / "g.txt", "0 1 3\n0 2 1\n1 2 1\n")
    graph = Graph(GraphCorpus(kind="graph", edges=str(tmp_path / "g.txt")), tmp_path)
    assert graph.vocabulary == 3
    assert graph.chain.dense()[0] == pytest.approx([0, 0.75, 0.25])
    assert graph.chain.stationary == pytest.approx([0.4, 0.4, 0.2])


def test_edges_have_a_direction_where_it_is_asked_for(tmp_path: Path) -> None:
    edges = read(tmp_path / "g.txt", "0 1\n1 0 2\n1 2\n2 0\n", directed=True)
    assert len(edges) == 4
    path = str(tmp_path / "g.txt")
    chain = Graph(GraphCorpus(kind="graph", edges=path, directed=True), tmp_path).chain
    assert chain.dense()[1] == pytest.approx([2 / 3, 0, 1 / 3])


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("0 1\n2\n", r"g.txt, line 2: must read `from to` or `from to weight`; it has 1 word$"),
        ("0 1\n\n1 2 3 4\n", "line 3: must read .* it has 4 words"),
        ("0 1 heavy\n", "line 1: the weight 'heavy' is no number above 0"),
        ("0 1 nan\n", "line 1: the weight 'nan'"),
        ("0 1 0\n", "line 1: the weight '0'"),
        ("0 1 1e400\n", "line 1: the weight '1e400'"),
        ("0 1\n1 0 2\n", "line 2: the edge from 1 to 0 is there already, with weight 1"),
        ("# nothing\n", "holds no edges"),
    ],
)
def test_a_malformed_file_is_refused_with_its_line(text: str, problem: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=problem) as error:
        read(tmp_path / "g.txt", text)
    assert "\n" not in str(error.value)


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_edges(str(tmp_path / "none.txt"), False)
    (tmp_path / "bytes.txt").write_bytes(b"0 1\n\xff\xfe 2\n")
    with pytest.raises(InputError, match="not UTF-8"):
        read_edges(str(tmp_path / "bytes.txt"), False)
    (tmp_path / "bad.graphml").write_text("<no xml")
    with pytest.raises(InputError, match=r"bad\.graphml: networkx cannot read it"):
        read_edges(str(tmp_path / "bad.graphml"), False)


def test_a_disconnected_file_is_refused(tmp_path: Path) -> None:
    read(tmp_path / "g.txt", "0 1\n2 3\n3 4\n")
    config = GraphCorpus(kind="graph", edges=str(tmp_path / "g.txt"))
    with pytest.raises(InputError, match="largest such part holds 3 of 5 nodes; add edges"):
        _ = Graph(config, tmp_path).chain


@pytest.mark.parametrize("ending", ["graphml", "gml", "gexf", "net"])
def test_what_networkx_writes_is_the_same_walk(ending: str, tmp_path: Path) -> None:
    graph = networkx.karate_club_graph()
    path = tmp_path / f"karate.{ending}"
    writers = {"net": networkx.write_pajek, "gml": networkx.write_gml}
    plain = networkx.Graph()
    plain.add_weighted_edges_from((str(i), str(j), d["weight"]) for i, j, d in graph.edges.data())
    writers.get(ending, getattr(networkx, f"write_{ending}", None))(plain, path)
    chain = Graph(GraphCorpus(kind="graph", edges=str(path)), tmp_path).chain
    matrix = networkx.to_numpy_array(graph)
    assert chain.dense() == pytest.approx(matrix / matrix.sum(axis=1, keepdims=True))


def test_graphs_of_networkx_with_a_direction_or_a_lonely_node_are_refused(tmp_path: Path) -> None:
    networkx.write_gml(networkx.DiGraph([("a", "b")]), tmp_path / "d.gml")
    with pytest.raises(InputError, match=r"is a directed graph; set corpus\.directed: true"):
        read_edges(str(tmp_path / "d.gml"), False)
    graph = networkx.Graph([("a", "b")])
    graph.add_node("c")
    networkx.write_gml(graph, tmp_path / "l.gml")
    with pytest.raises(InputError, match="node c has no edges"):
        read_edges(str(tmp_path / "l.gml"), False)
    assert np.array_equal(read_edges(str(tmp_path / "d.gml"), True).tails, [0])
