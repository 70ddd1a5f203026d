"""The command forecast: its JSON, its table, and one line for what makes no sense."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from flights import in_flight

from evaluation.records import read_observations, write_observations
from ladder.cli import main


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "obs.parquet"
    observations = in_flight(factor=1.02, until=0.5)
    cloze = observations.assign(task="quiz_rc_5shot")
    letters = cloze[cloze["run"] == "big"].assign(task="quiz_mc_5shot")
    write_observations(pd.concat([cloze, letters], ignore_index=True), path)
    return path


def test_the_json_holds_forecast_ladder_and_own(
    table: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    arguments = ["--run", "big", "--tokens", "1.38T", "--share", "0.25", "--share", "0.5"]
    csv = tmp_path / "rows.csv"
    assert main(["forecast", str(table), *arguments, "--json", "--out", str(csv)]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["version"] == 1
    early, late = document["rows"]
    assert (early["task"], early["run"], early["tokens"]) == ("quiz_rc_5shot", "big", 1.38e12)
    assert early["tokens_seen"] < late["tokens_seen"] == pytest.approx(0.69e12)
    for row in (early, late):
        assert row["loss_lower80"] < row["loss_predicted"] < row["loss_upper80"]
        assert row["ladder_loss"] < row["loss_predicted"] < row["last_loss"]
        assert row["lower80"] < row["predicted"] < row["upper80"]
    assert [found["task"] for found in document["letters"]] == ["quiz_mc_5shot"] * 2
    assert csv.read_text().count("\n") == 3


def test_the_table_has_a_line_a_task_and_the_letters(
    table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["forecast", str(table), "--run", "big", "--tokens", "1.38T"]) == 0
    printed = capsys.readouterr().out
    assert "big at 1.38T tokens" in printed
    assert "quiz_rc_5shot" in printed
    assert "letter forms" in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--run", "nope", "--tokens", "4T"], "no such run"),
        (["--run", "big"], "has not ended"),
        (["--run", "1.9e+08-1xC"], "has ended"),
        (["--run", "big", "--tokens", "1B"], "before the last checkpoint"),
        (["--run", "big", "--tokens", "many"], "is not a count above 0"),
        (["--run", "big", "--tokens", "4T", "--share", "0"], "above 0"),
        (["--run", "big", "--tokens", "4T", "--rungs", "big"], "matches no run"),
    ],
)
def test_a_mistake_is_one_line(
    table: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main(["forecast", str(table), *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err
    assert captured.err.count("\n") == 1


def test_a_table_without_a_ladder_is_one_line(
    table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_observations(read_observations(table).assign(role="extra"), table)
    assert main(["forecast", str(table), "--run", "big", "--tokens", "4T"]) == 2
    assert "no run has the role ladder" in capsys.readouterr().err
