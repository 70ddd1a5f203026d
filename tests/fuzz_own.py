"""Readers of what the project itself wrote, each with valid files to be damaged."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from conftest import synthetic
from fuzz_foreign import CONFIG
from fuzzing import File, Reader, as_json, as_lines, as_parquet, as_yaml, newest

from evaluation.checksums import sealed_text


def own() -> list[Reader]:
    """All of them."""
    from ladder.corpora.shards import Index, Shard

    digest = "0" * 64
    shard = Shard(file="0.train.bin", tokens=4, documents=1, largest=3, sha256=digest)
    index = Index(source=digest, tokenizer="t", dtype="uint16", train=(shard,), held_out=())
    record = {"train": shard.model_dump(), "held_out": None, "read": 1, "last": True}
    encoding = {"end": 256, "size": 257, "digest": digest, "is_bytes": True}
    shards = {
        "index.json": File(index.model_dump(mode="json")),
        "000000-0000.json": File(record),
        "encoding.json": File(encoding),
        "begun.json": File({"source": digest, "tokenizer": "t"}),
    }
    manifest = {
        "version": 1,
        "state": "finished",
        "role": "ladder",
        "seed": 0,
        "rung": {"name": "a-1xC", "flops": 1e12},
        "versions": [{"torch": "2"}],
        "machines": ["one"],
    }
    progress = {"step": 3, "steps": 9, "loss": 2.5, "tokens_per_second": 1e3, "updated": 1.0}
    line = {"step": 1, "tokens": 100, "loss": 3.0, "tokens_per_second": 1e3}
    holder = {"host": "one", "pid": 1, "command_pid": 1, "command": "ladder", "since": "2026"}
    run = {
        "a-1xC/manifest.json": File(manifest),
        "a-1xC/progress.json": File(progress),
        "a-1xC/metrics.jsonl": File([line, {**line, "step": 2, "tokens": 200}], as_lines),
        "tasks/index.json": File({"version": 1, "tasks": {"next": digest}}),
        "predictions.json": File({"made_from": {"a-1xC/scores.parquet": digest}}),
        "a-1xC/.lock": File(holder),
        "slurm/jobs.json": File({"version": 1, "jobs": {"a-1xC": "12"}}),
    }
    training = {"version": 1, "step": 5, "skipped": 0, "run": {"seed": 0, "name": "a-1xC"}}
    stored = {
        "columns": {
            "item": ["a", "a"],
            "choice": [0, 1],
            "gold": [True, False],
            "log_likelihood": [-1.5, -2.5],
            "unconditional": [-1.0, -2.0],
            "tokens": [1, 1],
            "bytes": [3, 4],
            "characters": [3, 4],
            "space": [1, 1],
        },
        "label": {"task": "q", "digest": "d", "cut": 0, "differ": 0, "unconditional": ""},
    }
    text = {
        "columns": {"nats": [2.5, 3.5], "tokens": [4, 4]},
        "label": {"text": "t", "bytes": 9, "digest": "d"},
    }
    point = {
        "version": 1,
        "corpus": "walks",
        "entropy_rate": 1.5,
        "entropy_se": 0.1,
        "means": [{"name": "alpha", "mean": 0.3, "sd": 0.1, "slices": 3}],
    }
    return [
        Reader("shard indices", shards, _read_shards, {"0.train.bin": bytes(8)}),
        Reader(
            "runs folders",
            run,
            _read_run,
            {"config.yaml": sealed_text(as_yaml(CONFIG).decode()).encode()},
        ),
        Reader("checkpoint metadata", {"step-5/training.json": File(training)}, _read_training),
        Reader("exponents of others", {"other/exponents.json": File(point)}, _read_others),
        Reader(
            "stored scores",
            {
                "q.parquet": File(stored, as_parquet),
                "t.parquet": File(text, as_parquet),
                "model.json": File({"run": "a", "step": 1, "dtype": "float32"}),
            },
            _read_scores,
        ),
        Reader("saved predictors and seals", _saved_fits, _read_fits),
    ]


def _read_shards(folder: Path) -> None:
    from ladder.corpora.shards import open_shards, read_index
    from ladder.corpora.tokenise import _check_same, _records
    from ladder.corpora.tokenizer import read_encoding

    last = newest(folder).name
    if last == "encoding.json":
        read_encoding(folder)
    elif last == "000000-0000.json":
        _records(folder, 0)
    elif last == "begun.json":
        from ladder.corpora.tokenise import read_begun

        _check_same("own", folder, {"source": "0" * 64, "tokenizer": "t"}, read_begun(folder))
    else:
        index = read_index(folder)
        assert index is not None
        train, held_out = open_shards("own", folder, index, 10, "t")
        assert train[:4].tolist() == [0, 0, 0, 0][: len(train)]
        assert len(held_out) == 0


def _read_run(folder: Path) -> None:
    from ladder.locks import read_holder
    from ladder.plan import make_plan
    from ladder.report_provenance import origin_of_runs, provenance
    from ladder.runs import RunsFolder
    from ladder.slurm import _read_jobs
    from ladder.tracker import _lines

    runs = RunsFolder(folder)
    plan = make_plan(_config(folder))
    for status in runs.statuses(plan):
        as_json([status.loss, status.seconds_left, status.error])
    origin = origin_of_runs("a", folder / "config.yaml", {"a-1xC": folder / "a-1xC"})
    seconds = origin.runs[0].seconds
    assert seconds is None or 0 <= seconds < float("inf")
    assert provenance(origin).tables
    holder = read_holder(folder / "a-1xC" / ".lock")
    assert holder is None or holder.is_gone in (True, False)
    assert all(isinstance(line["step"], int) for line in _lines(folder / "a-1xC/metrics.jsonl"))
    assert not runs.is_complete(plan)
    assert all(path.resolve().parent == runs.tasks.resolve() for path in runs.task_files)
    _read_jobs(runs)


@cache
def _config(folder: Path) -> Any:
    from ladder.runs import RunsFolder

    return RunsFolder(folder).load_config()


def _read_training(folder: Path) -> None:
    from ladder.checkpoint import _read_training

    found = _read_training(folder / "step-5", {"seed": 0, "name": "a-1xC"})
    assert found.step == 5


def _read_others(folder: Path) -> None:
    from ladder.grid_exponents import read_others

    points, left_out = read_others(folder / "own")
    assert len(points) + len(left_out) == 1
    assert all(np.isfinite(point.entropy_rate) for point in points)
    assert all(line.isprintable() for line in left_out)


def _read_scores(folder: Path) -> None:
    from evaluation.choices import read_choices
    from evaluation.metrics import measure
    from evaluation.store import Store
    from evaluation.text_scores import read_text_scores, text_row

    Store(folder, {"run": "a", "step": 1, "dtype": "float32"})
    for value in measure(read_choices(folder / "q.parquet")).values():
        assert np.isfinite(value.value)
    assert np.isfinite(text_row(read_text_scores(folder / "t.parquet"))["loss"])


@cache
def _saved_fits() -> dict[str, File]:
    import tempfile

    from predict import TwoStage
    from predict.seal import write_seal
    from predict.task_fit import Target

    table = synthetic(multiples=(1, 5))
    model = TwoStage("published").fit(table)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        model.save(place / "model.json")
        targets = [Target("T1", 7e9, 5e12)]
        told = model.predict_targets(targets)
        write_seal(place / "seal.json", model, table, targets, told, "2026-11-22")
        return {p.name: File(json.loads(p.read_bytes())) for p in place.iterdir()}


def _read_fits(folder: Path) -> None:
    from predict import TwoStage
    from predict.seal import read_seal
    from predict.task_fit import Target

    if newest(folder).name == "seal.json":
        read_seal(folder / "seal.json")
        return
    for prediction in TwoStage.load(folder / "model.json").predict_targets(
        [Target("T0", 6.9e9, 4e12)]
    ):
        assert prediction.predicted is None or 0 <= prediction.predicted <= 1
