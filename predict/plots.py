"""Figures of fits: both steps through the ladder's points, and predicted against actual."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from predict.audit import AuditRow
from predict.numbers import human
from predict.points import RungPoint
from predict.task_fit import Prediction, TaskFit

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, MUTED, ACCENT = "#1f2933", "#7b8794", "#c2410c"
STYLE = {
    "font.size": 9,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e4e7eb",
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "svg.hashsalt": "task-ladder",
}


def task_figure(
    fitted: TaskFit, predictions: Sequence[Prediction], actuals: Sequence[AuditRow]
) -> Figure:
    """Both steps of one task: the fits, their points, the predictions and what came."""
    plt, style = _pyplot()
    panels = 1 if fitted.step2 is None else 2
    with style:
        figure, axes = plt.subplots(1, panels, figsize=(4.6 * panels, 3.3), squeeze=False)
        _step1(axes[0, 0], fitted, predictions, actuals)
        if fitted.step2 is not None:
            _step2(axes[0, 1], fitted, predictions, actuals)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Glyph")
            figure.tight_layout()
    plt.close(figure)
    return cast("Figure", figure)


def audit_figure(rows: Sequence[AuditRow]) -> Figure:
    """Predicted against actual accuracy, every task and target; the diagonal is a perfect one."""
    plt, style = _pyplot()
    scored = [
        (row, row.actual, row.prediction.predicted)
        for row in rows
        if row.actual is not None and row.prediction.predicted is not None
    ]
    with style:
        figure, axis = plt.subplots(figsize=(4.6, 4.2))
        seen = [share for _, actual, predicted in scored for share in (actual, predicted)]
        low, high = min(seen) - 0.03, max(seen) + 0.03
        axis.plot([low, high], [low, high], color=MUTED, lw=1, zorder=1)
        targets = list(dict.fromkeys(row.prediction.target for row, *_ in scored))
        for target, color in zip(targets, _colors(len(targets)), strict=True):
            own = [(a, p) for row, a, p in scored if row.prediction.target == target]
            axis.scatter(*zip(*own, strict=True), color=color, label=_text(target), zorder=3)
        for row, actual, predicted in scored:
            if row.prediction.target != targets[-1]:
                continue  # once a task: the others of its targets lie close by
            axis.annotate(
                _short(row.prediction.task),
                (actual, predicted),
                xytext=(4, -9),
                textcoords="offset points",
                fontsize=7,
                color=MUTED,
            )
        axis.set(
            xlabel="actual accuracy",
            ylabel="predicted accuracy",
            xlim=(low, high),
            ylim=(low, high),
            aspect="equal",
        )
        axis.legend()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Glyph")
            figure.tight_layout()
    plt.close(figure)
    return cast("Figure", figure)


def to_svg(figure: Figure) -> str:
    """The figure as SVG text, the same for the same figure."""
    _, style = _pyplot()
    with style, io.StringIO() as buffer, warnings.catch_warnings():
        # A name in a script that the font lacks is drawn as boxes; the page has it as text.
        warnings.filterwarnings("ignore", message="Glyph")
        figure.savefig(buffer, format="svg", dpi=150, metadata={"Date": None})
        return buffer.getvalue()


def _step1(
    axis: Axes,
    fitted: TaskFit,
    predictions: Sequence[Prediction],
    actuals: Sequence[AuditRow],
) -> None:
    by_size: dict[float, list[RungPoint]] = {}
    for rung in fitted.rungs:
        by_size.setdefault(rung.params, []).append(rung)
    sizes = sorted(by_size)
    tokens = [r.tokens for r in fitted.rungs] + [p.tokens for p in predictions]
    span = np.geomspace(min(tokens) * 0.8, max(tokens) * 1.25, 80)
    for size, color in zip(sizes, _colors(len(sizes)), strict=True):
        own = sorted(by_size[size], key=lambda r: r.tokens)
        axis.plot(span, [fitted.loss(size, t) for t in span], color=color, lw=1)
        axis.scatter(
            [r.tokens for r in own],
            [r.loss for r in own],
            color=color,
            s=18,
            zorder=3,
            label=f"N = {human(size)}",
        )
    for prediction in predictions:
        axis.plot(
            span, [fitted.loss(prediction.params, t) for t in span], color=ACCENT, lw=1, ls="--"
        )
        _predicted(axis, prediction.tokens, prediction.loss_predicted)
        _whisker(axis, prediction.tokens, prediction.loss_lower80, prediction.loss_upper80)
    for row in actuals:
        _actual(axis, row.prediction.tokens, row.loss_actual)
    axis.set_xscale("log")
    axis.set(
        xlabel="tokens D",
        ylabel=f"loss, {fitted.loss_unit}",
        title=f"step 1   rms {fitted.step1.relative_rms:.2%}",
    )
    _legend(axis)


def _step2(
    axis: Axes,
    fitted: TaskFit,
    predictions: Sequence[Prediction],
    actuals: Sequence[AuditRow],
) -> None:
    axis.scatter(
        fitted.link_loss,
        fitted.link_accuracy,
        s=8,
        color=MUTED,
        alpha=0.5,
        lw=0,
        rasterized=len(fitted.link_loss) > 300,
        label="checkpoints",
    )
    losses = [
        *fitted.link_loss,
        *(p.loss_predicted for p in predictions),
        *(r.loss_actual for r in actuals),
    ]
    margin = 0.05 * (max(losses) - min(losses))
    span = np.linspace(max(0, min(losses) - margin), max(losses) + margin, 120)
    axis.plot(span, [fitted.accuracy(x) or 0.0 for x in span], color=INK, lw=1.2)
    for prediction in predictions:
        if prediction.predicted is not None:
            _predicted(axis, prediction.loss_predicted, prediction.predicted)
            _whisker(axis, prediction.loss_predicted, prediction.lower80, prediction.upper80)
    for row in actuals:
        if row.actual is not None:
            _actual(axis, row.loss_actual, row.actual)
    if fitted.chance is not None:
        axis.axhline(fitted.chance, color=MUTED, lw=0.8, ls=":", label="chance")
    axis.set(xlabel=f"loss, {fitted.loss_unit}", ylabel="accuracy", title="step 2")
    _legend(axis)


def _legend(axis: Axes) -> None:
    handles, labels = axis.get_legend_handles_labels()
    once = dict(zip(labels, handles, strict=True))
    axis.legend(once.values(), once.keys())


def _predicted(axis: Axes, x: float, y: float) -> None:
    ring = axis.scatter([x], [y], marker="o", s=46, zorder=4, label="predicted")
    ring.set(facecolor="none", edgecolor=ACCENT)


def _whisker(axis: Axes, x: float, lower: float | None, upper: float | None) -> None:
    if lower is not None and upper is not None:
        axis.plot([x, x], [lower, upper], color=ACCENT, lw=1.2, zorder=3, label="80% interval")


def _actual(axis: Axes, x: float, y: float) -> None:
    axis.scatter([x], [y], marker="*", s=60, color=INK, zorder=5, label="actual")


def _colors(count: int) -> list[tuple[float, float, float, float]]:
    from matplotlib import colormaps

    return [tuple(colormaps["viridis"](x)) for x in np.linspace(0.05, 0.8, max(count, 1))]


def _short(task: str) -> str:
    return _text(task.replace("_test", "").replace("_val", "").replace("_rc_5shot", ""))


def _text(name: str) -> str:
    """A name from the data, shown as it is: no mathematics, no entry that a legend hides."""
    return name.replace("$", r"\$") if name[:1] != "_" else "\u200b" + name.replace("$", r"\$")


def _pyplot() -> tuple[Any, Any]:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot, pyplot.rc_context(STYLE)
