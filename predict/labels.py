"""Places for names beside points of a figure, over neither a point nor one another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

EM = 7.5
"""Size of the small print, points."""

WIDTH, HEIGHT = 0.56 * EM, 1.15 * EM
"""Mean width of a letter and height of a line, points."""

AWAY = 5.0
"""From a point to its name, points of type."""

RISES = (0.0, -8.0, 8.0, -15.0, 15.0, -23.0, 23.0, -32.0, 32.0)
"""How far above its point the middle of a name may stand, points of type; the nearer the better."""


@dataclass(frozen=True)
class Box:
    """A rectangle, in points of type from the panel's lower left corner."""

    left: float
    bottom: float
    right: float
    top: float

    def shared(self, other: Box) -> float:
        """The area that both cover."""
        wide = min(self.right, other.right) - max(self.left, other.left)
        high = min(self.top, other.top) - max(self.bottom, other.bottom)
        return max(wide, 0.0) * max(high, 0.0)

    @property
    def area(self) -> float:
        """Its own."""
        return (self.right - self.left) * (self.top - self.bottom)


@dataclass(frozen=True)
class Place:
    """Where a name stands beside its point."""

    away: tuple[float, float]
    """From the point to the name's near end and middle, points of type."""
    side: str
    """`left` or `right`: the end of the name that is near the point, as matplotlib's `ha`."""


def place_names(
    names: Sequence[str],
    points: Sequence[tuple[float, float]],
    others: Sequence[Box],
    panel: tuple[float, float],
) -> list[Place]:
    """A place for each name beside its point, in turn, by the least that it covers.

    Args:
        names: what is written.
        points: where its point lies, points of type from the panel's lower left corner.
        others: what should not be covered, all points among it.
        panel: width and height of the panel.
    """
    inside = Box(0.0, 0.0, *panel)
    taken, found = list(others), []

    def cost(choice: tuple[Place, Box]) -> float:
        place, box = choice
        covered = sum(box.shared(other) for other in taken)
        # What leaves the panel is cut off, which is worse than what lies over something.
        return covered + 4 * (box.area - box.shared(inside)) + 0.2 * abs(place.away[1])

    for name, point in zip(names, points, strict=True):
        place, box = min(_choices(name, *point), key=cost)
        found.append(place)
        taken.append(box)
    return found


def _choices(name: str, x: float, y: float) -> list[tuple[Place, Box]]:
    """Every place that a name may have, and what it covers there."""
    wide, found = WIDTH * len(name), []
    for rise in RISES:
        low, high = y + rise - HEIGHT / 2, y + rise + HEIGHT / 2
        right = Box(x + AWAY, low, x + AWAY + wide, high)
        left = Box(x - AWAY - wide, low, x - AWAY, high)
        found += [(Place((AWAY, rise), "left"), right), (Place((-AWAY, rise), "right"), left)]
    return found
