"""Tables and lines laid out for the screen: 80 columns, or as many as a terminal has."""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TextIO

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from evaluation.plain import plain

WIDTH = 80
"""Characters of a line where output is no terminal: what a file holds must not follow the screen
that it was asked for on."""

NARROWEST = 40
"""Characters below which tables are laid out no narrower; the terminal then breaks lines."""

ENDS = ("80%", "95%", "+-")
"""Columns that belong to the one before them, so that no split comes between."""

HARD = "\xa0"
"""A space at which no line is broken."""

STATUS = "status"
"""The column whose words may become marks behind the first key."""

MARKS = {"extrapolated": "*", "unpredictable": "!", "below the floor": "!"}
"""Marks that stand for a status; the others have none."""

COLOURS = {
    "finished": "green",
    "ok": "green",
    "running": "cyan",
    "failed": "red",
    "interrupted": "yellow",
    "unpredictable": "yellow",
}
"""Colours of words that are a whole cell; only a terminal shows any, and none with NO_COLOR."""


@dataclass(frozen=True)
class Grid:
    """A table's text, and how it is laid out."""

    names: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    keys: int = 1
    """Leading columns that name a row; every part of a table that is split repeats them."""
    breaks: tuple[str, ...] = ()
    """Columns that begin another table where those up to the next of them do not fit whole."""
    caption: tuple[str, ...] = ()
    """What columns that were folded away said, such as `target: 7B-4T`."""
    tight: bool = False
    """Whether heads of several words take several lines, and columns a space between them."""

    @property
    def gap(self) -> int:
        """Spaces between two columns."""
        return 1 if self.tight else 2

    def column(self, i: int) -> tuple[list[str], int]:
        """A column's head, line by line, and how wide the column is."""
        cells = max((cell_len(row[i]) for row in self.rows), default=0)
        head = [self.names[i]]
        if self.tight and " " in self.names[i]:
            least = max([1, cells, *(cell_len(word) for word in self.names[i].split())])
            head = textwrap.wrap(self.names[i], least, break_long_words=False) or head
        return head, max([cells, *(cell_len(line) for line in head)])

    def width(self, columns: Sequence[int] | None = None) -> int:
        """Characters that columns, all by default, need together."""
        chosen = range(len(self.names)) if columns is None else columns
        widths = [self.column(i)[1] for i in chosen]
        return sum(widths) + self.gap * max(0, len(widths) - 1)

    def only(self, columns: Sequence[int]) -> Grid:
        """Of these columns, keys first."""
        return replace(
            self,
            names=tuple(self.names[i] for i in columns),
            rows=tuple(tuple(row[i] for i in columns) for row in self.rows),
            keys=sum(i < self.keys for i in columns),
        )


def width_of(stream: TextIO | None = None) -> int:
    """Characters that a line of the stream, standard output by default, may have."""
    stream = sys.stdout if stream is None else stream
    if not stream.isatty():
        return WIDTH
    told = os.environ.get("COLUMNS", "")
    try:
        columns = int(told) if told.isdigit() else os.get_terminal_size(stream.fileno()).columns
    except OSError:
        columns = WIDTH
    return max(NARROWEST, columns or WIDTH)


def wrapped(line: str, width: int) -> str:
    """A line broken between words, what follows indented; a word is never broken."""
    begin = line[: len(line) - len(line.lstrip())]
    return textwrap.fill(
        line,
        width,
        subsequent_indent=f"{begin}  ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def show(
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
    keys: int = 1,
    breaks: tuple[str, ...] = (),
    width: int | None = None,
) -> None:
    """Print a table on standard output; its keys are text, the other columns are numbers.

    A table wider than the screen loses nothing: heads go over several lines, columns that say the
    same in every row go into the title, empty ones away, a status becomes a mark; then it is split
    into tables that begin with the same keys, rather at `breaks` than elsewhere, or into one for
    each value of the keys behind the first, whichever takes fewer lines.
    """
    width = width_of() if width is None else width
    cells = tuple(tuple(plain(str(cell)) for cell in row) for row in rows)
    names = tuple(plain(name) for name in columns)
    console = Console(width=10_000, highlight=False, markup=False)
    for number, part in enumerate(fitted(Grid(names, cells, keys, breaks), width)):
        # A mark is not parted from its word, nor a name from its value.
        caption = [said.replace(" ", HARD) for said in part.caption]
        if said := "; ".join((plain(title), *caption) if number == 0 else caption):
            console.print(Text(wrapped(said, width).replace(HARD, " "), style="italic"))
        _print(console, part, width)


def fitted(grid: Grid, width: int) -> list[Grid]:
    """The tables, one where it can be, that show a table's columns within the width."""
    if grid.width() <= width or not grid.rows:
        return [grid]
    tight = replace(grid, tight=True)
    if tight.width() <= width:
        return [tight]
    folded = _fold(tight)
    parts = _split(folded, width)
    if len(parts) > 1 and folded.keys > 1:
        sections = [part for own in _sections(folded) for part in _split(own, width)]
        parts = sections if _lines(sections) < _lines(parts) else parts
    loose = [replace(part, tight=False) for part in parts]
    return loose if all(part.width() <= width for part in loose) else parts


def _fold(grid: Grid) -> Grid:
    """Without empty columns, and without a status, or keys behind the first, that are all one."""
    rows = [list(row) for row in grid.rows]
    kept, caption = [], list(grid.caption)
    for i, name in enumerate(grid.names):
        values = dict.fromkeys(row[i] for row in grid.rows)
        foldable = 0 < i < grid.keys or name == STATUS
        if i and set(values) == {""}:
            continue
        if foldable and len(values) == 1:
            caption.append(f"{name}: {next(iter(values))}")
        elif name == STATUS and set(values) & set(MARKS) and len(set(values) - set(MARKS)) < 2:
            for row in rows:
                row[0] += f" {MARKS[row[i]]}" if row[i] in MARKS else ""
            caption += [f"{MARKS[value]} {value}" for value in values if value in MARKS]
        else:
            kept.append(i)
    return replace(grid, rows=tuple(map(tuple, rows)), caption=tuple(caption)).only(kept)


def _sections(grid: Grid) -> list[Grid]:
    """A table for every value of the keys behind the first."""
    groups: dict[tuple[str, ...], list[tuple[str, ...]]] = {}
    for row in grid.rows:
        groups.setdefault(row[1 : grid.keys], []).append(row)
    found: list[Grid] = []
    for values, rows in groups.items():
        own = replace(grid, rows=tuple(rows)).only([0, *range(grid.keys, len(grid.names))])
        said = [f"{name}: {v}" for name, v in zip(grid.names[1 : grid.keys], values, strict=True)]
        found.append(replace(own, caption=(*(() if found else grid.caption), *said)))
    return found


def _split(grid: Grid, width: int) -> list[Grid]:
    """Tables of the same keys, none wider than it must be."""
    if grid.width() <= width:
        return [grid]
    keys = list(range(grid.keys))
    breaks = [i for i, name in enumerate(grid.names) if name in grid.breaks and i >= grid.keys]
    parts: list[list[int]] = []
    for block in _blocks(grid):
        wanted = [*parts[-1], *block] if parts else []
        fits = parts and grid.width([*keys, *wanted]) <= width
        if fits and grid.names[block[0]] in grid.breaks:
            ends = [i for i in breaks if i > block[0]]
            whole = range(block[0], ends[0] if ends else len(grid.names))
            fits = grid.width([*keys, *parts[-1], *whole]) <= width
        if fits:
            parts[-1] = wanted
        else:
            parts.append(block)
    blank = {row for row in grid.rows if not any(row[grid.keys :])}
    found: list[Grid] = []
    for part in parts:
        own = grid.only([*keys, *part])
        # A row that says nothing in a part says it in another, unless it is blank throughout.
        rows = tuple(
            small
            for small, whole in zip(own.rows, grid.rows, strict=True)
            if any(small[own.keys :]) or (not found and whole in blank)
        )
        caption = () if found else grid.caption
        found.append(replace(own, rows=rows or own.rows, caption=caption))
    return found


def _blocks(grid: Grid) -> list[list[int]]:
    """The columns behind the keys, those that belong together as one."""
    blocks: list[list[int]] = []
    for i in range(grid.keys, len(grid.names)):
        if blocks and grid.names[i] in ENDS:
            blocks[-1].append(i)
        else:
            blocks.append([i])
    return blocks


def _lines(parts: Sequence[Grid]) -> int:
    return sum(len(part.rows) + 4 for part in parts)


def _print(console: Console, grid: Grid, width: int) -> None:
    """Print one table; a key too wide for the screen goes over several lines of its own column."""
    columns = [grid.column(i) for i in range(len(grid.names))]
    widths = [own for _, own in columns]
    if grid.width() > width:
        widths[0] = max(8, widths[0] - (grid.width() - width))
    deep = max(len(head) for head, _ in columns)

    def line(cells: Sequence[str], bold: bool = False) -> Text:
        text = Text(style="bold" if bold else "")
        for i, (cell, own) in enumerate(zip(cells, widths, strict=True)):
            last = i == len(cells) - 1
            room = " " * (own - cell_len(cell))
            placed = cell + room * (not last) if i < grid.keys else room + cell
            text.append(placed, "" if bold else COLOURS.get(cell.partition(":")[0], ""))
            text.append("" if last else " " * grid.gap)
        text.rstrip()
        return text

    for level in range(deep):
        heads = [(*[""] * (deep - len(head)), *head)[level] for head, _ in columns]
        console.print(line(heads, True))
    rule = "─" if (console.encoding or "").lower().startswith("utf") else "-"
    console.print(rule * min(width, sum(widths) + grid.gap * (len(widths) - 1)))
    for row in grid.rows:
        first = textwrap.wrap(row[0], widths[0], break_on_hyphens=False) or [""]
        console.print(line((first[0], *row[1:])))
        for more in first[1:]:
            console.print(line((more, *[""] * (len(row) - 1))))
    console.print()
