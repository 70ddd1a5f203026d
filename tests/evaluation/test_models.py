"""A Hugging Face model with its tokenizer is scored as one sequence at a time would be."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_model import PROMPT, SHAPE, TASK, saved
from transformers import LlamaConfig, LlamaForCausalLM

from evaluation.files import InputError
from evaluation.models import LoadedModel, load_model, score
from evaluation.tasks import Item, Task


def naive(loaded: LoadedModel, item: Item, choice: str) -> float:
    context, answer = (loaded.tokenizer(t)["input_ids"] for t in (item.context, choice))
    with torch.inference_mode():
        logits = loaded.model(input_ids=torch.tensor([context + answer])).logits
    log_p = logits.double().log_softmax(-1)[0]
    return sum(float(log_p[len(context) + i - 1, t]) for i, t in enumerate(answer))


@pytest.mark.parametrize("sliding", [False, True])
def test_scores_are_those_of_one_sequence_at_a_time(tmp_path: Path, sliding: bool) -> None:
    loaded = load_model(str(saved(tmp_path, sliding=sliding)))
    result = score(loaded, TASK)
    assert result.cut == 0
    for item, found in zip(TASK.items, result.scores.items, strict=True):
        expected = [naive(loaded, item, choice) for choice in item.choices]
        assert found.log_likelihoods == pytest.approx(expected, abs=1e-4)


def test_a_context_beyond_the_window_is_cut_on_the_left_and_counted(tmp_path: Path) -> None:
    loaded = load_model(str(saved(tmp_path, window=10)))
    result = score(loaded, TASK)
    assert result.cut == 3
    item = TASK.items[1]
    longest = max(len(loaded.tokenizer(c)["input_ids"]) for c in item.choices)
    ids = loaded.tokenizer(item.context)["input_ids"][-(10 - longest + 1) :]
    answer = loaded.tokenizer(item.choices[1])["input_ids"]
    with torch.inference_mode():
        log_p = loaded.model(input_ids=torch.tensor([ids + answer])).logits.log_softmax(-1)[0]
    expected = sum(float(log_p[len(ids) + i - 1, t]) for i, t in enumerate(answer))
    assert result.scores.items[1].log_likelihoods[1] == pytest.approx(expected, abs=1e-4)


def test_what_cannot_be_scored_is_named(tmp_path: Path) -> None:
    loaded = load_model(str(saved(tmp_path / "m", window=1)))
    with pytest.raises(InputError, match="item 3: a choice is longer than the window of 1"):
        score(loaded, Task("t", TASK.items[2:]))
    small = LlamaForCausalLM(LlamaConfig(**SHAPE, vocab_size=50))
    with pytest.raises(InputError, match="beyond the model's vocabulary of 50"):
        score(LoadedModel("x", small, loaded.tokenizer), TASK)
    with pytest.raises(InputError, match="holds no config"):
        load_model(str(tmp_path))
    with pytest.raises(InputError, match="there are float32"):
        load_model(str(tmp_path / "m"), dtype="int3")
    (tmp_path / "m" / "config.json").write_text("{}")
    with pytest.raises(InputError, match="cannot be loaded"):
        load_model(str(tmp_path / "m"))


def test_items_of_one_context_are_cut_each_for_its_own_choices(tmp_path: Path) -> None:
    loaded = load_model(str(saved(tmp_path, window=10, sliding=True)))
    context = PROMPT + "what is blue? Answer:"
    long = Item("1", context, (" the sky and the snow is", " snow"), 0)
    short = Item("2", context, (" snow", " sky"), 0)
    together = score(loaded, Task("t", (long, short))).scores.items
    for item, found in zip((long, short), together, strict=True):
        (alone,) = score(loaded, Task("t", (item,))).scores.items
        assert found.log_likelihoods == pytest.approx(alone.log_likelihoods, abs=1e-4)
