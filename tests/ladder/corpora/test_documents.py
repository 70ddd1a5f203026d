"""Documents of every kind of file and dataset, whole and damaged, and the hash that holds out."""

from __future__ import annotations

import bz2
import gzip
import json
import sys
from pathlib import Path

import pandas as pd
import pyarrow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.files import InputError
from ladder.corpora import documents, hub
from ladder.corpora.documents import find, is_held_out, read_unit, source_digest, units
from ladder.corpora.settings import Dataset, Source

TEXTS = ["one", "zwei\nLinien", "trois — “citation”", "четыре 🙂", "\u2028five\x85"]


def source(path: Path | str, **more: object) -> Source:
    return Source(name="s", files=(str(path),), **more)


def read(wanted: Source) -> list[str]:
    return [text for unit in units(wanted) for text, _ in read_unit(wanted, unit)]


def lines(texts: list[str] = TEXTS) -> bytes:
    return "".join(json.dumps({"text": t}, ensure_ascii=False) + "\n" for t in texts).encode()


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz", ".json.zst", ".jsonl.bz2", ".parquet"])
def test_every_kind_of_file_gives_its_documents(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    if suffix == ".parquet":
        pd.DataFrame({"text": TEXTS, "id": range(5)}).to_parquet(path, row_group_size=2)
    elif suffix.endswith(".zst"):
        with pyarrow.CompressedOutputStream(str(path), "zstd") as file:
            file.write(lines())
    else:
        pack = {".gz": gzip.compress, ".bz2": bz2.compress}.get(path.suffix, bytes)
        # Two members, as parallel compressors and `cat` write them.
        path.write_bytes(pack(lines(TEXTS[:2])) + pack(lines(TEXTS[2:])))
    assert read(source(path)) == TEXTS


def test_text_files_whole_and_divided(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("<>".join(TEXTS).encode())
    assert read(source(path)) == ["<>".join(TEXTS)]
    assert read(source(path, separator="<>")) == TEXTS
    packed = tmp_path / "b.txt.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert read(source(packed, separator="<>")) == TEXTS


@settings(max_examples=30, deadline=None)
@given(st.lists(st.text(st.sampled_from("ab<>")), max_size=30), st.integers(1, 5))
def test_separators_are_found_across_reads(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[str], size: int
) -> None:
    path = tmp_path_factory.mktemp("cut") / "a.txt"
    text = "<>".join(pieces)
    path.write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(documents, "READ", size)
        assert read(source(path, separator="<>")) == [t for t in text.split("<>") if t]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text(max_size=20), max_size=20), st.integers(1, 90))
def test_a_line_is_in_one_unit_however_a_file_is_cut(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], size: int
) -> None:
    path = tmp_path_factory.mktemp("cut") / "a.jsonl"
    path.write_bytes(lines([t.encode("utf-8", "ignore").decode() for t in texts]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(documents, "UNIT_BYTES", size)
        assert read(source(path)) == [t for t in texts if t]


def test_a_format_is_for_names_that_do_not_say_it(tmp_path: Path) -> None:
    path = tmp_path / "words.dict.dz"
    path.write_bytes(gzip.compress(b"one\n\ntwo"))
    assert read(source(path, format="txt", separator="\n\n")) == ["one", "two"]
    (tmp_path / "lines").write_bytes(lines())
    assert read(source(tmp_path / "lines", format="jsonl")) == TEXTS
    with pytest.raises(InputError, match=r"dz: is of an unknown kind; .* set the source's format"):
        units(source(path))


def test_a_row_of_parquet_is_named_by_its_place_in_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documents, "UNIT_BYTES", 1)
    path = tmp_path / "a.parquet"
    pd.DataFrame({"text": ["one", "two", "three", None]}).to_parquet(path, row_group_size=2)
    assert len(units(source(path))) == 2
    with pytest.raises(InputError, match=r"a\.parquet, row 4: 'text' is missing"):
        read(source(path))


def test_parquet_is_cut_by_row_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.parquet"
    pd.DataFrame({"text": TEXTS}).to_parquet(path, row_group_size=1)
    monkeypatch.setattr(documents, "UNIT_BYTES", 150)
    assert len(units(source(path))) in (2, 3, 4, 5)
    assert read(source(path)) == TEXTS


def test_shares_rise_to_one(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(lines(TEXTS * 50))
    (unit,) = units(source(path))
    shares = [share for _, share in read_unit(source(path), unit)]
    assert shares == sorted(shares)
    assert 0.95 < shares[-1] <= 1


def test_half_a_surrogate_pair_becomes_a_replacement(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a\\ud800b"}\n{"text": "\\ud83d\\ude42"}\n{"text": ""}\n\n')
    assert read(source(path)) == ["a\ufffdb", "🙂"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b'{"text": "x"}\n{"text": \n', r"a\.jsonl, byte 14: not JSON"),
        ("a.jsonl", b'{"text": "x"}\n\xff\n', r"a\.jsonl, byte 14: not JSON"),
        ("a.jsonl", b"[1]\n", "must be an object"),
        ("a.jsonl", b'{"body": "x", "id": 1}', "'text' is missing; set .* one of body, id"),
        ("a.jsonl", b'{"text": 5}', "'text' is no text"),
        ("a.txt", b"ab\xff", r"a\.txt: not UTF-8"),
        ("a.jsonl.gz", gzip.compress(lines(TEXTS * 99))[:-9], "cannot be read to its end"),
        ("a.jsonl.gz", b"\x1f\x8bno gzip", "cannot be read to its end"),
        ("a.jsonl.zst", b"\x28\xb5\x2f\xfd no zstd", "cannot be read to its end"),
        ("a.parquet", b"PAR1", r"a\.parquet: not readable as Parquet"),
        ("a.csv", b"", r"a\.csv: is of an unknown kind; known are \.jsonl"),
    ],
)
def test_what_cannot_be_read_is_one_line(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        read(source(tmp_path / name))
    assert "\n" not in str(caught.value)


def test_a_missing_column_and_no_files_are_one_line(tmp_path: Path) -> None:
    pd.DataFrame({"body": TEXTS}).to_parquet(tmp_path / "a.parquet")
    with pytest.raises(InputError, match=r"'text' is missing; .* one of body"):
        read(source(tmp_path / "a.parquet"))
    with pytest.raises(InputError, match=r"sources, s: no file matches .*\.jsonl"):
        units(source(tmp_path / "*.jsonl"))


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=50))
def test_what_is_held_out_depends_on_the_text_alone(texts: list[str]) -> None:
    alone = [is_held_out(text, 0.3) for text in texts]
    assert alone == [is_held_out(text, 0.3) for text in texts]
    assert all(is_held_out(t, 0.6) for t, held in zip(texts, alone, strict=True) if held)


def test_the_share_held_out_is_the_one_asked_for() -> None:
    held = sum(is_held_out(f"document {n}", 0.1) for n in range(20_000))
    assert held == pytest.approx(2000, abs=5 * 1800**0.5)


def test_a_changed_file_changes_the_digest(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(lines())
    before = source_digest(source(path))
    assert before == source_digest(source(path, weight=7))
    path.write_bytes(lines(TEXTS[::-1]))
    assert source_digest(source(path)) != before
    path.unlink()
    assert source_digest(source(path)) is None


@pytest.fixture
def dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()
    made = datasets.Dataset.from_dict({"text": [f"document {n}" for n in range(70)]})
    folder = tmp_path / "dataset"
    folder.mkdir()
    for n in range(2):
        made.shard(2, n).to_parquet(folder / f"train-{n}.parquet")
    made.save_to_disk(tmp_path / "saved")
    datasets.DatasetDict({"train": made}).save_to_disk(tmp_path / "saved_dict")
    return folder


@pytest.mark.parametrize("folder", ["dataset", "saved", "saved_dict"])
def test_a_local_dataset_is_cut_by_rows(
    dataset: Path, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    monkeypatch.setattr(hub, "UNIT_ROWS", 30)
    wanted = Source(name="s", dataset=Dataset(path=str(dataset.parent / folder)))
    assert [(u.begin, u.end) for u in units(wanted)] == [(0, 30), (30, 60), (60, 70)]
    assert read(wanted) == [f"document {n}" for n in range(70)]
    few = Source(name="s", dataset=Dataset(path=str(dataset.parent / folder), documents=35))
    assert read(few) == [f"document {n}" for n in range(35)]


def test_a_stream_is_cut_by_its_files(dataset: Path) -> None:
    wanted = Source(name="s", dataset=Dataset(path=str(dataset), streaming=True))
    assert len(units(wanted)) == 2
    assert sorted(read(wanted)) == sorted(f"document {n}" for n in range(70))
    few = Dataset(path=str(dataset), streaming=True, documents=35)
    (unit,) = units(Source(name="s", dataset=few))
    shares = [share for _, share in read_unit(Source(name="s", dataset=few), unit)]
    assert len(shares) == 35
    assert shares[-1] == 1


def test_a_dataset_that_is_not_there_is_one_line(
    dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    absent = Source(name="s", dataset=Dataset(path=str(dataset / "none")))
    with pytest.raises(InputError, match=r"dataset .*none: cannot be loaded") as caught:
        units(absent)
    assert "\n" not in str(caught.value)
    wrong = Source(name="s", dataset=Dataset(path=str(dataset)), field="body")
    with pytest.raises(InputError, match=r"row 1: 'body' is missing; set .* one of text"):
        read(wrong)
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(InputError, match="needs `datasets`; pip install"):
        units(absent)


def test_stdlib_in_a_pattern_is_the_running_pythons_own() -> None:
    package = Path(json.__file__)
    assert package in find(["{stdlib}/json/*.py"], "files")
    assert find(["{stdlib}/json/__init__.py"], "files") == [package]
    with pytest.raises(InputError, match=r"no file matches \{stdlib\}/no-such/\*\.py"):
        find(["{stdlib}/no-such/*.py"], "files")
