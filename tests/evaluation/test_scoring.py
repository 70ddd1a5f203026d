"""Log-likelihoods equal those of a naive forward of each sequence on its own."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from evaluation.files import InputError
from evaluation.scoring import encode_task, log_likelihoods
from evaluation.tasks import Item, Task
from ladder.config import Model, Shape
from ladder.model import build_model

VOCABULARY = 40


def encode(text: str) -> list[int]:
    return [ord(c) % VOCABULARY for c in text]


@pytest.fixture(scope="module")
def model() -> nn.Module:
    shape = Shape(layers=2, width=16, heads=2, hidden=24)
    config = Model(sequence_length=32, sizes={"x": shape})
    return build_model(config, shape, VOCABULARY, seed=3).eval()


def naive(model: nn.Module, context: str, choice: str) -> float:
    tokens = encode(context) + encode(choice)
    with torch.no_grad():
        log_p = torch.log_softmax(model(input_ids=torch.tensor([tokens])).logits[0], dim=-1)
    start = len(encode(context))
    return sum(log_p[i - 1, tokens[i]].item() for i in range(start, len(tokens)))


def test_every_choice_is_scored_as_if_alone(model: nn.Module) -> None:
    items = (
        Item("1", "what is", (" one", " two", " fourteen"), 0),
        Item("2", "who", (" me", " me", " m"), 1),
        Item("3", "what is", (" x", " y"), 0),
    )
    found = log_likelihoods(model, encode_task(Task("x", items), encode))
    expected = [[naive(model, item.context, c) for c in item.choices] for item in items]
    for ours, theirs in zip(found, expected, strict=True):
        assert ours == pytest.approx(theirs, abs=1e-5)


def test_a_text_without_tokens_is_named(model: nn.Module) -> None:
    task = Task("x", (Item("7", "q", (" a", " b"), 0),))
    with pytest.raises(InputError, match="item 7"):
        encode_task(task, lambda text: [] if text == " b" else [1])
    with pytest.raises(InputError, match="item 7: the context"):
        encode_task(task, lambda text: [] if text == "q" else [1])
