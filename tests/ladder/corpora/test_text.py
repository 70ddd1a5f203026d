"""Text as a corpus: settings, batches, the held-out loss, tasks, and real English through BPE."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from corpora_english import DOCUMENTS, write_lines
from pydantic import ValidationError
from transformers import AutoTokenizer

from evaluation.files import InputError
from evaluation.tasks import Item, Task, write_task
from ladder.corpora.documents import is_held_out
from ladder.corpora.settings import TextCorpus
from ladder.corpora.text import Text
from ladder.corpora.tokenizer import BYTES, byte_tokenizer, save, wrapped

LENGTH = 33


class Guess:
    """A model that gives each token a probability whatever came before."""

    def __init__(self, nats: np.ndarray) -> None:
        self._nats, self.seen = nats, 0

    def log_probabilities(self, tokens: np.ndarray) -> np.ndarray:
        raise AssertionError("text has no exact expectation")

    def nats(self, tokens: np.ndarray) -> np.ndarray:
        self.seen += tokens[:, 1:].size
        return self._nats[tokens[:, 1:]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One document in two is in a.jsonl, the others in b.txt."""
    folder = tmp_path_factory.mktemp("text")
    write_lines(folder / "a.jsonl", DOCUMENTS[::2])
    (folder / "b.txt").write_text("\f".join(DOCUMENTS[1::2]))
    return folder


def config(folder: Path, **more: object) -> TextCorpus:
    sources = [
        {"name": "lines", "files": [str(folder / "a.jsonl")], "weight": 3},
        {"name": "pages", "files": [str(folder / "b.txt")], "separator": "\f", "repeat": 2},
    ]
    settings = {"tokenizer": "bytes", "sources": sources, "held_out": 0.05, "workers": 1}
    return TextCorpus.model_validate({"kind": "text", **settings, **more})


@pytest.fixture(scope="module")
def corpus(folder: Path) -> Text:
    made = Text(config(folder), folder / "made")
    made.prepare()
    return made


def test_training_and_held_out_documents_are_those_of_the_text(corpus: Text) -> None:
    for name, own in (("lines", DOCUMENTS[::2]), ("pages", DOCUMENTS[1::2])):
        train, held_out = corpus._streams[name]
        for stream, is_held in ((train, False), (held_out, True)):
            wanted = [t for t in own if is_held_out(t, 0.05) == is_held]
            assert stream[:].tolist() == [b for t in wanted for b in [*t.encode(), 256]]


def test_a_batch_is_a_function_of_seed_and_step(corpus: Text, folder: Path) -> None:
    one = corpus.batch(1, 7, 8, LENGTH)
    assert one.shape == (8, LENGTH)
    assert one.dtype == np.int64
    again = Text(config(folder), folder / "made")
    assert (again.batch(1, 7, 8, LENGTH) == one).all()
    assert not (corpus.batch(1, 8, 8, LENGTH) == one).all()
    assert not (corpus.batch(2, 7, 8, LENGTH) == one).all()
    halves = [corpus.batch(1, 7, 8, LENGTH, rows) for rows in (slice(0, 3), slice(3, 8))]
    assert (np.concatenate(halves) == one).all()
    assert corpus.batch(1, 7, 8, LENGTH, slice(8, 8)).shape == (0, LENGTH)
    with pytest.raises(ValueError, match="step 0 is no step"):
        corpus.batch(1, 0, 8, LENGTH)


def test_every_token_is_learnt_once_a_pass(folder: Path) -> None:
    sources = [{"name": "lines", "files": [str(folder / "a.jsonl")]}]
    alone = Text(config(folder, sources=sources), folder / "alone")
    alone.prepare()
    train = alone._streams["lines"][0]
    windows = (len(train) - 1) // 64
    rows = np.concatenate([alone.batch(0, step, 10, 65) for step in range(1, windows // 10 + 1)])
    whole = sorted(train[k * 64 : k * 64 + 65].tobytes() for k in range(windows))
    got = [row.tobytes() for row in rows]
    assert len(set(got) - set(whole)) == 0
    assert len(got) - len(set(got)) == len(whole) - len(set(whole))
    alone.check(windows, 65)
    with pytest.raises(InputError, match=r"lines: the run needs .* or allow repeat: 1\.01"):
        alone.check(windows + 1, 65)


def test_the_held_out_loss_is_the_mean_over_sources_by_weight(corpus: Text) -> None:
    nats = np.random.default_rng(0).random(257)
    expected = 0.0
    for name, share in (("lines", 0.75), ("pages", 0.25)):
        stream = corpus._streams[name][1]
        windows = (len(stream) - 1) // (LENGTH - 1)
        expected += share * nats[stream[1 : windows * (LENGTH - 1) + 1]].mean()
    guess = Guess(nats)
    assert corpus.validation_loss(guess, LENGTH) == pytest.approx(expected, rel=1e-12)
    uniform = Guess(np.full(257, math.log(257)))
    assert corpus.validation_loss(uniform, LENGTH) == pytest.approx(math.log(257))


def test_no_more_held_out_tokens_are_scored_than_asked(folder: Path, corpus: Text) -> None:
    few = Text(config(folder, validation_tokens=1280), corpus.folder)
    guess = Guess(np.zeros(257))
    few.validation_loss(guess, LENGTH)
    assert guess.seen == 1280
    with pytest.raises(InputError, match=r"held-out tokens are fewer than a sequence's 1,000,000"):
        few.validation_loss(guess, 10**6)


def test_other_sources_move_neither_held_out_documents_nor_shards(
    folder: Path, corpus: Text
) -> None:
    more = [*config(folder).model_dump()["sources"]]
    more.insert(0, {"name": "new", "files": [str(folder / "b.txt")], "separator": "\f"})
    larger = Text(config(folder, sources=more), corpus.folder)
    before = {p: p.stat().st_mtime_ns for p in corpus.folder.rglob("*.bin")}
    larger.prepare()
    assert {p: p.stat().st_mtime_ns for p in before} == before
    for name in ("lines", "pages"):
        assert (larger._streams[name][1][:] == corpus._streams[name][1][:]).all()


@pytest.fixture(scope="module")
def arrays(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("arrays")
    save(folder / "bytes", wrapped(byte_tokenizer()), None, BYTES)
    np.arange(0, 200, dtype=np.uint16).tofile(folder / "1.bin")
    np.save(folder / "2.npy", np.arange(200, 257).astype(np.uint32))
    np.arange(100, dtype=np.uint16).tofile(folder / "v.bin")
    return folder


def test_ready_arrays_hold_out_their_end_or_named_files(arrays: Path) -> None:
    def streams(**source: object) -> list[list[int]]:
        wanted = {"name": "a", "tokens": [f"{arrays}/1.bin", f"{arrays}/2.npy"], **source}
        made = Text(config(arrays, sources=[wanted], tokenizer=str(arrays / "bytes")), arrays / "m")
        made.prepare()
        return [stream[:].tolist() for stream in made._streams["a"]]

    assert streams(validation_tokens=60) == [list(range(197)), list(range(197, 257))]
    assert streams() == [list(range(244)), list(range(244, 257))]
    assert streams(validation=[f"{arrays}/v.bin"]) == [list(range(257)), list(range(100))]
    everything = {"tokens": [f"{arrays}/*.bin"], "validation": [f"{arrays}/v.*"]}
    assert streams(**everything) == [list(range(200)), list(range(100))]
    with pytest.raises(InputError, match="validation_tokens 300 leaves none of its 257 tokens"):
        streams(validation_tokens=300)
    wide = arrays / "wide.npy"
    np.arange(70_000, dtype=np.uint32).tofile(wide)
    made = Text(
        config(arrays, vocabulary=70_000, sources=[{"name": "w", "tokens": [str(wide)]}]), arrays
    )
    assert made.batch(0, 1, 3, 9).max() < 70_000
    assert len(made._streams["w"][0]) == 70_000 - 3500
    np.full(9, 257, np.uint16).tofile(arrays / "past.bin")
    with pytest.raises(InputError, match=r"past\.bin: holds token 257, beyond .* of 257"):
        streams(validation=[f"{arrays}/past.bin"])


def test_tokenizers_load_anywhere_and_vocabularies_are_checked(folder: Path, corpus: Text) -> None:
    corpus.tokenizer().save_pretrained(folder / "checkpoint")
    loaded = AutoTokenizer.from_pretrained(folder / "checkpoint")
    assert loaded.encode("é<|endoftext|>") == list("é<|endoftext|>".encode())
    assert corpus.vocabulary == config(folder).vocabulary_size == 257
    assert Text(config(folder, vocabulary=384), folder / "made").vocabulary == 384
    with pytest.raises(InputError, match=r"vocabulary: 200 is below the tokenizer's 257; raise"):
        Text(config(folder, vocabulary=200), folder / "made").prepare()


def test_a_bpe_is_trained_on_training_documents_and_real_english(folder: Path) -> None:
    made = Text(config(folder, tokenizer={"train": 1100}), folder / "bpe")
    assert made.vocabulary == 1152
    made.prepare()
    tokenizer = made.tokenizer()
    assert len(tokenizer) == 1100
    text = tokenizer.decode(made.batch(0, 3, 1, 400)[0])
    assert any(text[40:80] in document for document in DOCUMENTS)
    (train, held_out), (more, _) = made._streams["lines"], made._streams["pages"]
    characters = sum(map(len, DOCUMENTS))
    assert len(train) + len(held_out) + len(more) < 0.45 * characters
    again = Text(config(folder, tokenizer={"train": 1100}), folder / "bpe2")
    again.prepare()
    files = sorted(p.relative_to(again.folder) for p in again.folder.rglob("*.*") if p.is_file())
    assert len(files) > 5
    for name in files:
        assert (made.folder / name).read_bytes() == (again.folder / name).read_bytes()


def test_tasks_are_files_as_evaluate_takes_them(folder: Path) -> None:
    task = Task("colours", (Item("1", "sky?", (" blue", " green"), 0),))
    write_task(task, folder)
    made = Text(config(folder, tasks=[str(folder / "colours.jsonl")]), folder / "made")
    assert made.tasks() == [task]
    assert Text(config(folder), folder / "made").tasks() == []
    assert made.validation == "text_validation"
    assert made.entropy_rate is None


def test_what_is_not_prepared_or_not_held_out_is_one_line(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not tokenised yet; `ladder tokenise`"):
        Text(config(folder), tmp_path / "new").batch(0, 1, 1, 8)
    whole = [{"name": "pages", "files": [str(folder / "b.txt")]}]
    with pytest.raises(InputError, match="none of its documents is held out; raise"):
        Text(config(folder, sources=whole, held_out=1e-9), tmp_path).prepare()


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({}, "source s must have exactly one of files, dataset and tokens; it has none"),
        ({"files": ["a"], "tokens": ["b"]}, "it has files and tokens"),
        ({"files": ["a"], "validation": ["b"]}, "are for arrays of tokens"),
        ({"tokens": ["a"], "validation": ["b"], "validation_tokens": 9}, "not both"),
        ({"files": ["a"], "weight": 0}, "greater than 0"),
        ({"files": ["a"], "name": "../up"}, "match pattern"),
    ],
)
def test_settings_that_contradict_are_refused(source: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        config(Path(), sources=[{"name": "s", **source}])


def test_more_settings_that_contradict_are_refused() -> None:
    arrays = [{"name": "s", "tokens": ["a"]}]
    with pytest.raises(ValidationError, match="cannot be trained on arrays of tokens"):
        config(Path(), sources=arrays, tokenizer={"train": 300})
    with pytest.raises(ValidationError, match="end_token is for tokenizers that exist"):
        config(Path(), tokenizer={"train": 300}, end_token="x")
    with pytest.raises(ValidationError, match="two sources have the same name"):
        config(Path(), sources=arrays * 2)


def test_nothing_here_loads_torch_or_datasets(folder: Path, corpus: Text) -> None:
    code = (
        "import sys; from pathlib import Path; from ladder.corpora import workers\n"
        "from ladder.corpora.text import Text; from ladder.corpora.settings import TextCorpus\n"
        "config = TextCorpus.model_validate_json(sys.argv[1])\n"
        "Text(config, Path(sys.argv[2])).batch(0, 1, 2, 9)\n"
        "print({'torch', 'datasets', 'transformers'} & set(sys.modules))"
    )
    arguments = [config(folder).model_dump_json(), str(corpus.folder)]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], check=True, capture_output=True, text=True
    )
    assert done.stdout.strip() == "set()"
