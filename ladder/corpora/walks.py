"""Random walks on a complete weighted graph: tokens, tasks and the exact entropy rate; no torch.

The log-weight of the edge i -> j is gain * sum_k k^-decay u_ik v_jk with standard normal u and v;
the diagonal is left out and each row is normalised. The singular values fall as a power law, so a
model of width d, whose logits have rank d, meets a power law in d: the excess loss falls smoothly
through the ladder instead of collapsing once the graph fits.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from evaluation.files import InputError
from evaluation.tasks import Item, Task
from ladder.corpora.chain import dense_chain
from ladder.corpora.exact import Exact, exactly
from ladder.corpora.nodes import expected_loss, node_tokenizer, word
from ladder.corpora.settings import WALKS_VALIDATION, WalksCorpus, WalkTask

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from ladder.corpora import Scorer

Tokens = NDArray[np.int64]
Array = NDArray[np.float64]
ALL = slice(None)


class Walks:
    """The corpus of one config; every property is a pure function of it."""

    def __init__(self, config: WalksCorpus) -> None:
        self.config = config
        self.vocabulary = config.nodes
        self.validation = WALKS_VALIDATION

    def prepare(self) -> None:
        """Nothing: walks are made as they are needed."""

    @cached_property
    def transition(self) -> Array:
        """Transition probabilities, (V, V), rows sum to 1."""
        nodes, rng = self.config.nodes, np.random.default_rng([self.config.seed, 0])
        left, right = rng.standard_normal((2, nodes, nodes))
        singular = np.arange(1, nodes + 1) ** -self.config.decay
        log_weights: Array = self.config.gain * (left * singular) @ right.T
        np.fill_diagonal(log_weights, -np.inf)
        weights = np.exp(log_weights - log_weights.max(axis=1, keepdims=True))
        return np.asarray(weights / weights.sum(axis=1, keepdims=True))

    @cached_property
    def stationary(self) -> Array:
        """Stationary distribution, (V,): the solution of pi P = pi with sum 1."""
        nodes = self.config.nodes
        system = np.vstack([self.transition.T - np.eye(nodes), np.ones(nodes)])
        target = np.r_[np.zeros(nodes), 1.0]
        solution = np.linalg.lstsq(system, target, rcond=None)[0].clip(0)
        return np.asarray(solution / solution.sum())

    @cached_property
    def row_entropy(self) -> Array:
        """Entropy of the next node given the present one, nats, (V,)."""
        p = self.transition
        surprise: Array = -np.log(np.where(p > 0, p, 1))
        return np.asarray(np.einsum("ij,ij->i", p, surprise))

    @property
    def entropy_rate(self) -> float:
        """The loss, nats per token, that no model can fall below."""
        return float(self.stationary @ self.row_entropy)

    def floor(self, length: int) -> float:
        """The entropy rate: walks start stationary, so their length does not matter."""
        return self.entropy_rate

    def exact(self, length: int) -> Exact:
        """Entropies of the walks, and how fast they mix."""
        return exactly(dense_chain(self.transition, self.stationary), "stationary", length)

    def batch(self, seed: int, step: int, sequences: int, length: int, rows: slice = ALL) -> Tokens:
        """Walks of `length` nodes from a stationary start, (B, T): a function of (seed, step)."""
        return self._walk(np.random.default_rng([seed, step]), sequences, length)[rows]

    def check(self, sequences: int, length: int) -> None:
        """Nothing: there are walks without end."""

    def validation_loss(self, scorer: Scorer, length: int) -> float:
        """Expected cross-entropy, nats per token, of a model on held-out walks of `length` nodes.

        At each position the expectation over the next node is taken under the true transition
        matrix, and the walks' own mean entropy is replaced by the exact rate: what is left of
        sampling noise is that of the divergence.
        """
        rng = np.random.default_rng([self.config.seed, 1])
        walks = self._walk(rng, self.config.validation_walks, length)

        def cross_entropy(part: Tokens) -> Array:
            cross = -(self.transition[part] * scorer.log_probabilities(part)).sum(axis=-1)
            return np.asarray(cross)

        return expected_loss(walks, self.row_entropy, self.entropy_rate, cross_entropy, 8192)

    def tasks(self) -> list[Task]:
        """The config's tasks; raises InputError where the graph has too few fitting items."""
        return [self._task(i, task) for i, task in enumerate(self.config.tasks)]

    def tokenizer(self) -> PreTrainedTokenizerFast:
        """A word tokenizer: a node's word is its number in hexadecimal."""
        return node_tokenizer(self.config.nodes)

    @cached_property
    def _cumulative(self) -> Array:
        return np.cumsum(self.transition, axis=1)

    def _walk(self, rng: np.random.Generator, sequences: int, length: int) -> Tokens:
        last = self.config.nodes - 1
        walks = np.empty((sequences, length), dtype=np.int64)
        start = np.cumsum(self.stationary).searchsorted(rng.random(sequences))
        walks[:, 0] = np.minimum(start, last)
        for t in range(1, length):
            draw = rng.random((sequences, 1))
            step = (self._cumulative[walks[:, t - 1]] < draw).sum(axis=1)
            walks[:, t] = np.minimum(step, last)
        return walks

    def _task(self, index: int, task: WalkTask) -> Task:
        rng = np.random.default_rng([self.config.seed, 2, index])
        (first, last), (low, high) = task.answer_rank, task.ratio
        items: list[Item] = []
        for walk in self._walk(rng, 20 * task.items, self.config.context):
            p = self.transition[walk[-1]]
            answer = int(np.argsort(-p)[rng.integers(first - 1, last)])
            fitting = np.flatnonzero((p <= p[answer] / low) & (p >= p[answer] / high))
            if len(fitting) < task.choices - 1:
                continue
            nodes = rng.choice(fitting, task.choices - 1, replace=False).tolist()
            gold = int(rng.integers(task.choices))
            nodes.insert(gold, answer)
            items.append(
                Item(
                    id=str(len(items)),
                    context=" ".join(map(self._word, walk.tolist())),
                    choices=tuple(f" {self._word(node)}" for node in nodes),
                    gold=gold,
                )
            )
            if len(items) == task.items:
                return Task(task.name, tuple(items))
        raise InputError(
            f"corpus.tasks, {task.name}: only {len(items)} of {task.items} items fit "
            f"{task.choices} choices with ratio {list(task.ratio)}; widen ratio or ask for fewer"
        )

    def _word(self, node: int) -> str:
        return word(node, self.config.nodes)
