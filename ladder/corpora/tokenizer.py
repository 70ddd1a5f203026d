"""The tokenizer of a text corpus: bytes, a BPE trained on it, or any of Hugging Face; no torch."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from evaluation.checksums import CHECKSUMS, damage, has_checksums, write_checksums
from evaluation.files import InputError, read_json, sync_file, sync_folder, write_json
from evaluation.hub import check_cached, is_out_of_reach

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

BYTES, BYTE_SIZE = "bytes", 257
END = "<|endoftext|>"
ENCODING = "encoding.json"
"""What tokenising needs to know beside tokenizer.json; written last, so it says all is there."""
PADDED_FROM, MULTIPLE = 1024, 128
"""A vocabulary beyond the one is rounded up to a multiple of the other."""
KNOWN = "give a Hugging Face name or folder, bytes, or {train: 8192}"
"""What a config may say of the tokenizer."""
BATCH = 10_000
"""Documents that are given to the trainer at once."""
PROBE = "Hello, world!  12345\n\n\tdéjà vu — 你好, мир 🙂 \u00a0x<|endoftext|>"
"""A text whose tokens tell tokenizers apart that have the same vocabulary."""


class Encoding(NamedTuple):
    """What is known of a tokenizer without loading it."""

    end: int
    """The token behind every document."""
    size: int
    """Tokens that it knows: its largest, and one."""
    digest: str
    """Of what it does rather than of its file, which versions of libraries write differently."""
    is_bytes: bool


def padded(size: int) -> int:
    """The vocabulary of models whose tokenizer has so many tokens, if the config does not say."""
    return size if size <= PADDED_FROM else -(-size // MULTIPLE) * MULTIPLE


@cache
def known_size(name: str) -> int:
    """Tokens of a tokenizer by name or folder."""
    return int(max(load(name).get_vocab().values())) + 1


def byte_tokenizer() -> Tokenizer:
    """A token for each of the 256 bytes, by its value, then the end of a document."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    raw = Tokenizer(models.BPE(vocab={c: b for b, c in enumerate(_byte_letters())}, merges=[]))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    raw.decoder = decoders.ByteLevel()
    return raw


def trained_tokenizer(size: int, documents: Iterable[str]) -> Tokenizer:
    """A byte-level BPE of `size` tokens, the end of a document being the first of them."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[END],
        initial_alphabet=_byte_letters(),
        show_progress=False,
    )
    raw.train_from_iterator(_batches(documents), trainer)
    if raw.get_vocab_size() < size:
        raise InputError(
            f"corpus.tokenizer: the corpus gives a vocabulary of {raw.get_vocab_size()} only; ask "
            f"for no more than that in train, or add text"
        )
    return raw


def wrapped(raw: Tokenizer) -> PreTrainedTokenizerFast:
    """A tokenizer of ours as Hugging Face's: what reads like its special token stays text."""
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=raw,
        eos_token=END,
        pad_token=END,
        clean_up_tokenization_spaces=False,
        split_special_tokens=True,
    )


def load(name: str) -> PreTrainedTokenizerFast:
    """A tokenizer by name or folder; InputError where there is none, or no fast one."""
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    if (place := Path(name)).is_absolute() and not place.is_dir():
        raise InputError(f"corpus.tokenizer {name}: there is no such folder; {KNOWN}")
    # What the hub's client says of every try to reach it would bury the one line below.
    client = logging.getLogger("huggingface_hub")
    level = client.level
    client.setLevel(logging.CRITICAL)
    try:
        check_cached(name)
        found = AutoTokenizer.from_pretrained(
            name, local_files_only=is_out_of_reach(name), trust_remote_code=False
        )
        check_cached(name)
    except InputError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(
            f"corpus.tokenizer {name}: cannot be loaded ({reason}); {KNOWN}"
        ) from error
    finally:
        client.setLevel(level)
    if not isinstance(found, PreTrainedTokenizerFast):
        raise InputError(f"corpus.tokenizer {name}: is no fast tokenizer; use one that is")
    return found


def save(folder: Path, tokenizer: PreTrainedTokenizerFast, end: str | None, name: str) -> Encoding:
    """Keep a tokenizer in a folder, and what is known of it; `end` is the end of a document."""
    end = end or tokenizer.eos_token
    if end is None:
        raise InputError(
            f"corpus.tokenizer {name}: has no end-of-sequence token; name one of its tokens as "
            "corpus.end_token"
        )
    number = tokenizer.get_vocab().get(end)
    if number is None:
        raise InputError(f"corpus.end_token {end}: is no token of {name}")
    folder.mkdir(parents=True, exist_ok=True)
    for old in (ENCODING, CHECKSUMS):
        (folder / old).unlink(missing_ok=True)
    tokenizer.save_pretrained(folder)
    write_checksums(folder)
    for path in folder.iterdir():
        sync_file(path)
    sync_folder(folder)
    known = tokenizer.get_vocab()
    probe = plain_encoder(folder).encode(PROBE, add_special_tokens=False).ids
    content = json.dumps([sorted(known.items()), number, probe])
    digest = hashlib.sha256(content.encode()).hexdigest()
    encoding = Encoding(number, max(known.values()) + 1, digest, name == BYTES)
    write_json(folder / ENCODING, encoding._asdict(), sealed=True)
    return encoding


def read_encoding(folder: Path) -> Encoding | None:
    """What is known of the tokenizer in a folder; None where none is there yet."""
    if not (folder / ENCODING).exists():
        return None
    try:
        found = Encoding(**read_json(folder / ENCODING))
    except (InputError, TypeError):
        found = None
    kinds = (int, int, str, bool)
    if found is None or any(type(x) is not kind for x, kind in zip(found, kinds, strict=True)):
        raise _damaged(folder / ENCODING)
    return found


def plain_encoder(folder: Path) -> Tokenizer:
    """The tokenizer in a folder for documents, in which what reads like a special token is text."""
    from tokenizers import Tokenizer

    _check(folder)
    try:
        raw = Tokenizer.from_file(str(folder / "tokenizer.json"))
    except Exception:
        raise _damaged(folder / "tokenizer.json") from None
    raw.encode_special_tokens = True
    raw.no_truncation()
    raw.no_padding()
    return raw


def load_kept(folder: Path) -> PreTrainedTokenizerFast:
    """The tokenizer that save() left in a folder; InputError where it is damaged."""
    _check(folder)
    try:
        return load(str(folder))
    except InputError:
        raise _damaged(folder / "tokenizer.json") from None


def _check(folder: Path) -> None:
    if has_checksums(folder) and damage(folder):
        raise _damaged(folder / "tokenizer.json")


def _damaged(path: Path) -> InputError:
    return InputError(f"{path}: is damaged; remove {path.parent} to make it again")


def _byte_letters() -> list[str]:
    """The letter that stands for each byte in byte-level tokenizers.

    It is the byte's own where that prints, otherwise the next one from U+0100 on.
    """
    printing = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = iter(range(256, 512))
    return [chr(b) if b in printing else chr(next(others)) for b in range(256)]


def _batches(documents: Iterable[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    for document in documents:
        batch.append(document)
        if len(batch) == BATCH:
            yield batch
            batch = []
    yield batch
