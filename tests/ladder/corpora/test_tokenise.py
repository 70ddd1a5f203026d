"""Tokenising: the same bytes from any number of workers and kills, and what stands in the way."""

from __future__ import annotations

import hashlib
import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from corpora_english import DOCUMENTS, write_lines
from transformers import AutoTokenizer

from evaluation.files import InputError
from ladder.corpora import documents, tokenise, workers
from ladder.corpora import tokenizer as own
from ladder.corpora.documents import is_held_out
from ladder.corpora.settings import Source
from ladder.corpora.shards import Index, damaged
from ladder.corpora.tokenise import Job

SCRIPT = """
import sys
from ladder.corpora import documents, tokenise
documents.UNIT_BYTES = 60_000
tokenise.tokenise(tokenise.Job.model_validate_json(sys.argv[1]), int(sys.argv[2]))
"""


@pytest.fixture(scope="module")
def bpe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    own.save(folder, own.wrapped(own.trained_tokenizer(600, DOCUMENTS)), None, "")
    return folder


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("text")
    write_lines(folder / "a.jsonl")
    write_lines(folder / "b.jsonl.gz", DOCUMENTS[:300])
    return folder


def job(text: Path, bpe: Path, folder: Path, **more: object) -> Job:
    source = Source(name="web", files=(f"{text}/*.jsonl*",))
    options = {"held_out": 0.05, "shard_tokens": 5000, **more}
    return Job(source=source, tokenizer=bpe, folder=folder, **options)


def digests(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.iterdir()}


def run(wanted: Job, count: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, wanted.model_dump_json(), str(count)],
        stderr=subprocess.DEVNULL,
    )


@pytest.fixture(scope="module")
def undisturbed(
    text: Path, bpe: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Index]:
    folder = tmp_path_factory.mktemp("whole") / "web"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(documents, "UNIT_BYTES", 60_000)
        return folder, tokenise.tokenise(job(text, bpe, folder), 1)


def tokens(folder: Path, index: Index, part: str) -> list[int]:
    files = [folder / shard.file for shard in getattr(index, part)]
    return np.concatenate([np.fromfile(f, index.dtype) for f in files]).tolist()


def test_shards_hold_every_document_once_in_order(
    undisturbed: tuple[Path, Index], bpe: Path
) -> None:
    folder, index = undisturbed
    encode = AutoTokenizer.from_pretrained(bpe)
    expected: dict[str, list[int]] = {"train": [], "held_out": []}
    for document in [*DOCUMENTS, *DOCUMENTS[:300]]:
        part = "held_out" if is_held_out(document, 0.05) else "train"
        expected[part] += [*encode.encode(document), encode.eos_token_id]
    assert len(index.train) > 10
    for part, ids in expected.items():
        assert tokens(folder, index, part) == ids
    assert damaged(folder, index) == []
    assert sum(s.documents for s in (*index.train, *index.held_out)) == len(DOCUMENTS) + 300
    # What only the making needed is gone.
    named = {f"{s.file}{end}" for s in (*index.train, *index.held_out) for end in ("", ".crc")}
    assert {p.name for p in folder.iterdir()} == {*named, "index.json"}


def test_more_workers_make_the_same_bytes(
    undisturbed: tuple[Path, Index], text: Path, bpe: Path, tmp_path: Path
) -> None:
    wanted = job(text, bpe, tmp_path / "web")
    assert run(wanted, 3).wait() == 0
    assert digests(tmp_path / "web") == digests(undisturbed[0])


def children(process: int) -> list[int]:
    try:
        listed = Path(f"/proc/{process}/task/{process}/children").read_text()
    except OSError:
        return []
    return [int(child) for child in listed.split()]


def test_kills_lose_nothing_and_leave_no_process(
    undisturbed: tuple[Path, Index], text: Path, bpe: Path, tmp_path: Path
) -> None:
    folder, draw, kept = tmp_path / "web", random.Random(0), 0
    wanted, killed = job(text, bpe, folder), 0
    orphans: list[int] = []
    for attempt in range(8):
        process = run(wanted, 1 + attempt % 3)
        deadline = time.monotonic() + 20
        # Wait for one more shard, so that kills fall into the work and not the start.
        while process.poll() is None and time.monotonic() < deadline:
            if len(list(folder.glob("*.train.bin"))) > kept:
                break
            time.sleep(0.002)
        time.sleep(draw.random() * 0.02)
        orphans += children(process.pid)
        process.send_signal(signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
        now = len(list(folder.glob("*.train.bin")))
        assert now >= kept
        kept = now
    assert killed >= 3
    deadline = time.monotonic() + 20
    while any(os.path.exists(f"/proc/{orphan}") for orphan in orphans):
        assert time.monotonic() < deadline, "a worker outlives its parent"
        time.sleep(0.05)
    assert run(wanted, 2).wait() == 0
    assert digests(folder) == digests(undisturbed[0])


def test_a_killed_worker_is_one_line(
    text: Path, bpe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = workers._start

    def doomed(wanted: Job, threads: int) -> subprocess.Popen[str]:
        process = start(wanted, threads)
        process.kill()
        return process

    monkeypatch.setattr(workers, "_start", doomed)
    with pytest.raises(InputError, match=r"was ended by SIGKILL; if memory ran out"):
        tokenise.tokenise(job(text, bpe, tmp_path / "web"), 2)
    monkeypatch.undo()
    tokenise.tokenise(job(text, bpe, tmp_path / "web"), 2)


def test_a_record_that_is_gone_costs_its_shard_again_and_loses_none(
    text: Path, bpe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, broken = (job(text, bpe, tmp_path / name) for name in ("whole", "broken"))
    index = tokenise.tokenise(whole, 1)
    monkeypatch.setattr(tokenise, "write_index", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        tokenise.tokenise(broken, 1)
    monkeypatch.undo()
    records = sorted(broken.folder.glob("000000-*.json"))
    assert len(records) > 3
    records[1].unlink()
    assert tokenise.tokenise(broken, 1) == index
    assert digests(broken.folder) == digests(whole.folder)


@pytest.mark.parametrize("count", [1, 2])
def test_a_disk_that_fills_is_one_line_and_keeps_what_is_done(
    undisturbed: tuple[Path, Index], text: Path, bpe: Path, tmp_path: Path, count: int
) -> None:
    wanted = job(text, bpe, tmp_path / "web", shard_tokens=20_000)
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    # A limit on the size of files fails as a full disk does; the shard of one unit is above it.
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, old[1]))
    try:
        with pytest.raises(InputError, match=r"web: File too large; make room and start again"):
            tokenise.tokenise(wanted, count)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert not list((tmp_path / "web").glob(".*"))
    index = tokenise.tokenise(wanted, count)
    folder, small = undisturbed
    assert tokens(tmp_path / "web", index, "train") == tokens(folder, small, "train")


def test_bad_documents_are_one_line_from_a_worker_too(
    bpe: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "x"}\n')
    (tmp_path / "b.jsonl").write_text('{"text": "x"}\n{')
    with pytest.raises(InputError, match=r"b\.jsonl, byte 14: not JSON"):
        tokenise.tokenise(job(tmp_path, bpe, tmp_path / "web"), 2)
    assert "Traceback" not in capfd.readouterr().err


def test_changed_files_and_tokenizers_are_refused(text: Path, bpe: Path, tmp_path: Path) -> None:
    write_lines(tmp_path / "a.jsonl", DOCUMENTS[:50])
    wanted = job(tmp_path, bpe, tmp_path / "web")
    index = tokenise.tokenise(wanted, 1)
    assert tokenise.tokenise(wanted, 1) == index
    write_lines(tmp_path / "a.jsonl", DOCUMENTS[:51])
    with pytest.raises(InputError, match=r"its files changed since .*web was made; remove that"):
        tokenise.tokenise(wanted, 1)
    # Shards live on where the text was removed.
    (tmp_path / "a.jsonl").unlink()
    assert tokenise.tokenise(wanted, 1) == index


def test_files_that_change_before_all_is_done_are_refused(bpe: Path, tmp_path: Path) -> None:
    write_lines(tmp_path / "a.jsonl", DOCUMENTS[:50])
    wanted = job(tmp_path, bpe, tmp_path / "web")
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / tokenise.BEGUN).write_text(json.dumps({"source": "x", "tokenizer": "y"}))
    with pytest.raises(InputError, match="its files changed since"):
        tokenise.tokenise(wanted, 1)


def test_bytes_are_those_of_the_text_whatever_the_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own.save(tmp_path / "bytes", own.wrapped(own.byte_tokenizer()), None, own.BYTES)
    write_lines(tmp_path / "a.jsonl", ["é🙂", f"a{own.END}", "b" * 99])
    index = tokenise.tokenise(job(tmp_path, tmp_path / "bytes", tmp_path / "web", held_out=0), 1)
    expected = [*"é🙂".encode(), 256, *b"a<|endoftext|>", 256, *[98] * 99, 256]
    assert tokens(tmp_path / "web", index, "train") == expected
    assert index.held_out == ()


def test_long_documents_are_cut_at_lines(bpe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenise, "PIECE", 20)
    document = "\n".join(DOCUMENTS[:9])
    pieces = tokenise._pieces(document)
    assert "".join(pieces) == document
    assert len(pieces) > 20
    assert all(piece.endswith("\n") for piece in pieces[:-1])
    (ids,) = tokenise._encoder(bpe)([document])
    assert AutoTokenizer.from_pretrained(bpe).decode(ids[:-1]) == document


def test_no_text_is_one_line(bpe: Path, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": ""}\n')
    with pytest.raises(InputError, match="web: holds no text to train on"):
        tokenise.tokenise(job(tmp_path, bpe, tmp_path / "web"), 1)
