"""Numbers as people write them, and nearly equal ones as one."""

from __future__ import annotations

from collections.abc import Iterable


def human(value: float) -> str:
    """Three figures and K, M, B or T."""
    for limit, suffix in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "K")):
        if value >= limit:
            return f"{value / limit:.3g}{suffix}"
    return f"{value:.3g}"


def levels(values: Iterable[float], ratio: float) -> list[float]:
    """The distinct values, rising, those within a ratio of one another as the largest of them."""
    found: list[float] = []
    for value in sorted(values):
        if found and value <= found[-1] * ratio:
            found[-1] = value
        else:
            found.append(value)
    return found
