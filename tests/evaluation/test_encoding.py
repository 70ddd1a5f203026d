"""A task becomes tokens: what follows what, what is cut, what is refused."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from tiny_model import tokenizer

from evaluation.encoding import Encoder, encode_task
from evaluation.files import InputError
from evaluation.tasks import Item, Task

WORDS = tokenizer()


def plain(texts: Sequence[str]) -> list[list[int]]:
    return WORDS(list(texts), add_special_tokens=False)["input_ids"]


ENCODER = Encoder(plain, plain, None)
TASK = Task(
    "x",
    (
        Item("1", "Question: what is blue? Answer:", (" the sky", " snow"), 0),
        Item("2", "Question: who? Answer:", (" grass",) * 2, 0),
    ),
)


def ids(text: str) -> tuple[int, ...]:
    return tuple(plain([text])[0])


def test_choices_follow_their_contexts_in_the_order_of_the_task() -> None:
    encoded = encode_task(TASK, ENCODER)
    assert [branch.context for branch in encoded.branches] == [ids(i.context) for i in TASK.items]
    flat = [choice for branch in encoded.branches for choice in branch.choices]
    texts = [choice for item in TASK.items for choice in item.choices]
    assert flat == [(place, ids(text)) for place, text in enumerate(texts)]
    assert encoded.tokens == tuple(len(ids(text)) for text in texts)
    assert (encoded.cut, encoded.differ) == (0, 0)


def test_contexts_that_differ_by_choice_have_a_branch_each() -> None:
    item = Item("1", ("the sky", "the snow"), (" is blue", " is blue"), 0)
    encoded = encode_task(Task("x", (item,)), ENCODER)
    assert [branch.context for branch in encoded.branches] == [ids("the sky"), ids("the snow")]
    assert [place for branch in encoded.branches for place, _ in branch.choices] == [0, 1]


def test_tokens_that_reach_over_the_border_are_counted() -> None:
    assert len(ids(" grass")) == 1
    # ` gras` and `s` are one token together, so that nothing begins where the choice does.
    task = Task("x", (Item("1", "sky gras", ("s", " snow"), 0),))
    encoded = encode_task(task, ENCODER)
    assert encoded.differ == 1
    assert encoded.branches[0].choices[0][1] == ids("s")


def test_a_choice_is_what_follows_the_context_not_what_it_is_alone() -> None:
    # Tokenizers after SentencePiece put a space before a text that stands alone.
    def spaced(texts: Sequence[str]) -> list[list[int]]:
        return [[ord(letter) for letter in " " + text] for text in texts]

    encoded = encode_task(
        Task("x", (Item("1", "ab", ("cd", "e"), 0),)), Encoder(spaced, spaced, None)
    )
    assert encoded.differ == 2
    assert [tokens for _, tokens in encoded.branches[0].choices] == [(99, 100), (101,)]


def test_a_context_beyond_the_window_is_cut_on_the_left_and_counted() -> None:
    window = 6
    encoded = encode_task(TASK, ENCODER, window=window)
    assert encoded.cut == 2
    for item, branch in zip(TASK.items, encoded.branches, strict=True):
        longest = max(len(ids(choice)) for choice in item.choices)
        assert branch.context == ids(item.context)[-(window - longest + 1) :]


def test_every_choice_once_behind_the_unconditional_context() -> None:
    task = Task("x", TASK.items, unconditional="Answer:")
    encoded = encode_task(task, ENCODER, unconditional=True)
    assert {branch.context for branch in encoded.unconditional} == {ids("Answer:")}
    assert len(encoded.unconditional) == 3  # of four, two are the same
    assert encoded.unconditional_place == (0, 1, 2, 2)
    short = encode_task(task, ENCODER, window=3, unconditional=True)
    longest = max(len(tokens) for b in short.unconditional for _, tokens in b.choices)
    assert all(len(b.context) + len(b.choices[0][1]) - 1 <= 3 for b in short.unconditional)
    assert longest > 1
    with pytest.raises(InputError, match="no unconditional context"):
        encode_task(TASK, ENCODER, unconditional=True)


def test_an_empty_context_is_the_start_token_if_there_is_one() -> None:
    task = Task("x", (Item("7", "", (" a", " b"), 0),))
    assert encode_task(task, Encoder(plain, plain, 5)).branches[0].context == (5,)
    with pytest.raises(InputError, match="item 7: the context has no tokens, and the tokenizer"):
        encode_task(task, ENCODER)


def test_what_cannot_be_scored_is_named() -> None:
    def without(texts: Sequence[str]) -> list[list[int]]:
        return [
            [] if "snow" in text else found for text, found in zip(texts, plain(texts), strict=True)
        ]

    with pytest.raises(InputError, match=r"item 1: ' snow' has no tokens"):
        encode_task(TASK, Encoder(without, without, None))
    with pytest.raises(InputError, match="item 1: a choice is longer than the window of 1"):
        encode_task(TASK, ENCODER, window=1)
    with pytest.raises(InputError, match="beyond the model's vocabulary of 50"):
        encode_task(TASK, ENCODER, vocabulary=50)
