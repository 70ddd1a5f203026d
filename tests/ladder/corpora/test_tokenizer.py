"""Tokenizers: bytes exact both ways, a trained BPE the same each time, any folder that loads."""

from __future__ import annotations

from pathlib import Path

import pytest
from corpora_english import DOCUMENTS
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from evaluation.files import InputError
from ladder.corpora import tokenizer as own

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))


@pytest.fixture(scope="module")
def byte_level(tmp_path_factory: pytest.TempPathFactory) -> PreTrainedTokenizerFast:
    folder = tmp_path_factory.mktemp("bytes")
    own.save(folder, own.wrapped(own.byte_tokenizer()), None, own.BYTES)
    return AutoTokenizer.from_pretrained(folder)


@settings(max_examples=300, deadline=None)
@given(TEXTS)
def test_bytes_are_their_values_both_ways(byte_level: PreTrainedTokenizerFast, text: str) -> None:
    ids = byte_level.encode(text)
    assert ids == list(text.encode())
    assert byte_level.decode(ids) == text


def test_the_end_of_a_document_is_a_token_and_its_name_is_text(
    byte_level: PreTrainedTokenizerFast,
) -> None:
    assert isinstance(byte_level, PreTrainedTokenizerFast)
    assert (len(byte_level), byte_level.eos_token_id) == (257, 256)
    assert byte_level.encode(own.END) == list(own.END.encode())
    assert byte_level.decode([97, 256], skip_special_tokens=True) == "a"
    assert byte_level.encode("") == []


def test_every_byte_has_its_token() -> None:
    vocabulary = own.byte_tokenizer().get_vocab()
    assert sorted(vocabulary.values()) == list(range(256))
    for byte in range(128):
        assert own.byte_tokenizer().encode(chr(byte)).ids == [byte]


def test_a_bpe_trained_twice_is_the_same(tmp_path: Path) -> None:
    one, two = (own.trained_tokenizer(700, iter(DOCUMENTS)) for _ in range(2))
    assert one.to_str() == two.to_str()
    encodings = [
        own.save(tmp_path / str(n), own.wrapped(raw), None, "") for n, raw in enumerate((one, two))
    ]
    assert encodings[0] == encodings[1]
    assert encodings[0].size == 700
    loaded = AutoTokenizer.from_pretrained(tmp_path / "0")
    assert loaded.eos_token_id == encodings[0].end
    for text in (*DOCUMENTS[:50], "🙂 \r\n\x00", f"a{own.END}b"):
        ids = loaded.encode(text)
        assert encodings[0].end not in ids
        assert loaded.decode(ids) == text
    assert sum(len(loaded.encode(d)) for d in DOCUMENTS[:50]) < 0.6 * len("".join(DOCUMENTS[:50]))


def test_too_little_text_for_the_vocabulary_is_one_line() -> None:
    with pytest.raises(InputError, match=r"gives a vocabulary of 259 only; ask for no more"):
        own.trained_tokenizer(1000, ["aa aa"])


def test_a_digest_tells_tokenizers_apart(tmp_path: Path) -> None:
    wrapped = own.wrapped(own.trained_tokenizer(400, DOCUMENTS))
    encoding = own.save(tmp_path / "a", wrapped, None, "")
    assert own.read_encoding(tmp_path / "a") == encoding
    assert own.read_encoding(tmp_path / "b") is None
    again = own.save(tmp_path / "b", AutoTokenizer.from_pretrained(tmp_path / "a"), None, "")
    assert again.digest == encoding.digest
    other = own.save(tmp_path / "c", own.wrapped(own.trained_tokenizer(401, DOCUMENTS)), None, "")
    assert other.digest != encoding.digest


def test_bytes_are_known_as_such_for_they_need_no_tokenizer(tmp_path: Path) -> None:
    kept = own.save(tmp_path / "bytes", own.wrapped(own.byte_tokenizer()), None, own.BYTES)
    assert kept.is_bytes
    words = own.wrapped(own.trained_tokenizer(400, DOCUMENTS))
    assert not own.save(tmp_path / "words", words, None, "words").is_bytes


def test_a_tokenizer_without_an_end_is_one_line(tmp_path: Path) -> None:
    raw = Tokenizer(models.WordLevel({"a": 0, "b": 7}, unk_token="a"))
    words = PreTrainedTokenizerFast(tokenizer_object=raw)
    with pytest.raises(InputError, match=r"w: has no end-of-sequence token; .*corpus\.end_token"):
        own.save(tmp_path, words, None, "w")
    with pytest.raises(InputError, match=r"corpus\.end_token c: is no token of w"):
        own.save(tmp_path, words, "c", "w")
    # Ids may have gaps: what counts is the largest.
    assert own.save(tmp_path, words, "b", "w")[:2] == (7, 8)


def test_a_tokenizer_that_is_not_there_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nobody listens at port 9; a second try for the hub would wait.
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("time.sleep", lambda _: pytest.fail("waits for the hub"))
    said = r"tokenizer nobody/none: cannot be loaded \(We couldn't connect"
    with pytest.raises(InputError, match=said) as caught:
        own.load("nobody/none")
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match=r"tokenizer .*none: there is no such folder"):
        own.load(str(tmp_path / "none"))


@pytest.mark.parametrize(("size", "expected"), [(257, 257), (1024, 1024), (100278, 100352)])
def test_vocabularies_are_padded_for_gpus(size: int, expected: int) -> None:
    assert own.padded(size) == expected
