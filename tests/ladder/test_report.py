"""The report: self-contained, escaped, and frank about what misses."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from command_line import fails
from conftest import synthetic

from evaluation.records import validate, write_observations
from ladder import report_context
from ladder.cli import main
from ladder.pipeline import analyse
from ladder.report import misses, write_report
from ladder.report_parts import Cell, Picture, Section, Table
from ladder.report_provenance import origin_of_runs, origin_of_table, provenance
from predict import TwoStage
from predict.plots import audit_figure

PUBLISHED = ("--method", "published")
"""The method that is fitted fastest."""


def page(
    table: pd.DataFrame, path: Path, method: str = "published", title: str = "title", **more: object
) -> str:
    table = validate(table)
    result = analyse(TwoStage(method), table)
    write_report(result, table, title, path, **more)
    return path.read_text(encoding="utf-8")


@pytest.fixture(autouse=True)
def without_refits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Back-tests and cuts take most of the time, and a test of their own."""
    monkeypatch.setattr(report_context, "MOST_REFITS", 0)


def noisy(table: pd.DataFrame) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return table.assign(loss=table["loss"] * np.exp(0.004 * rng.standard_normal(len(table))))


def test_names_from_the_data_are_escaped(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>"
    html = page(synthetic(tasks=(evil,)), tmp_path / "x.html", title=f"</title>{evil}")
    assert evil not in html
    assert html.count("<script") == 1
    assert html.count("</title>") == 1 + html.count("</title></")
    assert "&lt;script&gt;" in html


def test_only_its_own_script_and_style_may_run_and_nothing_may_load(tmp_path: Path) -> None:
    html = page(synthetic(), tmp_path / "x.html")
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', html)
    assert policy is not None
    assert policy[1].startswith("default-src 'none'; img-src data:;")
    for tag in ("style", "script"):
        text = html[html.index(f"<{tag}>") + len(tag) + 2 : html.index(f"</{tag}>")]
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy[1]
        assert "&#" not in text
    body = html[html.index("<body>") :]
    assert " style=" not in body
    assert "http" not in re.sub(r'xmlns(:\w+)?="[^"]*"', "", body)


def test_every_run_and_task_is_there(tmp_path: Path) -> None:
    html = page(synthetic(tasks=("one", "two")), tmp_path / "x.html")
    for name in ("190M-1xC", "1280M-10xC", "T0", "one", "two", "11 of 11 starts agree"):
        assert name in html
    assert html.count("<svg") == html.count("</svg>") == 7


def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    table = noisy(synthetic())
    assert page(table, tmp_path / "a.html") == page(table, tmp_path / "b.html")


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


@pytest.mark.parametrize(
    "table",
    [
        pytest.param(synthetic(sizes=(1e8,), multiples=(1, 2, 5, 10, 20, 40)), id="one size"),
        pytest.param(synthetic(multiples=(1,), sizes=(1e8, 2e8, 4e8, 8e8, 2e9)), id="one multiple"),
        pytest.param(synthetic().drop(columns=["accuracy", "chance", "instances"]), id="losses"),
        pytest.param(synthetic().query("final"), id="one checkpoint a run"),
        pytest.param(synthetic(targets=((2e8, 4e9),)), id="a target inside the ladder"),
        pytest.param(synthetic(targets=tuple((n, 1e12) for n in (3e9, 5e9, 7e9, 9e9))), id="four"),
        pytest.param(synthetic(tasks=("x" * 300, "_y", "a\x00\x1b\nb")), id="odd names"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_a_poor_table_gives_a_report_that_says_what_it_cannot_tell(
    table: pd.DataFrame, tmp_path: Path
) -> None:
    html = page(table, tmp_path / "x.html", "gadre")
    assert "The ladder" in html
    assert "nan" not in re.sub(r"<style>.*?</script>", "", html, flags=re.S).split()


def test_why_there_is_no_best_size_is_said(tmp_path: Path) -> None:
    two_sizes = synthetic(sizes=(1e8, 2e8), multiples=(1, 2, 4, 8))
    html = page(two_sizes, tmp_path / "x.html")
    assert "the rungs have 2 sizes, and a split needs 3" in html
    html = page(synthetic(tasks=("one", "two")), tmp_path / "x.html")
    assert "no LM validation set, and method published pools no losses" in html


def test_a_section_of_someone_elses_stands_before_the_provenance(tmp_path: Path) -> None:
    rows = analyse(TwoStage("published"), validate(synthetic())).audit
    assert rows is not None
    more = Section(
        "Mine <b>",
        ("Made by `me <i>`.", "an odd ` tick"),
        (Picture("../a b", audit_figure(rows.rows), "A figure", "its caption"),),
        (Table(("what", "value"), (("x", Cell("1,000", 1000.0)),), "a caption"),),
        ("a line",),
        (Section("A part"),),
        (("<another>", "recipes/a b/report.html"),),
    )
    html = page(synthetic(), tmp_path / "x.html", more=[more, more], figures=tmp_path / "figures")
    assert html.index("The fits</h2>") < html.index("Mine &lt;b&gt;</h2>")
    assert html.index("Mine &lt;b&gt;</h2>") < html.index("Provenance</h2>")
    assert "Made by <code>me &lt;i&gt;</code>." in html
    assert "an odd ` tick" in html
    assert '<a href="recipes/a%20b/report.html">&lt;another&gt;</a>' in html
    assert '<td data-v="1000.0">1,000</td>' in html
    names = {p.name for p in (tmp_path / "figures").iterdir()}
    assert {"a-b.svg", "a-b.png", "a-b-2.svg", "a-b-2.png", "ladder.svg"} <= names


def test_figures_are_written_as_files_of_their_own(tmp_path: Path) -> None:
    html = page(noisy(synthetic()), tmp_path / "x.html", figures=tmp_path / "figures")
    names = sorted(p.name for p in (tmp_path / "figures").iterdir())
    assert len(names) == 2 * html.count("<svg")
    assert "fits-quiz.svg" in names
    for path in (tmp_path / "figures").iterdir():
        head = path.read_bytes()[:20]
        assert head.startswith(b"\x89PNG" if path.suffix == ".png" else b"<?xml")
    svg = (tmp_path / "figures" / "fits-quiz.svg").read_text()
    assert "<title>190M-1xC: N 190M, D 3.8B, loss" in svg
    assert "var(" not in svg


def test_a_long_back_test_is_left_to_its_own_command_unless_asked_for(tmp_path: Path) -> None:
    html = page(noisy(synthetic()), tmp_path / "x.html")
    assert "<code>ladder backtest</code> runs it" in html
    assert "<code>ladder audit --curve</code> runs them" in html
    html = page(noisy(synthetic()), tmp_path / "x.html", full=True)
    assert "Back-test: 5 cuts of the ladder" in html
    assert "cut by multiple" in html


def test_provenance_tells_versions_machines_time_and_cost(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("name: mine\n")
    run = tmp_path / "a"
    run.mkdir()
    manifest = {
        "rung": {"flops": 6e9},
        "seed": 3,
        "versions": [{"torch": "2.13"}],
        "machines": ["2 cores of X"],
    }
    (run / "manifest.json").write_text(json.dumps(manifest))
    # 100 tokens at 50 a second, then 300 at 100; a line cut short by a crash is passed over.
    rows = [{"tokens": 100, "tokens_per_second": 50}, {"tokens": 400, "tokens_per_second": 100}]
    text = "".join(json.dumps(r) + "\n" for r in rows)
    (run / "metrics.jsonl").write_text(text + '{"tokens": 5')
    origin = origin_of_runs("mine", config, {"a": run, "gone": tmp_path / "gone"})
    assert [r.seconds for r in origin.runs] == [5.0, None]
    what, runs = provenance(origin).tables
    told = {row[0]: row[1] for row in what.rows}
    digest = hashlib.sha256(b"name: mine\n").hexdigest()
    assert told["config"] == f"mine (config.yaml, SHA-256 {digest})"
    assert told["trained on"] == "2 cores of X"
    assert told["trained with"] == "torch 2.13"
    assert told["time in steps, all runs"] == "0m05s"
    assert "numpy" in told["report made with"]
    assert runs.rows[0][3] == Cell("1.2e9", 1.2e9)
    table = provenance(origin_of_table(config)).tables[0]
    assert table.rows[0][0] == "observations"


def test_the_command_writes_report_and_figures_from_a_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], observations: pd.DataFrame
) -> None:
    table = tmp_path / "obs.parquet"
    write_observations(observations, table)
    assert main(["report", str(table), "--figures", str(tmp_path / "f"), *PUBLISHED]) == 0
    assert (tmp_path / "f" / "ladder.png").is_file()
    assert "SHA-256" in (tmp_path / "obs.html").read_text()
    capsys.readouterr()
    assert "is a file; name a folder" in fails(capsys, "report", table, "--figures", table)


def test_the_published_ladder_stays_small(olmo_observations: Path, tmp_path: Path) -> None:
    assert (
        main(["report", str(olmo_observations), "--out", str(tmp_path / "x.html"), *PUBLISHED]) == 0
    )
    assert (tmp_path / "x.html").stat().st_size < 1.5e6
