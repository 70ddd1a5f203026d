"""Tasks as tokens: contexts cut to the window, choices as they follow their contexts; no torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from evaluation.files import InputError
from evaluation.tasks import Task

Ids = list[int]
TAIL = 64
"""Characters of a context's end with which its choices are encoded to see where tokens begin."""


@dataclass(frozen=True)
class Encoder:
    """A tokenizer, as far as scoring needs one."""

    plain: Callable[[Sequence[str]], list[Ids]]
    """Tokens of each text alone."""
    opening: Callable[[Sequence[str]], list[Ids]]
    """Tokens of each text at the beginning of a sequence: behind BOS, where the tokenizer has it
    so."""
    start: int | None
    """What an empty context is: BOS, else EOS; None where the tokenizer has neither."""


@dataclass(frozen=True)
class Branch:
    """A context and what is scored behind it."""

    context: tuple[int, ...]
    choices: tuple[tuple[int, tuple[int, ...]], ...]
    """Place in the flat list of results, and tokens."""


@dataclass(frozen=True)
class EncodedTask:
    """A task's tokens, ready to be scored by any number of checkpoints."""

    task: Task
    branches: tuple[Branch, ...]
    """Every choice behind its context, in the order of items and choices."""
    unconditional: tuple[Branch, ...]
    """Every different choice behind the unconditional context; empty where it is not asked for."""
    unconditional_place: tuple[int, ...]
    """Of each choice of the task, in order, its place among the unconditional results."""
    tokens: tuple[int, ...]
    """Tokens of each choice, in order."""
    cut: int
    """Contexts that lost tokens on the left to fit the window."""
    differ: int
    """Choices whose tokens behind the context are not those of the choice alone."""


def encode_task(
    task: Task,
    encoder: Encoder,
    window: int | None = None,
    vocabulary: int | None = None,
    unconditional: bool = False,
) -> EncodedTask:
    """Tokenise a task once.

    A context that does not fit `window` with its longest choice loses tokens on the left.
    `vocabulary` is the number of tokens that the model knows. Raises InputError naming the item
    where something cannot be scored.
    """
    contexts = _encode_contexts(task, encoder)
    choices, differ = _encode_choices(task, encoder)
    branches: list[Branch] = []
    cut = place = 0
    flat: list[tuple[int, ...]] = []
    for item, own in zip(task.items, choices, strict=True):
        where = f"task {task.name}, item {item.id}"
        groups: dict[str, list[tuple[int, tuple[int, ...]]]] = {}
        for text, tokens in zip(item.contexts, own, strict=True):
            groups.setdefault(text, []).append((place, tokens))
            place += 1
        for text, scored in groups.items():
            whole = contexts[text]
            kept = _fitting(whole, [tokens for _, tokens in scored], window, where)
            _check_vocabulary([*kept, *(t for _, c in scored for t in c)], vocabulary, where)
            cut += len(kept) < len(whole)
            branches.append(Branch(kept, tuple(scored)))
        flat += own
    bare: tuple[Branch, ...] = ()
    places: tuple[int, ...] = ()
    if unconditional:
        bare, places = _unconditional(task, encoder, flat, window, vocabulary)
    return EncodedTask(task, tuple(branches), bare, places, tuple(map(len, flat)), cut, differ)


def _encode_contexts(task: Task, encoder: Encoder) -> dict[str, tuple[int, ...]]:
    texts = list(dict.fromkeys(text for item in task.items for text in item.contexts))
    encoded = {}
    for text, ids in zip(texts, encoder.opening(texts), strict=True):
        if not ids and encoder.start is None:
            item = next(i for i in task.items if text in i.contexts)
            raise InputError(
                f"task {task.name}, item {item.id}: the context has no tokens, and the tokenizer "
                "has neither BOS nor EOS to begin with"
            )
        encoded[text] = tuple(ids) if ids else (int(encoder.start or 0),)
    return encoded


def _encode_choices(task: Task, encoder: Encoder) -> tuple[list[list[tuple[int, ...]]], int]:
    """Tokens of every choice of every item, and of how many they depend on the context.

    A choice's tokens are those that follow its context's when both are encoded together. Where
    the context's last tokens would change, the choice is encoded alone.
    """
    pairs = [
        (_tail(context), choice)
        for item in task.items
        for context, choice in zip(item.contexts, item.choices, strict=True)
    ]
    alone, tails = (_lookup(encoder, [pair[k] for pair in pairs]) for k in (1, 0))
    joined = _lookup(encoder, [tail + choice for tail, choice in pairs])
    found: list[tuple[int, ...]] = []
    differ = 0
    for tail, choice in pairs:
        before, together, apart = tails[tail], joined[tail + choice], alone[choice]
        if together != before + apart:
            differ += 1
            if len(together) > len(before) and together[: len(before)] == before:
                apart = together[len(before) :]
        found.append(tuple(apart))
    nested, begin = [], 0
    for item in task.items:
        own = found[begin : begin + len(item.choices)]
        begin += len(item.choices)
        for text, ids in zip(item.choices, own, strict=True):
            if not ids:
                raise InputError(f"task {task.name}, item {item.id}: {text!r} has no tokens")
        nested.append(own)
    return nested, differ


def _lookup(encoder: Encoder, texts: Sequence[str]) -> dict[str, Ids]:
    different = list(dict.fromkeys(texts))
    return dict(zip(different, encoder.plain(different), strict=True))


def _tail(context: str) -> str:
    """The end of a context, from the beginning of a word."""
    if len(context) <= TAIL:
        return context
    tail = context[-TAIL:]
    space = min((tail.find(mark) for mark in (" ", "\n") if mark in tail[:-1]), default=0)
    return tail[space:]


def _fitting(
    context: tuple[int, ...], choices: list[tuple[int, ...]], window: int | None, where: str
) -> tuple[int, ...]:
    # The last token of a choice is only predicted, never read.
    room = (window or 2**62) - (max(map(len, choices)) - 1)
    if room < 1:
        raise InputError(f"{where}: a choice is longer than the window of {window} tokens")
    return context[-room:]


def _check_vocabulary(ids: Sequence[int], vocabulary: int | None, where: str) -> None:
    if vocabulary is not None and max(ids) >= vocabulary:
        raise InputError(
            f"{where}: token {max(ids)} is beyond the model's vocabulary of {vocabulary}; the "
            "tokenizer is another model's"
        )


def _unconditional(
    task: Task,
    encoder: Encoder,
    choices: Sequence[tuple[int, ...]],
    window: int | None,
    vocabulary: int | None,
) -> tuple[tuple[Branch, ...], tuple[int, ...]]:
    if not task.unconditional:
        raise InputError(f"task {task.name}: has no unconditional context, which acc_pmi needs")
    (context,) = encoder.opening([task.unconditional])
    place: dict[tuple[int, ...], int] = {}
    for tokens in choices:
        place.setdefault(tokens, len(place))
    where = f"task {task.name}, unconditional context"
    _check_vocabulary(context, vocabulary, where)
    branches = tuple(
        Branch(_fitting(tuple(context), [tokens], window, where), ((n, tokens),))
        for tokens, n in place.items()
    )
    return branches, tuple(place[tokens] for tokens in choices)
