"""How figures look: colours that can be told on light and on dark pages, names, axes, marks."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from predict import drawing
from predict.drawing import DARK, INK, MUTED, PAPER, dark_of, flops_text, short, shown


def contrast(one: str, other: str) -> float:
    """WCAG 2's ratio of the luminances."""

    def luminance(color: str) -> float:
        linear = [
            c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(color)
        ]
        return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_type_can_be_read_and_every_scale_seen_on_light_and_on_dark() -> None:
    for color in (INK, MUTED):
        assert contrast(color, PAPER) > 4.5
        assert contrast(DARK[color], DARK[PAPER]) > 4.5
    for color in (*drawing.TARGETS, drawing.STEP1, drawing.STEP2, *drawing.size_colors(16)):
        assert contrast(color, PAPER) > 1.9
        assert contrast(dark_of()[color], DARK[PAPER]) > 2.9


def test_sizes_have_distinct_colours_in_order_and_all_of_them_have_a_dark_one() -> None:
    for count in (1, 2, 5, 16):
        colors = drawing.size_colors(count)
        assert len(set(colors)) == len(colors) == count
        assert set(colors) <= set(dark_of())
    assert len(drawing.size_colors(40)) == 40


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (3e9, 7e12, ["10B", "100B", "1T"]),
        (5e4, 9e5, ["100K", "300K"]),
        (3e3, 9e3, ["5K"]),
        (2.1e3, 4.4e3, ["3.04K"]),
    ],
)
def test_a_logarithmic_axis_has_ticks_whatever_its_range(
    low: float, high: float, ticks: list[str]
) -> None:
    with drawing.style():
        _, (axis,) = drawing.new_figure(4, 3)
        drawing.log_axis(axis.xaxis, low, high)
    assert [t.get_text() for t in axis.get_xticklabels()] == ticks
    assert axis.get_xlim() == (low, high)


def test_names_of_curves_that_end_together_do_not_cover_each_other() -> None:
    with drawing.style():
        _, (axis,) = drawing.new_figure(4, 3)
        axis.set_ylim(0, 1)
        drawing.label_ends(axis, 1.0, [(0.5, "b"), (0.49, "a"), (0.51, "c"), (7.0, "gone")])
    assert [t.get_text() for t in axis.texts] == ["a", "b", "c"]
    assert np.diff([t.xy[1] for t in axis.texts]) == pytest.approx([0.058, 0.058])


def test_names_are_shortened_at_their_end_only() -> None:
    assert short("arc_easy_test_rc_5shot") == "arc_easy"
    assert short("hellaswag_val_rc_5shot") == "hellaswag"
    assert short("walks_validation") == "walks_validation"
    assert short("mmlu_test_mc_5shot") == "mmlu_test_mc_5shot"
    assert short("_test") == "\u200b_test"
    assert shown("a\x00b\n") == "a\ufffdb\ufffd"
    assert [flops_text(x) for x in (1e21, 3.25e9, 5e22)] == ["1e21", "3.2e9", "5e22"]
