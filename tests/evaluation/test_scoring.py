"""Every choice is scored as if alone, whatever the memory; what has no score is an error."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
import torch
from test_packed import branches, expected, made
from tiny_model import TASK, naive, saved

from evaluation import scoring
from evaluation.encoding import Branch
from evaluation.files import InputError
from evaluation.models import LoadedModel, load_model
from evaluation.rows import most_logits
from evaluation.scoring import log_likelihoods, score_task
from evaluation.tasks import Item, Task

LIMIT = 30
"""Tokens that a small memory takes."""


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    return load_model(str(saved(tmp_path_factory.mktemp("model"))))


@pytest.mark.parametrize("sliding", [False, True])
def test_a_task_is_scored_as_one_sequence_at_a_time(tmp_path: Path, sliding: bool) -> None:
    loaded = load_model(str(saved(tmp_path, sliding=sliding)))
    scores = score_task(loaded.model, loaded.encode(TASK))
    words = loaded.tokenizer
    for item, found in zip(TASK.items, scores.items, strict=True):
        context = words(item.context)["input_ids"]
        alone = [naive(loaded.model, context, words(c)["input_ids"]) for c in item.choices]
        assert found.log_likelihoods == pytest.approx(alone, abs=1e-4)
        assert found.tokens == tuple(len(words(c)["input_ids"]) for c in item.choices)


def test_contexts_of_one_item_may_differ(loaded: LoadedModel) -> None:
    item = Item("1", ("the sky", "the snow"), (" is blue", " is blue"), 0)
    (found,) = score_task(loaded.model, loaded.encode(Task("x", (item,)))).items
    words = loaded.tokenizer
    alone = [
        naive(loaded.model, words(context)["input_ids"], words(" is blue")["input_ids"])
        for context in item.contexts
    ]
    assert alone[0] != pytest.approx(alone[1], abs=0.01)
    assert found.log_likelihoods == pytest.approx(alone, abs=1e-4)


def test_choices_that_repeat_have_one_score_however_a_pass_rounds(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rounded(*given: object) -> list[float]:
        return [nats + place * 1e-7 for place, nats in enumerate(real(*given))]

    real = scoring._log_likelihoods
    monkeypatch.setattr(scoring, "_log_likelihoods", rounded)
    same = Item("1", "the sky is", (" blue sky", " snow", " blue sky"), 0)
    other = Item("2", ("the sky", "the snow", "the sky"), (" is blue",) * 3, 0)
    found = score_task(loaded.model, loaded.encode(Task("x", (same, other)))).items
    for item in found:
        assert item.log_likelihoods[0] == item.log_likelihoods[2] != item.log_likelihoods[1]


def test_unconditional_scores_stand_behind_answer(loaded: LoadedModel) -> None:
    task = Task("x", TASK.items, unconditional="Answer:")
    scores = score_task(loaded.model, loaded.encode(task, unconditional=True))
    words = loaded.tokenizer
    for item, found in zip(task.items, scores.items, strict=True):
        context = words("Answer:")["input_ids"]
        alone = [naive(loaded.model, context, words(c)["input_ids"]) for c in item.choices]
        assert found.unconditional == pytest.approx(alone, abs=1e-4)


@pytest.mark.parametrize("name", ["llama", "sliding window"])
def test_what_does_not_fit_into_memory_is_scored_in_smaller_parts(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, found = made(name), branches(4, 12)
    sizes: list[int] = []
    real = model.forward

    def forward(*args: object, **inputs: object) -> object:
        tokens = inputs["input_ids"]
        assert isinstance(tokens, torch.Tensor)
        sizes.append(tokens.numel())
        if tokens.numel() > LIMIT:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(*args, **inputs)

    forward.__signature__ = inspect.signature(real)  # type: ignore[attr-defined]
    monkeypatch.setattr(model, "forward", forward)
    assert log_likelihoods(model, found) == pytest.approx(
        expected_without(model, real, found), abs=1e-4
    )
    assert max(sizes) > LIMIT
    assert sum(size > LIMIT for size in sizes) < 4  # once known, the limit is kept


def expected_without(model: torch.nn.Module, forward: object, found: list[Branch]) -> list[float]:
    tried, model.forward = model.forward, forward
    try:
        return expected(model, found)
    finally:
        model.forward = tried


@pytest.mark.parametrize("layer", [0, 1])
def test_a_pass_that_ends_in_the_middle_leaves_the_prefix_as_it_was(layer: int) -> None:
    model, found = made("llama"), branches(30, 12)
    alone = expected(model, found)

    def full(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        # The prefix has 30 tokens, and its pass must not fail.
        if inputs[0].shape[1] > 20 and inputs[0].shape[1] != 30:
            raise torch.OutOfMemoryError("CUDA out of memory")

    hook = model.model.layers[layer].mlp.register_forward_pre_hook(full)
    try:
        assert log_likelihoods(model, found) == pytest.approx(alone, abs=1e-4)
    finally:
        hook.remove()


def test_a_context_that_was_cut_leaves_the_others_their_prefix(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, found = made("llama"), branches(60, 12)
    assert (len(found) - 2) * 60 > scoring.WORTH
    first = found[0]
    found[0] = Branch(first.context[9:], first.choices)
    tokens: list[int] = []
    real = model.forward

    def forward(*args: object, **inputs: object) -> object:
        ids = inputs["input_ids"]
        assert isinstance(ids, torch.Tensor)
        tokens.append(ids.numel())
        return real(*args, **inputs)

    forward.__signature__ = inspect.signature(real)  # type: ignore[attr-defined]
    monkeypatch.setattr(model, "forward", forward)
    scores = log_likelihoods(model, found)
    monkeypatch.setattr(model, "forward", real)
    assert scores == pytest.approx(expected(model, found), abs=1e-4)
    alone = sum(len(b.context) + sum(len(c) for _, c in b.choices) for b in found)
    assert sum(tokens) < alone / 1.5


def test_a_choice_that_fits_nowhere_is_an_error_of_one_line(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forward(*args: object, **inputs: object) -> object:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate")

    encoded = loaded.encode(TASK)
    monkeypatch.setattr(scoring, "is_packable", lambda model: False)
    monkeypatch.setattr(loaded.model, "forward", forward)
    with pytest.raises(InputError, match="not enough memory for one choice"):
        score_task(loaded.model, encoded)


def test_other_errors_are_not_taken_for_a_lack_of_memory(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forward(*args: object, **inputs: object) -> object:
        raise RuntimeError("shapes do not match")

    encoded = loaded.encode(TASK)
    monkeypatch.setattr(scoring, "is_packable", lambda model: False)
    monkeypatch.setattr(loaded.model, "forward", forward)
    with pytest.raises(RuntimeError, match="shapes"):
        score_task(loaded.model, encoded)


def test_a_model_without_finite_probabilities_is_refused(tmp_path: Path) -> None:
    loaded = load_model(str(saved(tmp_path)))
    with torch.no_grad():
        next(loaded.model.parameters()).fill_(float("nan"))
    with pytest.raises(InputError, match="task colours, item 1: the model gives no finite"):
        score_task(loaded.model, loaded.encode(TASK))


def test_half_precision_is_near_the_whole(tmp_path: Path) -> None:
    folder = str(saved(tmp_path))
    found = {}
    for dtype in ("float32", "bfloat16"):
        loaded = load_model(folder, dtype)
        scores = score_task(loaded.model, loaded.encode(TASK))
        found[dtype] = [s for item in scores.items for s in item.log_likelihoods]
    assert found["bfloat16"] != found["float32"]
    assert found["bfloat16"] == pytest.approx(found["float32"], abs=0.5)


def test_progress_ends_at_the_whole(loaded: LoadedModel) -> None:
    shares: list[float] = []
    score_task(loaded.model, loaded.encode(TASK), shares.append)
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1.0, abs=1e-9)


def test_the_logits_of_a_pass_are_bounded_by_memory(loaded: LoadedModel) -> None:
    assert 64 <= most_logits(loaded.model) < 2**40 / 12 / loaded.vocabulary
