"""Numbers as people write them, and nearly equal ones as one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def human(value: float) -> str:
    """Three figures and K, M, B or T; 999999.9 is 1M, and from 1e15 on there are powers of ten."""
    for limit, suffix in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "K")):
        # What rounds up to a thousand of one is one of the next.
        if float(f"{value:.3g}") >= limit:
            return f"{value / limit:.3g}{suffix}" if value < 999.5e12 else f"{value:.3g}"
    return f"{value:.3g}"


def levels(values: Iterable[float], ratio: float) -> list[float]:
    """The distinct values, rising, those within a ratio of one another as the largest of them.

    A group reaches from its least value to that times the ratio, so that values close to one
    another do not run together in a chain.
    """
    found: list[float] = []
    least = 0.0
    for value in sorted(values):
        if found and value <= least * ratio:
            found[-1] = value
        else:
            found.append(value)
            least = value
    return found


def spaced(values: Sequence[float], most: int) -> list[float]:
    """At most so many of the values, evenly spaced by rank, the first and the last among them."""
    if len(values) <= most:
        return list(values)
    step = (len(values) - 1) / (most - 1)
    return [values[round(i * step)] for i in range(most)]
