"""Languages counted from text: exactly the counts, their entropy, and what is refused."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from evaluation.files import InputError
from ladder.corpora.chain_settings import NgramCorpus
from ladder.corpora.disk import locked
from ladder.corpora.documents import is_held_out
from ladder.corpora.ngram import Ngram

WORDS = "the cat sat on the mat and the dog sat on the cat"


def write(folder: Path, name: str = "text.txt", text: str = WORDS, count: int = 300) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / name
    # Documents that differ, so that some are held out and most are not.
    path.write_text("\n\n".join(f"{text} {number}" for number in range(count)))
    return path


def corpus(folder: Path, order: int = 2, **more: object) -> Ngram:
    source = {"name": "one", "files": [str(folder / "text.txt")], "separator": "\n\n"}
    of = {"kind": "text", "tokenizer": "bytes", "sources": [source], "held_out": 0.1}
    config = {"kind": "ngram", "order": order, "of": {**of, **more.pop("of", {})}, **more}
    return Ngram(NgramCorpus.model_validate(config), folder / "corpus")


def counted(folder: Path) -> tuple[list[int], int]:
    """The tokens of the training documents, by plain Python, and that of a document's end."""
    documents = (folder / "text.txt").read_text().split("\n\n")
    tokens = []
    for document in documents:
        if not is_held_out(document, 0.1):
            tokens += [*document.encode(), 256]
    return tokens, 256


def test_the_chain_is_the_counts_of_the_text_as_a_circle(tmp_path: Path) -> None:
    write(tmp_path)
    made = corpus(tmp_path)
    made.prepare()
    tokens, end = counted(tmp_path)
    ids = {end: made.tokenizer().eos_token_id}
    ids |= {byte: made.tokenizer().encode(chr(byte))[0] for byte in set(tokens) - {end}}
    tokens = [ids[token] for token in tokens]
    pairs = Counter(zip(tokens, [*tokens[1:], tokens[0]], strict=True))
    alone = Counter(tokens)
    matrix = made.chain.dense()
    assert (matrix > 0).sum() == len(pairs)
    for (one, other), count in pairs.items():
        assert matrix[one, other] == pytest.approx(count / alone[one], rel=1e-12)
    for token, count in alone.items():
        assert made.chain.stationary[token] == pytest.approx(count / len(tokens), rel=1e-12)
    assert made.chain.stationary @ matrix == pytest.approx(made.chain.stationary, abs=1e-14)
    rate = -sum(n * np.log(n / alone[one]) for (one, _), n in pairs.items()) / len(tokens)
    assert made.entropy_rate == pytest.approx(rate, rel=1e-12)
    assert made.vocabulary > len(alone)


def test_unigrams_are_independent_and_have_the_tokens_entropy(tmp_path: Path) -> None:
    write(tmp_path)
    one, two = corpus(tmp_path, order=1), corpus(tmp_path, order=2)
    one.prepare()
    two.prepare()
    assert one.chain.independent
    exact, pairs = one.exact(16), two.exact(16)
    assert exact.entropy_rate == pytest.approx(exact.unigram_entropy)
    assert exact.unigram_entropy == pytest.approx(pairs.unigram_entropy)
    assert pairs.entropy_rate < exact.entropy_rate - 1
    assert one.chain.visited[one.batch(0, 1, 50, 20)].all()


def test_the_true_model_has_exactly_the_entropy_as_its_loss(tmp_path: Path) -> None:
    write(tmp_path)
    for order in (1, 2):
        made = corpus(tmp_path, order=order, validation_sequences=8)
        made.prepare()
        with np.errstate(divide="ignore"):
            table = np.log(made.chain.dense())

        class Truth:
            def __init__(self, table: np.ndarray) -> None:
                self.table = table

            def log_probabilities_of(
                self, tokens: np.ndarray, positions: np.ndarray, nodes: np.ndarray
            ) -> np.ndarray:
                return self.table[tokens.ravel()[positions], nodes]

        loss = made.validation_loss(Truth(table), 20)
        assert loss == pytest.approx(made.entropy_rate, rel=1e-12)


def test_counting_in_pieces_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path)
    whole = corpus(tmp_path)
    whole.prepare()
    before = whole.chain.dense()
    whole.counts.unlink()
    monkeypatch.setattr("ladder.corpora.ngram.CHUNK", 97)
    pieces = corpus(tmp_path)
    pieces.prepare()
    assert pieces.chain.dense() == pytest.approx(before, rel=1e-12)


def test_what_was_counted_is_not_counted_again_and_settings_have_files_of_their_own(
    tmp_path: Path,
) -> None:
    write(tmp_path)
    first = corpus(tmp_path)
    first.prepare()
    stamp = first.counts.stat().st_mtime_ns
    corpus(tmp_path, seed=7).prepare()
    assert first.counts.stat().st_mtime_ns == stamp
    assert len({corpus(tmp_path, **c).counts for c in ({}, {"tokens": 99}, {"order": 1})}) == 3
    short = corpus(tmp_path, tokens=99)
    short.prepare()
    assert short.chain.visited.sum() < first.chain.visited.sum()
    # Nothing is left behind but shards, counts and locks.
    with locked(tmp_path / "corpus" / ".counts.lock"):
        assert not list((tmp_path / "corpus").glob(".*.tmp"))


def test_sources_count_by_their_weights(tmp_path: Path) -> None:
    write(tmp_path)
    write(tmp_path, "other.txt", WORDS.upper(), 700)
    sources = [
        {"name": name, "files": [str(tmp_path / file)], "separator": "\n\n", "weight": weight}
        for name, file, weight in (("one", "text.txt", 3), ("two", "other.txt", 1))
    ]
    made = corpus(tmp_path, of={"sources": sources})
    made.prepare()
    small, large = (made.tokenizer().encode(letter)[0] for letter in "tT")
    pi = made.chain.stationary
    assert pi[small] / pi[large] == pytest.approx(3, rel=0.02)
    assert pi @ made.chain.dense() == pytest.approx(pi, abs=1e-14)


def test_sources_without_a_common_token_are_refused(tmp_path: Path) -> None:
    for name, begin in (("a", 0), ("b", 50)):
        tokens = np.random.default_rng(0).integers(begin, begin + 40, 4000, dtype=np.uint16)
        np.save(tmp_path / f"{name}.npy", tokens)
    sources = [{"name": n, "tokens": [str(tmp_path / f"{n}.npy")]} for n in "ab"]
    with pytest.raises(InputError, match="no token of one source occurs in another"):
        corpus(tmp_path, of={"sources": sources}).prepare()


def test_counts_that_are_missing_or_damaged_are_told(tmp_path: Path) -> None:
    write(tmp_path)
    made = corpus(tmp_path)
    with pytest.raises(InputError, match="is not counted yet"):
        _ = made.entropy_rate
    made.prepare()
    made.counts.write_bytes(b"PK\x03\x04 cut short")
    with pytest.raises(InputError, match=r"cannot be read .*; remove it to count again"):
        _ = corpus(tmp_path).chain
