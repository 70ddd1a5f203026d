"""What a model gave a text, window by window: nats per token, bits per byte, stored; no torch."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from evaluation.bounds import check_parquet_size
from evaluation.checksums import check_parquet, seal_parquet
from evaluation.choices import LABEL, UNREADABLE
from evaluation.files import InputError, atomic_write, parse_json

SUFFIXES = (".txt", ".npy", ".bin")
"""A text in UTF-8; a one-dimensional numpy array; raw uint16, or uint32 for more than 65536
tokens, as nanoGPT and OLMo write them."""


@dataclass(frozen=True)
class TextScores:
    """What a model gave a text, window by window."""

    name: str
    nats: tuple[float, ...]
    """Minus the summed log-probability of each window's tokens."""
    tokens: tuple[int, ...]
    """Tokens of each window that were predicted."""
    bytes: int | None
    """UTF-8 bytes of all those tokens; None where they are not whole characters."""
    digest: str


def text_row(scores: TextScores) -> dict[str, Any]:
    """A row of results: nats per token, and bits per byte where the bytes are known.

    The standard error is that of a ratio of means over windows.
    """
    nats, tokens = np.array(scores.nats), np.array(scores.tokens, dtype=float)
    loss = float(nats.sum() / tokens.sum())
    se: float | None = None
    if len(nats) > 1:
        residual = (nats - loss * tokens) / tokens.mean()
        se = float(np.std(residual, ddof=1) / math.sqrt(len(nats)))
    rate = None if not scores.bytes else tokens.sum() / scores.bytes / math.log(2)
    return {
        "task": scores.name,
        "loss": loss,
        "loss_unit": "nats/token",
        "loss_se": se,
        "accuracy": None,
        "accuracy_metric": None,
        "accuracy_se": None,
        "chance": None,
        "instances": int(tokens.sum()),
        "bpb": None if rate is None else loss * rate,
        "bpb_se": None if rate is None or se is None else se * rate,
    }


def write_text_scores(scores: TextScores, path: Path) -> None:
    """Write the record as Parquet, a row a window, atomically."""
    label = {"text": scores.name, "bytes": scores.bytes, "digest": scores.digest}
    table = pa.table({"nats": scores.nats, "tokens": scores.tokens})
    table = table.replace_schema_metadata({LABEL: json.dumps(label)})

    def write(temporary: Path) -> None:
        pq.write_table(table, temporary)
        seal_parquet(temporary)

    atomic_write(path, write)


def read_text_scores(path: Path) -> TextScores:
    """Read what `write_text_scores` wrote; raises InputError where it did not."""
    try:
        check_parquet_size(path)
        check_parquet(path)
        table = pq.read_table(path)
        label = parse_json((table.schema.metadata or {})[LABEL])
        columns = table.to_pydict()
        nats, tokens = tuple(map(float, columns["nats"])), tuple(map(int, columns["tokens"]))
        if not nats or not all(map(math.isfinite, nats)) or min(tokens) < 1:
            raise ValueError("its nats are not finite, or a window has no tokens")
        bytes = None if label["bytes"] is None else int(label["bytes"])
        return TextScores(str(label["text"]), nats, tokens, bytes, str(label["digest"]))
    except UNREADABLE as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{path}: holds no scores of a text ({reason}); remove it") from error
