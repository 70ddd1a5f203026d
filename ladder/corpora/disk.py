"""A corpus is made by one process at a time, and a disk that fills is one line; no torch."""

from __future__ import annotations

import errno
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from evaluation.files import InputError
from ladder.locks import hold

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Errors of a disk, a quota or a file that is full."""


@contextmanager
def full_disk_told(folder: Path) -> Iterator[None]:
    """Within it, an error of a full disk becomes an InputError that says how to go on."""
    try:
        yield
    except Exception as error:
        number = system_number(error)
        if number not in FULL:
            raise
        raise InputError(
            f"{folder}: {os.strerror(number)}; make room and start again, finished shards are kept"
        ) from error


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """One process at a time; the others wait for it, and say for whom."""
    with hold(path, "makes its corpus", math.inf, patient=True):
        yield


def system_number(error: Exception) -> int:
    """The system's number of an error, or of what one of ours was made from.

    `tokenizers` raises none of Python's, but names it; 0 where there is none.
    """
    for own in (error, error.__cause__):
        if isinstance(own, OSError):
            return own.errno or 0
    return next((n for n in FULL if f"(os error {n})" in str(error)), 0)
