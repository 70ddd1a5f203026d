"""Loops that may take long tell how far they are, to whoever listens."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TypeVar

Item = TypeVar("Item")

Tell = Callable[[int], None]
"""Is told how many items are done."""
Listener = Callable[[str, int], AbstractContextManager[Tell]]
"""Of a loop's name and length, what to enter while it runs."""


class _Heard:
    """Who listens now, and whether to the loop that runs."""

    listener: Listener | None = None
    busy = False


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Within this, every loop of `each` is told of, but for those inside another one."""
    before = _Heard.listener, _Heard.busy
    _Heard.listener, _Heard.busy = listener, False
    try:
        yield
    finally:
        _Heard.listener, _Heard.busy = before


def each(items: Iterable[Item], name: str) -> Iterator[Item]:
    """The items one by one; a listener hears the loop's name, its length and how far it is.

    >>> from predict.watch import each
    >>> [task.upper() for task in each(["arc", "piqa"], "tasks")]
    ['ARC', 'PIQA']
    """
    listener = _Heard.listener
    if listener is None or _Heard.busy:
        yield from items
        return
    whole = list(items)
    _Heard.busy = True
    try:
        with listener(name, len(whole)) as tell:
            for done, item in enumerate(whole, 1):
                yield item
                tell(done)
    finally:
        # A loop that was left may be closed when nobody listens any more, or someone else does.
        if _Heard.listener is listener:
            _Heard.busy = False
