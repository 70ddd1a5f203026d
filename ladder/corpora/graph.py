"""Random walks on a sparse graph as a corpus, with a task of its own; no torch."""

from __future__ import annotations

import hashlib
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from evaluation.files import InputError, read_json, write_json
from evaluation.tasks import Item, Task
from ladder.corpora.chain import Chain
from ladder.corpora.chain_settings import GRAPH_VALIDATION, GraphCorpus, NextNode
from ladder.corpora.chains import TASKS, Chains
from ladder.corpora.edges import Edges
from ladder.corpora.graphs import make_chain, make_edges
from ladder.corpora.nodes import node_tokenizer, word

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

KEPT = "graph.json"
"""What the runs' graph was, so that none goes on with another."""


class Graph(Chains):
    """The corpus of one config; `folder` is where prepare() notes which graph it was."""

    def __init__(self, config: GraphCorpus, folder: Path) -> None:
        self.config, self.folder = config, folder
        self.vocabulary = config.vocabulary_size
        self.validation = GRAPH_VALIDATION
        self.start = config.start
        self.held_out = (config.seed, config.validation_walks)

    @cached_property
    def graph(self) -> Edges:
        """The edges; raises InputError where they make no graph to walk on, or too big a one."""
        edges = make_edges(self.config)
        if edges.size > self.vocabulary:
            raise InputError(
                f"corpus.vocabulary {self.vocabulary}: is below the graph's {edges.size} nodes; "
                "raise it, or leave it out"
            )
        self.edges = len(edges)
        return edges

    @cached_property
    def chain(self) -> Chain:
        """The walk's chain."""
        return make_chain(self.config, self.graph)

    def prepare(self) -> None:
        """Note which graph it is; raises InputError where it is no longer what was noted.

        A file of edges may have changed since, or numpy's random numbers in another version.
        """
        total = hashlib.sha256(self.chain.nodes.tobytes() + self.chain.starts.tobytes())
        total.update(np.rint(self.chain.probabilities * 2.0**20).astype(np.int64).tobytes())
        now = {"version": 1, "sha256": total.hexdigest()}
        path = self.folder / KEPT
        if not path.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            write_json(path, now)
        elif read_json(path) != now:
            raise InputError(
                f"{path}: the graph is not the one that these runs began with; bring back the "
                "file of edges and the version of numpy, or give another --runs"
            )

    def tokenizer(self) -> PreTrainedTokenizerFast:
        """A word tokenizer: a node's word is its number in hexadecimal."""
        return node_tokenizer(self.vocabulary)

    def tasks(self) -> list[Task]:
        """The config's tasks; raises InputError where the graph has too few fitting items."""
        return [self._task(i, task) for i, task in enumerate(self.config.tasks)]

    def _task(self, index: int, task: NextNode) -> Task:
        rng = np.random.default_rng([self.config.seed, index, TASKS])
        chain, items = self.chain, list[Item]()
        for walk in self.sampler.walk(rng.random((task.context + 1, 20 * task.items))).tolist():
            last, answer = walk[-2:]
            others = chain.stationary.copy()
            others[chain.nodes[chain.starts[last] : chain.starts[last + 1]]] = 0
            if np.count_nonzero(others) < task.choices - 1:
                continue
            others /= others.sum()
            nodes = rng.choice(len(others), task.choices - 1, replace=False, p=others).tolist()
            gold = int(rng.integers(task.choices))
            nodes.insert(gold, answer)
            items.append(
                Item(
                    id=str(len(items)),
                    context=" ".join(word(node, self.vocabulary) for node in walk[:-1]),
                    choices=tuple(f" {word(node, self.vocabulary)}" for node in nodes),
                    gold=gold,
                )
            )
            if len(items) == task.items:
                return Task(task.name, tuple(items))
        raise InputError(
            f"corpus.tasks, {task.name}: only {len(items)} of {task.items} items have "
            f"{task.choices - 1} nodes that cannot come next; ask for fewer choices"
        )
