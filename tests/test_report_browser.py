"""The report in a real browser: quiet, offline; it sorts, tells values, goes dark, prints."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from browser import Browser, find_chromium
from conftest import synthetic

from evaluation.records import validate
from ladder.pipeline import analyse
from ladder.report import write_report
from predict import TwoStage

EVIL = (
    '<img src=x onerror="alert(1)">',
    '"><script>alert(2)</script>',
    "</script></style><script>alert(3)//",
    "$\\frac{1}{0}$ &lt;b&gt; `code`",
    "_under\u202e\x00\x1b]\nscore",
    "javascript:alert(4)",
)
TARGETS = ((6.9e9, 4e12), (1.3e10, 5e12))


def noisy(tasks: tuple[str, ...]) -> pd.DataFrame:
    """Four sizes and two targets, noise in the losses, and a language-modelling set."""
    table = synthetic(targets=TARGETS, tasks=(*tasks, "wiki"))
    language = table["task"] == "wiki"
    table.loc[language, "loss_unit"] = "nats/token"
    table.loc[language, ["accuracy", "chance", "instances"]] = np.nan
    rng = np.random.default_rng(0)
    table["loss"] *= np.exp(0.004 * rng.standard_normal(len(table)))
    return table


def write(table: pd.DataFrame, path: Path, title: str = "title") -> Path:
    table = validate(table)
    write_report(analyse(TwoStage("published"), table), table, title, path)
    return path


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    find_chromium()
    one = Browser()
    yield one
    one.close()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(noisy(("quiz", "riddle")), tmp_path_factory.mktemp("page") / "report.html")


@pytest.fixture
def page(browser: Browser, file: Path) -> Browser:
    browser.media()
    browser.open(file)
    return browser


def test_it_opens_without_a_complaint_or_a_request(page: Browser, file: Path) -> None:
    assert page.complaints() == []
    assert page.requests() == [file.as_uri()]


def test_every_figure_is_there_seen_and_described(page: Browser) -> None:
    figures = page.js(
        "[...document.querySelectorAll('svg.figure')].map(s => [s.getBoundingClientRect().width,"
        "s.getBoundingClientRect().height, s.querySelectorAll('.mark').length,"
        "s.getAttribute('aria-label').length])"
    )
    # The ladder, two of errors, coverage, noise, the best size, compute, and three tasks' fits.
    assert len(figures) == 10
    for width, height, marks, described in figures:
        assert width > 200
        assert height > 80
        assert marks > 1
        assert described > 15


def test_ids_are_unique_and_every_reference_finds_its_own(page: Browser) -> None:
    assert page.js(
        "(() => {const ids = [...document.querySelectorAll('[id]')].map(e => e.id);"
        "return ids.length > 20 && new Set(ids).size === ids.length})()"
    )
    assert page.js(
        "[...document.querySelectorAll('[href^=\"#\"]')].every("
        "e => document.getElementById(e.getAttribute('href').slice(1)))"
    )
    assert page.js(
        "[...document.querySelectorAll('[clip-path]')].every(e => document.getElementById("
        "e.getAttribute('clip-path').slice(5, -1)).closest('svg') === e.closest('svg'))"
    )


def test_a_click_on_a_column_sorts_by_its_numbers_and_another_turns_them_round(
    page: Browser,
) -> None:
    column = (
        "[...document.querySelectorAll('table')].find(t => t.tHead.innerText.includes('actual'))"
    )
    read = f"[...{column}.tBodies[0].rows].map(r => Number(r.cells[5].dataset.v))"
    before = page.js(read)
    page.js(f"{column}.tHead.rows[0].cells[5].querySelector('button').click()")
    assert page.js(read) == sorted(before)
    assert page.js(f"{column}.tHead.rows[0].cells[5].ariaSort") == "ascending"
    page.js(f"{column}.tHead.rows[0].cells[5].querySelector('button').click()")
    assert page.js(read) == sorted(before, reverse=True)
    assert len(set(before)) == 4


def test_pointer_and_arrow_keys_bring_up_the_values_of_marks(page: Browser) -> None:
    x, y = page.js(
        "(() => {const m = document.querySelector('svg.figure .mark');"
        "m.scrollIntoView({block: 'center', behavior: 'instant'});"
        "const b = m.getBoundingClientRect(); return [b.x + b.width / 2, b.y + b.height / 2]})()"
    )
    page.js("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    page.call("Input.dispatchMouseEvent", type="mouseMoved", x=x + 3, y=y + 3)
    tip = "document.getElementById('tip')"
    assert page.js(f"{tip}.hidden") is False
    assert "190M-1xC: N 190M, D 3.8B, 4.3e+18 FLOPs".replace("e+", "e") in page.js(
        f"{tip}.textContent"
    )
    page.js("document.querySelector('svg.figure').focus({preventScroll: true})")
    for kind in ("keyDown", "keyUp"):
        page.call("Input.dispatchKeyEvent", type=kind, key="ArrowRight", code="ArrowRight")
    assert "190M-2xC" in page.js(f"{tip}.textContent")
    page.call("Input.dispatchMouseEvent", type="mouseMoved", x=2, y=2)
    assert page.js(f"{tip}.hidden") is True


def test_dark_is_another_page_by_the_systems_wish_and_by_the_button(page: Browser) -> None:
    paper = "getComputedStyle(document.body).backgroundColor"
    ink = "getComputedStyle(document.querySelector('svg.figure text')).fill"
    light = page.js(paper), page.js(ink)
    page.media("dark")
    dark = page.js(paper), page.js(ink)
    assert light[0] == "rgb(255, 255, 255)"
    assert all(one != other for one, other in zip(light, dark, strict=True))
    page.js("document.getElementById('theme').click()")
    assert (page.js(paper), page.js(ink)) == light
    page.media("light")
    page.js("document.getElementById('theme').click()")
    assert (page.js(paper), page.js(ink)) == dark


def test_paper_is_light_and_has_every_folded_table(page: Browser) -> None:
    page.media("dark", "print")
    assert page.js("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    page.media("dark")
    pdf = base64.b64decode(page.call("Page.printToPDF", preferCSSPageSize=True)["data"])
    assert pdf.startswith(b"%PDF")
    page.js("dispatchEvent(new Event('beforeprint'))")
    assert page.js("[...document.querySelectorAll('details')].every(d => d.open)")


def test_a_telephone_scrolls_figures_and_tables_but_not_the_page(page: Browser) -> None:
    page.call(
        "Emulation.setDeviceMetricsOverride",
        width=390,
        height=800,
        deviceScaleFactor=1,
        mobile=True,
    )
    try:
        assert page.js("document.documentElement.scrollWidth") <= 390
    finally:
        page.call("Emulation.clearDeviceMetricsOverride")


def test_names_that_are_html_script_or_control_characters_are_inert(
    browser: Browser, tmp_path: Path
) -> None:
    table = noisy(EVIL[:4])
    names = dict(zip(sorted(table["run"].unique()), EVIL, strict=False))
    table["run"] = table["run"].map(lambda run: f"{names.get(run, '')}{run}")
    path, figures = tmp_path / "evil.html", tmp_path / "figures"
    table = validate(table)
    write_report(analyse(TwoStage("published"), table), table, EVIL[1], path, figures=figures)
    browser.open(path)
    assert browser.complaints() == []
    assert browser.requests() == [path.as_uri()]
    assert browser.js("document.images.length") == 0
    assert browser.js("document.scripts.length") == 1
    assert browser.js("document.title") == EVIL[1]
    shown = browser.js("document.body.innerText")
    for name in EVIL[:4]:
        assert name in shown
    assert len(browser.js("[...document.querySelectorAll('svg.figure')].map(s => 1)")) == 12
    files = sorted(figures.glob("*.svg"))
    assert len(files) > 5
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+", file.name) for file in figures.iterdir())
    for file in files:
        browser.open(file)
        assert browser.complaints() == []
        assert browser.requests() == [file.as_uri()]
        assert browser.js("document.querySelectorAll('script, img, foreignObject').length") == 0
        assert browser.js(
            "[...document.querySelectorAll('*')].every(e => [...e.attributes].every("
            "a => !a.name.startsWith('on') && !/^\\s*javascript:/i.test(a.value)))"
        )
