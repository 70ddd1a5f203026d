"""The documents of a source, cut into units that can be read apart from each other; no torch."""

from __future__ import annotations

import bz2
import glob
import gzip
import hashlib
import io
import os
import sysconfig
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from evaluation.bounds import LONGEST_DOCUMENT, lines_of
from evaluation.files import InputError, parse_json, sample_digest
from ladder.corpora.hub import dataset_cuts, dataset_rows
from ladder.corpora.settings import Dataset, Source

UNIT_BYTES = 2**26
"""Bytes of a file that are a unit; smaller ones balance better, each has a shard of its own."""
READ = 2**20
"""Characters of a .txt file that are read at once."""

PACKED = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bz2"}
"""First bytes of compressed files."""
SUFFIXES = (".gz", ".zst", ".bz2")
STDLIB = "{stdlib}"
"""Stands in patterns for the folder of the running Python's standard library."""
LINES = (".jsonl", ".json")
KNOWN = (*LINES, ".txt", ".parquet")

Documents = Iterator[tuple[str, float]]
"""Texts, each with the share of the unit that is read with it."""


@dataclass(frozen=True)
class Unit:
    """A part of a source; what it is does not depend on who reads it, or when."""

    path: str
    """The file; of a dataset, its name."""
    begin: int = 0
    """First byte, row group or row; of a streamed dataset, which of its shards."""
    end: int = 0
    """The one behind the last; of a streamed dataset, its shards. 0 is the whole."""
    size: int = 1
    """How long it takes to read, against others of its source."""


def find(patterns: Sequence[str], what: str) -> list[Path]:
    """Files that match, each once, in order; InputError for a pattern that matches none.

    `~` is the user's home and `{stdlib}` the standard library of the Python that runs.
    """
    found: dict[Path, None] = {}
    stdlib = glob.escape(sysconfig.get_path("stdlib"))
    for pattern in patterns:
        place = os.path.expanduser(pattern).replace(STDLIB, stdlib)
        # A name with NUL is no file's, and no pattern's.
        own = [] if "\0" in place else sorted(glob.glob(place, recursive=True))
        own = [path for path in own if os.path.isfile(path)]
        if not own:
            raise InputError(
                f"{what}: no file matches {pattern}; paths are relative to {os.getcwd()}"
            )
        found |= dict.fromkeys(map(Path, own))
    return list(found)


def units(source: Source) -> list[Unit]:
    """The units of a source of documents; InputError for files of an unknown kind, or closed."""
    if source.dataset is not None:
        return [Unit(source.dataset.path, *cut) for cut in dataset_cuts(source.dataset)]
    found = []
    for path in find(source.files, f"corpus.sources, {source.name}"):
        kind = _kind(source, path)
        _check_readable(path)
        if kind == ".parquet":
            found += _parquet_units(path)
        elif kind in LINES and _packed(path) is None:
            size = path.stat().st_size
            cuts = range(0, size, UNIT_BYTES)
            ends = [min(cut + UNIT_BYTES, size) for cut in cuts]
            found += [Unit(str(path), a, b, b - a) for a, b in zip(cuts, ends, strict=True)]
        else:
            found.append(Unit(str(path), size=path.stat().st_size))
    return found


def source_digest(source: Source) -> str | None:
    """Digest of what a source reads, to tell whether it changed; None where files are gone."""
    total = hashlib.sha256(source.model_dump_json(include={"dataset", "field"}).encode())
    try:
        paths = find(source.files, source.name)
        for path in paths:
            total.update(f"{path.name}\n{sample_digest(path)}\n".encode())
    except (InputError, OSError):
        return None
    return total.hexdigest()


def read_unit(source: Source, unit: Unit) -> Documents:
    """The documents of a unit that hold any text, in order.

    Halves of surrogate pairs, which JSON can hold and UTF-8 cannot, become U+FFFD. Raises
    InputError naming file and place for what cannot be read.
    """
    if source.dataset is not None:
        found = _read_dataset(source, source.dataset, unit)
    else:
        path = Path(unit.path)
        readers: dict[str, Callable[[Source, Path, Unit], Documents]] = {
            ".parquet": _read_parquet,
            ".txt": _read_text,
        }
        found = readers.get(_kind(source, path), _read_lines)(source, path, unit)
    try:
        for text, share in found:
            if text:
                yield (text if _is_utf8(text) else _mended(text)), share
    except FileNotFoundError:
        raise InputError(f"{unit.path}: no such file") from None
    except PermissionError:
        raise _closed(unit.path) from None
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(
            f"{unit.path}: cannot be read to its end ({error}); is it cut short or damaged?"
        ) from error


def is_held_out(text: str, share: float) -> bool:
    """Whether a document is among those that are not trained on: a matter of its text alone."""
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") < share * 2**64


def _kind(source: Source, path: Path) -> str:
    if source.format is not None:
        return f".{source.format}"
    kind = path.with_suffix("").suffix if path.suffix in SUFFIXES else path.suffix
    if kind not in KNOWN:
        raise InputError(
            f"{path}: is of an unknown kind; known are {', '.join(KNOWN)}, compressed or not; set "
            "the source's format if it is one of them"
        )
    return kind


def _check_readable(path: Path) -> None:
    if not os.access(path, os.R_OK):
        raise _closed(path)


def _closed(path: Path | str) -> InputError:
    return InputError(f"{path}: may not be read (permission denied); allow it, or name other files")


def _packed(path: Path) -> str | None:
    """How a file is compressed, whatever its name says."""
    with path.open("rb") as file:
        begin = file.read(4)
    return next((how for magic, how in PACKED.items() if begin.startswith(magic)), None)


def _open(path: Path) -> tuple[IO[bytes], Callable[[], float]]:
    """The bytes of a file, and a function that gives the share of it that is read."""
    raw, packed = path.open("rb"), _packed(path)
    size = max(1, path.stat().st_size)
    opened: Any = raw
    if packed == "gzip":
        opened = gzip.GzipFile(fileobj=raw)
    elif packed == "bz2":
        opened = bz2.BZ2File(raw)
    elif packed == "zstd":
        import pyarrow

        opened = io.BufferedReader(pyarrow.CompressedInputStream(raw, "zstd"), 2**20)
    return opened, lambda: raw.tell() / size


def _read_lines(source: Source, path: Path, unit: Unit) -> Documents:
    """One document a line; a line belongs to the unit in which it begins."""
    file, share = _open(path)
    with file:
        place = unit.begin
        if place:
            file.seek(place - 1)
            place += len(file.readline()) - 1
        # Counted here: to ask a compressed file where it is would be slow.
        for line in lines_of(file, str(path)):
            if unit.end and place >= unit.end:
                return
            done = (place - unit.begin) / (unit.end - unit.begin) if unit.end else share()
            if line.strip():
                yield _text_of_line(line, source.field, f"{path}, byte {place}"), done
            place += len(line)


def _text_of_line(line: bytes, field: str, where: str) -> str:
    try:
        document = parse_json(line)
    except ValueError as error:
        raise InputError(f"{where}: not JSON ({error})") from None
    if not isinstance(document, dict):
        raise InputError(f"{where}: must be an object, such as {{...}}")
    return _text(document.get(field), field, where, document)


def _text(value: Any, field: str, where: str, known: Any) -> str:
    if not isinstance(value, str):
        problem = "is missing" if value is None else "is no text"
        raise InputError(
            f"{where}: {field!r} {problem}; set the source's field to one of "
            f"{', '.join(map(str, known))}"
        )
    return value


def _read_text(source: Source, path: Path, unit: Unit) -> Documents:
    file, share = _open(path)
    with io.TextIOWrapper(file, encoding="utf-8", newline="") as texts:
        try:
            if source.separator is None:
                whole_text = texts.read(LONGEST_DOCUMENT + 1)
                _check_length(whole_text, path)
                yield whole_text, 1.0
                return
            rest = ""
            while piece := texts.read(READ):
                *whole, rest = (rest + piece).split(source.separator)
                _check_length(rest, path)
                yield from ((text, share()) for text in whole)
            yield rest, 1.0
        except UnicodeDecodeError as error:
            raise InputError(f"{path}: not UTF-8 ({error.reason})") from error


def _check_length(text: str, path: Path) -> None:
    if len(text) > LONGEST_DOCUMENT:
        raise InputError(
            f"{path}: holds a document of more than {LONGEST_DOCUMENT:,} characters; set the "
            r"source's separator to what stands between its documents, such as '\n\n', or split it"
        )


def _parquet_units(path: Path) -> list[Unit]:
    from pyarrow import ArrowException, parquet

    try:
        metadata = parquet.ParquetFile(path).metadata
    except (OSError, ValueError, ArrowException) as error:
        raise InputError(f"{path}: not readable as Parquet ({error})") from error
    found, begin, size = [], 0, 0
    for group in range(metadata.num_row_groups):
        size += metadata.row_group(group).total_byte_size
        if size >= UNIT_BYTES or group == metadata.num_row_groups - 1:
            found.append(Unit(str(path), begin, group + 1, size))
            begin, size = group + 1, 0
    return found


def _read_parquet(source: Source, path: Path, unit: Unit) -> Documents:
    from pyarrow import ArrowException, parquet

    try:
        file = parquet.ParquetFile(path)
        groups = range(unit.begin, unit.end)
        rows = sum(file.metadata.row_group(group).num_rows for group in groups)
        names = file.schema_arrow.names
        if source.field not in names:
            _text(None, source.field, str(path), names)
        batches = file.iter_batches(1024, row_groups=list(groups), columns=[source.field])
        done = 0
        for batch in batches:
            for value in batch.column(0).to_pylist():
                done += 1
                yield _text(value, source.field, f"{path}, row {done}", names), done / rows
    except (OSError, ValueError, ArrowException) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: not readable as Parquet ({error})") from error


def _read_dataset(source: Source, dataset: Dataset, unit: Unit) -> Documents:
    for number, row, share in dataset_rows(dataset, unit.begin, unit.end):
        where = f"dataset {unit.path}, row {number}"
        if not isinstance(row, dict):
            raise InputError(f"{where}: must hold columns, and is {type(row).__name__}")
        yield _text(row.get(source.field), source.field, where, row), share


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _mended(text: str) -> str:
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
