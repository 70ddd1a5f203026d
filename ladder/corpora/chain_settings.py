"""Typed configuration of graphs and of languages counted from text; fields say unit and source."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from ladder.corpora.settings import TextCorpus
from ladder.section import Name, Section

GRAPH_VALIDATION = "graph_validation"
"""Name of a graph's held-out loss in the observations table, nats per token."""

NGRAM_VALIDATION = "ngram_validation"
"""Name of a counted language's held-out loss in the observations table, nats per token."""


class ErdosRenyi(Section):
    """A graph of which every set of so many edges is as likely, G(n, m)."""

    nodes: int = Field(ge=2, le=2**22)
    """Nodes of the graph."""
    edges: int = Field(ge=1, le=2**28)
    """Edges between two different nodes, each counted once."""

    @model_validator(mode="after")
    def _possible(self) -> ErdosRenyi:
        # A directed graph has room for twice as many; which it is, only the corpus knows.
        if self.edges > self.nodes * (self.nodes - 1):
            raise ValueError(f"{self.nodes} nodes have no room for {self.edges} edges")
        return self


class BarabasiAlbert(Section):
    """A scale-free graph: each new node is joined to old ones in proportion to their degrees."""

    nodes: int = Field(ge=3, le=2**22)
    """Nodes of the graph."""
    attach: int = Field(ge=1, le=2**16)
    """Edges that a new node brings. The first attach + 1 nodes are a star, as in networkx."""

    @model_validator(mode="after")
    def _possible(self) -> BarabasiAlbert:
        if self.attach >= self.nodes:
            raise ValueError(f"attach {self.attach} must be below the {self.nodes} nodes")
        return self


class NextNode(Section):
    """A multiple-choice task on a graph: which of some nodes may come next.

    The right answer is drawn as the walk draws its next node; the others are drawn from the
    stationary distribution, of nodes to which no edge leads.
    """

    name: Name = "next_node"
    """The task's name in the observations table."""
    choices: int = Field(4, ge=2, le=64)
    """Choices of an item, the right one included."""
    items: int = Field(1000, ge=1)
    """Items of the task."""
    context: int = Field(4, ge=1)
    """Nodes before the choices."""


class GraphCorpus(Section):
    """Random walks on a sparse graph (after arXiv 2601.10684), whose entropy is known exactly.

    Where the paper's detail is not known, there is a setting: how walks are biased, where they
    start, and what becomes of a graph that is not connected.
    """

    kind: Literal["graph"]
    erdos_renyi: ErdosRenyi | None = None
    """The paper has 1,000 nodes with 5,000 edges, 8,000 with 50,000, 50,000 with 2,000,000."""
    barabasi_albert: BarabasiAlbert | None = None
    edges: str | None = Field(None, min_length=1)
    """A file with an edge a line, `from to` or `from to weight`, # before a comment; or one that
    networkx reads: .graphml, .gml, .gexf, .net (Pajek). Nodes may have any names without spaces;
    they are numbered in order, as numbers where all of them are. A weight, above 0, is how much
    likelier an edge is than one of weight 1."""
    directed: bool = False
    """Whether an edge is walked in its own direction only. A Barabasi-Albert graph cannot be: no
    edge leads back to new nodes."""
    connect: Literal["resample", "giant", "refuse"] = "resample"
    """What becomes of a graph on which a walk does not come from every node to every other.
    resample: another is drawn, up to 100; so all nodes are there, and the graph is as likely as
    any that is connected. giant: walks stay in the largest connected part; the other nodes keep
    their numbers, and never occur. refuse: an error; resample is one too for a file."""
    kappa: float = Field(0.0, ge=0, le=1e6)
    """Bias of walks; 0 takes every edge of a node with the same probability, or by its weight. The
    paper has 0 and 1."""
    bias: Literal["rank", "degree"] = "rank"
    """What kappa is the power of, for the paper's definition is not known. rank: the edges that
    leave a node are ranked in an order drawn for each node, and have weight rank^-kappa, Zipf's
    law; degree: an edge has weight degree^kappa of the node that it leads to (of the edges that
    lead there, where they have a direction)."""
    start: Literal["stationary", "uniform"] = "stationary"
    """Where walks begin: as they are found in the long run, or at any node alike. With uniform the
    first tokens are of another distribution than later ones, and the loss that no model can fall
    below depends on the length."""
    vocabulary: int | None = Field(None, ge=2, le=2**31)
    """Tokens that models know, at least the nodes; as many as nodes if left out."""
    seed: int = Field(0, ge=0)
    """Seed of the graph, the ranks, the held-out walks and the tasks."""
    validation_walks: int = Field(256, ge=1)
    """Held-out walks on which the expected loss is taken."""
    tasks: tuple[NextNode, ...] = ()
    """Tasks that the corpus writes."""

    @property
    def vocabulary_size(self) -> int:
        """Tokens that a model of it must know; reads the file, where edges come from one."""
        if self.vocabulary is not None:
            return self.vocabulary
        made = self.erdos_renyi or self.barabasi_albert
        if made is not None:
            return made.nodes
        from ladder.corpora.edges import read_edges

        return read_edges(str(self.edges), self.directed).size

    @model_validator(mode="after")
    def _one_graph(self) -> GraphCorpus:
        known = ("erdos_renyi", "barabasi_albert", "edges")
        given = [key for key in known if getattr(self, key) is not None]
        if len(given) != 1:
            raise ValueError(
                "must have exactly one of erdos_renyi, barabasi_albert and edges; it has "
                f"{' and '.join(given) or 'none'}"
            )
        if self.directed and self.barabasi_albert:
            raise ValueError("a barabasi_albert graph cannot be directed: walks could not return")
        made = self.erdos_renyi
        if made and not self.directed and made.edges > made.nodes * (made.nodes - 1) // 2:
            raise ValueError(f"{made.nodes} nodes have no room for {made.edges} edges")
        return self

    @model_validator(mode="after")
    def _tokens_known(self) -> GraphCorpus:
        made = self.erdos_renyi or self.barabasi_albert
        if made and self.vocabulary is not None and self.vocabulary < made.nodes:
            raise ValueError(
                f"vocabulary {self.vocabulary} is below the graph's {made.nodes} nodes; raise it, "
                "or leave it out"
            )
        names = [task.name for task in self.tasks]
        if len(set(names)) < len(names):
            raise ValueError("two tasks have the same name")
        if GRAPH_VALIDATION in names:
            raise ValueError(f"{GRAPH_VALIDATION} is the held-out loss's name; choose another")
        return self


class NgramCorpus(Section):
    """A language whose tokens, or pairs of tokens, are as frequent as in a text, and else random.

    The text is counted as a circle, its first token behind its last: no token is then without a
    next one, and the stationary distribution is exactly that of the text's tokens. Counts are not
    smoothed: the language is the counted one, and its entropy is known exactly.
    """

    kind: Literal["ngram"]
    order: Literal[1, 2] = 2
    """1: tokens are independent of each other (unigram); 2: the next token depends on the present
    one (bigram; arXiv 2601.10684)."""
    of: TextCorpus
    """The text: sources, tokenizer, vocabulary. Held-out documents are not counted; its tasks and
    continuations are not taken over. Sources count by their weights, `repeat` does not."""
    tokens: int | None = Field(None, ge=2)
    """Training tokens of each source that are counted at most, from its beginning; all by
    default."""
    seed: int = Field(0, ge=0)
    """Seed of the held-out sequences."""
    validation_sequences: int = Field(256, ge=1)
    """Held-out sequences on which the expected loss is taken."""

    @property
    def vocabulary_size(self) -> int:
        """Tokens that models know, padding included; may load a tokenizer to find out."""
        return self.of.vocabulary_size
