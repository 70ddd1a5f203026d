"""Which tokens are in a batch: a pure function of seed and step, at any step at the same cost.

Sources take turns in a fixed order that keeps every stretch of it close to their weights. Each
source is cut into windows, which a keyed permutation, computed as it is needed, puts into another
order in each pass: none comes again before all have come.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from evaluation.files import InputError
from ladder.corpora.shards import Stream, Tokens

Places = NDArray[np.int64]

BLOCK = 2**16
"""Sequences after which the sources' turns are drawn anew; weights are rounded to 1/BLOCK."""
CHUNK = 2**10
"""Sequences whose places are computed at once, for batches are often smaller."""
ROUNDS = 8
"""Rounds of the Feistel network; 4 are enough in theory for large domains, small ones need more."""


@dataclass(frozen=True)
class Part:
    """A source of the mixture."""

    stream: Stream
    weight: float
    """Its part of the sequences, relative to the other parts'."""
    repeat: float = 1.0
    """Passes over its windows at most."""


class Mixture:
    """Sequences from several sources, in an order of its own for each seed."""

    def __init__(self, parts: Sequence[Part], vocabulary: int, seed: int = 0) -> None:
        self.parts, self.vocabulary, self.seed = tuple(parts), vocabulary, seed
        self._slots = _slots([part.weight for part in parts])
        for part, slots in zip(self.parts, self._slots, strict=True):
            if not slots:
                raise InputError(
                    f"corpus.sources, {part.stream.name}: its weight is below 1/{BLOCK} of all; "
                    "raise it, or leave the source out"
                )
        self._turns = lru_cache(4)(self._draw_turns)
        self._keys = lru_cache(64)(self._draw_keys)
        self._orders = lru_cache(16)(self._make_orders)

    def rows(self, seed: int, begin: int, rows: range, length: int) -> Tokens:
        """Of the sequences from number `begin` on, those in `rows`, (B, T).

        A sequence is `length` tokens, of which all but the first are learnt, so a window overlaps
        the next by one. Raises InputError where a source has too few tokens.
        """
        numbers = begin + np.arange(rows.start, rows.stop, rows.step, dtype=np.int64)
        found = np.empty((len(numbers), length), dtype=np.int64)
        chunks, places = np.divmod(numbers, CHUNK)
        for chunk in np.unique(chunks).tolist():
            own = np.flatnonzero(chunks == chunk)
            orders = self._orders(seed, chunk, length)
            owners, turns, starts = (order[places[own]] for order in orders)
            for index, part in enumerate(self.parts):
                of_part = np.flatnonzero(owners == index)
                if len(of_part):
                    self._check_turn(part, int(turns[of_part].max()), length)
                    rows_of = part.stream.rows(starts[of_part], length, self.vocabulary)
                    found[own[of_part]] = rows_of
        return found

    def check(self, sequences: int, length: int) -> None:
        """Raise InputError if so many sequences are more than a source allows."""
        for part, slots in zip(self.parts, self._slots, strict=True):
            windows = self._windows(part, length)
            needed = sequences * slots // BLOCK
            if needed > part.repeat * windows:
                raise InputError(_too_few(part, needed * (length - 1), windows * (length - 1)))

    def _make_orders(self, seed: int, chunk: int, length: int) -> tuple[Places, Places, Places]:
        """Of each sequence of a chunk its source, how many of that came before, and its start."""
        numbers = chunk * CHUNK + np.arange(CHUNK)
        block = chunk * CHUNK // BLOCK
        who, before = self._turns(seed, block)
        owners = who[numbers % BLOCK]
        turns = block * np.array(self._slots)[owners] + before[numbers % BLOCK]
        starts = np.empty_like(turns)
        for index, part in enumerate(self.parts):
            own = np.flatnonzero(owners == index)
            if len(own):
                starts[own] = self._starts(seed, part, turns[own], length)
        return owners, turns, starts

    def _draw_turns(self, seed: int, block: int) -> tuple[Places, Places]:
        """The sources of a block's sequences, and how many of the same came before in it.

        The i-th of a source's n turns falls at random into the i-th n-th of the block.
        """
        if len(self.parts) == 1:
            return np.zeros(BLOCK, dtype=np.int64), np.arange(BLOCK)
        times = []
        for part, slots in zip(self.parts, self._slots, strict=True):
            rng = np.random.default_rng([*self._key(seed, part), block])
            times.append((np.arange(slots) + rng.random(slots)) / slots)
        order = np.argsort(np.concatenate(times), kind="stable")
        who = np.repeat(np.arange(len(self.parts)), self._slots)[order]
        before = np.concatenate([np.arange(slots) for slots in self._slots])[order]
        return who, before

    def _starts(self, seed: int, part: Part, turns: Places, length: int) -> Places:
        """Where the sequences begin that a source gives at its so-and-so-many-th turns."""
        windows = self._windows(part, length)
        stride = length - 1
        passes, places = np.divmod(turns, windows)
        starts = np.empty_like(places)
        for epoch in np.unique(passes).tolist():
            here = passes == epoch
            keys, drawn = self._keys(seed, part, epoch)
            # The tokens that no window of the first pass holds are in those of others.
            spare = len(part.stream) - (windows * stride + 1)
            offset = int(drawn * (spare + 1)) if epoch else 0
            starts[here] = permuted(places[here], windows, keys) * stride + offset
        return starts

    def _check_turn(self, part: Part, turn: int, length: int) -> None:
        windows = self._windows(part, length)
        # Among several sources, a turn may come a little before its time, see _draw_turns.
        early = len(self.parts) + 1 if len(self.parts) > 1 else 0
        if turn >= part.repeat * windows + early:
            raise InputError(_too_few(part, (turn + 1) * (length - 1), windows * (length - 1)))

    def _draw_keys(self, seed: int, part: Part, epoch: int) -> tuple[NDArray[np.uint64], float]:
        rng = np.random.default_rng([*self._key(seed, part), epoch, 1])
        return rng.integers(0, 2**64, ROUNDS, dtype=np.uint64), rng.random()

    def _key(self, seed: int, part: Part) -> tuple[int, int, int]:
        """Of the source's name, not its place: others come and go without moving it."""
        name = hashlib.sha256(part.stream.name.encode()).digest()
        return seed, self.seed, int.from_bytes(name[:8], "little")

    @staticmethod
    def _windows(part: Part, length: int) -> int:
        windows = (len(part.stream) - 1) // (length - 1)
        if windows < 1:
            raise InputError(
                f"corpus.sources, {part.stream.name}: its {len(part.stream):,} tokens are fewer "
                f"than a sequence's {length:,}; give it more text, or shorten the sequence"
            )
        return windows


def permuted(places: Places, size: int, keys: NDArray[np.uint64]) -> Places:
    """Where a permutation of 0 .. size - 1 puts each of the places.

    A Feistel network permutes the next power of two; what falls beyond `size` goes through it
    again until it does not, which keeps it one to one.
    """
    bits = max(1, (size - 1).bit_length())
    found = _feistel(places.astype(np.uint64), bits, keys)
    while len(outside := np.flatnonzero(found >= size)):
        found[outside] = _feistel(found[outside], bits, keys)
    return found.astype(np.int64)


def _feistel(places: NDArray[np.uint64], bits: int, keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """A permutation of the numbers of so many bits: each half in turn is changed by the other."""
    low_bits = np.uint64(bits - bits // 2)
    low_mask, high_mask = (np.uint64((1 << n) - 1) for n in (bits - bits // 2, bits // 2))
    high, low = places >> low_bits, places & low_mask
    for index, key in enumerate(keys):
        if index % 2:
            high = high ^ (_mixed(low + key) & high_mask)
        else:
            low = low ^ (_mixed(high + key) & low_mask)
    return np.asarray(high << low_bits | low)


def _mixed(numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Numbers whose every bit depends on all of the given ones' (MurmurHash3's last step)."""
    numbers = (numbers ^ (numbers >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
    numbers = (numbers ^ (numbers >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53)
    return numbers ^ (numbers >> np.uint64(33))


def _slots(weights: Sequence[float]) -> list[int]:
    """Turns of each source in a block: weights rounded by largest remainders."""
    exact = [weight / math.fsum(weights) * BLOCK for weight in weights]
    slots = [math.floor(x) for x in exact]
    by_remainder = sorted(range(len(weights)), key=lambda i: slots[i] - exact[i])
    for index in by_remainder[: BLOCK - sum(slots)]:
        slots[index] += 1
    return slots


def _too_few(part: Part, needed: int, has: int) -> str:
    times = math.ceil(100 * needed / has) / 100
    return (
        f"corpus.sources, {part.stream.name}: the run needs {needed:,} of its tokens and it has "
        f"{has:,}; add text, lower its weight, or allow repeat: {times:g}"
    )
