"""Reads everything in a folder of runs and names what is not what was written; no torch."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from evaluation.checksums import CHECKSUMS, check_parquet, check_text, damage
from evaluation.files import InputError, read_json
from ladder.corpora.shards import INDEX, damaged, read_index


@dataclass(frozen=True)
class Verified:
    """What reading all of a folder found."""

    files: int
    """That have a checksum of their own, or stand in a list of some."""
    problems: tuple[str, ...]
    """A line for each that is not what was written."""


def verify_runs(folder: Path) -> Verified:
    """Read every file below a folder that has a checksum: hours for terabytes of shards.

    What has none, from an older ladder or another tool, is left out. Nothing is changed.
    """
    files, problems = 0, []
    for path in _files(folder):
        for check in _checks(path):
            files += 1
            if problem := check(path):
                problems.append(problem)
    return Verified(files, tuple(problems))


def _files(folder: Path) -> Iterator[Path]:
    """Every file below a folder, in order; links to folders are followed, each folder once."""
    seen = set()
    for place, folders, names in os.walk(folder, followlinks=True):
        if (real := os.path.realpath(place)) in seen:
            folders.clear()
            continue
        seen.add(real)
        folders.sort()
        yield from (Path(place, name) for name in sorted(names))


def _checks(path: Path) -> Iterator[Callable[[Path], str]]:
    if path.name.startswith(".") or not path.is_file():
        return
    if path.name == CHECKSUMS:
        yield _folder
    elif path.name == INDEX and any(path.parent.glob("*.bin")):
        yield _shards
    elif path.suffix == ".parquet":
        yield lambda own: _said(lambda: check_parquet(own))
    elif path.suffix == ".json" and not (path.parent / CHECKSUMS).is_file():
        yield lambda own: _said(lambda: read_json(own))
    elif path.name == "config.yaml":
        yield lambda own: _said(lambda: check_text(own))


def _folder(path: Path) -> str:
    problem = damage(path.parent)
    return f"{path.parent}: {problem}" if problem else ""


def _shards(path: Path) -> str:
    def check() -> None:
        index = read_index(path.parent)
        if index is not None and (names := damaged(path.parent, index)):
            raise InputError(
                f"{path.parent}: {', '.join(names)} is not what was written; remove the folder to "
                "tokenise again"
            )

    return _said(check)


def _said(check: Callable[[], object]) -> str:
    try:
        check()
    except (InputError, OSError) as error:
        return str(error)
    return ""
