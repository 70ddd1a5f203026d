"""Which checkpoint a run goes on from: the newest that is what was written."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

from torch import distributed

from evaluation.checksums import CHECKSUMS, damage, has_checksums, tell_unverified
from evaluation.files import InputError, read_json, sync_folder
from ladder.parallel import Parallel
from ladder.saved import TRAINING, latest_checkpoint

ASIDE = "damaged-"
"""Before the name of a checkpoint that is not what was written."""


def whole_checkpoint(folder: Path, parallel: Parallel, name: str) -> Path | None:
    """The newest checkpoint that is what was written; None where there is none.

    Newer ones are kept beside it under another name, and a line on standard error says so: the run
    goes on from an earlier step, or from its beginning, never from weights that are not its own.
    """
    left = _latest(folder, parallel)
    while left:
        path, step = left
        problem = _problem(path, parallel)
        if not problem:
            return path
        if parallel.is_first:
            aside = folder / f"{ASIDE}{path.name}"
            _set_aside(path, aside)
            earlier = latest_checkpoint(folder)
            goes = f"from step {earlier[1]}" if earlier else "from where the run began"
            print(
                f"{name}: the checkpoint of step {step} is damaged ({problem}), kept as {aside}; "
                f"goes on {goes}",
                file=sys.stderr,
            )
        left = _latest(folder, parallel)
    return None


def _latest(folder: Path, parallel: Parallel) -> tuple[Path, int] | None:
    """The newest checkpoint as the first rank sees it: others may see a folder renamed later."""
    found = [latest_checkpoint(folder) if parallel.is_first else None]
    if parallel.world > 1:
        distributed.broadcast_object_list(found, src=0)
    return found[0]


def check_checkpoint(path: Path, parallel: Parallel, mend: str) -> None:
    """Raise InputError, with how to `mend` it, for a checkpoint that is not what was written."""
    if problem := _problem(path, parallel):
        raise InputError(f"{path}: damaged ({problem}); {mend}")


def _problem(path: Path, parallel: Parallel) -> str:
    """What is wrong with a checkpoint, on some rank; empty where nothing is."""
    if not has_checksums(path):
        problem = "" if _version(path) == 1 else f"{CHECKSUMS} is missing"
        if not problem and parallel.is_first:
            tell_unverified(str(path), "checkpoints")
    else:
        problem = damage(path, share=slice(parallel.rank, None, parallel.world))
    if parallel.world > 1:
        told: list[Any] = [None] * parallel.world
        distributed.all_gather_object(told, problem)
        problem = next(filter(None, told), "")
    return problem


def _version(path: Path) -> int | None:
    """The version of a checkpoint, None where that cannot be read."""
    try:
        return int(read_json(path / TRAINING)["version"])
    except (InputError, KeyError, TypeError, ValueError):
        return None


def _set_aside(path: Path, aside: Path) -> None:
    try:
        shutil.rmtree(aside, ignore_errors=True)
        path.rename(aside)
        sync_folder(path.parent)
    except OSError as error:
        raise InputError(f"{path}: damaged, and cannot be renamed ({error.strerror})") from error
