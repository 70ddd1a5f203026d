"""Bad data is one line that says where and how to mend it, loses nothing, and can be mended."""

from __future__ import annotations

import bz2
import errno
import gzip
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from corpora_english import DOCUMENTS, write_lines

from evaluation.files import InputError, read_json, write_json
from ladder.corpora import shards
from ladder.corpora.settings import TextCorpus
from ladder.corpora.text import Text
from ladder.corpora.tokenizer import load

FEW = DOCUMENTS[:300]


def text(folder: Path, *files: Path, **more: Any) -> Text:
    source: dict[str, Any] = {"name": "s", "files": [str(f) for f in files]}
    source |= more.pop("source", {})
    settings = {"tokenizer": "bytes", "held_out": 0.1, "workers": 1, "shard_tokens": 20_000}
    document = {"kind": "text", "sources": [source], **settings, **more}
    return Text(TextCorpus.model_validate(document), folder / "made")


def complaint(work: Callable[[], object]) -> str:
    with pytest.raises(InputError) as caught:
        work()
    said = str(caught.value)
    assert "\n" not in said
    return said


def every_row(corpus: Text) -> np.ndarray:
    stream = corpus._streams["s"][0]
    return stream.rows(np.arange(0, len(stream) - 9, 9), 9, corpus.vocabulary)


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    return write_lines(tmp_path / "a.jsonl", FEW)


def test_a_shard_cut_short_is_named_and_made_again_once_removed(
    tmp_path: Path, lines: Path
) -> None:
    text(tmp_path, lines).prepare()
    before = every_row(text(tmp_path, lines))
    shard = next((tmp_path / "made").rglob("*.train.bin"))
    shard.write_bytes(shard.read_bytes()[:-10])
    said = complaint(lambda: text(tmp_path, lines).prepare())
    assert said.startswith(f"{shard}: has ")
    assert said.endswith(f"bytes; remove {shard.parent} to tokenise again")
    shutil.rmtree(shard.parent)
    text(tmp_path, lines).prepare()
    assert (every_row(text(tmp_path, lines)) == before).all()


def test_a_token_past_the_vocabulary_in_a_shard_of_ours_names_shard_and_remedy(
    tmp_path: Path, lines: Path
) -> None:
    """In shards of an older ladder; blocks with checksums are refused before they are looked at."""
    text(tmp_path, lines).prepare()
    shard = next((tmp_path / "made").rglob("*.train.bin"))
    tokens = np.fromfile(shard, np.uint16)
    tokens[1234] = 300
    tokens.tofile(shard)
    said = complaint(lambda: every_row(text(tmp_path, lines)))
    assert f"{shard}: bytes 0 to 65,536 are not what was written; remove {shard.parent}" in said
    index = read_json(shard.parent / "index.json")
    for part in ("train", "held_out"):
        for known in index[part]:
            del known["blocks"]
    write_json(shard.parent / "index.json", {**index, "version": 1})
    said = complaint(lambda: every_row(text(tmp_path, lines)))
    assert f"{shard}: holds token 300, beyond the vocabulary of 257; it was damaged" in said
    assert said.endswith(f"remove {shard.parent} to tokenise again")


def test_a_token_past_the_vocabulary_in_a_ready_array_is_never_given_to_a_model(
    tmp_path: Path,
) -> None:
    tokens = np.random.default_rng(0).integers(0, 257, 5_000_000)
    tokens[1_234_567] = 300
    for name, kind in (("a.bin", np.uint16), ("a.npy", np.uint32)):
        path = tmp_path / name
        with path.open("wb") as file:
            if name.endswith("npy"):
                np.save(file, tokens.astype(kind))
            else:
                tokens.astype(kind).tofile(file)
        corpus = text(tmp_path, source={"files": [], "tokens": [str(path)]})
        said = complaint(lambda corpus=corpus: every_row(corpus))
        assert said.startswith(f"{path}: holds token 300, beyond the vocabulary of 257; it was ")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("odd.bin", b"\1\0\2", "its 3 bytes are no whole number of uint16 tokens; it was cut"),
        ("none.bin", b"", "none.bin holds no tokens; name other files"),
        ("head.npy", b"\x93NUMPY\1", "not readable as an array .*; is it cut short or damaged"),
    ],
)
def test_an_array_that_is_cut_short_or_empty(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        text(tmp_path, source={"files": [], "tokens": [str(tmp_path / name)]}).prepare()


def test_an_array_with_a_header_that_is_cut_short(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros(1000, np.uint16))
    whole = (tmp_path / "a.npy").read_bytes()
    (tmp_path / "a.npy").write_bytes(whole[:-7])
    with pytest.raises(InputError, match=r"a\.npy: not readable .* is it cut short or damaged\?"):
        text(tmp_path, source={"files": [], "tokens": [str(tmp_path / "a.npy")]}).prepare()


def test_an_array_that_shrinks_while_it_is_trained_on(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    np.zeros(4000, np.uint16).tofile(path)
    corpus = text(tmp_path, source={"files": [], "tokens": [str(path)]})
    corpus.prepare()
    path.write_bytes(path.read_bytes()[:1000])
    fresh = corpus._streams["s"][0]
    fresh._open.cache_clear()
    with pytest.raises(InputError, match=r"cannot be read as tokens .* was it cut short"):
        fresh.rows(np.array([3000]), 9, 257)


@pytest.mark.parametrize("when", range(1, 12))
@pytest.mark.parametrize("tokenizer", ["bytes", {"train": 300}])
def test_a_full_disk_is_one_line_and_the_same_command_goes_on(
    tmp_path: Path, lines: Path, monkeypatch: pytest.MonkeyPatch, when: int, tokenizer: Any
) -> None:
    whole = text(tmp_path / "whole", lines, tokenizer=tokenizer)
    whole.prepare()
    left = when

    def fill(path: Path, *_: object) -> None:
        nonlocal left
        left -= 1
        if not left:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    for module in ("evaluation.files.sync_file", "ladder.corpora.tokenizer.sync_file"):
        monkeypatch.setattr(module, fill)
    corpus = text(tmp_path / "full", lines, tokenizer=tokenizer)
    said = complaint(corpus.prepare)
    assert "No space left on device; make room and start again, finished shards are kept" in said
    kept = {p: p.stat().st_mtime_ns for p in (tmp_path / "full").rglob("*.train.bin")}
    text(tmp_path / "full", lines, tokenizer=tokenizer).prepare()
    assert (every_row(corpus) == every_row(whole)).all()
    assert not list((tmp_path / "full").rglob("*.tmp"))
    recorded = (p for p in kept if p.exists())
    assert sum(p.stat().st_mtime_ns == kept[p] for p in recorded) >= len(kept) - 1


def test_a_full_disk_that_the_tokenizers_library_meets(
    tmp_path: Path, lines: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill(*_: object, **__: object) -> None:
        raise Exception("No space left on device (os error 28)")  # as `tokenizers` does

    monkeypatch.setattr("transformers.PreTrainedTokenizerFast.save_pretrained", fill)
    assert "make room and start again" in complaint(text(tmp_path, lines).prepare)


def test_other_failures_are_no_full_disk(
    tmp_path: Path, lines: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(shards, "_dump", fail)
    with pytest.raises(Exception, match="Input/output error") as caught:
        text(tmp_path, lines).prepare()
    assert "make room" not in str(caught.value)


def _damage_gzip(path: Path, raw: bytes) -> None:
    packed = gzip.compress(raw)
    path.write_bytes(packed[:500] + b"\0" * 50 + packed[550:])


def _cut_gzip(path: Path, raw: bytes) -> None:
    path.write_bytes(gzip.compress(raw)[:-1000])


def _damage_bz2(path: Path, raw: bytes) -> None:
    packed = bz2.compress(raw)
    path.write_bytes(packed[:300] + b"\xff" * 50 + packed[350:])


@pytest.mark.parametrize("spoil", [_damage_gzip, _cut_gzip, _damage_bz2])
@pytest.mark.parametrize("workers", [1, 2])
def test_a_compressed_file_that_is_damaged_or_cut_short(
    tmp_path: Path, lines: Path, spoil: Callable[[Path, bytes], None], workers: int
) -> None:
    path = tmp_path / "packed.jsonl"
    spoil(path, lines.read_bytes())
    said = complaint(text(tmp_path, lines, path, workers=workers).prepare)
    assert said.startswith(f"{path}: cannot be read to its end (")
    assert said.endswith("is it cut short or damaged?")
    path.write_bytes(gzip.compress(lines.read_bytes()))
    with pytest.raises(InputError, match=r"its files changed since .* remove that to tokenise"):
        text(tmp_path, lines, path).prepare()
    shutil.rmtree(tmp_path / "made")
    text(tmp_path, lines, path).prepare()


def test_a_file_that_may_not_be_read(
    tmp_path: Path, lines: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may read everything
    with pytest.raises(InputError, match=r"a\.jsonl: may not be read \(permission denied\); allow"):
        text(tmp_path, lines).prepare()


def test_absent_files_and_folders(tmp_path: Path) -> None:
    (tmp_path / "folder.jsonl").mkdir()
    (tmp_path / "dangling.jsonl").symlink_to(tmp_path / "nowhere")
    for name in ("none*.jsonl", "folder.jsonl", "dangling.jsonl"):
        with pytest.raises(InputError, match=r"corpus\.sources, s: no file matches"):
            text(tmp_path, tmp_path / name).prepare()


@pytest.mark.parametrize("content", ["", "\n\n", '{"text": ""}\n'])
def test_an_empty_text(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.jsonl").write_text(content)
    with pytest.raises(InputError, match="s: holds no text to train on; name other files, or"):
        text(tmp_path, tmp_path / "a.jsonl").prepare()


def test_a_tokenizer_that_cannot_be_found(
    tmp_path: Path, lines: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    nowhere = tmp_path / "no-tokenizer"
    with pytest.raises(InputError, match="no-tokenizer: there is no such folder; give a Hugging"):
        text(tmp_path, lines, tokenizer=str(nowhere), vocabulary=300).prepare()
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"empty: cannot be loaded \(.*; give a Hugging Face name"):
        load(str(tmp_path / "empty"))


def test_a_kept_tokenizer_that_is_damaged(tmp_path: Path, lines: Path) -> None:
    text(tmp_path, lines).prepare()
    (folder,) = (tmp_path / "made").glob("tokenizer-*")
    encoding = folder / "encoding.json"
    for content in ("{", "[1]", '{"end": "x", "size": 1, "digest": 1, "is_bytes": 0}'):
        kept = encoding.read_text()
        encoding.write_text(content)
        said = complaint(lambda: text(tmp_path, lines))
        assert said == f"{encoding}: is damaged; remove {folder} to make it again"
        encoding.write_text(kept)
    (folder / "tokenizer.json").write_text("{")
    said = complaint(text(tmp_path, lines).tokenizer)
    assert said == f"{folder / 'tokenizer.json'}: is damaged; remove {folder} to make it again"
    shutil.rmtree(folder)
    text(tmp_path, lines).prepare()


def test_a_damaged_index_or_record(tmp_path: Path, lines: Path) -> None:
    text(tmp_path, lines).prepare()
    index = next((tmp_path / "made").rglob("s-*/index.json"))
    kept = index.read_text()
    for content in (kept[:50], "[]"):
        index.write_text(content)
        said = complaint(text(tmp_path, lines).prepare)
        assert str(index) in said
        assert said.endswith(f"remove {index.parent} to tokenise again")
    index.unlink()
    begun = {key: json.loads(kept)[key] for key in ("source", "tokenizer")}
    (index.parent / "begun.json").write_text(json.dumps(begun))
    for content in ("{", "[]", '{"read": "x"}'):
        (index.parent / "000000-0000.json").write_text(content)
        said = complaint(text(tmp_path, lines).prepare)
        assert said.endswith(f"is damaged; remove {index.parent} to tokenise again")
