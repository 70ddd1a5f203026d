"""The command `ladder next`: its JSON, its table, and one clear line for a mistake."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from conftest import synthetic

from evaluation.records import write_observations
from ladder.cli import main

TARGET = ("--target", "7B-4T:6.9e9:4T")
RUNS = ("--candidate", "760M-1xC:760M:15.2B", "--candidate", "1B-5xC:1.28B:128B")


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "obs.csv"
    write_observations(synthetic(sizes=(1.9e8, 3.7e8), targets=()), path)
    return path


def test_the_document_holds_the_runs_and_what_to_expect(
    table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["next", str(table), *TARGET, *RUNS, "--budget", "2e21", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["version"] == 1
    assert {r["name"] for r in found["runs"]} == {"760M-1xC", "1B-5xC"}
    assert found["runs"][0]["flops"] in (6 * 7.6e8 * 15.2e9, 6 * 1.28e9 * 1.28e11)
    widths = [s["accuracy_width80"] for s in (found["now"], *found["runs"])]
    assert widths == sorted(widths, reverse=True)
    assert found["all"]["accuracy_width80"] == pytest.approx(widths[-1])


def test_the_table_and_the_file_list_the_runs_in_order(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "next.csv"
    assert main(["next", str(table), *TARGET, *RUNS, "--budget", "2e21", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    names = pd.read_csv(out)["name"].tolist()
    places = [printed.index(name) for name in ("no further run", *names, "all candidates")]
    assert places == sorted(places)


def test_a_config_s_untrained_rungs_are_candidates_at_their_planned_flops(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "obs.csv"
    rows = synthetic(sizes=(1.9e8,), multiples=(1, 2), targets=())
    write_observations(rows, path)
    arguments = ["next", str(path), *TARGET, "--config", "olmo2", "--budget", "1e25", "--json"]
    assert main(arguments) == 0
    found = json.loads(capsys.readouterr().out)
    names = {r["name"] for r in found["runs"]}
    assert names
    assert not names & {"190M-1xC", "190M-2xC"}
    assert main(["plan", "olmo2", "--json"]) == 0
    planned = {r["name"]: r["flops"] for r in json.loads(capsys.readouterr().out)["rungs"]}
    assert all(r["flops"] == planned[r["name"]] for r in found["runs"])


def test_rungs_that_are_taken_for_untrained_are_candidates_of_their_config(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "obs.csv"
    write_observations(synthetic(sizes=(1.9e8, 3.7e8), targets=()), path)
    arguments = ["next", str(path), *TARGET, "--config", "olmo2", "--budget", "1e25", "--json"]
    assert main([*arguments, "--rungs", "190M-*"]) == 0
    names = {r["name"] for r in json.loads(capsys.readouterr().out)["runs"]}
    assert {name for name in names if name.startswith("370M-")}
    assert not {name for name in names if name.startswith("190M-")}


def test_rungs_and_tasks_are_chosen_by_patterns(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "obs.csv"
    write_observations(synthetic(tasks=("a", "b", "c"), targets=()), path)
    options = ["--budget", "1e22", "--rungs", "190M-*", "370M-*", "--tasks", "a", "c", "--json"]
    runs = ("--candidate", "new:900M:90B")
    assert main(["next", str(path), *TARGET, *runs, *options]) == 0
    some = json.loads(capsys.readouterr().out)["now"]
    assert [t["task"] for t in some["tasks"]] == ["a", "c"]
    assert main(["next", str(path), *TARGET, *runs, "--budget", "1e22", "--json"]) == 0
    assert some["loss_sd"] > json.loads(capsys.readouterr().out)["now"]["loss_sd"]


def test_without_a_table_the_prior_chooses_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["next", *TARGET, *RUNS, "--budget", "2e21"]) == 0
    assert "no observations: the prior's centre" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((*RUNS, "--budget", "2e21"), "--target: is missing"),
        ((*TARGET, *RUNS), "--budget: is missing"),
        ((*TARGET, *RUNS, "--budget", "much"), "--budget much: 'much' is not a count above 0"),
        ((*TARGET, *RUNS, "--budget", "1e18"), "the cheapest candidate, 760M-1xC, costs"),
        ((*TARGET, "--budget", "2e21"), "no candidate run"),
        ((*TARGET, "--candidate", "x:1e9", "--budget", "2e21"), "--candidate x:1e9: must read"),
        (("--target", "7B", *RUNS, "--budget", "2e21"), "--target 7B: must read"),
    ],
)
def test_a_mistake_is_one_line(
    arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["next", *arguments]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
