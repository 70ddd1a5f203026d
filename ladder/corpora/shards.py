"""Token shards: raw integers with an index beside them, read as memory maps; no torch.

A shard is nothing but little-endian uint16 or uint32, the layout that OLMo and nanoGPT read. The
index is written last: where it is, everything it names is whole.

Beside each shard lies a CRC-32 of every 64 KiB of it, and a block is verified when a process first
reads from it. To read terabytes before a run starts would take hours, and a file's size and time do
not change when its bits do; a block is no more than what the system reads ahead anyway, and takes
tens of microseconds, once (benchmarks/faults.md). CRC-32 finds every burst of up to 32 bits, and
of other damage all but one in 4e9; the blocks' checksums themselves are under the index's SHA-256.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from evaluation.bounds import read_array
from evaluation.checksums import tell_unverified
from evaluation.files import InputError, atomic_write, read_json, whole_digest, write_json
from ladder.section import Section

Tokens = NDArray[np.int64]

INDEX = "index.json"
VERSION = 2
"""Of the index; shards of version 1 have no checksums of blocks."""
BLOCK = 2**16
"""Bytes under one checksum."""
BLOCKS = ".crc"
"""Behind the name of a shard, names the file of its blocks' checksums: little-endian uint32."""
NPY = b"\x93NUMPY"
OPEN_FILES = 256
"""Memory maps that a stream keeps open; opening one again costs some 50 microseconds."""
PROBES, PROBE = 256, 4096
"""Places at which arrays without an index are looked at when they are opened, and tokens of each.

Each file is looked at in two at least.
"""

OTHER = "was made by another tokenizer, or is of another dtype"
"""Why a token may be beyond the vocabulary."""


class Shard(Section):
    """One file of tokens."""

    file: str = Field(pattern=r"^[A-Za-z0-9._-]+$")
    """Its name, beside the index."""
    tokens: int = Field(ge=1)
    documents: int = Field(ge=1)
    largest: int = Field(ge=0)
    """Its largest token, to tell at once whether a model knows them all."""
    sha256: str
    blocks: str | None = None
    """SHA-256 of the file of its blocks' checksums; None in an index of version 1."""


class Index(Section):
    """What lies in a folder of shards, and what it was made from."""

    version: int = VERSION
    source: str
    """Digest of the documents' files."""
    tokenizer: str
    """Digest of the tokenizer."""
    dtype: str = Field(pattern="^uint(16|32)$")
    train: tuple[Shard, ...]
    held_out: tuple[Shard, ...]


class Stream:
    """The tokens of several files, or of a part of them, as one array."""

    def __init__(self, name: str, parts: Sequence[TokenFile], why: str = OTHER) -> None:
        self.name, self.why = name, why
        self.parts = [part for part in parts if part.tokens]
        self._ends = np.cumsum([part.tokens for part in self.parts], dtype=np.int64)
        self._open = lru_cache(OPEN_FILES)(lambda index: self.parts[index].array())

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def rows(self, starts: NDArray[np.int64], length: int, vocabulary: int) -> Tokens:
        """`length` tokens from each of the places, (B, T).

        Raises InputError naming the file where a token is beyond the vocabulary.
        """
        found = np.empty((len(starts), length), dtype=np.int64)
        files = self._ends.searchsorted(starts, side="right")
        for row, start, index in zip(found, starts.tolist(), files.tolist(), strict=True):
            self._fill(row, start, index)
        if found.size and not 0 <= found.min() <= found.max() < vocabulary:
            row, column = np.argwhere((found < 0) | (found >= vocabulary))[0]
            index = int(self._ends.searchsorted(starts[row] + column, side="right"))
            token = int(found[row, column])
            raise _beyond(self.parts[index].path, token, vocabulary, self.why)
        return found

    def __getitem__(self, places: slice) -> Tokens:
        start, stop, _ = places.indices(len(self))
        rows: Tokens = self.rows(np.array([start]), max(0, stop - start), 2**62)
        return np.asarray(rows[0])

    def part(self, begin: int, end: int) -> Stream:
        """The tokens from `begin` to `end`."""
        parts, offset = [], 0
        for part in self.parts:
            low, high = (min(max(x - offset, 0), part.tokens) for x in (begin, end))
            parts.append(part.part(low, high))
            offset += part.tokens
        return Stream(self.name, parts, self.why)

    def _fill(self, row: Tokens, start: int, index: int) -> None:
        """Copy the tokens from `start` on, which lies in the file `index`, and the next ones."""
        place = start - (int(self._ends[index - 1]) if index else 0)
        done = 0
        while done < len(row):
            piece = self._open(index)[place : place + len(row) - done]
            self.parts[index].verify(place, place + len(piece))
            row[done : done + len(piece)] = piece
            done, place, index = done + len(piece), 0, index + 1


class TokenFile:
    """A file of tokens, or a part of it."""

    def __init__(
        self,
        path: Path,
        dtype: np.dtype[Any],
        offset: int,
        tokens: int,
        blocks: Blocks | None = None,
    ) -> None:
        self.path, self.dtype, self.offset, self.tokens = path, dtype, offset, tokens
        self.blocks = blocks

    def array(self) -> NDArray[Any]:
        """Its tokens as a memory map; raises InputError where it got shorter since."""
        try:
            mapped = np.memmap(self.path, self.dtype, "r", self.offset, (self.tokens,))
        except (OSError, ValueError) as error:
            raise InputError(
                f"{self.path}: cannot be read as tokens ({error}); was it cut short or removed?"
            ) from error
        return np.asarray(mapped)

    def part(self, begin: int, end: int) -> TokenFile:
        """The tokens from `begin` to `end`."""
        offset = self.offset + begin * self.dtype.itemsize
        return TokenFile(self.path, self.dtype, offset, end - begin, self.blocks)

    def verify(self, begin: int, end: int) -> None:
        """Raise InputError where the tokens from `begin` to `end` are not those that were written.

        Of files that others made nothing is known.
        """
        if self.blocks is not None:
            size = self.dtype.itemsize
            self.blocks.verify(self.offset + begin * size, self.offset + end * size)


class Blocks:
    """The checksums of a shard's blocks, and which of them this process has verified."""

    def __init__(self, path: Path, digest: str) -> None:
        """`digest` is the SHA-256 of the file of checksums."""
        self.path, self.digest = path, digest

    def verify(self, begin: int, end: int) -> None:
        """Raise InputError where bytes from `begin` to `end` lie in a block that changed."""
        first, last = begin // BLOCK, (end - 1) // BLOCK
        if self._seen.find(0, first, last + 1) < 0:
            return
        try:
            with self.path.open("rb") as file:
                for number in range(first, last + 1):
                    if self._seen[number]:
                        continue
                    file.seek(number * BLOCK)
                    if crc32(file.read(BLOCK)) != self._sums[number]:
                        raise InputError(
                            f"{self.path}: bytes {number * BLOCK:,} to {(number + 1) * BLOCK:,} "
                            f"are not what was written; {_again(self.path.parent)}"
                        )
                    self._seen[number] = 1
        except OSError as error:
            raise InputError(f"{self.path}: cannot be read ({error.strerror})") from error

    @cached_property
    def _sums(self) -> list[int]:
        path = self.path.with_name(self.path.name + BLOCKS)
        try:
            content = path.read_bytes()
        except OSError as error:
            why = f"cannot be read ({error.strerror})"
            raise InputError(f"{path}: {why}; {_again(path.parent)}") from error
        if hashlib.sha256(content).hexdigest() != self.digest:
            raise InputError(f"{path}: is not what was written; {_again(path.parent)}")
        return [int(x) for x in np.frombuffer(content, "<u4")]

    @cached_property
    def _seen(self) -> bytearray:
        return bytearray(len(self._sums))


def write_shard(folder: Path, file: str, documents: Sequence[NDArray[Any]]) -> Shard | None:
    """Write documents of one type of integer one after the other; None where there are none."""
    if not documents:
        return None
    tokens = np.concatenate(documents)
    raw = np.ascontiguousarray(tokens, tokens.dtype.newbyteorder("<"))
    # Not raw.tofile: it does not say why it cannot write.
    atomic_write(folder / file, lambda temporary: _dump(temporary, raw.data))
    digest, blocks = hashlib.sha256(raw.data).hexdigest(), _block_sums(raw)
    atomic_write(folder / f"{file}{BLOCKS}", lambda temporary: _dump(temporary, blocks))
    return Shard(
        file=file,
        tokens=len(raw),
        documents=len(documents),
        largest=int(raw.max()),
        sha256=digest,
        blocks=hashlib.sha256(blocks).hexdigest(),
    )


def write_index(folder: Path, index: Index) -> None:
    """Say that the folder is whole."""
    write_json(folder / INDEX, index.model_dump(mode="json"), sealed=True)


def read_index(folder: Path) -> Index | None:
    """The index of a folder, None where there is none yet; InputError where it is damaged."""
    if not (folder / INDEX).exists():
        return None
    try:
        document = read_json(folder / INDEX)
    except InputError as error:
        raise InputError(f"{error}; {_again(folder)}") from None
    try:
        index = Index.model_validate(document)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, problem["loc"]))
        raise InputError(
            f"{folder / INDEX}: is no index of shards ({where}: {problem['msg']}); {_again(folder)}"
        ) from None
    if index.version > VERSION:
        raise InputError(
            f"{folder / INDEX}: is of version {index.version}, which this ladder cannot read; "
            f"use the newer one, or {_again(folder)}"
        )
    return index


def open_shards(
    name: str, folder: Path, index: Index, vocabulary: int, tokenizer: str
) -> tuple[Stream, Stream]:
    """Training and held-out tokens of a folder; InputError for what is not as its index says."""
    if index.tokenizer != tokenizer:
        raise InputError(
            f"{folder}: was made with another tokenizer than corpus.tokenizer; {_again(folder)}"
        )
    for shard in (*index.train, *index.held_out):
        path = folder / shard.file
        expected = shard.tokens * np.dtype(index.dtype).itemsize
        size = path.stat().st_size if path.is_file() else None
        if size != expected:
            has = "is missing" if size is None else f"has {size:,} of {expected:,} bytes"
            raise InputError(f"{path}: {has}; {_again(folder)}")
        if shard.largest >= vocabulary:
            raise _beyond(path, shard.largest, vocabulary)
    if index.version == 1:
        tell_unverified(str(folder), "shards")
    kind, mend = np.dtype(index.dtype).newbyteorder("<"), f"was damaged; {_again(folder)}"
    train, held_out = (
        Stream(name, [_token_file(folder, s, kind) for s in shards], mend)
        for shards in (index.train, index.held_out)
    )
    return train, held_out


def _token_file(folder: Path, shard: Shard, kind: np.dtype[Any]) -> TokenFile:
    path = folder / shard.file
    blocks = None if shard.blocks is None else Blocks(path, shard.blocks)
    return TokenFile(path, kind, 0, shard.tokens, blocks)


def damaged(folder: Path, index: Index) -> list[str]:
    """Files whose contents are no longer those that were written; reads them all."""
    found = []
    for shard in (*index.train, *index.held_out):
        path = folder / shard.file
        if not path.is_file() or whole_digest(path) != shard.sha256:
            found.append(shard.file)
    return found


def open_arrays(name: str, paths: Sequence[Path], dtype: str, vocabulary: int) -> Stream:
    """Ready arrays of tokens as one; InputError for what is no such array.

    Tokens are looked at in some places here, which tells another tokenizer or type of integers at
    once, and all of them as they are read.
    """
    stream = Stream(name, [_open_array(path, np.dtype(dtype)) for path in paths])
    if not len(stream):
        raise InputError(f"corpus.sources, {name}: {paths[0]} holds no tokens; name other files")
    for part in stream.parts:
        tokens = part.array()
        last = max(0, len(tokens) - PROBE)
        for begin in np.linspace(0, last, max(2, PROBES // len(paths)), dtype=np.int64):
            seen = tokens[begin : begin + PROBE]
            for token in (int(seen.min()), int(seen.max())):
                if not 0 <= token < vocabulary:
                    raise _beyond(part.path, token, vocabulary)
    return stream


def _open_array(path: Path, dtype: np.dtype[Any]) -> TokenFile:
    try:
        with path.open("rb") as file:
            is_npy = file.read(len(NPY)) == NPY
        if not is_npy:  # OLMo's .npy files have no header
            size = path.stat().st_size
            if size % dtype.itemsize:
                raise InputError(
                    f"{path}: its {size:,} bytes are no whole number of {dtype} tokens; it was "
                    "cut short, or set the source's dtype"
                )
            return TokenFile(path, dtype.newbyteorder("<"), 0, size // dtype.itemsize)
        array = read_array(path)
    except (OSError, EOFError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{path}: not readable as an array of tokens ({error}); is it cut short or damaged?"
        ) from error
    if array.ndim != 1 or not np.issubdtype(array.dtype, np.integer):
        raise InputError(
            f"{path}: must be a one-dimensional array of integers; it is {array.ndim}-dimensional "
            f"of {array.dtype}"
        )
    return TokenFile(path, array.dtype, array.offset, len(array))


def _beyond(path: Path, token: int, vocabulary: int, why: str = OTHER) -> InputError:
    return InputError(
        f"{path}: holds token {token}, beyond the vocabulary of {vocabulary}; it {why}"
    )


def _again(folder: Path) -> str:
    return f"remove {folder} to tokenise again"


def _dump(path: Path, content: bytes | memoryview) -> None:
    path.write_bytes(content)


def _block_sums(raw: NDArray[Any]) -> bytes:
    content = raw.data.cast("B")
    sums = [crc32(content[begin : begin + BLOCK]) for begin in range(0, len(content), BLOCK)]
    return np.array(sums, "<u4").tobytes()
