"""Language-modelling loss: every token once, bits over exactly the bytes that were predicted."""

from __future__ import annotations

import inspect
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_model import saved, tokenizer
from transformers import PreTrainedTokenizerFast

from evaluation.files import InputError
from evaluation.models import LoadedModel, load_model
from evaluation.text_scores import read_text_scores, text_row, write_text_scores
from evaluation.texts import score_text

WINDOW = 16
TEXT = "the sky is blue and snow is white; ünïcode grass 雪 is green.\n" * 3


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    return load_model(str(saved(tmp_path_factory.mktemp("model"), window=WINDOW)))


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "sky.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


def by_hand(loaded: LoadedModel, ids: list[int]) -> float:
    """Nats of all tokens but the first, window after window."""
    total = 0.0
    for begin in range(0, len(ids) - 1, WINDOW):
        row = torch.tensor([ids[begin : begin + WINDOW + 1]])
        with torch.inference_mode():
            log_p = loaded.model(input_ids=row[:, :-1]).logits.double().log_softmax(-1)
        total -= float(log_p.gather(2, row[:, 1:, None]).sum())
    return total


def test_every_token_of_a_text_is_predicted_once(loaded: LoadedModel, text: Path) -> None:
    scores = score_text(loaded, text)
    ids = [0, *loaded.tokenizer(TEXT)["input_ids"]]
    assert sum(scores.tokens) == len(ids) - 1
    assert sum(scores.nats) == pytest.approx(by_hand(loaded, ids), abs=1e-3)
    assert scores.bytes == len(TEXT.encode("utf-8"))
    row = text_row(scores)
    assert row["loss"] == pytest.approx(sum(scores.nats) / sum(scores.tokens))
    assert row["loss_unit"] == "nats/token"
    assert row["bpb"] == pytest.approx(sum(scores.nats) / scores.bytes / math.log(2))
    assert row["accuracy"] is None
    assert row["loss_se"] > 0


def test_memory_changes_nothing(
    loaded: LoadedModel, text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = score_text(loaded, text)
    for most in (1, 7, WINDOW, 3 * WINDOW):
        monkeypatch.setattr("evaluation.texts.most_logits", lambda model, most=most: most)
        assert score_text(loaded, text).nats == pytest.approx(whole.nats, abs=1e-4)


@pytest.mark.parametrize("kind", ["npy", "bin"])
def test_an_array_of_tokens_is_a_text_without_a_beginning(
    loaded: LoadedModel, tmp_path: Path, kind: str
) -> None:
    ids = loaded.tokenizer(TEXT)["input_ids"]
    path = tmp_path / f"sky.{kind}"
    array = np.array(ids, dtype=np.uint16)
    if kind == "npy":
        np.save(path, array)
    else:
        array.tofile(path)
    scores = score_text(loaded, path)
    assert sum(scores.nats) == pytest.approx(by_hand(loaded, ids), abs=1e-3)
    first = loaded.tokenizer.decode(ids[:1])
    assert scores.bytes == len(TEXT.encode()) - len(first.encode())


def test_tokens_that_break_a_character_have_no_bytes(loaded: LoadedModel, tmp_path: Path) -> None:
    ids = loaded.tokenizer("雪")["input_ids"]
    assert len(ids) == 3  # a byte each, of which none is a character
    np.save(tmp_path / "broken.npy", np.array(ids, dtype=np.uint16))
    scores = score_text(loaded, tmp_path / "broken.npy")
    assert scores.bytes is None
    assert text_row(scores)["bpb"] is None
    assert text_row(scores)["loss"] > 0


def test_without_bos_and_eos_the_first_token_and_its_bytes_are_left_out(
    loaded: LoadedModel, text: Path
) -> None:
    bare = PreTrainedTokenizerFast(tokenizer_object=tokenizer().backend_tokenizer)
    scores = score_text(LoadedModel(loaded.model, bare), text)
    ids = bare(TEXT)["input_ids"]
    assert sum(scores.tokens) == len(ids) - 1
    assert scores.bytes == len(TEXT.encode()) - len(bare.decode(ids[:1]).encode())


def test_what_was_stored_is_read_back(loaded: LoadedModel, text: Path) -> None:
    scores = score_text(loaded, text)
    write_text_scores(scores, text.with_suffix(".parquet"))
    assert read_text_scores(text.with_suffix(".parquet")) == scores
    with pytest.raises(InputError, match="holds no scores"):
        read_text_scores(text)


def test_what_does_not_fit_into_memory_is_halved(
    loaded: LoadedModel, text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, real, refused = score_text(loaded, text), loaded.model.forward, []

    def forward(*args: object, **inputs: object) -> object:
        keep = inputs["logits_to_keep"]
        assert isinstance(keep, torch.Tensor)
        if len(keep) * inputs["input_ids"].shape[0] > 5:  # type: ignore[attr-defined]
            refused.append(len(keep))
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(*args, **inputs)

    forward.__signature__ = inspect.signature(real)  # type: ignore[attr-defined]
    monkeypatch.setattr(loaded.model, "forward", forward)
    assert score_text(loaded, text).nats == pytest.approx(whole.nats, abs=1e-4)
    assert refused


def test_what_cannot_be_scored_is_named(loaded: LoadedModel, tmp_path: Path) -> None:
    def fails(name: str, content: bytes, problem: str) -> None:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=problem):
            score_text(loaded, tmp_path / name)

    fails("a.txt", b"sky \xff", "not UTF-8 at byte 4")
    fails("a.txt", b"", "too little text")
    fails("a.bin", b"\x01\x00\x02", "no whole number")
    fails(
        "a.bin",
        b"\xff\xff\xff\xff",
        "holds tokens from 65535 to 65535, beyond the model's vocabulary",
    )
    fails("a.npy", b"nonsense", "not readable as an array")
    np.save(tmp_path / "b.npy", np.zeros((2, 2), dtype=np.uint16))
    with pytest.raises(InputError, match="one-dimensional array of integers"):
        score_text(loaded, tmp_path / "b.npy")
    np.save(tmp_path / "b.npy", np.array([-1, 2]))
    with pytest.raises(InputError, match="beyond the model's vocabulary"):
        score_text(loaded, tmp_path / "b.npy")
    np.save(tmp_path / "b.npy", np.array([{}, 1], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match="not readable as an array"):
        score_text(loaded, tmp_path / "b.npy")
