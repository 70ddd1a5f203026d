"""The report: self-contained, escaped, and frank about what misses."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from conftest import synthetic

from evaluation.records import validate
from ladder.pipeline import analyse
from ladder.report import misses, write_report
from predict import TwoStage


def page(table: pd.DataFrame, path: Path) -> str:
    table = validate(table)
    result = analyse(TwoStage("published"), table)
    write_report(result, table, "title", path)
    return path.read_text()


def test_names_from_the_data_are_escaped(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>"
    html = page(synthetic(tasks=(evil,)), tmp_path / "x.html")
    assert "<script" not in html
    assert "&lt;script&gt;" in html


def test_every_run_and_task_is_there(tmp_path: Path) -> None:
    html = page(synthetic(tasks=("one", "two")), tmp_path / "x.html")
    for name in ("190M-1xC", "1280M-10xC", "T0", "one", "two", "11 of 11 starts agree"):
        assert name in html
    assert html.count("data:image/svg+xml;base64,") == 3


def test_a_prediction_that_misses_is_said(tmp_path: Path) -> None:
    good = synthetic()
    bad = good.copy()
    bad.loc[bad["role"] == "target", "accuracy"] -= 0.3
    assert misses(analyse(TwoStage("published"), validate(good))) == []
    lines = misses(analyse(TwoStage("published"), validate(bad)))
    assert len(lines) == 2
    assert "off by +" in lines[0]
    assert "no closer than repeating the top rung" in lines[1]
    assert "What misses" in page(bad, tmp_path / "x.html")


def test_a_table_without_targets_reports_its_fits(tmp_path: Path) -> None:
    html = page(synthetic(targets=()), tmp_path / "x.html")
    assert "no target was named" in html
    assert "Predicted against actual" not in html
