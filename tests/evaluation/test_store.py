"""A folder of scores is one model's, and gives back only what was scored on the same items."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from evaluation.choices import choice_scores
from evaluation.files import InputError
from evaluation.store import Store
from evaluation.tasks import Item, Task
from evaluation.text_scores import TextScores

TASK = Task("x", (Item("1", "q", (" a", " b"), 0),), unconditional="Answer:")
OWNER = {"dtype": "float32", "weights": "w"}


def test_what_was_written_is_given_back_to_its_owner_only(tmp_path: Path) -> None:
    store = Store(tmp_path / "kept", OWNER, {"model": "m"})
    assert store.task(TASK, pmi=False) is None
    store.claim()
    scores = choice_scores(TASK, [-1.0, -2.0], [1, 1])
    store.write(scores)
    assert Store(tmp_path / "kept", OWNER, {"model": "moved"}).task(TASK, pmi=False) == scores
    with pytest.raises(InputError, match="scores of weights 'w', not of 'v'"):
        Store(tmp_path / "kept", {**OWNER, "weights": "v"})
    (tmp_path / "kept" / "model.json").write_text("[1]")
    with pytest.raises(InputError, match="damaged"):
        Store(tmp_path / "kept", OWNER)


def test_scores_whose_label_is_gone_are_to_be_removed_and_other_folders_left_alone(
    tmp_path: Path,
) -> None:
    store = Store(tmp_path / "kept", OWNER)
    store.claim()
    store.write(choice_scores(TASK, [-1.0, -2.0], [1, 1]))
    (tmp_path / "kept" / "model.json").unlink()
    with pytest.raises(InputError, match=r"its model\.json is gone; remove the folder to score"):
        Store(tmp_path / "kept", OWNER)
    (tmp_path / "kept" / "thesis.tex").write_text("x")
    with pytest.raises(InputError, match="holds no scores; name an empty folder"):
        Store(tmp_path / "kept", OWNER)


def test_of_two_that_claim_a_folder_the_second_is_refused(tmp_path: Path) -> None:
    first, second = (Store(tmp_path / "kept", {"weights": w}) for w in "ab")
    first.claim()
    with pytest.raises(InputError, match="holds scores of weights 'a'"):
        second.claim()
    first.claim()
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["model.json"]


def test_a_file_system_without_links_will_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*paths: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("evaluation.store.os.link", refuse)
    first, second = (Store(tmp_path / "kept", {"weights": w}) for w in "ab")
    first.claim()
    with pytest.raises(InputError, match="holds scores of weights 'a'"):
        second.claim()


def test_what_a_kill_left_behind_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / ".model.json.77.tmp").write_text("{")
    Store(tmp_path / "kept", OWNER).claim()


def test_scores_of_other_items_or_of_another_unconditional_context_are_not_used(
    tmp_path: Path,
) -> None:
    store = Store(tmp_path / "kept", OWNER)
    store.claim()
    store.write(choice_scores(TASK, [-1.0, -2.0], [1, 1], [-1.0, -1.0]))
    assert store.task(TASK, pmi=True) is not None
    assert store.task(replace(TASK, unconditional="A:"), pmi=True) is None
    other = store.task(replace(TASK, unconditional="A:"), pmi=False)
    assert other is not None
    assert (other.unconditional, other.items[0].unconditional) == ("", None)
    assert other.items[0].log_likelihoods == (-1.0, -2.0)
    with pytest.raises(InputError, match="other items"):
        store.task(replace(TASK, items=(Item("1", "Q", (" a", " b"), 0),)), pmi=False)


def test_a_text_that_was_changed_anywhere_is_another_one(tmp_path: Path) -> None:
    from evaluation.files import whole_digest

    text = tmp_path / "t.txt"
    text.write_text("sky " * 3_000_000)
    store = Store(tmp_path / "kept", OWNER)
    store.claim()
    store.write(TextScores("t", (1.0,), (3,), 4, whole_digest(text)))
    assert store.text(text) is not None
    with text.open("r+b") as file:
        file.seek(5_000_000)
        file.write(b"SKY")
    with pytest.raises(InputError, match=r"another t\.txt"):
        store.text(text)
