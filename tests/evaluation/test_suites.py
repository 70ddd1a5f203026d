"""What a user asks for, and the means that several tasks give together."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from tiny_model import TASK

from evaluation.choices import ChoiceScores, choice_scores
from evaluation.files import InputError
from evaluation.metrics import measure
from evaluation.olmes import cache_folder, read_olmes
from evaluation.suites import (
    MMLU_WEIGHTS,
    OLMES,
    PAPER8,
    Selection,
    known_means,
    result_rows,
    select,
)
from evaluation.tasks import Task, write_task


@pytest.fixture(scope="module", autouse=True)
def _fetched(olmes: Path) -> Iterator[None]:
    """All of these tests need the requests, and read each task once."""

    @cache
    def read(folder: Path, name: str) -> Task:
        return read_olmes(name)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("evaluation.suites.read_olmes", lambda name: read(cache_folder(), name))
        yield


def uniform(selection: Selection) -> dict[str, ChoiceScores]:
    """Scores of a model that gives every byte one bit, and the gold choice a bit less."""
    scores = {}
    for task in selection.tasks:
        bits = [
            len(choice.removeprefix(" ").encode()) - (index == item.gold)
            for item in task.items
            for index, choice in enumerate(item.choices)
        ]
        nats = [-math.log(2) * b for b in bits]
        bare = [-1.0] * len(nats) if task.name in selection.pmi else None
        scores[task.name] = choice_scores(task, nats, [1] * len(nats), bare)
    return scores


def test_a_file_needs_nothing_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASK_LADDER_CACHE", str(tmp_path))
    write_task(TASK, tmp_path)
    selection = select([str(tmp_path / "colours.jsonl")])
    assert [task.name for task in selection.tasks] == list(selection.rows) == ["colours"]
    with pytest.raises(InputError, match="fetch"):
        select(["arc_easy_val_rc_5shot"])


def test_patterns_name_several_tasks_each_once() -> None:
    selection = select(["arc_easy_val_??_5shot", "arc_easy_val_rc_5shot"])
    assert selection.rows == ("arc_easy_val_mc_5shot", "arc_easy_val_rc_5shot")
    with pytest.raises(InputError, match="is no file, no suite"):
        select(["arc_hard*"])


def test_mmlus_categories_pool_their_subjects_and_the_whole_weighs_them() -> None:
    selection = select(["mmlu_test_rc_5shot", "mmlu_stem_test_rc_5shot"])
    assert len(selection.tasks) == 57
    scores = uniform(selection)
    whole, stem = result_rows(selection, scores)
    means = known_means()
    parts = {}
    for category in MMLU_WEIGHTS:
        members = means[f"mmlu_{category}_test_rc_5shot"].members
        items = tuple(item for name in members for item in scores[name].items)
        parts[category] = measure(ChoiceScores(category, items))
    assert stem["loss"] == parts["stem"]["bpb"].value
    assert stem["instances"] == parts["stem"]["bpb"].count == 3018
    assert whole["instances"] == 14042
    assert whole["chance"] == pytest.approx(0.25)
    # As allenai/OLMo-ladder has them.
    published = {"stem": 0.215, "humanities": 0.335, "social_sciences": 0.219, "other": 0.231}
    assert published == MMLU_WEIGHTS
    for name in ("bpb", "acc_per_char", "soft"):
        expected = sum(w * parts[c][name].value for c, w in MMLU_WEIGHTS.items())
        assert whole[name] == pytest.approx(expected)


def test_the_papers_average_gives_each_task_one_eighth() -> None:
    selection = select(["paper8"])
    assert len(PAPER8) == 8
    *rows, mean = result_rows(selection, uniform(selection))
    assert [row["task"] for row in rows] == list(PAPER8)
    assert mean["task"] == "paper8"
    assert mean["loss"] == pytest.approx(sum(row["loss"] for row in rows) / 8)
    assert mean["accuracy"] == pytest.approx(sum(row["accuracy"] for row in rows) / 8)
    assert {row["accuracy_metric"] for row in rows} == {"acc_per_char"}


def test_olmes_picks_each_tasks_answer_by_its_own_metric() -> None:
    selection = select(["olmes"])
    assert len(OLMES) == 10
    rows = {row["task"]: row for row in result_rows(selection, uniform(selection))}
    assert rows["csqa_val_rc_5shot"]["accuracy_metric"] == "acc_pmi"
    assert rows["csqa_val_rc_5shot"]["accuracy"] == rows["csqa_val_rc_5shot"]["acc_pmi"]
    assert rows["boolq_val_rc_5shot"]["accuracy_metric"] == "acc"
    assert rows["arc_easy_test_rc_5shot"]["accuracy_metric"] == "acc_per_char"
    expected = sum(rows[name]["accuracy"] for name in OLMES) / 10
    assert rows["olmes"]["accuracy"] == pytest.approx(expected)
    assert selection.pmi == {
        "arc_challenge_test_rc_5shot",
        "csqa_val_rc_5shot",
        "openbookqa_test_rc_5shot",
    }


def test_two_suites_at_once_have_the_averages_that_each_has_alone() -> None:
    alone = {}
    for name in ("paper8", "olmes"):
        selection = select([name])
        alone[name] = result_rows(selection, uniform(selection))[-1]
    for names in (["paper8", "olmes"], ["olmes", "paper8"]):
        selection = select(names)
        rows = {row["task"]: row for row in result_rows(selection, uniform(selection))}
        for name, row in alone.items():
            assert rows[name]["accuracy"] == pytest.approx(row["accuracy"], abs=1e-12)
        assert rows["csqa_val_rc_5shot"]["accuracy_metric"] == "acc_per_char"
    assert alone["paper8"]["accuracy"] != alone["olmes"]["accuracy"]


def test_a_file_takes_the_place_of_no_known_task(tmp_path: Path) -> None:
    for name in ("arc_easy_test_rc_5shot", "paper8", "mmlu_test_rc_5shot"):
        write_task(Task(name, TASK.items), tmp_path)
        own = str(tmp_path / f"{name}.jsonl")
        for wanted in (["paper8", own], [own, "paper8"]):
            with pytest.raises(InputError, match=r"your own task .* is named as"):
                select(wanted)


def test_pmi_is_scored_wherever_it_is_asked_for_and_can_be() -> None:
    names = ["arc_easy_val_rc_5shot", "boolq_val_rc_5shot"]
    assert select(names).pmi == frozenset()
    assert select(names, pmi=True).pmi == {"arc_easy_val_rc_5shot"}


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    paths = [tmp_path / folder for folder in ("one", "two")]
    for path in paths:
        path.mkdir()
        write_task(Task("colours", TASK.items), path)
    with pytest.raises(InputError, match="there is another task colours"):
        select([str(path / "colours.jsonl") for path in paths])
    with pytest.raises(InputError, match=r"must be \.jsonl"):
        select([str(tmp_path / "x.parquet")])
