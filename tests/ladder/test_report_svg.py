"""Figures in a page: small, with a text on every mark, in colours that follow the page."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

import pytest
from matplotlib.figure import Figure

from ladder.report_svg import Sheet, as_file, color_names, inline, titled
from predict import drawing


def figure(texts: list[str]) -> Figure:
    with drawing.style():
        made, (axis,) = drawing.new_figure(4, 3)
        points = axis.scatter([1, 2, 3], [1, 2, 3], color=drawing.STEP1, lw=0)
        drawing.hover(points, texts)
        (bar,) = axis.barh([2], [1.5], color=drawing.STEP2)
        drawing.hover(bar, ["bar <&>"])
        dots = axis.plot(range(400), range(400), ls="", marker="o", ms=2, mew=0)[0]
        dots.set(gid=drawing.DOTS, color=drawing.MUTED)
    return made


def root_of(texts: list[str]) -> ET.Element:
    made = figure(texts)
    return titled(drawing.to_svg(made), drawing.hover_texts(made), "what it shows")


def test_every_mark_has_its_text_in_order() -> None:
    titles = [e.text for e in root_of(["a", "b", "c"]).iter() if e.tag.endswith("}title")]
    assert sorted(titles) == ["a", "b", "bar <&>", "c"]
    assert titles.index("a") < titles.index("b") < titles.index("c")


def test_texts_that_do_not_match_the_marks_are_refused() -> None:
    with pytest.raises(ValueError, match="3 marks for 2 texts"):
        root_of(["a", "b"])


def test_two_figures_of_a_page_share_styles_but_no_id() -> None:
    sheet = Sheet()
    one, other = (inline(root_of(["a", "b", "c"]), f"f{i}-", sheet) for i in (1, 2))
    ids = [set(re.findall(r' id="([^"]+)"', svg)) for svg in (one, other)]
    assert ids[0]
    assert not ids[0] & ids[1]
    for svg, own in zip((one, other), ids, strict=True):
        used = set(re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', svg))
        assert {a or b for a, b in used} == own
        assert "style=" not in svg
    assert one.replace("f1-", "") == other.replace("f2-", "")


def test_colours_are_the_pages_own() -> None:
    sheet = Sheet()
    inline(root_of(["a", "b", "c"]), "", sheet)
    css = sheet.css()
    assert not re.findall(r"#[0-9a-f]{6}", css)
    assert f"fill:var({color_names()[drawing.STEP1]})" in css


def test_many_points_without_a_name_are_one_path() -> None:
    svg = as_file(root_of(["a", "b", "c"]))
    dots = re.search(r'<path d="((?:M[-\d. ]+h0)+)"', svg)
    assert dots is not None
    assert dots[1].count("M") == 400
    assert len(svg) < 25_000


def test_the_file_is_the_same_figure_with_colours_of_its_own() -> None:
    svg = as_file(root_of(["a", "b", "c"]))
    assert ET.fromstring(svg).get("aria-label") == "what it shows"
    assert "bar &lt;&amp;&gt;" in svg
    assert drawing.STEP1 in svg
