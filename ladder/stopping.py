"""A polite end: SIGTERM and SIGUSR1 ask training to save a checkpoint and stop; no torch."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

STOPPED_STATUS = 85
"""Exit status of a command that stopped because it was asked to; the same command goes on."""

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
"""What Slurm sends before it takes a machine back; the second by the scripts of ladder.slurm."""

_asked = False


class Stopped(BaseException):
    """Training stopped as it was asked to, its state saved.

    No Exception, so that nothing on the way takes it for a failure of the run.
    """


def asked() -> bool:
    """Whether a signal has asked to stop, within `on_signals`.

    Ranks that train together may hear at different steps: they stop together only if they share
    the answer.
    """
    return _asked


@contextmanager
def on_signals() -> Iterator[None]:
    """Take SIGNALS as a request, told by `asked`, rather than as the end; main thread only."""
    global _asked
    _asked = False
    before = {number: signal.signal(number, _ask) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _asked = False


def _ask(number: int, frame: FrameType | None) -> None:
    global _asked
    _asked = True
