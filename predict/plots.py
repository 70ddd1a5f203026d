"""Figures of fits: both steps through the ladder's points, and predicted against actual."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from predict import drawing
from predict.audit import AuditRow
from predict.bands import accuracy_band, loss_band, loss_curve
from predict.drawing import GRID, INK, MUTED, SHADE, hover, legend, shown
from predict.labels import WIDTH, Box, place_names
from predict.methods import Method
from predict.numbers import human
from predict.points import RungPoint
from predict.task_fit import Prediction, TaskFit

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["audit_figure", "task_figure"]

NAMED = 6
"""Largest errors whose tasks are named in the figure; a pointer names every other."""

MOST_SIZES = 12
"""Sizes up to which each curve has its name."""


def task_figure(
    fitted: TaskFit,
    predictions: Sequence[Prediction],
    actuals: Sequence[AuditRow],
    method: Method | None = None,
) -> Figure:
    """Both steps of one task: fits, points, predictions, what came; shaded is beyond the ladder.

    With `method` the fits have their 80% intervals.
    """
    panels = 1 if fitted.step2 is None else 2
    with drawing.style():
        figure, axes = drawing.new_figure(4.75 * panels, 3.15, panels, gap=1.25, right=0.55)
        _step1(axes[0], fitted, predictions, actuals, method)
        if fitted.step2 is not None:
            _step2(axes[1], fitted, predictions, actuals, method)
    return figure


def audit_figure(rows: Sequence[AuditRow]) -> Figure:
    """Predicted against actual accuracy, every task and target; the diagonal is a perfect one."""
    scored = [
        (row, row.actual, row.prediction.predicted)
        for row in rows
        if row.actual is not None and row.prediction.predicted is not None
    ]
    with drawing.style():
        figure, (axis,) = drawing.new_figure(5.6, 4.4, top=0.12)
        seen = [share for _, actual, predicted in scored for share in (actual, predicted)]
        margin = max(0.06 * (max(seen) - min(seen)), 0.02)
        low, high = min(seen) - margin, max(seen) + margin
        axis.plot([low, high], [low, high], color=MUTED, lw=1, zorder=1)
        targets = list(dict.fromkeys(row.prediction.target for row, *_ in scored))
        for index, target in enumerate(targets):
            own = [(r, a, p) for r, a, p in scored if r.prediction.target == target]
            color = drawing.target_color(index)
            for row, actual, _ in own:
                _whisker(axis, actual, row.prediction.lower80, row.prediction.upper80, color)
            points = axis.scatter(
                [a for _, a, _ in own],
                [p for _, _, p in own],
                color=color,
                s=26,
                lw=0,
                label=shown(target),
                zorder=3,
            )
            hover(points, [_compared(r, a, p) for r, a, p in own])
        axis.set(xlabel="actual accuracy, %", ylabel="predicted accuracy, %")
        axis.set(xlim=(low, high), ylim=(low, high))
        drawing.percent_axis(axis.xaxis)
        drawing.percent_axis(axis.yaxis)
        legend(axis, loc="upper left")
        _name_worst(figure, axis, scored, len(targets))
    return figure


def _name_worst(
    figure: Figure, axis: Axes, scored: Sequence[tuple[AuditRow, float, float]], targets: int
) -> None:
    """The names of the largest errors, where they cover no point; limits must be set."""
    (low, high), spot = axis.get_xlim(), axis.get_position()
    width, height = (72 * x for x in figure.get_size_inches())
    width, height = width * spot.width, height * spot.height

    def at(actual: float, predicted: float) -> tuple[float, float]:
        return width * (actual - low) / (high - low), height * (predicted - low) / (high - low)

    legend_box = Box(0, height - 10 - 12 * targets, 18 + WIDTH * 18, height)
    others = [legend_box]
    for row, actual, predicted in scored:
        x, y = at(actual, predicted)
        lower, upper = row.prediction.lower80, row.prediction.upper80
        others.append(Box(x - 4, y - 4, x + 4, y + 4))
        if lower is not None and upper is not None:
            others.append(Box(x - 3, at(0, lower)[1], x + 3, at(0, upper)[1]))
    steps = [at(low + (high - low) * k / 80, low + (high - low) * k / 80) for k in range(81)]
    others += [Box(x - 2, y - 2, x + 2, y + 2) for x, y in steps]
    worst = sorted(scored, key=lambda s: -abs(s[2] - s[1]))[:NAMED]
    names = [drawing.short(row.prediction.task)[:32] for row, *_ in worst]
    places = place_names(names, [at(a, p) for _, a, p in worst], others, (width, height))
    for name, (_, actual, predicted), place in zip(names, worst, places, strict=True):
        drawing.write(axis, name, (actual, predicted), place.away, ha=place.side, va="center")


def _step1(
    axis: Axes,
    fitted: TaskFit,
    predictions: Sequence[Prediction],
    actuals: Sequence[AuditRow],
    method: Method | None,
) -> None:
    by_size: dict[float, list[RungPoint]] = {}
    for rung in fitted.rungs:
        by_size.setdefault(rung.params, []).append(rung)
    sizes, ends = sorted(by_size), []
    most = max(r.tokens for r in fitted.rungs)
    tokens = [r.tokens for r in fitted.rungs] + [p.tokens for p in predictions]
    span = np.geomspace(min(tokens) * 0.75, max(tokens) * 1.35, 60)
    axis.axvspan(most, span[-1], color=SHADE, lw=0, zorder=0)
    for size, color in zip(sizes, drawing.size_colors(len(sizes)), strict=True):
        own = sorted(by_size[size], key=lambda r: r.tokens)
        curve = loss_curve(fitted, size, span)
        axis.plot(span, curve, color=color, lw=1)
        ends.append((float(curve[-1]), human(size)))
        x, y = [r.tokens for r in own], [r.loss for r in own]
        points = axis.scatter(x, y, color=color, s=18, lw=0, zorder=3)
        hover(points, [_rung(r, fitted) for r in own])
    for index, prediction in enumerate(predictions):
        color = drawing.target_color(index)
        band = None if method is None else loss_band(fitted, method, prediction.params, span)
        if band is not None and band.lower is not None and band.upper is not None:
            axis.fill_between(span, band.lower, band.upper, color=color, alpha=0.13, lw=0)
        line = loss_curve(fitted, prediction.params, span)
        axis.plot(span, line, color=color, lw=1, ls="--")
        lower, upper = prediction.loss_lower80, prediction.loss_upper80
        _whisker(axis, prediction.tokens, lower, upper, color)
        _predicted(axis, prediction, prediction.tokens, prediction.loss_predicted, color)
    for row in actuals:
        _actual(axis, row.prediction.tokens, row.loss_actual, _came(row))
    seen = [
        *(r.loss for r in fitted.rungs),
        *(p.loss_predicted for p in predictions),
        *(p.loss_lower80 for p in predictions if p.loss_lower80 is not None),
        *(r.loss_actual for r in actuals),
    ]
    edge = 0.07 * (max(seen) - min(seen)) or 0.05 * max(seen)
    drawing.log_axis(axis.xaxis, float(span[0]), float(span[-1]))
    axis.set(
        xlabel="tokens D",
        ylabel=f"loss, {shown(fitted.loss_unit)}",
        title=f"Step 1, rms {fitted.step1.relative_rms:.2%}",
        ylim=(min(seen) - edge, max(seen) + edge),
    )
    if len(sizes) <= MOST_SIZES:
        drawing.label_ends(axis, float(span[-1]), ends)
    legend(axis, above=True)


def _step2(
    axis: Axes,
    fitted: TaskFit,
    predictions: Sequence[Prediction],
    actuals: Sequence[AuditRow],
    method: Method | None,
) -> None:
    losses = [
        *fitted.link_loss,
        *(r.loss for r in fitted.rungs if r.accuracy is not None),
        *(p.loss_predicted for p in predictions),
        *(r.loss_actual for r in actuals),
    ]
    margin = 0.05 * (max(losses) - min(losses)) or 0.05 * max(losses)
    span = np.linspace(max(0, min(losses) - margin), max(losses) + margin, 90)
    axis.axvspan(span[0], min(fitted.link_loss), color=SHADE, lw=0, zorder=0)
    if fitted.chance is not None:
        axis.axhline(fitted.chance, color=MUTED, lw=0.9, ls=":", zorder=1)
        # At the left, where the loss is low, the curve stands far above it.
        drawing.write(axis, "chance", (span[0], fitted.chance), (3, 2), ha="left")
    x, y = _thinned(fitted.link_loss, fitted.link_accuracy)
    dots = axis.plot(x, y, ls="", marker="o", ms=1.9, mew=0, color=MUTED, alpha=0.45)[0]
    dots.set(gid=drawing.DOTS, zorder=2)
    band = None if method is None else accuracy_band(fitted, method, span)
    if band is not None and band.lower is not None and band.upper is not None:
        axis.fill_between(span, band.lower, band.upper, color=INK, alpha=0.12, lw=0)
    axis.plot(span, [fitted.accuracy(v) or 0.0 for v in span], color=INK, lw=1.2)
    sizes = sorted({r.params for r in fitted.rungs})
    for size, color in zip(sizes, drawing.size_colors(len(sizes)), strict=True):
        own = [r for r in fitted.rungs if r.params == size and r.accuracy is not None]
        if own:
            points = axis.scatter(
                [r.loss for r in own],
                [r.accuracy for r in own if r.accuracy is not None],
                color=color,
                s=18,
                lw=0,
                zorder=3,
            )
            hover(points, [_rung(r, fitted) for r in own])
    for index, prediction in enumerate(predictions):
        if prediction.predicted is not None:
            color, at = drawing.target_color(index), prediction.loss_predicted
            _whisker(axis, at, prediction.lower80, prediction.upper80, color)
            _predicted(axis, prediction, at, prediction.predicted, color)
    for row in actuals:
        if row.actual is not None:
            _actual(axis, row.loss_actual, row.actual, _came(row))
    axis.set(
        xlabel=f"loss, {shown(fitted.loss_unit)}",
        ylabel="accuracy, %",
        title="Step 2",
        xlim=(span[0], span[-1]),
    )
    drawing.percent_axis(axis.yaxis)
    legend(axis, above=True)


def _thinned(x: Sequence[float], y: Sequence[float]) -> tuple[list[float], list[float]]:
    """The points that differ by more than a two-hundredth of the range, first come first drawn."""
    wide, high = (max(np.ptp(v), 1e-12) / 200 for v in (x, y))
    kept: dict[tuple[int, int], tuple[float, float]] = {}
    for a, b in zip(x, y, strict=True):
        kept.setdefault((round(a / wide), round(b / high)), (a, b))
    return [a for a, _ in kept.values()], [b for _, b in kept.values()]


def _predicted(axis: Axes, prediction: Prediction, x: float, y: float, color: str) -> None:
    label = shown(prediction.target)[:18]
    ring = axis.scatter([x], [y], marker="o", s=46, zorder=5, label=label)
    ring.set(facecolor="none", edgecolor=color, linewidth=1.6)
    hover(ring, [_foretold(prediction)])


def _whisker(axis: Axes, x: float, lower: float | None, upper: float | None, color: str) -> None:
    if lower is not None and upper is not None:
        axis.plot([x, x], [lower, upper], color=color, lw=1.1, alpha=0.7, zorder=2)


def _actual(axis: Axes, x: float, y: float, text: str) -> None:
    star = axis.scatter([x], [y], marker="*", s=70, color=INK, lw=0.6, zorder=4, label="actual")
    star.set(edgecolor=GRID)
    hover(star, [text])


def _rung(rung: RungPoint, fitted: TaskFit) -> str:
    accuracy = "" if rung.accuracy is None else f", accuracy {rung.accuracy:.1%}"
    return (
        f"{rung.run}: N {human(rung.params)}, D {human(rung.tokens)}, loss {rung.loss:.4f} "
        f"(fit {fitted.loss(rung.params, rung.tokens):.4f}){accuracy}"
    )


def _foretold(p: Prediction) -> str:
    text = f"{p.target} predicted: loss {p.loss_predicted:.4f}"
    if p.loss_lower80 is not None and p.loss_upper80 is not None:
        text += f" (80% {p.loss_lower80:.4f} to {p.loss_upper80:.4f})"
    if p.predicted is not None:
        text += f", accuracy {p.predicted:.1%}"
    if p.lower80 is not None and p.upper80 is not None:
        text += f" (80% {100 * p.lower80:.1f} to {100 * p.upper80:.1f})"
    return text


def _came(row: AuditRow) -> str:
    accuracy = "" if row.actual is None else f", accuracy {row.actual:.1%}"
    return f"{row.prediction.target} actual: loss {row.loss_actual:.4f}{accuracy}"


def _compared(row: AuditRow, actual: float, predicted: float) -> str:
    p = row.prediction
    text = (
        f"{p.task}, {p.target}: predicted {predicted:.1%}, actual {actual:.1%}, "
        f"error {100 * (predicted - actual):+.1f} points"
    )
    if p.lower80 is not None and p.upper80 is not None:
        text += f", 80% {100 * p.lower80:.1f} to {100 * p.upper80:.1f}"
    return text
