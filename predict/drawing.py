"""How every figure looks: size, type, colours for light and dark, values to hover over, files."""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from predict.numbers import human

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

INK, MUTED, GRID, SHADE, PAPER = "#1f2933", "#66727f", "#e3e7eb", "#f3f4f6", "#ffffff"
STEP1, STEP2 = "#2f6fb7", "#d9822b"
TARGETS = ("#c2410c", "#7c3aed", "#0e7c72", "#be1860")
"""Colours of targets, in turn."""

DARK = {
    INK: "#e6e9ed",
    MUTED: "#98a4b1",
    GRID: "#333c47",
    SHADE: "#232b34",
    PAPER: "#161b22",
    STEP1: "#6ea8e6",
    STEP2: "#eda45c",
    TARGETS[0]: "#fb8f4b",
    TARGETS[1]: "#b79bfb",
    TARGETS[2]: "#37cbb9",
    TARGETS[3]: "#f57fb4",
}
"""What each colour becomes on a dark page."""

SHADES = 16
"""Steps of the scale from the smallest model to the largest."""

STYLE = {
    "font.size": 9,
    "font.family": "sans-serif",
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.linewidth": 0.8,
    "axes.facecolor": "none",
    "figure.facecolor": PAPER,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.frameon": True,
    "legend.facecolor": PAPER,
    "legend.edgecolor": "none",
    "legend.framealpha": 0.78,
    "legend.fontsize": 7.5,
    "legend.handlelength": 1.4,
    "svg.fonttype": "none",
    "svg.hashsalt": "task-ladder",
    "savefig.dpi": 150,
}

DOTS = "dots"
"""Gid of points without a name of their own, which may be drawn as one path."""


def style() -> AbstractContextManager[None]:
    """The settings under which figures are drawn: STYLE, and names that are no mathematics."""
    return _settings({**STYLE, "text.parse_math": False})


def new_figure(
    width: float,
    height: float,
    columns: int = 1,
    left: float = 0.62,
    gap: float = 0.75,
    right: float = 0.12,
    top: float = 0.32,
    share: bool = False,
) -> tuple[Figure, list[Axes]]:
    """A figure and a row of panels, of one scale if they `share` it; lengths in inches.

    Margins are fixed rather than measured: that takes a tenth of the time. Call it, and draw, under
    `style()`.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    inner = (width - left - right - gap * (columns - 1)) / columns
    axes = figure.subplots(1, columns, squeeze=False, sharex=share, sharey=share)
    figure.subplots_adjust(
        left=left / width,
        right=1 - right / width,
        bottom=0.5 / height,
        top=1 - top / height,
        wspace=gap / inner,
    )
    return figure, list(axes[0])


def hover(artist: Artist, texts: Sequence[str]) -> None:
    """Give each mark of a scatter or bar, in its order, the text that a pointer brings up."""
    figure = cast("Any", artist.get_figure(root=True))
    known = hover_texts(figure)
    gid = f"hover{len(known)}"
    known[gid] = tuple(map(printable, texts))
    figure.hover_texts = known
    artist.set_gid(gid)


def hover_texts(figure: Figure) -> dict[str, tuple[str, ...]]:
    """What `hover` was given, by the gid of its artist."""
    return cast("dict[str, tuple[str, ...]]", getattr(figure, "hover_texts", {}))


def size_colors(count: int) -> list[str]:
    """Colours of so many sizes, from the smallest to the largest."""
    scale = list(_scale())
    return [scale[round(x)] for x in np.linspace(0, SHADES - 1, max(count, 1))][:count]


def target_color(index: int) -> str:
    """The colour of the target of that index."""
    return TARGETS[index % len(TARGETS)]


def dark_of() -> dict[str, str]:
    """Every colour of a figure and what it becomes on a dark page."""
    return {**DARK, **_scale()}


def log_axis(axis: Any, low: float, high: float, flops: bool = False) -> None:
    """A logarithmic axis from low to high whose ticks read 10M, 1B, or 1e21 for FLOPs."""
    from matplotlib.ticker import FixedLocator, NullLocator

    is_x = axis.axis_name == "x"
    (axis.axes.set_xscale if is_x else axis.axes.set_yscale)("log")
    decades = math.log10(high / low)
    steps = (1.0,) if decades > 2.2 else (1.0, 3.0) if decades > 1.2 else (1.0, 2.0, 5.0)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    every = max(1, round(decades / 6))
    ticks = [s * 10.0**p for p in powers if p % every == 0 for s in steps]
    ticks = [t for t in ticks if low <= t <= high] or [math.sqrt(low * high)]
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_minor_locator(NullLocator())
    axis.set_ticklabels([flops_text(t) if flops else human(t) for t in ticks])
    (axis.axes.set_xlim if is_x else axis.axes.set_ylim)(low, high)


def percent_axis(axis: Axis) -> None:
    """Ticks of shares, as points of accuracy."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    axis.set_major_formatter(FuncFormatter(lambda x, _: f"{100 * x:.3g}"))


def legend(axis: Axes, above: bool = False, **more: Any) -> None:
    """A legend with every label once, if there is any; `above` the panel at its right, or in it."""
    handles, labels = axis.get_legend_handles_labels()
    once = dict(zip(labels, handles, strict=True))
    if above:
        more |= {
            "loc": "lower right",
            "bbox_to_anchor": (1.02, 0.985),
            "ncols": len(once),
            "borderaxespad": 0.1,
            "columnspacing": 1.0,
            "handletextpad": 0.3,
        }
    if once:
        axis.legend(once.values(), once.keys(), **more)


def label_ends(axis: Axes, x: float, ends: Sequence[tuple[float, str]]) -> None:
    """Write the name of each curve behind its end, (y, name), none over another.

    The panel's limits must be set; names of curves that leave it are left out.
    """
    low, high = axis.get_ylim()
    gap = 0.058 * (high - low)
    floor = low - gap
    for y, name in sorted(ends):
        if low <= y <= high:
            floor = max(y, floor + gap)
            write(axis, name, (x, floor), (4, 0), va="center")


def write(
    axis: Axes,
    text: str,
    at: tuple[float, float],
    away: tuple[float, float],
    color: str = MUTED,
    **more: Any,
) -> None:
    """Small print in a panel, some points away from a place in it."""
    size = {"fontsize": 7.5} | more
    axis.annotate(text, at, xytext=away, textcoords="offset points", color=color, **size)


def flops_text(value: float, figures: int = 2) -> str:
    """FLOPs as 1e21, or 3.2e21."""
    return f"{value:.{figures}g}".replace("e+0", "e").replace("e+", "e")


def printable(text: str) -> str:
    """The text with a mark in the place of characters that no page or figure can hold."""
    return "".join(c if c.isprintable() else "\ufffd" for c in text)


def shown(name: str) -> str:
    """A name from the data as a label; a legend would hide one that begins with an underscore."""
    return f"\u200b{printable(name)}" if name[:1] == "_" else printable(name)


def short(task: str) -> str:
    """A task's name without what names of the OLMES suite share."""
    return shown(re.sub(r"(_test|_val)?(_rc_5shot)?$", "", task) or task)


def to_svg(figure: Figure) -> str:
    """The figure as SVG text, the same for the same figure; its type is text."""
    with _settings(STYLE), io.StringIO() as buffer:
        figure.savefig(buffer, format="svg", dpi=150, metadata={"Date": None, "Creator": None})
        return buffer.getvalue()


def to_png(figure: Figure) -> bytes:
    """The figure as PNG, 150 dots per inch, the same for the same figure."""
    with _settings(STYLE), io.BytesIO() as buffer, warnings.catch_warnings():
        # A name in a script that the font lacks is drawn as boxes; the page has it as text.
        warnings.filterwarnings("ignore", message="Glyph")
        figure.savefig(buffer, format="png", metadata={"Software": None})
        return buffer.getvalue()


def _settings(values: dict[str, Any]) -> AbstractContextManager[None]:
    import matplotlib

    return cast("AbstractContextManager[None]", matplotlib.rc_context(values))


@cache
def _scale() -> dict[str, str]:
    """The scale of sizes, and what it becomes on a dark page."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    # The ends that would be lost on the page, yellow on white and violet on black, are left out.
    light, dark = (
        [to_hex(colormaps["viridis"](x)) for x in np.linspace(*ends, SHADES)]
        for ends in ((0.02, 0.78), (0.38, 0.98))
    )
    return dict(zip(light, dark, strict=True))
