"""Multiple choice from held-out text: where does a piece go on from? Any text gives it; no torch.

An item is one piece behind several contexts, its own and those of pieces of other documents. So
only what the context adds decides, as in WinoGrande. Of several pieces behind one context, tiny
models take the one that is likeliest anywhere, whatever the context, and stay at chance.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple
from zlib import crc32

import numpy as np

from evaluation.files import InputError
from evaluation.tasks import Item, Task
from ladder.corpora.settings import Continuations

WORD_END = re.compile(r"(?<=\S) (?=\S)")
"""Where a piece may begin: a single space between two words, which becomes the choice's own."""
PER_DOCUMENT = 16
"""Items of one document at most, so that a long one does not become the task."""
POOL = 4
"""Items are drawn from so many times as many; a large corpus need not be read to its end."""


class Place(NamedTuple):
    """Somewhere in a document, and what goes on there."""

    document: int
    context: str
    piece: str


def make_continuations(
    wanted: Continuations, sources: Iterable[tuple[str, float, Iterable[str]]], seed: int
) -> Task:
    """The task of one setting, from sources: name, weight and held-out documents of each.

    Each source gives its part of the items by weight. A pure function of its arguments. Raises
    InputError where the documents hold too few items.
    """
    given, items, done = list(sources), list[Item](), 0.0
    whole = sum(weight for _, weight, _ in given)
    for name, weight, documents in given:
        begin, done = round(wanted.items * done / whole), done + weight
        count = round(wanted.items * done / whole) - begin
        rng = np.random.default_rng([seed, crc32(wanted.name.encode()), crc32(name.encode())])
        where = f"corpus.continuations, {wanted.name}: the held-out documents of {name}"
        pool: list[Place] = []
        for number, text in enumerate(documents):
            if len(pool) >= POOL * count:
                break
            pool += _places(wanted, number, text, rng)
        if len(pool) < count:
            raise InputError(
                f"{where} give {len(pool):,} of {count:,} items; ask for fewer items, a shorter "
                "context or length, or raise corpus.held_out"
            )
        for number in np.sort(rng.choice(len(pool), count, replace=False)).tolist():
            own = pool[number]
            contexts = _others(wanted, pool, own, rng)
            if len(contexts) < wanted.choices - 1:
                raise InputError(
                    f"{where} that are long enough are fewer than the {wanted.choices} choices; "
                    "ask for fewer, a shorter context or length, or raise corpus.held_out"
                )
            gold = int(rng.integers(wanted.choices))
            contexts.insert(gold, own.context)
            choices = (own.piece,) * wanted.choices
            items.append(Item(f"{name}-{number}", tuple(contexts), choices, gold))
    return Task(wanted.name, tuple(items))


def _places(
    wanted: Continuations, document: int, text: str, rng: np.random.Generator
) -> list[Place]:
    """Places of a document whose pieces do not overlap, in random order."""
    context, length = wanted.context, wanted.length
    ends = [m.start() for m in WORD_END.finditer(text, context, max(context, len(text) - length))]
    used: list[int] = []
    for end in rng.permutation(ends).tolist():
        if len(used) < PER_DOCUMENT and all(abs(end - other) >= length for other in used):
            used.append(end)
    return [Place(document, text[e - context : e], text[e : e + length]) for e in used]


def _others(
    wanted: Continuations, pool: Sequence[Place], own: Place, rng: np.random.Generator
) -> list[str]:
    """Contexts of places in as many other documents, at random; fewer where there are no more."""
    documents, contexts = {own.document}, [own.context]
    for number in rng.permutation(len(pool)).tolist():
        if len(contexts) == wanted.choices:
            break
        other = pool[number]
        if other.document not in documents and other.context not in contexts:
            documents.add(other.document)
            contexts.append(other.context)
    return contexts[1:]
