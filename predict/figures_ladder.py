"""Figures of a ladder: N against D, what runs cost, the best N and D for a budget."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from predict import drawing
from predict.drawing import INK, MUTED, SHADE, flops_text, hover, shown
from predict.numbers import human
from predict.optimal_curve import OptimalCurve
from predict.points import RungPoint
from predict.task_fit import Target

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CHINCHILLA = 20
"""Tokens a parameter of 1xC."""


def ladder_figure(rungs: Sequence[RungPoint], targets: Sequence[Target]) -> Figure:
    """Every rung and target: N against D with lines of equal FLOPs, and cost by 6ND a size."""
    with drawing.style():
        figure, (plane, costs) = drawing.new_figure(9.4, 3.7, 2, gap=0.85, right=0.3)
        _plane(plane, rungs, targets)
        _costs(costs, rungs, targets)
    return figure


def optimal_figure(
    curve: OptimalCurve, rungs: Sequence[RungPoint], targets: Sequence[Target]
) -> Figure:
    """The best N for a budget with its 80% interval, and the tokens a parameter that go with it."""
    flops = curve.flops
    top = max(6 * r.params * r.tokens for r in rungs)
    low, high = float(flops[0]) / 1.5, float(flops[-1]) * 1.5
    with drawing.style():
        figure, (sizes, ratios) = drawing.new_figure(9.4, 3.4, 2, gap=0.85)
        for axis, value, lower, upper in (
            (sizes, curve.params, curve.lower80, curve.upper80),
            (
                ratios,
                curve.tokens / curve.params,
                flops / 6 / curve.upper80**2,
                flops / 6 / curve.lower80**2,
            ),
        ):
            if top < high:
                axis.axvspan(top, high, color=SHADE, lw=0, zorder=0)
            axis.fill_between(flops, lower, upper, color=INK, alpha=0.12, lw=0)
            axis.plot(flops, value, color=INK, lw=1.4, label="compute-optimal, 80%")
            drawing.log_axis(axis.xaxis, low, high, flops=True)
            axis.set_xlabel("training FLOPs C = 6ND")
        chinchilla = np.sqrt(flops / 6 / CHINCHILLA)
        label = f"{CHINCHILLA} tokens a parameter"
        sizes.plot(flops, chinchilla, color=MUTED, lw=1, ls=":", label=label)
        ratios.axhline(CHINCHILLA, color=MUTED, lw=1, ls=":", label=label)
        for axis, reads in ((sizes, _size), (ratios, _ratio)):
            _marks(axis, rungs, targets, reads)
        every = [(r.params, r.tokens) for r in rungs] + [(t.params, t.tokens) for t in targets]
        own = [n for n, _ in every] + [*curve.params]
        shares = [d / n for n, d in every] + [*(curve.tokens / curve.params), CHINCHILLA]
        drawing.log_axis(sizes.yaxis, min(own) / 1.6, max(own) * 1.6)
        drawing.log_axis(ratios.yaxis, min(shares) / 1.6, max(shares) * 1.6)
        sizes.set(ylabel="params N", title="Best size for a budget")
        ratios.set(ylabel="tokens a parameter D / N", title="Tokens a parameter at the best size")
        drawing.legend(sizes, loc="upper left")
    return figure


def _plane(axis: Axes, rungs: Sequence[RungPoint], targets: Sequence[Target]) -> None:
    every = [(r.params, r.tokens) for r in rungs] + [(t.params, t.tokens) for t in targets]
    (low_n, high_n), (low_d, high_d) = (
        (min(v) / 1.8, max(v) * 1.8) for v in zip(*every, strict=True)
    )
    decades = range(
        int(np.ceil(np.log10(6 * low_n * low_d))), int(np.log10(6 * high_n * high_d)) + 1
    )
    for power in decades[:: max(1, len(decades) // 6)]:
        size = np.array([low_n, high_n])
        axis.plot(10.0**power / 6 / size, size, color=MUTED, lw=0.6, ls=":", zorder=1)
        # Written where the line meets the right or the lower edge.
        at = max(10.0**power / 6 / high_d, low_n)
        if at < high_n / 1.3:
            drawing.write(
                axis,
                f"1e{power}",
                (min(10.0**power / 6 / at, high_d), at),
                (-3, 3),
                ha="right",
                fontsize=6.5,
            )
    _marks(axis, rungs, targets, lambda n, d: (d, n), named=True)
    drawing.log_axis(axis.xaxis, low_d, high_d)
    drawing.log_axis(axis.yaxis, low_n, high_n)
    axis.set(xlabel="tokens D", ylabel="params N", title="The ladder; dotted: equal FLOPs, 6ND")


def _costs(axis: Axes, rungs: Sequence[RungPoint], targets: Sequence[Target]) -> None:
    sizes = sorted({r.params for r in rungs})
    rows = [f"N = {human(n)}" for n in sizes] + [shown(t.name)[:18] for t in targets]
    total = sum(6 * r.params * r.tokens for r in rungs)
    seen = [total]
    for row, (size, color) in enumerate(zip(sizes, drawing.size_colors(len(sizes)), strict=True)):
        own = [r for r in rungs if r.params == size]
        costs = [6 * r.params * r.tokens for r in own]
        seen += costs
        axis.plot([min(costs), max(costs)], [row, row], color=color, lw=1, alpha=0.5)
        points = axis.scatter(costs, [row] * len(own), color=color, s=22, lw=0, zorder=3)
        hover(points, [_cost(r.run, c, targets) for r, c in zip(own, costs, strict=True)])
    for index, target in enumerate(targets):
        cost, color = 6 * target.params * target.tokens, drawing.target_color(index)
        seen.append(cost)
        star = axis.scatter([cost], [len(sizes) + index], marker="*", s=80, color=color, lw=0)
        share = (
            f"{target.name}: {flops_text(cost, 3)} FLOPs; the whole ladder costs "
            f"{total / cost:.2%} of it"
        )
        hover(star, [share])
    axis.axvline(total, color=INK, lw=0.9, ls="--", zorder=1)
    # Beside the line, on the side where there is room.
    right = total < np.sqrt(min(seen) * max(seen))
    drawing.write(
        axis,
        f"whole ladder\n{flops_text(total, 3)}",
        (total, len(rows) - 0.6),
        (4 if right else -4, 0),
        INK,
        ha="left" if right else "right",
        va="top",
    )
    axis.set_yticks(range(len(rows)), rows)
    axis.set_ylim(-0.6, len(rows) - 0.4)
    drawing.log_axis(axis.xaxis, min(seen) / 2, max(seen) * 2, flops=True)
    axis.set(xlabel="FLOPs by 6ND", title="Cost of every run")


def _marks(
    axis: Axes,
    rungs: Sequence[RungPoint],
    targets: Sequence[Target],
    reads: Callable[[float, float], tuple[float, float]],
    named: bool = False,
) -> None:
    """The rungs, coloured by size, and the targets, where `reads(N, D)` puts them."""
    sizes = sorted({r.params for r in rungs})
    for size, color in zip(sizes, drawing.size_colors(len(sizes)), strict=True):
        own = [r for r in rungs if r.params == size]
        places = [reads(r.params, r.tokens) for r in own]
        x, y = np.array(places).T
        points = axis.scatter(x, y, color=color, s=24, lw=0, zorder=3)
        hover(points, [_cost(r.run, 6 * r.params * r.tokens, targets, r) for r in own])
    for index, target in enumerate(targets):
        at = reads(target.params, target.tokens)
        color = drawing.target_color(index)
        star = axis.scatter(*at, marker="*", s=90, color=color, lw=0, zorder=4)
        place = f"N {human(target.params)}, D {human(target.tokens)}"
        cost = 6 * target.params * target.tokens
        hover(star, [f"{target.name} (target): {place}, {flops_text(cost, 3)} FLOPs"])
        if named:
            drawing.write(axis, shown(target.name)[:18], at, (-7, -3), color, ha="right")


def _size(params: float, tokens: float) -> tuple[float, float]:
    return 6 * params * tokens, params


def _ratio(params: float, tokens: float) -> tuple[float, float]:
    return 6 * params * tokens, tokens / params


def _cost(run: str, flops: float, targets: Sequence[Target], rung: RungPoint | None = None) -> str:
    place = "" if rung is None else f"N {human(rung.params)}, D {human(rung.tokens)}, "
    shares = [f"{flops / (6 * t.params * t.tokens):.2%} of {t.name}" for t in targets[:3]]
    return f"{run}: {place}{flops_text(flops)} FLOPs" + "".join(f", {s}" for s in shares)
