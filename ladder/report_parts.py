"""What a report is made of: sections of paragraphs, figures and tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from predict.drawing import flops_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Cell:
    """One cell of a table: what is shown, what it is sorted by, and what a pointer brings up."""

    text: str
    order: float | str | None = None
    """A number or text to sort by; None sorts by the text."""
    note: str = ""


@dataclass(frozen=True)
class Table:
    """A sortable table; the first column is text, the others are set flush right."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell | str, ...], ...]
    caption: str = ""
    bold: frozenset[int] = frozenset()
    """Rows that stand out, such as targets."""
    folded: str = ""
    """What a reader clicks on to see it; empty shows it at once."""

    @property
    def is_prose(self) -> bool:
        """Whether all of it is plain text, which is set flush left and broken."""
        return all(isinstance(cell, str) for row in self.rows for cell in row)


@dataclass(frozen=True)
class Picture:
    """A matplotlib figure, drawn under predict.drawing.style()."""

    name: str
    """Of its files, and of its ids in the page; made one of its kind where it is not."""
    figure: Figure
    alt: str
    """What it shows, for someone who cannot see it."""
    caption: str = ""


@dataclass(frozen=True)
class Section:
    """A part of the report; all text is plain and is escaped."""

    title: str
    text: tuple[str, ...] = ()
    """Paragraphs before the figures."""
    pictures: tuple[Picture, ...] = ()
    tables: tuple[Table, ...] = ()
    lines: tuple[str, ...] = ()
    """A list after the tables."""
    sections: tuple[Section, ...] = ()
    """Parts under headings of their own, which the table of contents lists too."""
    links: tuple[tuple[str, str], ...] = ()
    """Names of other pages and where they are, relative to this one."""


def number(value: float | None, form: str, scale: int = 1) -> Cell:
    """A cell of a number in a format; empty, and last in order, for none."""
    if value is None or value != value:
        return Cell("")
    return Cell(format(scale * value, form), value)


def points(share: float | None, signed: bool = False) -> Cell:
    """A cell of an accuracy or an error, in points."""
    return number(share, "+.1f" if signed else ".1f", 100)


def flops_cell(value: float | None) -> Cell:
    """A cell of FLOPs, such as 1.63e23."""
    return Cell("") if value is None else Cell(flops_text(value, 3), value)


def span(lower: float | None, upper: float | None) -> Cell:
    """A cell of an interval of accuracies, in points, sorted by its width."""
    if lower is None or upper is None:
        return Cell("")
    return Cell(f"{100 * lower:.1f} to {100 * upper:.1f}", upper - lower)


def plural(count: int, word: str) -> str:
    """`1 rung`, `2 rungs`."""
    return f"{count:,} {word}" + ("" if count == 1 else "s")
