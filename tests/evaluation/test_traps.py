"""The field's most repeated mistakes in bits per byte, each of which would fail a test here."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from tiny_model import PROMPT, naive, saved

from evaluation.metrics import score_row
from evaluation.models import LoadedModel, load_model
from evaluation.scoring import score_task
from evaluation.tasks import Item, Task
from evaluation.text_scores import text_row
from evaluation.texts import score_text


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    return load_model(str(saved(tmp_path_factory.mktemp("model"), window=64)))


@pytest.fixture
def uniform(tmp_path: Path) -> LoadedModel:
    """A model that gives every token the same probability."""
    loaded = load_model(str(saved(tmp_path / "uniform", window=64)))
    with torch.no_grad():
        loaded.model.get_output_embeddings().weight.zero_()
    return loaded


def row(loaded: LoadedModel, *choices: str, gold: int = 0) -> dict:
    task = Task("x", (Item("1", PROMPT + "sky? Answer:", choices, gold),))
    return score_row(task, score_task(loaded.model, loaded.encode(task)))


@pytest.mark.parametrize("answer", [" the sky is blue", " grün", " 雪 is white", "sky"])
def test_bits_and_bytes_are_of_the_same_string(loaded: LoadedModel, answer: str) -> None:
    words = loaded.tokenizer
    ids = words(answer)["input_ids"]
    assert words.decode(ids) == answer
    nats = -naive(loaded.model, words(PROMPT + "sky? Answer:")["input_ids"], ids)
    found = row(loaded, answer, " snow")
    # v2 counts the whole string; v1, by its definition, all of it but a leading space.
    assert found["bpb_v2"] * len(answer.encode()) * math.log(2) == pytest.approx(nats, abs=1e-4)
    bare = len(answer.removeprefix(" ").encode())
    assert found["bpb"] * bare * math.log(2) == pytest.approx(nats, abs=1e-4)


def test_bytes_are_counted_and_never_taken_for_one(uniform: LoadedModel) -> None:
    short, long = row(uniform, " sky", " snow"), row(uniform, " sky sky sky", " snow")
    # Three times the tokens, and 11 bytes for 3.
    assert long["bpb"] == pytest.approx(short["bpb"] * 3 * 3 / 11, rel=1e-5)


def test_the_right_answer_counts_wherever_it_stands(loaded: LoadedModel) -> None:
    choices = [" the sky", " snow", " grass"]
    losses = []
    for gold in range(3):
        turned = [*choices[1:]]
        turned.insert(gold, choices[0])
        losses.append(row(loaded, *turned, gold=gold)["loss"])
    assert losses == pytest.approx([losses[0]] * 3, abs=1e-5)
    several = Task("x", tuple(Item(str(g), "sky", (" a", " the sky"), g) for g in (0, 1)))
    scores = score_task(loaded.model, loaded.encode(several))
    assert score_row(several, scores)["instances"] == 2


def test_bytes_are_not_those_of_replacement_characters(uniform: LoadedModel) -> None:
    words = uniform.tokenizer
    pieces = [words.decode([token]) for token in words(" 雪")["input_ids"]]
    assert any("\N{REPLACEMENT CHARACTER}" in piece for piece in pieces)
    found = row(uniform, " 雪", " snow")
    tokens = len(pieces)
    bits = tokens * math.log2(len(words))
    assert found["bpb"] == pytest.approx(bits / 3, rel=1e-5)  # not over the pieces' bytes
    assert sum(len(piece.encode()) for piece in pieces) > 4


def test_a_text_is_weighed_by_its_bytes_not_by_its_tokens(
    uniform: LoadedModel, tmp_path: Path
) -> None:
    path = tmp_path / "mixed.txt"
    path.write_text("the sky is blue and snow is white. " * 20 + "qxz" * 40)
    words, text = uniform.tokenizer, path.read_text()
    sizes = [len(words.decode([token])) for token in words(text)["input_ids"]]
    bits = math.log2(len(words))
    by_tokens = sum(bits / size for size in sizes) / len(sizes)
    by_bytes = bits * len(sizes) / sum(sizes)
    assert by_tokens > 1.1 * by_bytes
    found = text_row(score_text(uniform, path))
    assert found["bpb"] == pytest.approx(by_bytes, rel=1e-5)
    # The same of a task: each item's bits over its own bytes, or all bits over all bytes, both
    # offered by name.
    items = (Item("1", "sky", (" the sky is blue",), 0), Item("2", "sky", (" qxz",), 0))
    scores = score_task(uniform.model, uniform.encode(Task("x", items)))
    counts = [len(words(item.choices[0])["input_ids"]) for item in items]
    both = score_row(Task("x", items), scores)
    assert both["bpb"] == pytest.approx(bits * (counts[0] / 15 + counts[1] / 3) / 2, rel=1e-5)
    assert both["bpb_corpus"] == pytest.approx(bits * sum(counts) / 18, rel=1e-5)


def test_bits_are_no_nats(uniform: LoadedModel, tmp_path: Path) -> None:
    found = row(uniform, " sky", " snow")
    tokens = len(uniform.tokenizer(" sky")["input_ids"])
    assert found["bpb"] == pytest.approx(tokens * math.log2(len(uniform.tokenizer)) / 3, rel=1e-5)
    path = tmp_path / "sky.txt"
    path.write_text("the sky is blue. " * 9)
    text = text_row(score_text(uniform, path))
    assert text["loss"] == pytest.approx(math.log(len(uniform.tokenizer)), rel=1e-5)
    rate = len(uniform.tokenizer(path.read_text())["input_ids"]) / len(path.read_bytes())
    assert text["bpb"] == pytest.approx(math.log2(len(uniform.tokenizer)) * rate, rel=1e-5)
