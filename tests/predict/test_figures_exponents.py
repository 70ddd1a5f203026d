"""Figures of exponents show the runs, the fitted laws, the entropy and every corpus."""

from __future__ import annotations

import numpy as np
import pytest

from predict.drawing import hover_texts, to_svg
from predict.figures_exponents import (
    NAME_HEIGHT,
    Mark,
    entropy_figure,
    fitted,
    slices_figure,
    surfaces_figure,
)
from predict.slices import Point, Slices, find_slices
from predict.surrogate_methods import TwoVariable, compare_methods

SIZES, TOKENS = (1e4, 2e4, 4e4, 8e4, 1.6e5), (1e6, 2e6, 4e6, 8e6, 1.6e7)


def law(params: float, tokens: float) -> float:
    return 2 + 0.5 * (params / 1e4) ** -0.6 + 0.5 * (tokens / 1e6) ** -0.5


POINTS = [Point(n, d, law(n, d), 1) for n in SIZES for d in TOKENS]


@pytest.fixture(scope="module")
def slices() -> Slices:
    return find_slices(POINTS, "held_out", "nats/token", replicates=0)


@pytest.fixture(scope="module")
def two() -> TwoVariable:
    return compare_methods(POINTS, replicates=0, methods=("parametric",), held_out=False)


def test_the_power_law_of_a_slice_is_drawn_through_losses_that_follow_it(slices: Slices) -> None:
    for part in slices.slices:
        x = np.array(part.x)
        assert fitted(part.fit.forms["power"], x) == pytest.approx(part.losses, rel=1e-6)
        own = part.fit.forms["exponential"]
        off = fitted(own, x) - part.losses
        assert (off**2).mean() == pytest.approx(own.mse, rel=1e-6)


def test_every_loss_is_a_point_with_a_text_and_the_entropy_a_line_in_sight(slices: Slices) -> None:
    figure = slices_figure(slices.slices, "nats/token", entropy=1.9)
    assert sum(map(len, hover_texts(figure).values())) == 2 * len(POINTS)
    for axis, column in zip(figure.axes, (0, 1), strict=True):
        drawn = np.vstack([c.get_offsets() for c in axis.collections])
        assert {(n if column == 0 else d, loss) for n, d, loss in _rows()} == {
            (round(x), y) for x, y in drawn.tolist()
        }
        assert (axis.get_xscale(), axis.get_yscale()) == ("log", "log")
        assert axis.get_ylim()[0] < 1.9
        assert any(list(line.get_ydata()) == [1.9, 1.9] for line in axis.lines)
    # Once, where no curve runs under it.
    first, second = (axis.get_legend() for axis in figure.axes)
    assert [text.get_text() for text in first.get_texts()] == [
        "entropy",
        "power law",
        "exponential",
    ]
    assert second is None
    assert to_svg(figure) == to_svg(slices_figure(slices.slices, "nats/token", entropy=1.9))


def _rows() -> list[tuple[float, float, float]]:
    return [(p.params, p.tokens, p.loss) for p in POINTS]


def test_slices_of_one_variable_leave_the_other_panel_empty(slices: Slices) -> None:
    only = [part for part in slices.slices if part.variable == "tokens"]
    figure = slices_figure(only, "nats/token")
    assert "no slice" in {text.get_text() for text in figure.axes[0].texts}
    assert figure.axes[1].get_legend() is not None
    assert "<svg" in to_svg(figure)


def test_the_compute_optimal_sizes_are_those_of_the_method(two: TwoVariable) -> None:
    (axis,) = surfaces_figure(two, [(p.params, p.tokens) for p in POINTS]).axes
    pairs = zip(two.flops, two.methods[0].optimal_params, strict=True)
    best = [(c, n) for c, n in pairs if n is not None]
    assert len(best) > 4
    assert np.allclose(axis.collections[1].get_offsets(), best)
    assert len(axis.collections[0].get_offsets()) == len(POINTS)


def test_a_corpus_is_a_point_with_its_spread_and_its_name_as_it_is() -> None:
    marks = [
        Mark("_a$\\frac$", 1.5, None, 0.7, 0.1, False),
        Mark("own", 2.5, 0.02, 1.2, None, True),
    ]
    figure = entropy_figure([("alpha_D", marks), ("beta_N", [])])
    first, second = figure.axes
    points = first.collections[-1]
    assert points.get_offsets().tolist() == [[1.5, 0.7], [2.5, 1.2]]
    assert len({tuple(color) for color in points.get_facecolors()}) == 2
    bars = [c.get_segments()[0].tolist() for c in first.collections[:-1]]
    assert [[1.5, pytest.approx(0.6)], [1.5, pytest.approx(0.8)]] in bars
    assert [[pytest.approx(2.48), 1.2], [pytest.approx(2.52), 1.2]] in bars
    assert "own" in {text.get_text() for text in first.texts}
    assert "no exponent" in {text.get_text() for text in second.texts}
    texts = [text for told in hover_texts(figure).values() for text in told]
    assert texts[1] == "own: alpha_D 1.200, entropy rate 2.5000 +- 0.0200"
    assert "frac" in to_svg(figure)


def test_names_of_corpora_close_together_are_written_one_above_the_other() -> None:
    near = [(2.0, 0.50), (2.05, 0.51), (2.1, 0.50), (2.02, 0.56), (4.0, 0.51), (2.0, 3.0)]
    marks = [Mark(f"corpus-{i}", x, None, y, 0.01, False) for i, (x, y) in enumerate(near)]
    (axis,) = entropy_figure([("alpha_D", marks)]).axes
    low, high = axis.get_ylim()
    places = {text.get_text(): text.xy for text in axis.texts}
    heights = sorted(places[f"corpus-{i}"][1] for i in range(4))
    assert min(np.diff(heights)) > 0.99 * NAME_HEIGHT * (high - low)
    # What has room stays where its point is.
    assert places["corpus-4"] == (4.0, 0.51)
    assert places["corpus-5"] == (2.0, 3.0)
