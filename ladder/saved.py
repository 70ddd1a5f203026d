"""Where a run's checkpoints lie, by step; no torch."""

from __future__ import annotations

import re
from pathlib import Path

MULTIPLIERS = "multipliers"
"""Folder of a checkpoint that holds its learnable multipliers by themselves."""

TRAINING = "training.json"
"""File of a checkpoint that says whose it is."""

VERSION = 2
"""Of that file; checkpoints of version 1 have no checksums."""

ROWS = "rows.json"
"""File of a checkpoint that holds the run's observations so far."""


def checkpoints(folder: Path) -> list[Path]:
    """The whole checkpoints of a run, oldest first."""
    found = (path for path in folder.glob("step-*") if re.fullmatch(r"step-\d+", path.name))
    return sorted(found, key=step_of)


def step_of(path: Path) -> int:
    """The step of a checkpoint, by its name."""
    return int(path.name.removeprefix("step-"))


def latest_checkpoint(folder: Path) -> tuple[Path, int] | None:
    """The newest whole checkpoint and its step, None where there is none."""
    found = checkpoints(folder)
    return (found[-1], step_of(found[-1])) if found else None
