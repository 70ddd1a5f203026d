"""Checksums that are written with files and verified when they are read; no torch.

SHA-256, which processors have instructions for, so that one core hashes about as fast as a disk
writes; blake2b is slower (benchmarks/faults.md), and faster hashes are in no standard library. What
has none, from an older ladder or another tool, is read as it is.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import IO, Any, NamedTuple

from evaluation.files import InputError, is_file_name, read_json, whole_digest, write_json

CHECKSUMS = "checksums.json"
"""In a folder that is written once: size and SHA-256 of every other file in it, by path."""

PARQUET_MAGIC = b"PAR1"
PARQUET_MARK = b"task-ladder sha256\n"
"""Stands before a Parquet file's own digest, which lies between its data and its footer: readers
find the footer from the file's end and data by their distance from its beginning, so that none
looks there, and any tool that writes the table anew leaves it out."""

PIECE = 2**20
"""Bytes that are hashed at once."""

TEXT_MARK = "# sha256 of the lines above: "
"""Begins the last line of a YAML file that holds its own digest."""

_told: set[str] = set()


def digests(folder: Path, files: Sequence[Path]) -> dict[str, dict[str, Any]]:
    """Size and SHA-256 of files, by their path in `folder`."""
    return {
        path.relative_to(folder).as_posix(): {
            "bytes": path.stat().st_size,
            "sha256": whole_digest(path),
        }
        for path in files
    }


def files_of(folder: Path) -> list[Path]:
    """Every file in a folder and below, in order, but its checksums."""
    found = (path for path in folder.rglob("*") if path.is_file() and path.name != CHECKSUMS)
    return sorted(found)


def write_checksums(folder: Path, known: Mapping[str, Any] | None = None) -> None:
    """Keep the digests of a folder's files in it, before it is synced as a whole.

    `known` ones are not computed again.
    """
    told = digests(folder, files_of(folder)) if known is None else dict(sorted(known.items()))
    write_json(folder / CHECKSUMS, {"version": 1, "files": told}, sealed=True, atomic=False)


def has_checksums(folder: Path) -> bool:
    """Whether a folder was written with checksums."""
    return os.path.isfile(folder / CHECKSUMS)


def damage(
    folder: Path, wanted: Callable[[str], bool] = lambda name: True, share: slice = slice(None)
) -> str:
    """What is wrong with a folder that has checksums, in a few words; nothing where all is well.

    Of the files whose path is `wanted`, those of a `share` are read in full.
    """
    try:
        told = read_json(folder / CHECKSUMS)["files"]
        if not told or not isinstance(told, dict):
            return f"{CHECKSUMS} is not what was written"
        if foreign := [name for name in told if not _is_below(name)]:
            return f"{CHECKSUMS} names {foreign[0]!r}, no file of the folder"
        names = sorted(filter(wanted, told))[share]
        for name in names:
            path, size = folder / name, told[name]["bytes"]
            if not path.is_file():
                return f"{name} is missing"
            if path.stat().st_size != size:
                return f"{name} has {path.stat().st_size:,} of {size:,} bytes"
            if whole_digest(path) != told[name]["sha256"]:
                return f"{name} is not what was written"
    except (InputError, KeyError, TypeError, AttributeError):
        return f"{CHECKSUMS} is not what was written"
    except OSError as error:
        return f"{error.filename} cannot be read, {error.strerror}"
    return ""


def _is_below(name: str) -> bool:
    """Whether a path, of whoever's list it is, stays in its folder."""
    parts = PurePosixPath(name).parts
    # Files that begin with a dot lie in a model's folder, too.
    return bool(parts) and all(is_file_name(part.removeprefix(".")) for part in parts)


def tell_unverified(what: str, kind: str) -> None:
    """Say once a process, on standard error, that files of a kind are read without checksums."""
    if kind not in _told:
        _told.add(kind)
        print(f"{what}: written without checksums; {kind} are read unverified", file=sys.stderr)


class Footer(NamedTuple):
    """The end of a Parquet file, which describes all before it."""

    begin: int
    """Bytes before it; 0 where there is none."""
    size: int
    """Bytes that it says it has."""


def footer_of(file: IO[bytes]) -> Footer:
    """Where a Parquet file's footer begins, by the length that its last bytes tell."""
    end = file.seek(0, os.SEEK_END)
    if end < 12:
        return Footer(0, 0)
    file.seek(end - 8)
    tail = file.read(8)
    if tail[4:] != PARQUET_MAGIC:
        return Footer(0, 0)
    size = int.from_bytes(tail[:4], "little")
    return Footer(max(0, end - 8 - size), size)


def seal_parquet(path: Path) -> None:
    """Put into a Parquet file the digest of all its other bytes."""
    with path.open("r+b") as file:
        at = footer_of(file).begin
        digest = _digest(file, at, at)
        file.seek(at)
        footer = file.read()
        file.seek(at)
        file.write(PARQUET_MARK + digest + footer)


def check_parquet(path: Path) -> None:
    """Raise InputError for a Parquet file whose bytes are not those that were written.

    One without a digest passes. What is no Parquet at all is left to its reader.
    """
    with path.open("rb") as file:
        at = footer_of(file).begin
        begin = at - len(PARQUET_MARK) - hashlib.sha256().digest_size
        if begin < 0:
            return
        file.seek(begin)
        if file.read(len(PARQUET_MARK)) != PARQUET_MARK:
            return
        told = file.read(hashlib.sha256().digest_size)
        if _digest(file, begin, at) != told:
            raise InputError(f"{path}: is damaged, not what was written")


def _digest(file: IO[bytes], end: int, begin: int) -> bytes:
    """SHA-256 of a file's bytes up to `end` and from `begin` on, a piece at a time."""
    total, left = hashlib.sha256(), end
    file.seek(0)
    while left and (piece := file.read(min(left, PIECE))):
        total.update(piece)
        left -= len(piece)
    file.seek(begin)
    while piece := file.read(PIECE):
        total.update(piece)
    return total.digest()


def sealed_text(text: str) -> str:
    """Text of a YAML file with its own digest as the last line."""
    return f"{text}{TEXT_MARK}{hashlib.sha256(text.encode()).hexdigest()}\n"


def check_text(path: Path, must: bool = False) -> str:
    """The text of a file without its digest; InputError where that is another's.

    One without a digest passes, unless it `must` have one.
    """
    try:
        content = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise InputError(f"{path}: is damaged, not UTF-8") from None
    text, mark, digest = content.rpartition(TEXT_MARK)
    if not mark:
        if must:
            raise InputError(f"{path}: is damaged, cut short or not what was written")
        return content
    if hashlib.sha256(text.encode()).hexdigest() != digest.strip():
        raise InputError(f"{path}: is damaged or was edited, not what was written")
    return text
