"""All that a folder of runs holds is read against its checksums, and what differs is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import synthetic

from evaluation.checksums import CHECKSUMS, write_checksums
from evaluation.records import write_observations
from ladder import doctor
from ladder.config import load_config
from ladder.corpora.shards import Index, write_index, write_shard
from ladder.runs import RunsFolder
from ladder.verify import verify_runs

FILES = {
    "config.yaml": "config.yaml",
    "tasks/index.json": "tasks/index.json",
    "corpus/web/index.json": "corpus/web",
    "corpus/web/0.train.bin": "corpus/web",
    "a-1xC/scores.parquet": "a-1xC/scores.parquet",
    "a-1xC/checkpoints/step-5/weights": "a-1xC/checkpoints/step-5",
    f"a-1xC/checkpoints/step-5/{CHECKSUMS}": "a-1xC/checkpoints/step-5",
}
"""A file that is damaged, and what the line about it names."""


@pytest.fixture
def runs(tiny_config: Path, tmp_path: Path) -> Path:
    """A runs folder with one of everything that has a checksum."""
    path = tmp_path / "runs"
    RunsFolder(path).prepare(load_config(str(tiny_config)))
    shards, checkpoint = path / "corpus" / "web", path / "a-1xC" / "checkpoints" / "step-5"
    shards.mkdir(parents=True)
    shard = write_shard(shards, "0.train.bin", [np.arange(9, dtype=np.uint16)])
    assert shard is not None
    made = Index(source="s", tokenizer="t", dtype="uint16", train=(shard,), held_out=())
    write_index(shards, made)
    checkpoint.mkdir(parents=True)
    (checkpoint / "weights").write_bytes(bytes(range(99)))
    write_checksums(checkpoint)
    write_observations(synthetic(), path / "a-1xC" / "scores.parquet")
    (path / "foreign.json").write_text('{"has": "no checksum"}')
    (path / "notes.txt").write_text("of nobody's")
    return path


def test_what_was_written_is_whole(runs: Path) -> None:
    found = verify_runs(runs)
    assert found.problems == ()
    assert found.files == 6


@pytest.mark.parametrize("file", FILES)
def test_a_bit_that_differs_is_found_and_its_place_named(file: str, runs: Path) -> None:
    content = bytearray((runs / file).read_bytes())
    content[len(content) // 2] ^= 1
    (runs / file).write_bytes(content)
    (problem,) = verify_runs(runs).problems
    assert str(runs / FILES[file]) in problem
    assert "\n" not in problem


def test_doctor_tells_what_verifying_found(runs: Path) -> None:
    assert doctor._written(runs).state == "ok"
    (runs / "a-1xC" / "checkpoints" / "step-5" / "weights").unlink()
    found = doctor._written(runs)
    assert found.state == "broken"
    assert "step-5" in found.found
    assert doctor._written(runs / "elsewhere").state == "absent"
