"""Cuts a ladder in size and in tokens: which rungs are fitted, and which are then predicted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from predict.numbers import human, levels, spaced
from predict.points import RungPoint
from predict.task_fit import FEWEST

STEP_UP = 4.0
"""A held-out rung is scored where it costs this many times the costliest fitted one, by 6ND."""

MOST_CUTS = 64
"""Pairs of a size and a multiple up to which a ladder is cut at every one, 8 of each."""

THINNED = 5
"""Sizes, and multiples, at which a ladder of more cuts is cut, evenly spaced from the first to the
last (benchmarks/load.md)."""


@dataclass(frozen=True)
class Split:
    """The ladder cut in size and in tokens: what is fitted and what is scored."""

    name: str
    fitted: tuple[str, ...]
    scored: tuple[str, ...]


@dataclass(frozen=True)
class Cuts:
    """Where a ladder is cut, each limit the largest that is fitted."""

    sizes: tuple[float, ...]
    multiples: tuple[float, ...]
    """Tokens a parameter."""
    note: str
    """What was left out of a ladder of more than MOST_CUTS; empty where nothing was."""


def find_cuts(rungs: Sequence[RungPoint], scored_only: Sequence[str] = ()) -> Cuts:
    """Every size but the least and every multiple but the least, or THINNED of each.

    Work and rows would else grow with the square of the sizes and multiples.
    """
    fitted = [r for r in rungs if r.run not in set(scored_only)]
    sizes = levels([r.params for r in fitted], 1.02)[1:]
    multiples = levels([r.tokens / r.params for r in fitted], 1.1)
    multiples = multiples[1:] or multiples
    every = len(sizes) * len(multiples)
    if every <= MOST_CUTS:
        return Cuts(tuple(sizes), tuple(multiples), "")
    kept = spaced(sizes, THINNED), spaced(multiples, THINNED)
    note = (
        f"{len(sizes)} sizes by {len(multiples)} multiples could be cut at, {every} cuts; "
        f"{len(kept[0])} by {len(kept[1])} evenly spaced ones are, the others are left out"
    )
    return Cuts(tuple(kept[0]), tuple(kept[1]), note)


def make_splits(rungs: Sequence[RungPoint], scored_only: Sequence[str] = ()) -> list[Split]:
    """The cuts of the ladder in size and in tokens that leave something far enough to score.

    `rungs` holds one point a run; those named in `scored_only` are predicted, never fitted.
    Splits that fit the same rungs are one. A ladder of more than MOST_CUTS is cut at THINNED sizes
    and multiples only, which `find_cuts` tells.
    """
    cuts, unfitted = find_cuts(rungs, scored_only), set(scored_only)
    splits: dict[tuple[str, ...], Split] = {}
    for size in cuts.sizes:
        for multiple in cuts.multiples:
            fitted = [
                r
                for r in rungs
                if r.run not in unfitted and r.params <= size and r.tokens / r.params <= multiple
            ]
            names = tuple(r.run for r in fitted)
            if len(fitted) < FEWEST or names in splits:
                continue
            top, inside = max(r.params * r.tokens for r in fitted), set(names)
            scored = tuple(
                r.run for r in rungs if r.run not in inside and r.params * r.tokens >= STEP_UP * top
            )
            if scored:
                name = f"N<={human(size)}, D/N<={multiple:.3g}"
                splits[names] = Split(name, names, scored)
    return list(splits.values())
