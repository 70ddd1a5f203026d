"""Text as a corpus: tokenised once, mixed by weight, and its held-out loss; no torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from evaluation.files import InputError
from evaluation.suites import select
from evaluation.tasks import Task
from ladder.corpora import tokenizer as tokenizers
from ladder.corpora.continuations import make_continuations
from ladder.corpora.disk import full_disk_told, locked
from ladder.corpora.documents import find, is_held_out, read_unit, units
from ladder.corpora.mixture import Mixture, Part
from ladder.corpora.settings import TEXT_VALIDATION, Source, TextCorpus, TrainedTokenizer
from ladder.corpora.shards import Stream, Tokens, open_arrays, open_shards, read_index
from ladder.corpora.tokenise import Job, tokenise
from ladder.machine import cores
from ladder.section import Section

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from ladder.corpora import Scorer

ALL = slice(None)
SCORED = 2**14
"""Held-out tokens that are given to a model at once."""


class Text:
    """The corpus of one config; what it makes lies in `folder`, and is made by prepare()."""

    def __init__(self, config: TextCorpus, folder: Path) -> None:
        self.config, self.folder = config, folder
        self.validation = TEXT_VALIDATION
        self.entropy_rate: float | None = None
        encoding = tokenizers.read_encoding(self._tokenizer_folder)
        known = None if encoding is None else tokenizers.padded(encoding.size)
        self.vocabulary = config.vocabulary or known or config.vocabulary_size

    def prepare(self) -> None:
        """Make the tokenizer and the shards, or what is missing of them."""
        self._check_inputs()
        self._encoding()
        with locked(self.folder / ".lock"):
            workers = self.config.workers or cores()
            for source in self.config.sources:
                if not source.tokens:
                    tokenise(self._job(source), workers)
        self.__dict__.pop("_streams", None)
        self.__dict__.pop("_mixture", None)
        for source in self.config.sources:
            self._held_out(source)

    def tokenizer(self) -> PreTrainedTokenizerFast:
        """The tokenizer that is saved with every checkpoint."""
        self._encoding()
        return tokenizers.load_kept(self._tokenizer_folder)

    def tasks(self) -> list[Task]:
        """The tasks of the config: those `ladder evaluate` finds, and continuations.

        Reads documents for the latter until they are enough. Raises InputError for what is not
        found, or too little.
        """
        try:
            found = list(select(self.config.tasks).tasks)
        except InputError as error:
            raise InputError(f"corpus.tasks, {str(error).removeprefix('--tasks ')}") from None
        for wanted in self.config.continuations:
            if any(task.name == wanted.name for task in found):
                raise InputError(
                    f"corpus.continuations, {wanted.name}: corpus.tasks has one of that name; "
                    "choose another"
                )
            documents = [
                (source.name, source.weight, self._documents(source, held_out=True))
                for source in self.config.sources
                if not source.tokens
            ]
            found.append(make_continuations(wanted, documents, self.config.seed))
        return found

    def training(self) -> list[tuple[str, float, Stream]]:
        """Name, weight and training tokens of every source, after prepare()."""
        return [(s.name, s.weight, self._streams[s.name][0]) for s in self.config.sources]

    def floor(self, length: int) -> None:
        """Not known."""

    def exact(self, length: int) -> None:
        """Not known."""

    def batch(self, seed: int, step: int, sequences: int, length: int, rows: slice = ALL) -> Tokens:
        """Sequences of `length` tokens, (B, T): a pure function of its arguments.

        Steps count from 1. `rows` are those of the batch that are wanted: a rank makes its own
        only. Raises InputError where a source has too few tokens.
        """
        if step < 1:
            raise ValueError(f"step {step} is no step; they count from 1")
        begin = (step - 1) * sequences
        return self._mixture.rows(seed, begin, range(sequences)[rows], length)

    def check(self, sequences: int, length: int) -> None:
        """Raise InputError if a run of so many sequences takes more than the sources allow."""
        self._mixture.check(sequences, length)

    def validation_loss(self, scorer: Scorer, length: int) -> float:
        """Held-out loss, nats per token: the mean over sources, by their weights.

        Of each source the first held-out sequences of `length` tokens are scored, the same ones
        for every model, as many as its part of config.validation_tokens.
        """
        whole, total = sum(source.weight for source in self.config.sources), 0.0
        for source in self.config.sources:
            stream, share = self._held_out(source), source.weight / whole
            windows = (len(stream) - 1) // (length - 1)
            if windows < 1:
                raise InputError(
                    f"corpus.sources, {source.name}: its {len(stream):,} held-out tokens are fewer "
                    f"than a sequence's {length:,}; raise corpus.held_out, or validation_tokens"
                )
            most = max(1, round(share * self.config.validation_tokens / (length - 1)))
            starts = np.arange(min(windows, most)) * (length - 1)
            nats = 0.0
            for part in np.array_split(starts, -(-len(starts) * length // SCORED)):
                if len(part):
                    rows = stream.rows(part, length, self.vocabulary)
                    nats += float(np.asarray(scorer.nats(rows), dtype=np.float64).sum())
            total += share * nats / (len(starts) * (length - 1))
        return total

    @cached_property
    def _mixture(self) -> Mixture:
        parts = [
            Part(self._streams[source.name][0], source.weight, source.repeat)
            for source in self.config.sources
        ]
        return Mixture(parts, self.vocabulary, self.config.seed)

    @cached_property
    def _streams(self) -> dict[str, tuple[Stream, Stream]]:
        """Training and held-out tokens of each source."""
        return {source.name: self._open(source) for source in self.config.sources}

    def _open(self, source: Source) -> tuple[Stream, Stream]:
        if source.tokens:
            return self._open_tokens(source)
        job = self._job(source)
        index = read_index(job.folder)
        if index is None:
            raise InputError(
                f"corpus.sources, {source.name}: {job.folder} is not tokenised yet; "
                "`ladder tokenise` does that"
            )
        return open_shards(source.name, job.folder, index, self.vocabulary, self._encoding().digest)

    def _open_tokens(self, source: Source) -> tuple[Stream, Stream]:
        what = f"corpus.sources, {source.name}"
        held_out = find(source.validation, f"{what}, validation")
        paths = [p for p in find(source.tokens, what) if p not in held_out]
        dtype = source.dtype or ("uint16" if self.vocabulary <= 2**16 else "uint32")
        stream = open_arrays(source.name, paths, dtype, self.vocabulary)
        if held_out:
            return stream, open_arrays(source.name, held_out, dtype, self.vocabulary)
        size = len(stream)
        share = round(size * self.config.held_out)
        kept = source.validation_tokens or min(share, self.config.validation_tokens)
        if kept >= size:
            raise InputError(
                f"{what}: validation_tokens {kept:,} leaves none of its {size:,} tokens to train on"
            )
        return stream.part(0, size - kept), stream.part(size - kept, size)

    def _held_out(self, source: Source) -> Stream:
        stream = self._streams[source.name][1]
        if not len(stream):
            raise InputError(
                f"corpus.sources, {source.name}: none of its documents is held out; raise "
                "corpus.held_out, or set separator where a .txt file holds many documents"
            )
        return stream

    @cached_property
    def _tokenizer_folder(self) -> Path:
        keys = {"tokenizer", "end_token"}
        if isinstance(self.config.tokenizer, TrainedTokenizer):
            keys |= {"sources", "held_out"}
        return self.folder / f"tokenizer-{_short_digest(self.config, include=keys)}"

    def _encoding(self) -> tokenizers.Encoding:
        """What is known of the tokenizer, which is made where it is not yet there."""
        folder = self._tokenizer_folder
        encoding = tokenizers.read_encoding(folder)
        if encoding is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            with full_disk_told(self.folder), locked(self.folder / ".lock"):
                # Another process may have made it meanwhile.
                encoding = tokenizers.read_encoding(folder) or self._make_tokenizer()
        if self.vocabulary < encoding.size:
            raise InputError(
                f"corpus.vocabulary: {self.vocabulary} is below the tokenizer's {encoding.size}; "
                "raise it, or leave it out"
            )
        return encoding

    def _make_tokenizer(self) -> tokenizers.Encoding:
        wanted, name = self.config.tokenizer, str(self.config.tokenizer)
        if isinstance(wanted, TrainedTokenizer):
            from ladder.tables import note

            note(f"training a tokenizer of {wanted.train:,} tokens")
            texts = chain.from_iterable(map(self._sample, self.config.sources))
            found = tokenizers.wrapped(tokenizers.trained_tokenizer(wanted.train, texts))
        elif wanted == tokenizers.BYTES:
            found = tokenizers.wrapped(tokenizers.byte_tokenizer())
        else:
            found = tokenizers.load(wanted)
        return tokenizers.save(self._tokenizer_folder, found, self.config.end_token, name)

    def _sample(self, source: Source) -> Iterator[str]:
        """The documents of a source that the tokenizer learns from."""
        assert isinstance(self.config.tokenizer, TrainedTokenizer)  # noqa: S101
        if source.tokens:
            return
        with_text = [s.weight for s in self.config.sources if not s.tokens]
        left = self.config.tokenizer.characters * source.weight / sum(with_text)
        for text in self._documents(source, held_out=False):
            yield text[: int(left) + 1]
            left -= len(text)
            if left <= 0:
                return

    def _documents(self, source: Source, held_out: bool) -> Iterator[str]:
        """The documents of a source that are held out, or those that are trained on."""
        for unit in units(source):
            for text, _ in read_unit(source, unit):
                if is_held_out(text, self.config.held_out) == held_out:
                    yield text

    def _check_inputs(self) -> None:
        """Raise InputError for files that are needed and not there, before what takes hours."""
        for source in self.config.sources:
            what = f"corpus.sources, {source.name}"
            if source.tokens:
                find(source.tokens, what)
                find(source.validation, f"{what}, validation")
            elif read_index(self._job(source).folder) is None:
                units(source)

    def _job(self, source: Source) -> Job:
        """How a source is tokenised, in a folder for everything that decides the outcome."""
        made_by = _short_digest(self.config, include={"held_out", "shard_tokens"})
        read_by = _short_digest(source, exclude={"weight", "repeat"})
        whole = hashlib.sha256(f"{self._tokenizer_folder.name} {made_by} {read_by}".encode())
        return Job(
            source=source,
            tokenizer=self._tokenizer_folder,
            folder=self.folder / f"{source.name}-{whole.hexdigest()[:12]}",
            held_out=self.config.held_out,
            shard_tokens=self.config.shard_tokens,
        )


def _short_digest(section: Section, **which: Any) -> str:
    """Digest of some settings; those left at their defaults do not count, nor do new ones then."""
    document = section.model_dump(mode="json", exclude_defaults=True, **which)
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()[:12]
