"""A language whose tokens, or pairs of tokens, are counted from a text, as a corpus; no torch.

What was counted lies in the corpus's folder; where it is, it is whole.
"""

from __future__ import annotations

import hashlib
import json
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from evaluation.files import InputError, atomic_write
from evaluation.tasks import Task
from ladder.corpora.chain import Array, Chain, Ints
from ladder.corpora.chain_settings import NGRAM_VALIDATION, NgramCorpus
from ladder.corpora.chains import Chains
from ladder.corpora.disk import full_disk_told, locked
from ladder.corpora.shards import Stream
from ladder.corpora.text import Text

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

CHUNK = 2**22
"""Tokens that are counted at once."""


class Ngram(Chains):
    """The corpus of one config; shards and counts lie in `folder`, and are made by prepare()."""

    def __init__(self, config: NgramCorpus, folder: Path) -> None:
        self.config, self.folder = config, folder
        self.text = Text(config.of, folder)
        self.vocabulary = self.text.vocabulary
        self.validation = NGRAM_VALIDATION
        self.held_out = (config.seed, config.validation_sequences)

    @cached_property
    def counts(self) -> Path:
        """File of what was counted, named after all that decides it."""
        of = self.config.of.model_dump(
            mode="json", exclude={"workers", "tasks", "continuations", "seed", "validation_tokens"}
        )
        own = [self.config.order, self.config.tokens, of]
        digest = hashlib.sha256(json.dumps(own, sort_keys=True).encode()).hexdigest()[:12]
        return self.folder / f"counts-{digest}.npz"

    def prepare(self) -> None:
        """Tokenise the text and count it, or what is missing of that."""
        self.text.prepare()
        with full_disk_told(self.folder), locked(self.folder / ".counts.lock"):
            if not self.counts.is_file():
                self._count()

    @cached_property
    def chain(self) -> Chain:
        """The counted chain; raises InputError where it was not counted yet."""
        if not self.counts.is_file():
            raise InputError(
                f"{self.counts}: is not counted yet; let `ladder train` or `ladder entropy` "
                "prepare the corpus first"
            )
        try:
            with np.load(self.counts, allow_pickle=False) as kept:
                starts, nodes, probabilities, weights = (
                    kept[key] for key in ("starts", "nodes", "probabilities", "weights")
                )
        except Exception as error:  # numpy, zip and zlib each have their own
            raise InputError(
                f"{self.counts}: cannot be read ({error}); remove it to count again"
            ) from error
        return Chain(starts, nodes, probabilities, self.vocabulary, weights)

    def tokenizer(self) -> PreTrainedTokenizerFast:
        """The text's tokenizer."""
        return self.text.tokenizer()

    def tasks(self) -> list[Task]:
        """None: what goes on in a text is not what goes on in this language."""
        return []

    def _count(self) -> None:
        size, whole = self.vocabulary, sum(weight for _, weight, _ in self.text.training())
        unigrams, pairs = np.zeros(size), Pairs(size)
        for name, weight, stream in self.text.training():
            tokens = min(len(stream), self.config.tokens or len(stream))
            if tokens < 2:
                raise InputError(f"corpus.of.sources, {name}: has no two tokens to count")
            share = weight / whole / tokens
            for begin in range(0, tokens, CHUNK):
                piece = _circle(stream, begin, min(begin + CHUNK, tokens), tokens, size)
                unigrams += share * np.bincount(piece[:-1], minlength=size)
                if self.config.order == 2:
                    pairs.add(piece, share)
        if self.config.order == 1:
            nodes = np.flatnonzero(unigrams)
            starts, probabilities = np.array([0, len(nodes)]), unigrams[nodes] / unigrams.sum()
        else:
            starts, nodes, probabilities = pairs.transitions()
            _check_joined(starts, nodes, unigrams)
        arrays: dict[str, Any] = {
            "starts": starts,
            "nodes": nodes,
            "probabilities": probabilities,
            "weights": unigrams,
        }

        def write(path: Path) -> None:
            with path.open("wb") as file:
                np.savez(file, **arrays)

        atomic_write(self.counts, write)


class Pairs:
    """Counts of pairs of tokens, sparse."""

    def __init__(self, size: int) -> None:
        from scipy.sparse import csr_array

        self.counts = csr_array((size, size))

    def add(self, tokens: Ints, share: float) -> None:
        """Count every token with the one behind it, `share` for each."""
        from scipy.sparse import coo_array

        ones = np.full(len(tokens) - 1, 1.0)
        found = coo_array((ones, (tokens[:-1], tokens[1:])), shape=self.counts.shape).tocsr()
        self.counts = self.counts + share * found

    def transitions(self) -> tuple[Ints, Ints, Array]:
        """Compressed rows of the probabilities of the next token."""
        counts = self.counts.tocsr()
        counts.sort_indices()
        starts, nodes = counts.indptr.astype(np.int64), counts.indices.astype(np.int64)
        rows = np.repeat(np.arange(counts.shape[0]), np.diff(starts))
        totals = np.bincount(rows, counts.data, minlength=counts.shape[0])
        return starts, nodes, np.asarray(counts.data / totals[rows])


def _circle(stream: Stream, begin: int, end: int, tokens: int, size: int) -> Ints:
    """Tokens from `begin` to `end` and the next one, the first behind the last of `tokens`."""
    piece = stream.rows(np.array([begin]), end - begin, size)[0]
    following = stream.rows(np.array([end % tokens]), 1, size)[0]
    return np.asarray(np.r_[piece, following])


def _check_joined(starts: Ints, nodes: Ints, unigrams: Array) -> None:
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components

    size = len(unigrams)
    graph = csr_array((np.ones(len(nodes)), nodes, starts), shape=(size, size))
    _, parts = connected_components(graph, directed=True, connection="strong")
    if len(np.unique(parts[unigrams > 0])) > 1:
        raise InputError(
            "corpus.of.sources: no token of one source occurs in another, so that no sequence "
            "leads from one to the other; count them in corpora of their own"
        )
