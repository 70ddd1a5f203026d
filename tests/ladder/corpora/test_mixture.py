"""Mixtures: permutations, every token once a pass, weights, and independence of all else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.files import InputError
from ladder.corpora.mixture import BLOCK, ROUNDS, Mixture, Part, permuted
from ladder.corpora.shards import Stream, TokenFile

MANY = 2**31


def stream(folder: Path, name: str, tokens: np.ndarray, files: int = 3) -> Stream:
    parts = []
    for index, piece in enumerate(np.array_split(tokens.astype("<u4"), files)):
        path = folder / f"{name}-{index}.bin"
        piece.tofile(path)
        parts.append(TokenFile(path, np.dtype("<u4"), 0, len(piece)))
    return Stream(name, parts)


def keys(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2**64, ROUNDS, dtype=np.uint64)


@given(st.integers(1, 3000), st.integers(0, 2**32))
def test_a_permutation_is_one_to_one(size: int, seed: int) -> None:
    found = permuted(np.arange(size), size, keys(seed))
    assert sorted(found.tolist()) == list(range(size))


def test_a_permutation_mixes() -> None:
    """Means, neighbours and first places are those of uniform draws, at 5 standard errors."""
    size = 10_000
    found = permuted(np.arange(size), size, keys(1)) / size
    correlation = np.corrcoef(found[:-1], found[1:])[0, 1]
    assert abs(correlation) < 5 / np.sqrt(size)
    quarter = found[: size // 4].mean()
    assert abs(quarter - 0.5) < 5 * np.sqrt(1 / 12 / (size // 4))
    first = np.array([permuted(np.array([0]), 7, keys(seed))[0] for seed in range(7000)])
    counts = np.bincount(first, minlength=7)
    assert ((counts - 1000) ** 2 / 1000).sum() < 30


def test_in_small_permutations_each_number_is_as_likely_in_each_place() -> None:
    seen: dict[tuple[int, ...], int] = {}
    for seed in range(6000):
        order = tuple(permuted(np.arange(4), 4, keys(seed)).tolist())
        seen[order] = seen.get(order, 0) + 1
    # Not every order is reached by so small a network, but each number is as likely in each
    # place.
    table = np.zeros((4, 4))
    for order, count in seen.items():
        for place, number in enumerate(order):
            table[place, number] += count
    assert table == pytest.approx(1500, rel=0.1)


def test_a_sequence_far_out_costs_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = permuted(np.array([0, 10**12 - 1]), 10**12, keys(3))
    assert (found < 10**12).all()
    counted: list[int] = []

    def counting(places: np.ndarray, size: int, keys: np.ndarray) -> np.ndarray:
        counted.append(len(places))
        return permuted(places, size, keys)

    monkeypatch.setattr("ladder.corpora.mixture.permuted", counting)
    spent = []
    for first in (0, 9_000_000):
        mixture = Mixture([Part(stream(tmp_path, "a", np.arange(101)), 1, 1e6)], MANY)
        counted.clear()
        mixture.rows(0, first, range(8), 11)
        spent.append((len(counted), sum(counted)))
    assert spent[1][1] <= spent[0][1]
    assert spent[1][0] <= spent[0][0] + 1


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 9), st.integers(1, 60), st.integers(0, 5), st.integers(0, 9))
def test_every_token_comes_once_before_any_comes_again(
    tmp_path_factory: pytest.TempPathFactory, length: int, windows: int, more: int, seed: int
) -> None:
    stride = length - 1
    size = windows * stride + 1 + min(more, stride - 1)
    folder = tmp_path_factory.mktemp("once")
    mixture = Mixture([Part(stream(folder, "a", np.arange(size)), 1, 3)], MANY)
    for epoch in range(3):
        rows = mixture.rows(seed, epoch * windows, range(windows), length)
        assert (np.diff(rows) == 1).all()
        learnt = np.sort(rows[:, 1:].ravel())
        assert len(np.unique(learnt)) == windows * stride
        if epoch == 0:
            assert learnt.tolist() == list(range(1, windows * stride + 1))
    with pytest.raises(InputError, match=r"sources, a: the run needs .* allow repeat: (3\.\d+|4)"):
        mixture.rows(seed, 3 * windows, range(windows), length)


def test_passes_and_seeds_differ(tmp_path: Path) -> None:
    part = Part(stream(tmp_path, "a", np.arange(1001)), 1, 2)
    one, two = Mixture([part], MANY), Mixture([part], MANY, seed=1)
    first = one.rows(0, 0, range(100), 11)
    for other in (one.rows(0, 100, range(100), 11), one.rows(1, 0, range(100), 11)):
        assert (first != other).any(axis=1).mean() > 0.9
    assert (first != two.rows(0, 0, range(100), 11)).any(axis=1).mean() > 0.9


def mixture(folder: Path, sizes: dict[str, int], weights: dict[str, float]) -> Mixture:
    parts = []
    for index, (name, size) in enumerate(sizes.items()):
        tokens = np.arange(size) + 10**6 * index
        parts.append(Part(stream(folder, name, tokens), weights[name], 1e6))
    return Mixture(parts, MANY)


def test_sources_come_by_weight_everywhere(tmp_path: Path) -> None:
    weights = {"a": 0.5, "b": 0.3, "c": 0.199, "d": 0.001}
    mixed = mixture(tmp_path, dict.fromkeys(weights, 5000), weights)
    for begin in (0, 12_345, BLOCK - 5000, 7 * BLOCK + 3):
        owners = mixed.rows(0, begin, range(10_000), 3)[:, 0] // 10**6
        counts = np.bincount(owners, minlength=4)
        assert counts == pytest.approx(10_000 * np.array([*weights.values()]), abs=4)


def test_a_source_is_read_in_the_same_order_whatever_the_others_are(tmp_path: Path) -> None:
    weights = {"a": 1.0, "b": 1.0, "c": 2.0}
    (tmp_path / "1").mkdir()
    (tmp_path / "2").mkdir()
    three = mixture(tmp_path / "1", {"a": 900, "b": 500, "c": 700}, weights)
    two = mixture(tmp_path / "2", {"a": 900, "b": 90_000}, weights)
    order = [m.rows(4, 0, range(2000), 6) for m in (three, two)]
    a = [rows[rows[:, 0] < 10**6] for rows in order]
    few = min(map(len, a))
    assert few > 400
    assert (a[0][:few] == a[1][:few]).all()


def test_turns_do_not_depend_on_the_sizes_of_sources(tmp_path: Path) -> None:
    weights = {"a": 1.0, "b": 2.0}
    (tmp_path / "1").mkdir()
    (tmp_path / "2").mkdir()
    small = mixture(tmp_path / "1", {"a": 100, "b": 200}, weights).rows(0, 5, range(300), 6)
    large = mixture(tmp_path / "2", {"a": 9000, "b": 77}, weights).rows(0, 5, range(300), 6)
    assert (small[:, 0] // 10**6 == large[:, 0] // 10**6).all()


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 16), st.integers(1, 4), st.integers(0, 70_000))
def test_ranks_make_their_rows_only(
    tmp_path_factory: pytest.TempPathFactory, sequences: int, world: int, begin: int
) -> None:
    folder = tmp_path_factory.mktemp("ranks")
    mixed = mixture(folder, {"a": 900, "b": 500}, {"a": 2, "b": 1})
    whole = mixed.rows(0, begin, range(sequences), 6)
    for rank in range(world):
        own = range(rank, sequences, world)
        assert (mixed.rows(0, begin, own, 6) == whole[own.start :: world]).all()
    # Batches of another size are other pieces of the same order.
    ones = [mixed.rows(0, begin + n, range(1), 6) for n in range(sequences)]
    assert (np.concatenate(ones) == whole).all()


def test_too_little_text_and_too_small_weights_are_one_line(tmp_path: Path) -> None:
    short = Part(stream(tmp_path, "s", np.arange(9)), 1)
    with pytest.raises(InputError, match="sources, s: its 9 tokens are fewer than a sequence's 10"):
        Mixture([short], MANY).rows(0, 0, range(1), 10)
    long = Part(stream(tmp_path, "l", np.arange(90)), 1e6)
    with pytest.raises(InputError, match="sources, s: its weight is below 1/65536"):
        Mixture([long, short], MANY)
    with pytest.raises(InputError, match=r"the run needs 20 of its tokens and it has 8; .* 2.5"):
        Mixture([short], MANY).check(10, 3)
    Mixture([short], MANY).check(4, 3)


def test_a_run_that_check_allows_has_its_tokens(tmp_path: Path) -> None:
    parts = [
        Part(stream(tmp_path, name, np.arange(size)), weight)
        for name, size, weight in (("a", 3001, 3.0), ("b", 2001, 2.0), ("c", 1001, 1.0))
    ]
    mixed = Mixture(parts, MANY)
    sequences = next(n for n in range(700, 0, -1) if _allows(mixed, n))
    assert sequences in (600, 601)
    mixed.rows(0, 0, range(sequences), 11)


def _allows(mixture: Mixture, sequences: int) -> bool:
    try:
        mixture.check(sequences, 11)
    except InputError:
        return False
    return True
