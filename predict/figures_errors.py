"""Figures of what predictions err by: per step, noise, coverage, compute against error."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from predict import drawing
from predict.audit import AuditRow
from predict.calibration import LEVELS, Coverage
from predict.curve import Curve
from predict.drawing import INK, MUTED, STEP1, STEP2, hover, short, shown
from predict.noise import TaskNoise
from predict.shared import WEAK

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_PANELS = 3
"""Targets up to which each has a panel of its own."""


def steps_figure(rows: Sequence[AuditRow]) -> Figure:
    """Error of every task, in points: step 1 and step 2 as bars, the whole as a dot.

    A panel a target for the first MOST_PANELS of them.
    """
    scored = [r for r in rows if r.error is not None]
    targets = list(dict.fromkeys(r.prediction.target for r in scored))[:MOST_PANELS]
    tasks = list(dict.fromkeys(r.prediction.task for r in scored))
    with drawing.style():
        left, height = _room(tasks)
        width = left + 0.2 + max(3.6, 2.7 * len(targets))
        figure, axes = drawing.new_figure(
            width, height, len(targets), left=left, gap=0.25, share=True
        )
        for axis, target in zip(axes, targets, strict=True):
            own = {r.prediction.task: r for r in scored if r.prediction.target == target}
            _steps(axis, tasks, own, target)
        _task_ticks(axes[0], tasks)
        for axis in axes[1:]:
            axis.tick_params(labelleft=False)
        drawing.legend(axes[-1], above=True)
    return figure


def noise_figure(found: Sequence[TaskNoise]) -> Figure:
    """Signal to noise of every task's loss and accuracy, and the line below which it is weak."""
    known = [n for n in found if n.loss_signal_to_noise or n.accuracy_signal_to_noise]
    tasks = [n.task for n in known]
    with drawing.style():
        left, height = _room(tasks)
        figure, (axis,) = drawing.new_figure(left + 5.2, height, left=left)
        values = [
            v for n in known for v in (n.loss_signal_to_noise, n.accuracy_signal_to_noise) if v
        ]
        for name, color, offset in (("loss", STEP1, -0.14), ("accuracy", STEP2, 0.14)):
            own = [(i, n, getattr(n, f"{name}_signal_to_noise")) for i, n in enumerate(known)]
            own = [(i, n, v) for i, n, v in own if v]
            if not own:
                continue
            points = axis.scatter(
                [v for *_, v in own],
                [i + offset for i, *_ in own],
                color=color,
                s=22,
                lw=0,
                label=name,
                zorder=3,
            )
            hover(points, [f"{n.task}: {name} moves {v:.3g} times its noise" for _, n, v in own])
        axis.axvline(WEAK, color=MUTED, lw=1, ls=":", label=f"weak, {WEAK:g}")
        _task_ticks(axis, tasks)
        drawing.log_axis(axis.xaxis, min([*values, WEAK]) / 1.6, max([*values, WEAK]) * 1.6)
        axis.set_xlabel("signal to noise over the ladder")
        drawing.legend(axis, above=True)
    return figure


def coverage_figure(found: Sequence[Coverage]) -> Figure:
    """Share of rows inside the central interval of every level; the diagonal is calibrated."""
    with drawing.style():
        figure, (axis,) = drawing.new_figure(4.9, 3.9, top=0.12)
        axis.plot([0, 1], [0, 1], color=MUTED, lw=1, zorder=1)
        for coverage, color in zip(found, (INK, drawing.target_color(0)), strict=False):
            label = f"{coverage.name}, {coverage.rows} rows of {coverage.tasks} tasks"
            axis.plot(LEVELS, coverage.curve, color=color, lw=1.5, label=label)
            points = axis.scatter(
                [0.8, 0.95],
                [coverage.inside80, coverage.inside95],
                color=color,
                s=26,
                lw=0,
                zorder=3,
            )
            hover(
                points,
                [
                    f"{coverage.name}: {share:.0%} of {coverage.rows} rows inside {level} intervals"
                    for level, share in (("80%", coverage.inside80), ("95%", coverage.inside95))
                ],
            )
        axis.set(xlabel="level of the interval, %", ylabel="inside, %", xlim=(0, 1), ylim=(0, 1.03))
        drawing.percent_axis(axis.xaxis)
        drawing.percent_axis(axis.yaxis)
        drawing.legend(axis, loc="lower right")
    return figure


def curve_figure(curve: Curve) -> Figure:
    """Mean absolute error against the cost of the part of the ladder that was fitted."""
    cuts = list(dict.fromkeys(p.cut for p in curve.points))
    targets = list(dict.fromkeys(p.target for p in curve.points))
    with drawing.style():
        width = max(5.2, 3.1 * len(cuts) + 0.7)
        figure, axes = drawing.new_figure(width, 3.1, len(cuts), gap=0.25, share=True)
        flops = [p.ladder_flops for p in curve.points]
        for axis, cut in zip(axes, cuts, strict=True):
            for index, target in enumerate(targets):
                own = [p for p in curve.points if p.cut == cut and p.target == target]
                if not own:
                    continue
                x, y = [p.ladder_flops for p in own], [p.mean_abs_error for p in own]
                color = drawing.target_color(index)
                axis.plot(x, y, color=color, lw=1.2)
                dots = axis.scatter(x, y, color=color, s=20, lw=0, label=shown(target), zorder=3)
                hover(
                    dots,
                    [
                        f"{p.target}, {p.cut} up to {p.limit:.3g}: {p.rungs} rungs, "
                        f"{p.share_of_target:.2%} of its FLOPs, error "
                        f"{100 * p.mean_abs_error:.1f} points"
                        for p in own
                    ],
                )
            drawing.log_axis(axis.xaxis, min(flops) / 1.5, max(flops) * 1.5, flops=True)
            axis.set(xlabel="FLOPs of the fitted rungs", title=f"cut by {cut}")
        axes[0].set_ylabel("mean absolute error, points")
        axes[0].set_ylim(bottom=0)
        drawing.percent_axis(axes[0].yaxis)
        for axis in axes[1:]:
            axis.tick_params(labelleft=False)
        drawing.legend(axes[0], loc="upper right")
    return figure


def _steps(axis: Axes, tasks: list[str], own: dict[str, AuditRow], target: str) -> None:
    for name, color, offset in (("step 1", STEP1, -0.17), ("step 2", STEP2, 0.17)):
        field = name.replace(" ", "") + "_error"
        rows = [(i, own[t], getattr(own[t], field)) for i, t in enumerate(tasks) if t in own]
        rows = [(i, row, v) for i, row, v in rows if v is not None]
        if not rows:
            continue
        bars = axis.barh(
            [i + offset for i, *_ in rows],
            [100 * v for *_, v in rows],
            height=0.32,
            color=color,
            lw=0,
            label=name,
            zorder=2,
        )
        for bar, (_, row, value) in zip(bars, rows, strict=True):
            hover(bar, [f"{row.prediction.task}, {target}, {name}: {100 * value:+.2f} points"])
    whole = [(i, own[t]) for i, t in enumerate(tasks) if t in own]
    dots = axis.scatter(
        [100 * (row.error or 0.0) for _, row in whole],
        [i for i, _ in whole],
        color=INK,
        s=14,
        lw=0,
        label="both",
        zorder=3,
    )
    hover(
        dots,
        [
            f"{row.prediction.task}, {target}: error {100 * (row.error or 0.0):+.2f} points"
            for _, row in whole
        ],
    )
    axis.axvline(0, color=MUTED, lw=0.9, zorder=1)
    axis.set(xlabel="error, points", title=shown(target))


def _room(tasks: Sequence[str]) -> tuple[float, float]:
    """Inches to the left of a panel whose rows are tasks, and its figure's height."""
    left = min(0.35 + 0.068 * max((len(short(t)) for t in tasks), default=1), 2.9)
    return left, 0.95 + 0.24 * max(len(tasks), 3)


def _task_ticks(axis: Axes, tasks: Sequence[str]) -> None:
    axis.set_yticks(range(len(tasks)), [short(t)[:40] for t in tasks])
    axis.set_ylim(max(len(tasks), 3) - 0.4, -0.6)
