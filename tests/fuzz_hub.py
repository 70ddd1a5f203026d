"""Readers of what the hub of Hugging Face gives: rows, answers, models."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stderr
from functools import cache
from pathlib import Path
from typing import Any

from fuzz_foreign import source_of
from fuzzing import File, Reader, as_bytes


def of_the_hub() -> list[Reader]:
    """All of them."""
    rows = [{"text": "one document"}, {"text": "another\none"}]
    return [
        Reader("dataset rows", {"rows.json": File(rows)}, _read_dataset),
        Reader("hub answers", {"answer.json": File({"status": 200})}, _read_hub),
        Reader("saved models", _model_files, _read_model, _model_beside),
    ]


def _read_dataset(folder: Path) -> None:
    """Rows as a dataset of the hub gives them, of any type."""
    from ladder.corpora import documents, hub

    try:
        rows = json.loads((folder / "rows.json").read_bytes())
    except (ValueError, RecursionError):
        return
    known, hub._load = hub._load, lambda wanted: _Rows(rows)
    try:
        source = source_of(dataset={"path": "someone/texts"})
        for unit in documents.units(source):
            for text, _ in documents.read_unit(source, unit):
                text.encode()
    finally:
        hub._load = known


class _Rows:
    """A stream of one shard, as `datasets` gives it."""

    num_shards = 1

    def __init__(self, rows: Any) -> None:
        self.rows = rows

    def shard(self, count: int, index: int) -> Any:
        return self.rows if isinstance(self.rows, list) else [self.rows]


def _read_hub(folder: Path) -> None:
    """Whatever the hub answers, or the client raises, the question has one of two answers."""
    import huggingface_hub

    from evaluation.hub import is_out_of_reach

    content = (folder / "answer.json").read_bytes()

    class Session:
        def head(self, *given: Any, **named: Any) -> Any:
            if content.startswith(b"{"):
                return content
            kinds = (OSError, ValueError, RuntimeError, KeyError, RecursionError, TypeError)
            raise kinds[sum(content) % len(kinds)](content)

    known, huggingface_hub.get_session = huggingface_hub.get_session, Session
    try:
        assert is_out_of_reach("someone/model") in (True, False)
    finally:
        huggingface_hub.get_session = known


@cache
def _saved_model() -> dict[str, bytes]:
    import tempfile

    from tiny_model import saved

    with tempfile.TemporaryDirectory() as folder:
        saved(Path(folder))
        return {p.name: p.read_bytes() for p in Path(folder).iterdir() if p.is_file()}


def _model_files() -> dict[str, File]:
    return {
        name: File(json.loads(content)) if name.endswith(".json") else File(content, as_bytes)
        for name, content in _saved_model().items()
        if name in ("config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors")
    }


def _model_beside() -> dict[str, bytes]:
    return {k: v for k, v in _saved_model().items() if k not in _model_files()}


def _read_model(folder: Path) -> None:
    from evaluation.models import load_model

    with redirect_stderr(io.StringIO()):
        load_model(str(folder))
