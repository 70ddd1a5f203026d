"""Datasets of Hugging Face's `datasets`, which is imported only where a source asks for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from evaluation.files import InputError
from ladder.corpora.settings import Dataset

UNIT_ROWS = 50_000
"""Rows that are a unit of a dataset that lies on the disk."""


def dataset_cuts(wanted: Dataset) -> list[tuple[int, int]]:
    """Parts that can be read apart: rows from and to, or shards of a stream and how many."""
    loaded = _load(wanted)
    if hasattr(loaded, "num_rows"):
        rows = min(loaded.num_rows, wanted.documents or loaded.num_rows)
        cuts = range(0, rows, UNIT_ROWS)
        return [(cut, min(cut + UNIT_ROWS, rows)) for cut in cuts]
    if wanted.documents:
        return [(0, wanted.documents)]
    return [(shard, loaded.num_shards) for shard in range(loaded.num_shards)]


def dataset_rows(
    wanted: Dataset, begin: int, end: int
) -> Iterator[tuple[int, dict[str, Any], float]]:
    """Number of a row, the row, and the share of the part that is read with it."""
    loaded = _load(wanted)
    if hasattr(loaded, "num_rows"):
        loaded, rows = loaded.select(range(begin, end)), end - begin
    elif wanted.documents:
        loaded, rows = loaded.take(wanted.documents), wanted.documents
    else:
        # How many rows a shard of a stream has is known when its end is there.
        loaded, begin, rows = loaded.shard(end, begin), 0, 0
    for number, row in enumerate(loaded, 1):
        yield begin + number, row, number / rows if rows else 0.0


def _load(wanted: Dataset) -> Any:
    what = f"corpus.sources, dataset {wanted.path}"
    try:
        import datasets
    except ImportError:
        raise InputError(f"{what}: needs `datasets`; pip install datasets") from None
    folder = Path(wanted.path)
    try:
        if (folder / "state.json").is_file():
            return datasets.load_from_disk(wanted.path)
        if (folder / "dataset_dict.json").is_file():
            return datasets.load_from_disk(wanted.path)[wanted.split]
        return datasets.load_dataset(
            wanted.path,
            wanted.subset,
            split=wanted.split,
            revision=wanted.revision,
            streaming=wanted.streaming,
        )
    except Exception as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{what}: cannot be loaded ({reason})") from error
