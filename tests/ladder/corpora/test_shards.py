"""Shards and arrays of tokens: what is written is read, and what is damaged is named."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.files import InputError
from ladder.corpora.shards import (
    BLOCK,
    INDEX,
    Index,
    Stream,
    TokenFile,
    damaged,
    open_arrays,
    open_shards,
    read_index,
    write_index,
    write_shard,
)

DOCUMENTS = [np.array(ids, np.uint16) for ids in ([5, 1, 0], [9, 0], [300, 7, 8, 0])]
VOCABULARY = 301


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    train = [
        write_shard(tmp_path, "0.bin", DOCUMENTS[:2]),
        write_shard(tmp_path, "1.bin", DOCUMENTS[2:]),
    ]
    held = [write_shard(tmp_path, "h.bin", DOCUMENTS[:1])]
    write_index(
        tmp_path, Index(source="s", tokenizer="t", dtype="uint16", train=train, held_out=held)
    )
    return tmp_path


def opened(folder: Path, vocabulary: int = VOCABULARY, tokenizer: str = "t") -> list[Stream]:
    index = read_index(folder)
    assert index is not None
    return list(open_shards("web", folder, index, vocabulary, tokenizer))


def test_what_is_written_is_read(folder: Path) -> None:
    train, held_out = opened(folder)
    assert train[:].tolist() == [5, 1, 0, 9, 0, 300, 7, 8, 0]
    assert held_out[:].tolist() == [5, 1, 0]
    assert train[3:7].tolist() == [9, 0, 300, 7]
    assert (folder / "0.bin").read_bytes() == bytes([5, 0, 1, 0, 0, 0, 9, 0, 0, 0])
    index = read_index(folder)
    assert index is not None
    assert [s.documents for s in index.train] == [2, 1]
    assert [s.largest for s in index.train] == [9, 300]
    assert damaged(folder, index) == []


def test_no_documents_make_no_shard(tmp_path: Path) -> None:
    assert write_shard(tmp_path, "x.bin", []) is None
    assert read_index(tmp_path) is None
    assert len(Stream("none", [])) == 0


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=6), st.data())
def test_rows_and_parts_are_those_of_one_array(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("rows")
    tokens = np.arange(sum(sizes) + 2, dtype=np.int64)
    parts, begin = [], 0
    for index, size in enumerate([*sizes, 2]):
        tokens[begin : begin + size].astype("<u4").tofile(folder / str(index))
        parts.append(TokenFile(folder / str(index), np.dtype("<u4"), 0, size))
        begin += size
    stream = Stream("s", parts)
    length = data.draw(st.integers(1, len(tokens)))
    starts = data.draw(st.lists(st.integers(0, len(tokens) - length), min_size=1, max_size=5))
    rows = stream.rows(np.array(starts), length, 1000)
    assert (rows == np.stack([tokens[s : s + length] for s in starts])).all()
    low, high = sorted(data.draw(st.tuples(*[st.integers(0, len(tokens))] * 2)))
    assert stream.part(low, high)[:].tolist() == tokens[low:high].tolist()


def test_a_shard_cut_short_names_file_and_cure(folder: Path) -> None:
    path = folder / "1.bin"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match=r"1\.bin: has 7 of 8 bytes; remove .* to tokenise again"):
        opened(folder)
    path.unlink()
    with pytest.raises(InputError, match=r"1\.bin: is missing; remove"):
        opened(folder)


def test_a_shard_that_changed_is_found(folder: Path) -> None:
    (folder / "0.bin").write_bytes(bytes(10))
    index = read_index(folder)
    assert index is not None
    assert damaged(folder, index) == ["0.bin"]


def test_a_token_past_the_vocabulary_is_one_line(folder: Path) -> None:
    with pytest.raises(InputError, match=r"1\.bin: holds token 300, beyond the vocabulary of 300"):
        opened(folder, vocabulary=300)


def test_another_tokenizer_is_one_line(folder: Path) -> None:
    with pytest.raises(InputError, match=r"made with another tokenizer .* remove"):
        opened(folder, tokenizer="other")


def test_a_damaged_index_is_one_line(folder: Path) -> None:
    (folder / INDEX).write_text('{"source": "s"}')
    with pytest.raises(InputError, match=r"index\.json: is no index of shards \(tokenizer: "):
        read_index(folder)
    (folder / INDEX).write_text("{")
    with pytest.raises(InputError, match=r"index\.json: not readable as JSON"):
        read_index(folder)


def test_a_file_that_shrinks_while_it_is_read_is_one_line(folder: Path) -> None:
    train, _ = opened(folder)
    (folder / "0.bin").write_bytes(b"")
    with pytest.raises(InputError, match=r"0\.bin: cannot be read as tokens"):
        train[:]


@pytest.mark.parametrize("kind", ["raw16", "raw32", "olmo", "npy"])
def test_ready_arrays_of_every_layout(tmp_path: Path, kind: str) -> None:
    tokens = np.arange(1000) % 300
    path = tmp_path / ("a.npy" if kind in ("olmo", "npy") else "a.bin")
    dtype = "uint32" if kind in ("raw32", "olmo") else "uint16"
    if kind == "npy":
        np.save(path, tokens.astype(np.int32))
    else:
        # OLMo's .npy files are bare memory maps too.
        tokens.astype(dtype).tofile(path)
    stream = open_arrays("a", [path, path], dtype, VOCABULARY)
    assert stream[:].tolist() == [*tokens, *tokens]


def test_bad_arrays_are_one_line(tmp_path: Path) -> None:
    def problem(path: Path, dtype: str = "uint16") -> str:
        with pytest.raises(InputError) as caught:
            open_arrays("a", [path], dtype, VOCABULARY)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    path = tmp_path / "odd.bin"
    path.write_bytes(b"abc")
    assert "its 3 bytes are no whole number of uint16 tokens" in problem(path)
    np.save(tmp_path / "square.npy", np.zeros((2, 2), int))
    assert "must be a one-dimensional array of integers" in problem(tmp_path / "square.npy")
    np.save(tmp_path / "float.npy", np.zeros(4))
    assert "of float64" in problem(tmp_path / "float.npy")
    np.save(tmp_path / "minus.npy", np.full(4, -1))
    assert "holds token -1, beyond the vocabulary" in problem(tmp_path / "minus.npy")
    whole = (tmp_path / "minus.npy").read_bytes()
    (tmp_path / "cut.npy").write_bytes(whole[:-3])
    assert "not readable as an array of tokens" in problem(tmp_path / "cut.npy")
    np.arange(300, dtype=np.uint32).tofile(tmp_path / "wide.bin")
    (tmp_path / "big.bin").write_bytes(np.full(8, 70000, np.uint32).tobytes())
    assert "holds token 4464, beyond the vocabulary of 301; it was made" in problem(
        tmp_path / "big.bin"
    )


def test_a_token_that_no_probe_saw_is_found_when_it_is_read(tmp_path: Path) -> None:
    tokens = np.zeros(10**7, np.uint16)
    tokens[20_021] = 999
    tokens.tofile(tmp_path / "a.bin")
    stream = open_arrays("a", [tmp_path / "a.bin"], "uint16", VOCABULARY)
    stream.rows(np.array([0]), 100, VOCABULARY)
    with pytest.raises(InputError, match=r"a\.bin: holds token 999"):
        stream.rows(np.array([20_000]), 100, VOCABULARY)


def test_no_flipped_bit_of_a_shard_is_trained_on(folder: Path) -> None:
    """Size and time stay as they were: only what is read can tell."""
    index = read_index(folder)
    assert index is not None
    path = folder / index.train[0].file
    before, content = path.stat(), path.read_bytes()
    for place in range(0, len(content), 7):
        changed = bytearray(content)
        changed[place] ^= 1 << place % 8
        path.write_bytes(changed)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        train, _ = open_shards("s", folder, index, 2**16, index.tokenizer)
        with pytest.raises(InputError, match="are not what was written; remove"):
            train[0 : len(train)]
    path.write_bytes(content)
    train, _ = open_shards("s", folder, index, 2**16, index.tokenizer)
    assert len(train[0 : len(train)]) == len(train)


def test_blocks_are_verified_as_they_are_read_and_once(tmp_path: Path) -> None:
    tokens = np.arange(4 * BLOCK, dtype=np.uint16)  # eight blocks
    shard = write_shard(tmp_path, "0.bin", [tokens])
    assert shard is not None
    index = Index(source="s", tokenizer="t", dtype="uint16", train=(shard,), held_out=())
    path = tmp_path / "0.bin"
    content = bytearray(path.read_bytes())
    content[5 * BLOCK + 9] ^= 1
    path.write_bytes(content)
    train, _ = open_shards("s", tmp_path, index, 2**16, "t")
    per_block = BLOCK // 2
    assert (train[0 : 5 * per_block] == tokens[: 5 * per_block]).all()
    for begin, end in ((5 * per_block, 5 * per_block + 1), (0, len(train))):
        with pytest.raises(InputError, match=r"bytes 327,680 to 393,216 are not what was written"):
            train[begin:end]
    assert (train[6 * per_block : len(train)] == tokens[6 * per_block :]).all()
    part = train.part(4 * per_block + 3, 5 * per_block)
    assert (part[0 : len(part)] == tokens[4 * per_block + 3 : 5 * per_block]).all()
