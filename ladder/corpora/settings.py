"""Typed configuration of corpora: random walks and text; every field says its unit and source."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from ladder.section import Name, Section

WALKS_VALIDATION = "walks_validation"
"""Name of the walks' held-out loss in the observations table, nats per token."""


class WalkTask(Section):
    """A multiple-choice task on the walk: which node comes next."""

    name: Name
    """The task's name in the observations table."""
    choices: int = Field(ge=2, le=64)
    """Choices of an item, the right one included."""
    answer_rank: tuple[int, int]
    """The right answer is drawn from the next nodes of these ranks by likelihood, both included."""
    ratio: tuple[float, float]
    """A distractor is between so many times less likely than the answer."""
    items: int = Field(1000, ge=1)
    """Items of the task."""

    @model_validator(mode="after")
    def _ordered(self) -> WalkTask:
        if not 1 < self.ratio[0] < self.ratio[1]:
            raise ValueError("ratio must be [low, high] with 1 < low < high")
        if not 1 <= self.answer_rank[0] <= self.answer_rank[1]:
            raise ValueError("answer_rank must be [first, last] with 1 <= first <= last")
        return self


class WalksCorpus(Section):
    """Random walks on a complete weighted graph whose entropy rate is known exactly."""

    kind: Literal["walks"]
    nodes: int = Field(256, ge=8, le=65536)
    """Nodes of the graph, the vocabulary."""
    decay: float = Field(1.0, gt=0)
    """Power at which the singular values of the log-weights fall: the dial of complexity."""
    gain: float = Field(2.0, gt=0)
    """Scale of the log-weights, nats; larger makes walks more predictable."""
    seed: int = Field(0, ge=0)
    """Seed of the graph and of the tasks."""
    validation_walks: int = Field(256, ge=1)
    """Held-out walks on which the expected loss is taken."""
    context: int = Field(8, ge=1)
    """Nodes of a task item's context."""
    tasks: tuple[WalkTask, ...] = ()
    """Tasks that the corpus writes."""

    @property
    def vocabulary_size(self) -> int:
        """Tokens that a model of it must know."""
        return self.nodes

    @model_validator(mode="after")
    def _names_differ(self) -> WalksCorpus:
        names = [task.name for task in self.tasks]
        if len(set(names)) < len(names):
            raise ValueError("two tasks have the same name")
        if WALKS_VALIDATION in names:
            raise ValueError(f"{WALKS_VALIDATION} is the held-out loss's name; choose another")
        if any(task.answer_rank[1] > self.nodes for task in self.tasks):
            raise ValueError("a task's answer_rank is beyond the graph's nodes")
        return self


TEXT_VALIDATION = "text_validation"
"""Name of the text's held-out loss in the observations table, nats per token."""

Patterns = tuple[str, ...]


class TrainedTokenizer(Section):
    """A byte-level BPE that is trained on the corpus, its held-out documents left out."""

    train: int = Field(ge=257, le=2**24)
    """Tokens of its vocabulary: 256 bytes, the end of a document, and merges."""
    characters: int = Field(100_000_000, ge=1)
    """Characters to learn from, taken from the sources' beginnings in the proportion of weights."""


class Dataset(Section):
    """A dataset read by Hugging Face's `datasets`."""

    path: str = Field(min_length=1)
    """Its name on the hub, or a folder."""
    subset: str | None = None
    """Its configuration, `sample-10BT`; the default one if left out."""
    split: str = "train"
    """Its split."""
    revision: str | None = None
    """A commit or tag of the hub, so that it stays what it was."""
    streaming: bool = False
    """Read without downloading it first. Each of its files is a worker's; resuming reads again."""
    documents: int | None = Field(None, ge=1)
    """Only so many, from the beginning; all if left out. When streaming, one worker reads them."""


class Source(Section):
    """Where a part of the corpus comes from: one of files, dataset or tokens."""

    name: Name
    """Names its shards and its share of the order of batches."""
    weight: float = Field(1.0, gt=0, le=1e9)
    """Its part of the sequences, relative to the other sources' weights."""
    repeat: float = Field(1.0, gt=0, le=1e6)
    """How often its tokens may be trained on at most; 1 is once."""
    files: Patterns = ()
    """Patterns of text files: .jsonl or .json (a document a line), .txt, .parquet. All but the
    last may be compressed by gzip, zstd or bzip2. `**` matches any number of folders, `~` is your
    home, and `{stdlib}` the standard library of the Python that runs, which is text at hand."""
    format: Literal["jsonl", "txt", "parquet"] | None = None
    """What files are whose names do not say it."""
    field: str = Field("text", min_length=1)
    """Key or column that holds a document's text, in files and datasets."""
    separator: str | None = Field(None, min_length=1)
    """What stands between two documents of a .txt file; a file is a document if left out, of at
    most 2^28 (268 million) characters."""
    dataset: Dataset | None = None
    """A dataset of Hugging Face."""
    tokens: Patterns = ()
    """Patterns of arrays of tokens that are used as they lie: .npy, or integers and nothing else,
    which is how OLMo (.npy too) and nanoGPT (.bin) write them."""
    dtype: Literal["uint16", "uint32"] | None = None
    """The integers of arrays that do not say it themselves, little-endian; if left out, the
    smaller that holds the vocabulary."""
    validation: Patterns = ()
    """Of arrays: those that are held out."""
    validation_tokens: int | None = Field(None, ge=2)
    """Of arrays: their last tokens, held out. If left out too, the corpus's share `held_out` of
    them, but no more than the corpus's `validation_tokens`."""

    @model_validator(mode="after")
    def _one_of(self) -> Source:
        given = [key for key in ("files", "dataset", "tokens") if getattr(self, key)]
        if len(given) != 1:
            raise ValueError(
                f"source {self.name} must have exactly one of files, dataset and tokens; it has "
                f"{' and '.join(given) or 'none'}"
            )
        if not self.tokens and (self.validation or self.validation_tokens):
            raise ValueError(
                f"source {self.name}: validation and validation_tokens are for arrays of tokens; "
                "of documents the corpus's share held_out is held out"
            )
        if self.validation and self.validation_tokens:
            raise ValueError(f"source {self.name}: give validation or validation_tokens, not both")
        return self


class Continuations(Section):
    """A multiple-choice task made of held-out documents: which of the pieces goes on."""

    name: Name = "continuation"
    """The task's name in the observations table."""
    items: int = Field(1000, ge=1)
    """Items of the task."""
    choices: int = Field(4, ge=2, le=64)
    """Choices of an item, the right one included; the others go on in other documents."""
    context: int = Field(96, ge=1)
    """Characters before the choices."""
    length: int = Field(32, ge=2)
    """Characters of a choice."""


class TextCorpus(Section):
    """Text, tokenised once into shards, or ready arrays of tokens."""

    kind: Literal["text"]
    tokenizer: TrainedTokenizer | str = Field(union_mode="left_to_right")
    """A Hugging Face tokenizer's name or folder, `bytes`, or `{train: 8192}` for a BPE of one's
    own."""
    end_token: str | None = Field(None, min_length=1)
    """The token behind every document; the tokenizer's own end-of-sequence if left out."""
    vocabulary: int | None = Field(None, ge=2, le=2**31)
    """Tokens that models know, at least the tokenizer's. If left out, the tokenizer's size; beyond
    1024 rounded up to a multiple of 128, which GPUs multiply faster."""
    sources: tuple[Source, ...] = Field(min_length=1)
    """Where documents and tokens come from."""
    held_out: float = Field(0.005, gt=0, lt=1)
    """Share of documents held out, by a hash of each: no other document moves them, and copies of
    one stay together. Of arrays of tokens, the share at the end."""
    validation_tokens: int = Field(1_000_000, ge=2)
    """Held-out tokens that the loss is measured on at most, divided by the sources' weights."""
    workers: int | None = Field(None, ge=1, le=4096)
    """Processes that tokenise; one a core if left out."""
    shard_tokens: int = Field(2**25, ge=1, le=2**34)
    """Tokens after which a shard is closed at the document's end; a worker holds as many."""
    tasks: tuple[str, ...] = ()
    """What rungs are scored on, as `ladder evaluate --tasks` takes it."""
    continuations: tuple[Continuations, ...] = ()
    """More tasks, which are made of the held-out documents."""
    seed: int = Field(0, ge=0)
    """Seed of the order of sequences, beside that of the experiment, and of the continuations."""

    @property
    def vocabulary_size(self) -> int:
        """Tokens that models know, padding included; may load a tokenizer to find out."""
        from ladder.corpora.tokenizer import BYTE_SIZE, BYTES, known_size, padded

        if self.vocabulary is not None:
            return self.vocabulary
        if isinstance(self.tokenizer, TrainedTokenizer):
            return padded(self.tokenizer.train)
        return padded(BYTE_SIZE if self.tokenizer == BYTES else known_size(self.tokenizer))

    @model_validator(mode="after")
    def _sources_differ(self) -> TextCorpus:
        names = [source.name for source in self.sources]
        if len(set(names)) < len(names):
            raise ValueError("two sources have the same name")
        trained = isinstance(self.tokenizer, TrainedTokenizer)
        if trained and all(source.tokens for source in self.sources):
            raise ValueError("a tokenizer cannot be trained on arrays of tokens; name theirs")
        if trained and self.end_token is not None:
            raise ValueError("end_token is for tokenizers that exist; one that is trained has one")
        return self

    @model_validator(mode="after")
    def _continuations_fit(self) -> TextCorpus:
        names = [task.name for task in self.continuations]
        if len(set(names)) < len(names):
            raise ValueError("two continuations have the same name")
        if TEXT_VALIDATION in names:
            raise ValueError(f"{TEXT_VALIDATION} is the held-out loss's name; choose another")
        if names and all(source.tokens for source in self.sources):
            raise ValueError("continuations are made of documents, and all sources are arrays")
        return self


SAMPLED_VALIDATION = "sampled_validation"
"""Name of a sampled language's held-out loss in the observations table, nats per token."""


class SampledCorpus(Section):
    """Sequences drawn from a trained model: a language as complex as the model that speaks it.

    TnL of arXiv 2601.10684, where temperature and budget are not known; every one is set here.
    """

    kind: Literal["sampled"]
    model: str = Field(min_length=1)
    """The speaker: a folder of a Hugging Face model with its tokenizer, or a run's folder, of
    which the newest checkpoint speaks."""
    temperature: float = Field(1.0, gt=0, le=100)
    """What the speaker's logits are divided by; below 1 its language is simpler."""
    length: int = Field(ge=1)
    """Tokens of a sequence, each drawn after all before it; model.sequence_length must be this."""
    sequences: int = Field(ge=1, le=10**9)
    """Sequences to train on, drawn once and kept."""
    repeat: float = Field(1.0, gt=0, le=1e6)
    """How often a sequence may be trained on at most; 1 is once."""
    held_out: int = Field(1024, ge=2)
    """More sequences, on which entropy and loss are taken."""
    start: int | None = Field(None, ge=0)
    """Token that every sequence goes on from, not learnt; the tokenizer's end (or beginning) of a
    document if left out."""
    seed: int = Field(0, ge=0)
    """Seed of what is drawn and of the order it comes in, beside that of the experiment."""

    @property
    def vocabulary_size(self) -> int:
        """Tokens that models must know: the speaker's."""
        from ladder.corpora.speaker import speaker_vocabulary

        return speaker_vocabulary(self.model)
