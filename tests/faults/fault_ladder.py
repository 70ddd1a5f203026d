"""The tiny ladder that faults are done to: its folders, its commands, what must be the same."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import yaml
from fault_harness import Done, Verdicts, difference, judged, run

RUNG = "b-2xC"
SIZE = {"layers": 1, "heads": 1}
TINY = {
    "name": "tiny",
    "corpus": {
        "kind": "walks",
        "nodes": 32,
        "validation_walks": 16,
        "tasks": [
            {"name": "next", "choices": 4, "answer_rank": [1, 4], "ratio": [2, 50], "items": 20}
        ],
    },
    "model": {
        "sequence_length": 16,
        "sizes": {
            "a": {**SIZE, "width": 4, "hidden": 8},
            "b": {**SIZE, "width": 6, "hidden": 12},
        },
    },
    "ladder": {"sizes": ["a", "b"], "multiples": [1, 2]},
    "targets": [{"size": "b", "multiple": 8}],
    "recipe": {"batch_divisor": 4},
    "evaluation": {"at": [0.4, 0.7]},
    "checkpoints": {"every": 5},
    "predict": {"method": "own"},
}
MADE = ("scores.parquet", "checkpoints/*/*.safetensors")
KEPT = (*MADE, "choices/step-*/*.parquet")
"""What must be the same. Choices of steps before the one that a run goes on from are not read:
where they are damaged, whoever reads them is told."""


class Campaign:
    """Everything that is done in one folder, from one seed."""

    def __init__(self, folder: Path, seed: int, small: bool) -> None:
        self.folder, self.draw, self.small = folder, random.Random(seed), small
        self.verdicts = Verdicts()
        self.config = folder / "tiny.yaml"
        self.config.write_text(yaml.safe_dump(TINY))
        self.number = 0
        self.extra = folder / "extra.jsonl"
        warm = folder / "warm"
        done = self.train(warm)
        # In this process too: what it imports, forks need not.
        from ladder.cli import main

        assert main([str(w) for w in self.training(folder / "warm2")]) == 0
        assert done.code == 0, done.err
        self.whole = warm
        self.known = self.state(warm)
        items = (warm / "tasks" / "next.jsonl").read_text().splitlines()
        self.extra.write_text("\n".join(items[:8]) + "\n")

    def training(self, path: Path, *more: object) -> list[object]:
        return ["train", self.config, "--engine", "here", "--rung", RUNG, "--runs", path, *more]

    def train(self, path: Path) -> Done:
        return run(self.training(path))

    def fresh(self, name: str = "runs", of: Path | None = None) -> Path:
        """A folder of its own, perhaps a copy."""
        self.number += 1
        path = self.folder / f"{self.number}" / name
        path.parent.mkdir()
        if of is not None:
            shutil.copytree(of, path)
        return path

    def state(self, path: Path, *patterns: str) -> dict[str, bytes]:
        """What must be the same byte for byte."""
        rung = path / RUNG
        found = {str(p.relative_to(rung)): p for q in patterns or KEPT for p in rung.glob(q)}
        # Of checkpoints the last; a damaged one is kept beside, and the one before may be another.
        saved = [n for n in found if n.startswith("checkpoints/step-")]
        last = max(map(_step, saved), default=0)
        wanted = {n for n in saved if _step(n) == last}
        return {
            n: _content(p)
            for n, p in found.items()
            if n in wanted or not n.startswith("checkpoints/")
        }

    def many(self, number: int) -> range:
        return range(-(-number // 12) if self.small else number)

    def judge(
        self, stage: str, fault: str, path: Path, note: str = "", kept: Sequence[str] = KEPT
    ) -> None:
        known = self.state(self.whole, *kept)
        judged(
            self.verdicts,
            stage,
            fault,
            lambda: self.train(path),
            lambda: difference(self.state(path, *kept), known, path),
            path,
            note,
        )
        shutil.rmtree(path.parent, ignore_errors=True)


def _content(path: Path) -> bytes:
    """A file's bytes; of weights the tensors', which are not always in the same order."""
    if path.suffix != ".safetensors":
        return path.read_bytes()
    from safetensors.numpy import load_file

    tensors = load_file(path)
    return b"".join(name.encode() + tensors[name].tobytes() for name in sorted(tensors))


def _step(name: str) -> int:
    return int(Path(name).parent.name.removeprefix("step-") or 0)


def kind_of(file: Path) -> str:
    """What a file is, whatever it is called."""
    if "checkpoints" in file.parts:
        return "checkpoint"
    if ".bin" in file.suffixes:
        return "shard"
    if any(part.startswith("tokenizer") for part in file.parts):
        return "tokenizer"
    return {".parquet": "Parquet", ".jsonl": "JSONL", ".json": "JSON", ".yaml": "YAML"}.get(
        file.suffix, file.suffix.removeprefix(".") or file.name
    )


def send(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)
