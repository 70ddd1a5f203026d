"""Panics of libraries written in Rust, which are no errors of Python's; no torch."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

STDERR = 2
"""The file descriptor that a panic writes to, whatever sys.stderr is."""

PANIC = "PanicException"
"""The name of what pyo3 raises then, which is no Exception and has no module to import it from."""


@contextmanager
def panics_as_errors() -> Iterator[None]:
    """Within it a panic is a ValueError, and what it wrote is not seen; all else is, afterwards."""
    sys.stderr.flush()
    try:
        kept = os.dup(STDERR)
    except OSError:  # It is closed, and nothing is seen.
        kept = os.open(os.devnull, os.O_WRONLY)
    with tempfile.TemporaryFile() as said:
        os.dup2(said.fileno(), STDERR)
        try:
            yield
        except BaseException as error:
            if type(error).__name__ != PANIC:
                raise
            said.truncate(0)
            raise ValueError(f"panic: {' '.join(str(error).split())}") from None
        finally:
            sys.stderr.flush()
            os.dup2(kept, STDERR)
            os.close(kept)
            said.seek(0)
            if text := said.read():
                os.write(STDERR, text)
