"""Tasks made of held-out text: right by construction, equal pieces, a function of seed and text."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from corpora_english import DOCUMENTS, write_lines
from pydantic import ValidationError

from evaluation.files import InputError
from evaluation.tasks import Item, Task, checked_task, read_task, write_task
from ladder.corpora.continuations import PER_DOCUMENT, make_continuations
from ladder.corpora.documents import is_held_out
from ladder.corpora.settings import Continuations, TextCorpus
from ladder.corpora.text import Text

WANTED = Continuations(items=200, choices=4, context=40, length=20)


def task(documents: list[str] = DOCUMENTS, seed: int = 0, **more: object) -> Task:
    wanted = WANTED.model_copy(update=more)
    return make_continuations(wanted, [("topics", 1.0, documents)], seed)


def test_the_right_context_is_followed_by_the_piece_and_no_other_is() -> None:
    for item in task().items:
        (piece,) = set(item.choices)
        assert len(piece) == 20
        assert re.match(r" \S", piece)
        assert len(item.choices) == len(set(item.contexts)) == 4
        goes_on = [any(c + piece in text for text in DOCUMENTS) for c in item.contexts]
        assert goes_on == [place == item.gold for place in range(4)]
        assert {len(c) for c in item.contexts} == {40}


def test_the_right_one_is_everywhere_about_as_often() -> None:
    made = task(items=1000)
    golds = [item.gold for item in made.items]
    assert all(180 < golds.count(place) < 320 for place in range(4))
    assert made.chance == 0.25
    assert len({item.id for item in made.items}) == 1000


def test_contexts_of_an_item_come_from_different_documents() -> None:
    marked = [f"{n:02d} ".join(["word"] * 200) for n in range(10, 40)]
    for item in task(marked).items:
        number = re.findall(r"\d\d", item.contexts[item.gold])[0]
        assert number in item.choices[0]
        others = [c for place, c in enumerate(item.contexts) if place != item.gold]
        assert not any(number in context for context in others)


def test_a_long_document_does_not_become_the_task() -> None:
    long = " ".join(DOCUMENTS)
    made = task([long, *DOCUMENTS[:60]], items=60)
    own = sum(item.contexts[item.gold] + item.choices[0] in long for item in made.items)
    rest = [d for d in DOCUMENTS[:60] if d in long]
    assert len(rest) == 60
    alone = [
        item
        for item in made.items
        if not any(item.contexts[item.gold] + item.choices[0] in d for d in rest)
    ]
    assert own == 60
    assert len(alone) <= PER_DOCUMENT


def test_the_task_is_a_function_of_seed_name_and_documents() -> None:
    assert task() == task()
    assert task(seed=1).items != task().items
    assert task(name="other").items != task().items


def test_sources_share_the_items_by_weight() -> None:
    sources = [("a", 3.0, DOCUMENTS[::2]), ("b", 1.0, DOCUMENTS[1::2])]
    made = make_continuations(WANTED, sources, 0)
    assert [sum(i.id.startswith(s) for i in made.items) for s in ("a-", "b-")] == [150, 50]


def test_no_more_of_a_large_corpus_is_read_than_is_needed() -> None:
    seen = 0

    def endless() -> object:
        nonlocal seen
        while True:
            seen += 1
            yield DOCUMENTS[seen % len(DOCUMENTS)]

    made = make_continuations(WANTED, [("s", 1.0, endless())], 0)  # type: ignore[arg-type]
    assert len(made.items) == 200
    assert seen < 4 * 200


def test_too_little_text_is_one_line() -> None:
    with pytest.raises(InputError, match=r"give [\d,]+ of 1,000,000 items; ask for fewer items"):
        task(items=1_000_000)
    with pytest.raises(InputError, match="documents of topics give 0 of 200 items"):
        task([])
    with pytest.raises(InputError, match="that are long enough are fewer than the 4 choices"):
        task([" ".join(DOCUMENTS)], items=3)


def corpus(folder: Path, **more: object) -> TextCorpus:
    write_lines(folder / "a.jsonl")
    document = {
        "kind": "text",
        "tokenizer": "bytes",
        "sources": [{"name": "topics", "files": [str(folder / "a.jsonl")]}],
        "held_out": 0.2,
        "continuations": [WANTED.model_dump()],
        **more,
    }
    return TextCorpus.model_validate(document)


def test_only_documents_that_are_not_trained_on_are_asked_about(tmp_path: Path) -> None:
    (made,) = Text(corpus(tmp_path), tmp_path / "made").tasks()
    held_out = [d for d in DOCUMENTS if is_held_out(d, 0.2)]
    for item in made.items:
        assert any(item.contexts[item.gold] + item.choices[0] in d for d in held_out)
        assert all(any(context in d for d in held_out) for context in item.contexts)
    write_task(made, tmp_path)
    assert read_task(tmp_path / "continuation.jsonl") == checked_task(made, "here")


def test_names_that_clash_and_arrays_are_refused(tmp_path: Path) -> None:
    twice = [WANTED.model_dump()] * 2
    with pytest.raises(ValidationError, match="two continuations have the same name"):
        corpus(tmp_path, continuations=twice)
    with pytest.raises(ValidationError, match="is the held-out loss's name"):
        corpus(tmp_path, continuations=[{"name": "text_validation"}])
    with pytest.raises(ValidationError, match="all sources are arrays"):
        corpus(tmp_path, sources=[{"name": "s", "tokens": ["x"]}])
    write_task(Task("continuation", (Item("1", "sky?", (" blue", " red"), 0),)), tmp_path)
    both = corpus(tmp_path, tasks=[str(tmp_path / "continuation.jsonl")])
    with pytest.raises(InputError, match=r"corpus\.tasks has one of that name; choose another"):
        Text(both, tmp_path / "made").tasks()
    lost = corpus(tmp_path, tasks=[str(tmp_path / "lost")])
    with pytest.raises(InputError, match=r"^corpus\.tasks, .*lost"):
        Text(lost, tmp_path / "made").tasks()
