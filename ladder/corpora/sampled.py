"""A language spoken by a trained model: drawn once, kept, with its entropy known closely.

What a model of it loses is measured as an expectation: at every position of the held-out sequences
the speaker's own probabilities weigh the model's, so that only the divergence carries noise.
"""

from __future__ import annotations

import hashlib
import json
import math
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from evaluation.bounds import read_array
from evaluation.checksums import tell_unverified
from evaluation.files import InputError, atomic_write, read_json, whole_digest, write_json
from evaluation.tasks import Task
from ladder.corpora.disk import full_disk_told, locked
from ladder.corpora.mixture import ROUNDS, permuted
from ladder.corpora.settings import SAMPLED_VALIDATION, SampledCorpus
from ladder.corpora.speaker import Speaker
from ladder.section import Section

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from ladder.corpora import Scorer

Tokens = NDArray[np.int64]
ALL = slice(None)

BLOCK = 4096
"""Sequences that are drawn at once and lie in one file."""
SCORED = 2**22
"""Probabilities of the speaker that are held at once, 32 MiB."""
ENTROPY = "entropy.json"
DRAWN = ("speaker", "temperature", "length", "sequences", "held_out", "start", "seed")
"""What sequences follow from."""


class Index(Section):
    """What was drawn from what; written last, so where it is, all sequences are."""

    version: int = 1
    speaker: str
    """Digest of the speaker's weights."""
    temperature: float
    length: int
    sequences: int
    held_out: int
    start: int
    seed: int
    entropy_rate: float = Field(ge=0)
    """Mean over the held-out sequences, nats per token."""
    entropy_se: float = Field(ge=0)
    """Its standard error."""
    sha256: dict[str, str] | None = None
    """Digest of every file of sequences by its name; None in a folder of an older ladder."""


class Sampled:
    """The corpus of one config; what was drawn lies in `folder`, and is drawn by prepare()."""

    def __init__(self, config: SampledCorpus, folder: Path) -> None:
        self.config, self.folder = config, folder
        self.validation = SAMPLED_VALIDATION
        self.vocabulary = config.vocabulary_size
        self.speaker = Speaker(config.model, config.temperature)

    @property
    def entropy_rate(self) -> float | None:
        """Entropy of a token given those before it in its sequence, nats; None until drawn."""
        return self._index.entropy_rate if (self.folder / ENTROPY).is_file() else None

    @property
    def entropy_se(self) -> float | None:
        """Standard error of the entropy rate; None until drawn."""
        return self._index.entropy_se if (self.folder / ENTROPY).is_file() else None

    def floor(self, length: int) -> float | None:
        """The entropy rate: of what was drawn, whose length is fixed."""
        return self.entropy_rate

    def exact(self, length: int) -> None:
        """Not known exactly."""

    def prepare(self) -> None:
        """Draw what is missing; raises InputError where it was drawn from another speaker."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with full_disk_told(self.folder), locked(self.folder / ".lock"):
            if not (self.folder / ENTROPY).is_file():
                self._draw()
        self.__dict__.pop("_index", None)
        given, drawn = self._wanted(), self._index.model_dump()
        if other := [key for key, value in given.items() if drawn[key] != value]:
            raise InputError(
                f"{self.folder}: was drawn with another {other[0]}; remove the folder to draw anew"
            )

    def tasks(self) -> list[Task]:
        """None: what the speaker says has no right answers."""
        return []

    def tokenizer(self) -> PreTrainedTokenizerFast:
        """The speaker's."""
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(str(self.speaker.folder), trust_remote_code=False)

    def batch(self, seed: int, step: int, sequences: int, length: int, rows: slice = ALL) -> Tokens:
        """Sequences of `length` tokens, the start first, (B, T): a function of (seed, step)."""
        self._check_length(length)
        numbers = (step - 1) * sequences + np.arange(sequences, dtype=np.int64)[rows]
        passes, places = np.divmod(numbers, self.config.sequences)
        found = np.empty((len(numbers), length), dtype=np.int64)
        for epoch in np.unique(passes).tolist():
            rng = np.random.default_rng([seed, self.config.seed, epoch])
            keys = rng.integers(0, 2**64, ROUNDS, dtype=np.uint64)
            here = np.flatnonzero(passes == epoch)
            for row, place in zip(
                here, permuted(places[here], self.config.sequences, keys).tolist(), strict=True
            ):
                found[row] = self._block(place // BLOCK)[place % BLOCK]
        return found

    def check(self, sequences: int, length: int) -> None:
        """Raise InputError if a run of so many sequences takes more than were drawn."""
        self._check_length(length)
        if sequences > self.config.repeat * self.config.sequences:
            raise InputError(
                f"corpus.sequences: the run needs {sequences:,} and {self.config.sequences:,} are "
                "drawn; raise it, or allow repeat: "
                f"{math.ceil(100 * sequences / self.config.sequences) / 100:g}"
            )

    def validation_loss(self, scorer: Scorer, length: int) -> float:
        """Expected cross-entropy, nats per token, on the held-out sequences of `length` tokens.

        Each of them is predicted: the first from the start alone.
        """
        self._check_length(length + 1)
        held_out = self._array("held-out")
        tokens = max(1, SCORED // self.vocabulary)
        divergence = 0.0
        for part in np.array_split(held_out, -(-held_out.size // tokens)):
            if not len(part):
                continue
            known = part[:, :-1].astype(np.int64)
            true = self.speaker.log_probabilities(known)
            told = np.asarray(scorer.log_probabilities(known))
            divergence += float((np.exp(true) * (true - told)).sum())
        positions = len(held_out) * self.config.length
        return self._index.entropy_rate + divergence / positions

    def _wanted(self) -> dict[str, Any]:
        own = self.config
        start = self.speaker.start() if own.start is None else own.start
        return {
            "speaker": self.speaker.digest(),
            "temperature": own.temperature,
            "length": own.length,
            "sequences": own.sequences,
            "held_out": own.held_out,
            "start": start,
            "seed": own.seed,
        }

    def _draw(self) -> None:
        """Draw block by block; those that lie there whole are kept."""
        from ladder.tables import note

        config, wanted = self.config, self._wanted()
        window = self.speaker.loaded.window
        if window is not None and config.length > window:
            raise InputError(
                f"corpus.length: {config.length} is beyond the {window} tokens that the speaker "
                "takes; shorten it"
            )
        if not 0 <= wanted["start"] < self.vocabulary:
            raise InputError(
                f"corpus.start: {wanted['start']} is beyond the speaker's {self.vocabulary} tokens"
            )
        note(f"drawing {config.sequences:,} sequences of {config.length} tokens")
        for number in range(-(-config.sequences // BLOCK)):
            path = self._path(str(number), wanted)
            if not path.is_file():
                size = min(BLOCK, config.sequences - number * BLOCK)
                rng = np.random.default_rng([config.seed, 0, number])
                drawn = self.speaker.draw(wanted["start"], size, config.length, rng)
                self._write(path, drawn.tokens)
        rng = np.random.default_rng([config.seed, 1])
        drawn = self.speaker.draw(wanted["start"], config.held_out, config.length, rng)
        self._write(self._path("held-out", wanted), drawn.tokens)
        entropy = drawn.entropy
        names = [*map(str, range(-(-config.sequences // BLOCK))), "held-out"]
        paths = [self._path(name, wanted) for name in names]
        index = Index(
            **wanted,
            entropy_rate=float(entropy.mean()),
            entropy_se=float(entropy.std(ddof=1) / math.sqrt(len(entropy))),
            sha256={path.name: whole_digest(path) for path in paths},
        )
        write_json(self.folder / ENTROPY, index.model_dump(), sealed=True)

    def _write(self, path: Path, tokens: Tokens) -> None:
        kind = np.uint16 if self.vocabulary <= 2**16 else np.uint32

        def write(temporary: Path) -> None:
            with temporary.open("wb") as file:
                np.save(file, tokens.astype(kind))

        atomic_write(path, write)

    def _path(self, name: str, drawn: dict[str, Any] | None = None) -> Path:
        """A file of sequences, by what they were drawn with: none of another passes for it."""
        given = drawn or self._index.model_dump(include=set(DRAWN))
        digest = hashlib.sha256(json.dumps(given, sort_keys=True).encode()).hexdigest()
        return self.folder / f"{digest[:16]}-{name}.npy"

    def _block(self, number: int) -> NDArray[Any]:
        return self._array(str(number))

    def _array(self, name: str) -> NDArray[Any]:
        if name not in self._arrays:
            path = self._path(name)
            known = self._index.sha256
            if known is None:
                tell_unverified(str(self.folder), "drawn sequences")
            try:
                # Once a process, for a file that is about to be read here and there anyway.
                if known is not None and whole_digest(path) != known.get(path.name):
                    raise ValueError("it is not what was written")
                self._arrays[name] = read_array(path)
            except (OSError, ValueError) as error:
                raise InputError(
                    f"{path}: cannot be read ({error}); remove {self.folder} to draw anew"
                ) from error
        return self._arrays[name]

    @cached_property
    def _arrays(self) -> dict[str, NDArray[Any]]:
        return {}

    @cached_property
    def _index(self) -> Index:
        path = self.folder / ENTROPY
        try:
            return Index(**read_json(path))
        except (ValidationError, TypeError) as error:
            raise InputError(f"{path}: not as it was written; remove it to draw anew") from error

    def _check_length(self, length: int) -> None:
        if length != self.config.length + 1:
            raise InputError(
                f"corpus.length: {self.config.length} must be model.sequence_length, {length - 1}"
            )
