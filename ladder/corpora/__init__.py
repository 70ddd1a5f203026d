"""Where tokens come from: every kind of corpus behind one interface."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from evaluation.tasks import Task
from ladder.corpora.chain_settings import GraphCorpus, NgramCorpus
from ladder.corpora.exact import Exact
from ladder.corpora.settings import SampledCorpus, TextCorpus, WalksCorpus

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

Tokens = NDArray[np.int64]
Array = NDArray[np.float64]


ALL = slice(None)


class Scorer(Protocol):
    """A model as a corpus sees it when it measures the held-out loss."""

    def log_probabilities(self, tokens: Tokens) -> Array:
        """Log-probabilities (B, T, V), nats, of what follows each of the tokens (B, T)."""

    def log_probabilities_of(
        self, tokens: Tokens, positions: NDArray[np.int64], nodes: NDArray[np.int64]
    ) -> Array:
        """Log-probabilities (K,), nats, that these nodes (K,) follow tokens (B, T).

        `positions` (K,) count through the tokens, row by row.
        """

    def nats(self, tokens: Tokens) -> Array:
        """Loss (B, T - 1), nats, of every token (B, T) but the first of each row."""


class Corpus(Protocol):
    """Tokens to train on, what to be scored on, and what is known of them."""

    vocabulary: int
    """Tokens that a model of it must know."""
    validation: str
    """Name of the held-out loss in the observations table, nats per token."""

    @property
    def entropy_rate(self) -> float | None:
        """The loss, nats per token, that no model can fall below in the long run, where known."""

    def floor(self, length: int) -> float | None:
        """The loss that no model can fall below on sequences of `length` tokens, where known."""

    def exact(self, length: int) -> Exact | None:
        """Entropies of sequences of `length` tokens, where they are known exactly."""

    def prepare(self) -> None:
        """Do once, before any rung trains, what takes long: tokenise. Resumes where it was."""

    def tokenizer(self) -> PreTrainedTokenizerFast:
        """The tokenizer that is saved with every checkpoint."""

    def tasks(self) -> list[Task]:
        """The tasks that belong to the corpus, to be written into the runs folder."""

    def batch(self, seed: int, step: int, sequences: int, length: int, rows: slice = ALL) -> Tokens:
        """Sequences of `length` tokens, (B, T): a pure function of its arguments.

        `rows` are those of the batch that are wanted: a rank makes its own only.
        """

    def check(self, sequences: int, length: int) -> None:
        """Raise InputError if a run of so many sequences takes more than there is."""

    def validation_loss(self, scorer: Scorer, length: int) -> float:
        """Held-out loss, nats per token, of a model on sequences of `length` tokens."""


AnyCorpus = WalksCorpus | GraphCorpus | NgramCorpus | TextCorpus | SampledCorpus
"""A section of a config that says where tokens come from."""


def open_corpus(config: AnyCorpus, folder: Path) -> Corpus:
    """The corpus of a config; `folder` is where it may keep what it makes, such as shards."""
    if isinstance(config, WalksCorpus):
        from ladder.corpora.walks import Walks

        return Walks(config)
    if isinstance(config, GraphCorpus):
        from ladder.corpora.graph import Graph

        return Graph(config, folder)
    if isinstance(config, NgramCorpus):
        from ladder.corpora.ngram import Ngram

        return Ngram(config, folder)
    if isinstance(config, SampledCorpus):
        from ladder.corpora.sampled import Sampled

        return Sampled(config, folder)
    from ladder.corpora.text import Text

    return Text(config, folder)
