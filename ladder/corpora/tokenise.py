"""Documents -> shards, once, in worker processes; resumes after any end; no torch.

What a unit of documents becomes depends on nothing but its documents and the config, so the shards
are the same bytes whoever made them and however often that was interrupted. A shard is followed by
a record of how many documents it took; the index, which replaces all records, comes last.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluation.files import InputError, read_json, write_json
from ladder.corpora.disk import full_disk_told
from ladder.corpora.documents import Unit, is_held_out, read_unit, source_digest, units
from ladder.corpora.settings import Source
from ladder.corpora.shards import Index, Shard, read_index, write_index, write_shard
from ladder.corpora.tokenizer import plain_encoder, read_encoding
from ladder.section import Section

Report = Callable[[float], None]
"""Is told the share of a unit that is done."""
Ids = NDArray[Any]

BEGUN = "begun.json"
"""What the shards of an unfinished folder are made from."""
BATCH_DOCUMENTS, BATCH_CHARACTERS = 1024, 2**21
"""Documents that are tokenised at once at most."""
PIECE = 2**18
"""Characters after which a long document is cut at a line's end: memory grows with a piece."""


class Job(Section):
    """What a worker is told once."""

    source: Source
    tokenizer: Path
    """Folder of the tokenizer."""
    folder: Path
    """Folder of the shards."""
    held_out: float
    shard_tokens: int


class Record(Section):
    """One shard's worth of a unit, done."""

    train: Shard | None
    held_out: Shard | None
    read: int
    """Documents of the unit that are done, from its beginning."""
    last: bool
    """Whether the unit is done."""


@dataclass
class _Open:
    """A shard that is being filled."""

    train: list[Ids]
    held_out: list[Ids]
    tokens: int = 0


def tokenise(job: Job, workers: int) -> Index:
    """Make what is missing of a source's shards; raises InputError for what stands in the way."""
    encoding = read_encoding(job.tokenizer)
    assert encoding is not None, "the tokenizer comes first"  # noqa: S101
    name, folder = f"corpus.sources, {job.source.name}", job.folder
    made_from = {"source": source_digest(job.source), "tokenizer": encoding.digest}
    index = read_index(folder)
    if index is not None:
        # Shards outlive what they were made from, which may have been removed since.
        _check_same(name, folder, made_from, index.model_dump())
        _tidy(folder)
        return index
    with full_disk_told(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.glob(".*.tmp"):
            left.unlink(missing_ok=True)
        found = list(enumerate(units(job.source)))
        if (folder / BEGUN).exists():
            _check_same(name, folder, made_from, read_begun(folder))
        else:
            write_json(folder / BEGUN, made_from, sealed=True)
        pending = [(n, unit) for n, unit in found if not _is_done(folder, n)]
        _make(job, pending, workers)
        records = [record for n, _ in found for record in _records(folder, n)]
        index = Index(
            source=str(made_from["source"]),
            tokenizer=encoding.digest,
            dtype=_dtype(encoding.size).name,
            train=tuple(r.train for r in records if r.train is not None),
            held_out=tuple(r.held_out for r in records if r.held_out is not None),
        )
        if not index.train:
            raise InputError(
                f"{name}: holds no text to train on; name other files, or lower corpus.held_out"
            )
        write_index(folder, index)
    _tidy(folder)
    return index


def make_unit(job: Job, number: int, unit: Unit, report: Report) -> None:
    """Tokenise what is left of a unit."""
    encode = _encoder(job.tokenizer)
    records = _records(job.folder, number)
    read = records[-1].read if records else 0
    part, done = len(records), _Open([], [])

    def close(last: bool) -> None:
        nonlocal part, done
        stem = f"{number:06d}-{part:04d}"
        record = Record(
            train=write_shard(job.folder, f"{stem}.train.bin", done.train),
            held_out=write_shard(job.folder, f"{stem}.held_out.bin", done.held_out),
            read=read,
            last=last,
        )
        write_json(job.folder / f"{stem}.json", record.model_dump(mode="json"), sealed=True)
        part, done = part + 1, _Open([], [])

    with full_disk_told(job.folder):
        for batch in _batches(islice(read_unit(job.source, unit), read, None)):
            texts = [text for text, _ in batch]
            for text, ids in zip(texts, encode(texts), strict=True):
                is_held = is_held_out(text, job.held_out)
                (done.held_out if is_held else done.train).append(ids)
                read, done.tokens = read + 1, done.tokens + len(ids)
                if done.tokens >= job.shard_tokens:
                    close(last=False)
            report(batch[-1][1])
        close(last=True)
    report(1.0)


def _make(job: Job, pending: list[tuple[int, Unit]], workers: int) -> None:
    from ladder.corpora.workers import make_in_processes
    from ladder.progress import scoring

    if not pending:
        return
    whole = sum(unit.size for _, unit in pending) or 1
    shares: dict[int, float] = {}
    sizes = {number: unit.size for number, unit in pending}
    last = 0.0
    with scoring(True) as bars:
        update = bars(f"tokenising {job.source.name}")

        def report(number: int, share: float) -> None:
            nonlocal last
            shares[number] = share * sizes[number]
            # Not every batch redraws a bar, which costs more than some batches.
            if time.monotonic() - last > 0.1:
                last = time.monotonic()
                update(min(1.0, sum(shares.values()) / whole))

        if workers == 1:
            for number, unit in pending:
                make_unit(job, number, unit, partial(report, number))
        else:
            make_in_processes(job, pending, workers, report)
        update(1.0)


def _encoder(folder: Path) -> Callable[[list[str]], list[Ids]]:
    """A function from documents to their tokens, each with the end of a document behind it."""
    encoding = read_encoding(folder)
    assert encoding is not None, "the tokenizer comes first"  # noqa: S101
    kind = _dtype(encoding.size)
    end = np.array([encoding.end], kind)
    if encoding.is_bytes:

        def read_bytes(texts: list[str]) -> list[Ids]:
            raw = (np.frombuffer(text.encode(), np.uint8) for text in texts)
            return [np.append(ids.astype(kind), end) for ids in raw]

        return read_bytes
    tokenizer = plain_encoder(folder)

    def encode(texts: list[str]) -> list[Ids]:
        pieces = [_pieces(text) for text in texts]
        flat = [piece for own in pieces for piece in own]
        encoded = iter(tokenizer.encode_batch_fast(flat, add_special_tokens=False))
        return [
            np.concatenate([*(np.array(e.ids, kind) for e in islice(encoded, len(own))), end])
            for own in pieces
        ]

    return encode


def _dtype(size: int) -> np.dtype[Any]:
    return np.dtype(np.uint16 if size <= 2**16 else np.uint32)


def _batches(documents: Iterator[tuple[str, float]]) -> Iterator[list[tuple[str, float]]]:
    batch: list[tuple[str, float]] = []
    characters = 0
    for text, share in documents:
        batch.append((text, share))
        characters += len(text)
        if len(batch) == BATCH_DOCUMENTS or characters >= BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


def _pieces(text: str) -> list[str]:
    if len(text) <= PIECE:
        return [text]
    pieces, begin = [], 0
    while begin < len(text):
        end = text.find("\n", begin + PIECE) + 1 or len(text)
        pieces.append(text[begin:end])
        begin = end
    return pieces


def read_begun(folder: Path) -> dict[str, Any]:
    """What an unfinished folder's shards are made from; InputError where that is damaged."""
    try:
        found = read_json(folder / BEGUN)
    except InputError as error:
        raise InputError(f"{error}; remove {folder} to tokenise again") from None
    if not isinstance(found, dict):
        raise InputError(f"{folder / BEGUN}: is damaged; remove {folder} to tokenise again")
    return found


def _records(folder: Path, number: int) -> list[Record]:
    found = []
    for part, path in enumerate(sorted(folder.glob(f"{number:06d}-*.json"))):
        before = folder / f"{number:06d}-{part:04d}.json"
        if path != before:
            # Without it the shard that it tells of would be left out.
            raise InputError(f"{before}: is gone; remove {folder} to tokenise again")
        try:
            found.append(Record.model_validate(read_json(path)))
        except ValueError:  # an InputError of no JSON, or pydantic's of another document
            raise InputError(f"{path}: is damaged; remove {folder} to tokenise again") from None
    return found


def _is_done(folder: Path, number: int) -> bool:
    records = _records(folder, number)
    return bool(records) and records[-1].last


def _tidy(folder: Path) -> None:
    """Remove what only an unfinished folder needs."""
    for path in [*folder.glob("[0-9]*.json"), folder / BEGUN]:
        path.unlink(missing_ok=True)


def _check_same(name: str, folder: Path, now: dict[str, Any], then: dict[str, Any]) -> None:
    for key, what in (("source", "files"), ("tokenizer", "tokenizer")):
        if now[key] is not None and now[key] != then.get(key):
            raise InputError(
                f"{name}: its {what} changed since {folder} was made; remove that to tokenise "
                "again, or bring them back"
            )
