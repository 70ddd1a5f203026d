"""Language-modelling loss on a text file or an array of tokens: nats per token, bits per byte."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from evaluation.bounds import read_array
from evaluation.files import InputError, whole_digest
from evaluation.ranks import ONE, Ranks
from evaluation.rows import is_out_of_memory, kept_logits, most_logits
from evaluation.text_scores import TextScores

if TYPE_CHECKING:
    from evaluation.models import LoadedModel

WINDOW = 2048
"""Most tokens that are read at once, if the model takes so many."""

CHUNK = 1_000_000
"""Characters that are tokenised at once, to the end of the line."""

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


@dataclass(frozen=True)
class _Stream:
    ids: np.ndarray[Any, np.dtype[np.int64]]
    """Tokens, the first of them only read, never predicted."""
    bytes: int | None


def score_text(
    loaded: LoadedModel,
    path: Path,
    progress: Callable[[float], None] = lambda share: None,
    ranks: Ranks = ONE,
) -> TextScores:
    """The loss of every token of a file, each behind what its window holds before it.

    Windows do not overlap but for the token that the next one begins with. A text stands behind
    BOS, else EOS; where the tokenizer has neither, and in an array, the first token is read only.
    Raises InputError for what cannot be read or is beyond the model's vocabulary.
    """
    stream = _read(loaded, path)
    if len(stream.ids) < 2:
        raise InputError(f"{path}: holds too little text to predict a token")
    if not 0 <= stream.ids.min() <= stream.ids.max() < loaded.vocabulary:
        raise InputError(
            f"{path}: holds tokens from {stream.ids.min()} to {stream.ids.max()}, beyond the "
            f"model's vocabulary of {loaded.vocabulary}; it was made by another tokenizer, or as "
            "another type of integers"
        )
    window = min(loaded.window or WINDOW, WINDOW)
    starts = range(0, len(stream.ids) - 1, window)
    batch = max(1, most_logits(loaded.model) // window)
    passes = [starts[n : n + batch] for n in range(0, len(starts), batch)]
    nats = torch.zeros(len(starts), dtype=torch.float64)
    with torch.inference_mode():
        for index, begins in list(enumerate(passes))[ranks.rank :: ranks.world]:
            found = _nats(loaded, stream.ids, begins, window)
            nats[index * batch : index * batch + len(begins)] = found
            progress((index + 1) / len(passes))
    values = ranks.add(nats).tolist()
    if not all(map(math.isfinite, values)):
        raise InputError(f"{path}: the model gives no finite probability; try --dtype float32")
    counts = tuple(min(window, len(stream.ids) - 1 - start) for start in starts)
    return TextScores(path.stem, tuple(values), counts, stream.bytes, whole_digest(path))


def _nats(
    loaded: LoadedModel, ids: Any, begins: Sequence[int], window: int, most: int | None = None
) -> torch.Tensor:
    """Minus the log-probability of each window, (B,); the last one may be short.

    What does not fit into memory is halved: first the windows, then the positions of one pass.
    """
    step = max(1, (most or most_logits(loaded.model)) // len(begins))
    try:
        return _pass(loaded, ids, begins, window, step)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        if len(begins) == 1 and step == 1:
            raise InputError(
                f"not enough memory for {window} tokens; use a smaller model, --dtype bfloat16 or "
                "another --device"
            ) from error
    if len(begins) == 1:
        return _nats(loaded, ids, begins, window, min(step, window) // 2 or 1)
    middle = len(begins) // 2
    halves = (begins[:middle], begins[middle:])
    return torch.cat([_nats(loaded, ids, half, window, most) for half in halves])


def _pass(
    loaded: LoadedModel, ids: Any, begins: Sequence[int], window: int, step: int
) -> torch.Tensor:
    """Minus the log-probability of each window, (B,), `step` positions at a time."""
    model = loaded.model
    rows = [ids[begin : begin + window + 1] for begin in begins]
    longest = max(map(len, rows))
    tokens = np.zeros((len(rows), longest), dtype=np.int64)  # (B, T + 1)
    known = np.zeros((len(rows), longest), dtype=bool)
    for index, row in enumerate(rows):
        tokens[index, : len(row)], known[index, 1 : len(row)] = row, True
    inputs = torch.from_numpy(tokens).to(model.device)
    scored = torch.from_numpy(known).to(model.device)
    total = torch.zeros(len(rows), dtype=torch.float64)
    for begin in range(0, longest - 1, step):
        keep = torch.arange(begin, min(begin + step, longest - 1), device=model.device)  # (K,)
        logits = kept_logits(model, keep, input_ids=inputs[:, :-1]).logits.float()  # (B, K, V)
        nats = torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), inputs[:, keep + 1].flatten(), reduction="none"
        ).view(len(rows), -1)
        total += torch.where(scored[:, keep + 1], nats, 0.0).cpu().double().sum(dim=1)
    return total


def _read(loaded: LoadedModel, path: Path) -> _Stream:
    if path.suffix == ".txt":
        return _read_text(loaded, path)
    try:
        if path.suffix == ".npy":
            array = read_array(path)
        else:
            kind = np.dtype(np.uint16 if loaded.vocabulary <= 2**16 else np.uint32)
            if path.stat().st_size % kind.itemsize:
                raise InputError(f"{path}: is no whole number of {kind} tokens")
            array = np.memmap(path, dtype=kind, mode="r")
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: not readable as an array of tokens ({error})") from error
    if array.ndim != 1 or not np.issubdtype(array.dtype, np.integer):
        raise InputError(f"{path}: must be a one-dimensional array of integers")
    ids = array.astype(np.int64)
    known = len(ids) and 0 <= ids.min() <= ids.max() < len(loaded.tokenizer)
    return _Stream(ids, _decoded_bytes(loaded, ids[1:].tolist()) if known else None)


def _read_text(loaded: LoadedModel, path: Path) -> _Stream:
    try:
        text = path.read_bytes().decode("utf-8")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 at byte {error.start}") from error
    encoder = loaded.encoder
    ids = [token for chunk in encoder.plain(_chunks(text)) for token in chunk]
    size: int | None = len(text.encode("utf-8"))
    if encoder.start is not None:
        ids.insert(0, encoder.start)
    elif ids:
        first = _decoded_bytes(loaded, ids[:1])
        size = None if first is None or size is None else size - first
    return _Stream(np.array(ids, dtype=np.int64), size)


def _chunks(text: str) -> list[str]:
    chunks, begin = [], 0
    while begin < len(text):
        end = text.find("\n", begin + CHUNK) + 1 or len(text)
        chunks.append(text[begin:end])
        begin = end
    return chunks


def _decoded_bytes(loaded: LoadedModel, ids: list[int]) -> int | None:
    """Bytes of the tokens' text, those of special tokens not counted.

    Tokens that break a character decode to replacement characters of another length.
    """
    text = loaded.tokenizer.decode(
        ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
    )
    return None if REPLACEMENT in text else len(text.encode("utf-8"))
