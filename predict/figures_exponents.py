"""Figures of scaling exponents: slices with their fits, compute-optimal sizes, entropy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from predict import drawing
from predict.drawing import INK, MUTED, STEP1, STEP2, TARGETS, hover, shown
from predict.numbers import human
from predict.registry import Array
from predict.slices import Slice
from predict.slices_compare import FormFit
from predict.surrogate_methods import TwoVariable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLORS = {"parametric": INK, "neural": STEP1, "kernel": STEP2}
"""Of the methods that have a curve."""

PANELS = (("params", "params N", "L(N) at fixed D"), ("tokens", "tokens D", "L(D) at fixed N"))

NAME_HEIGHT, NAME_WIDTH = 0.05, 0.3
"""Room that the name of a corpus takes, as shares of the panel of exponents against entropy."""


@dataclass(frozen=True)
class Mark:
    """A mean exponent of one corpus."""

    name: str
    entropy: float
    """Nats per token."""
    entropy_se: float | None
    value: float
    sd: float | None
    """Between slices."""
    own: bool
    """Whether it is of the report's own corpus."""


def slices_figure(slices: Sequence[Slice], unit: str, entropy: float | None = None) -> Figure:
    """Losses of every slice, the power law solid and the exponential dotted, both with a floor."""
    with drawing.style():
        figure, axes = drawing.new_figure(9.4, 4.2, 2, gap=1.25, right=0.55)
        lowest = min(min(s.losses) for s in slices)
        highest = max(max(s.losses) for s in slices)
        low = lowest if entropy is None else min(lowest, entropy)
        for axis, (variable, label, title) in zip(axes, PANELS, strict=True):
            own = sorted((s for s in slices if s.variable == variable), key=lambda s: s.fixed)
            axis.set_yscale("log")
            room = (highest / low) ** 0.08 if highest > low else 1.1
            axis.set_ylim(low / room, highest * room)
            _plain_ticks(axis)
            axis.set(xlabel=label, ylabel=f"loss, {unit}", title=title)
            if entropy is not None:
                axis.axhline(entropy, color=MUTED, lw=1, ls="--", label="entropy")
            if not own:
                drawing.write(axis, "no slice", (0.5, 0.5), (0, 0), xycoords="axes fraction")
                continue
            left, right = min(min(s.x) for s in own), max(max(s.x) for s in own)
            drawing.log_axis(axis.xaxis, left / 1.25, right * 1.25)
            ends = []
            for part, color in zip(own, drawing.size_colors(len(own)), strict=True):
                _slice(axis, part, color)
                held = "D" if variable == "params" else "N"
                ends.append((part.losses[-1], f"{held} {human(float(f'{part.fixed:.3g}'))}"))
            axis.plot([], [], color=INK, lw=1.2, label="power law")
            axis.plot([], [], color=INK, lw=1.1, ls=":", label="exponential")
            drawing.label_ends(axis, right * 1.25, ends)
            # Once, where all curves fall away from that corner.
            if variable == "params" or all(s.variable != "params" for s in slices):
                drawing.legend(axis, loc="upper right")
    return figure


def surfaces_figure(two: TwoVariable, runs: Sequence[tuple[float, float]]) -> Figure:
    """The compute-optimal N at each budget by every method that has one; `runs` are (N, D)."""
    flops = np.array(two.flops)
    with drawing.style():
        # As wide as the others: the table below it needs the whole page.
        figure, (axis,) = drawing.new_figure(9.4, 3.7)
        axis.scatter([6 * n * d for n, d in runs], [n for n, _ in runs], color=MUTED, s=9, lw=0)
        sizes = [n for n, _ in runs]
        for method in two.methods:
            if not any(method.optimal_params):
                continue
            best = np.array([math.nan if n is None else n for n in method.optimal_params])
            color = COLORS.get(method.name, TARGETS[0])
            axis.plot(flops, best, color=color, lw=1.3, label=method.name)
            known = np.isfinite(best)
            marks = axis.scatter(flops[known], best[known], color=color, s=11, lw=0, zorder=3)
            pairs = zip(best[known].tolist(), flops[known].tolist(), strict=True)
            texts = [
                f"{method.name}: best N {human(n)}, D {human(c / 6 / n)} for "
                f"{drawing.flops_text(c, 3)} FLOPs"
                for n, c in pairs
            ]
            hover(marks, texts)
            sizes += best[known].tolist()
        drawing.log_axis(axis.xaxis, flops[0] / 1.3, flops[-1] * 1.3, flops=True)
        drawing.log_axis(axis.yaxis, min(sizes) / 1.3, max(sizes) * 1.3)
        axis.set(
            xlabel="training FLOPs C = 6ND",
            ylabel="params N",
            title="Compute-optimal size; grey: the runs",
        )
        drawing.legend(axis, loc="upper left")
    return figure


def entropy_figure(panels: Sequence[tuple[str, Sequence[Mark]]]) -> Figure:
    """Mean exponents, +- their spread between slices, against entropy; (title, marks) a panel."""
    with drawing.style():
        figure, axes = drawing.new_figure(9.4, 3.7, len(panels), gap=0.85, right=0.3)
        for axis, (title, marks) in zip(axes, panels, strict=True):
            axis.set(xlabel="entropy rate, nats/token", ylabel=title, title=f"{title}, mean +- SD")
            if not marks:
                drawing.write(axis, "no exponent", (0.5, 0.5), (0, 0), xycoords="axes fraction")
                continue
            colors = [TARGETS[0] if mark.own else STEP1 for mark in marks]
            for mark, color in zip(marks, colors, strict=True):
                spread, error = mark.sd or 0.0, mark.entropy_se or 0.0
                axis.vlines(mark.entropy, mark.value - spread, mark.value + spread, color, lw=1.2)
                axis.hlines(mark.value, mark.entropy - error, mark.entropy + error, color, lw=1.2)
            rates, values = [m.entropy for m in marks], [m.value for m in marks]
            points = axis.scatter(rates, values, color=colors, s=26, lw=0, zorder=3)
            hover(points, [_told(mark, title) for mark in marks])
            low, high = min(rates), max(rates)
            room = 0.25 * (high - low) or 0.25 * high or 1.0
            axis.set_xlim(low - room, high + 2 * room)
            for mark, place in zip(marks, _apart(axis, rates, values), strict=True):
                drawing.write(axis, shown(mark.name)[:24], (mark.entropy, place), (5, 4))
    return figure


def _apart(axis: Axes, x: Sequence[float], y: Sequence[float]) -> list[float]:
    """Heights for the names of points, raised where one would be written over another's."""
    (left, right), (bottom, top) = axis.get_xlim(), axis.get_ylim()
    line, wide = NAME_HEIGHT * (top - bottom), NAME_WIDTH * (right - left)
    found = list(y)
    for i in sorted(range(len(y)), key=lambda i: y[i]):
        below = [found[j] for j in range(len(y)) if y[j] < y[i] and abs(x[j] - x[i]) < wide]
        below += [found[j] for j in range(i) if y[j] == y[i] and abs(x[j] - x[i]) < wide]
        for height in sorted(below):
            if abs(found[i] - height) < line:
                found[i] = height + line
    return found


def fitted(form: FormFit, x: Array) -> Array:
    """The loss that a form fitted to a slice gives at x."""
    t = x if form.form == "exponential" else np.log(x)
    return np.asarray(form.floor + np.exp(form.log_scale - form.rate * t))


def _slice(axis: Axes, part: Slice, color: str) -> None:
    points = axis.scatter(part.x, part.losses, color=color, s=20, lw=0, zorder=3)
    power, name = part.fit.forms["power"], part.exponent_name
    held = "D" if part.variable == "params" else "N"
    hover(
        points,
        [
            f"{part.variable} {human(x)}, {held} {human(part.fixed)}: loss {loss:.4f}; {name} "
            f"{power.rate:.3f}"
            for x, loss in zip(part.x, part.losses, strict=True)
        ],
    )
    grid = np.geomspace(part.x[0], part.x[-1], 80)
    dotted = fitted(part.fit.forms["exponential"], grid)
    axis.plot(grid, fitted(power, grid), color=color, lw=1.2)
    axis.plot(grid, dotted, color=color, lw=1.1, ls=":")


def _plain_ticks(axis: Axes) -> None:
    """Ticks of losses on a logarithmic scale that spans less than a decade or two."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

    axis.yaxis.set_major_locator(MaxNLocator(7, steps=[1, 2, 2.5, 5, 10]))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:.4g}"))
    axis.yaxis.set_minor_locator(NullLocator())


def _told(mark: Mark, name: str) -> str:
    spread = "" if mark.sd is None else f" +- {mark.sd:.3f}"
    error = "" if mark.entropy_se is None else f" +- {mark.entropy_se:.4f}"
    return f"{mark.name}: {name} {mark.value:.3f}{spread}, entropy rate {mark.entropy:.4f}{error}"
