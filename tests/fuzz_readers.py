"""Every reader of foreign data with valid files for it, to be damaged and read."""

from __future__ import annotations

import gzip
import io
import json
import os
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from conftest import synthetic
from fuzzing import File, as_bytes, as_csv, as_json, as_lines, as_parquet, as_yaml

from evaluation.files import InputError

LOGS = Path(__file__).parent / "data" / "lm_eval" / "190M-1xC__step300"
DATE = "2026-11-22T10-47-40.056128"
CONFIG = {
    "name": "tiny",
    "corpus": {
        "kind": "walks",
        "nodes": 32,
        "tasks": [{"name": "next", "choices": 4, "answer_rank": [1, 4], "ratio": [2, 50]}],
    },
    "model": {
        "sequence_length": 16,
        "sizes": {"a": {"layers": 1, "heads": 1, "width": 4, "hidden": 8}},
    },
    "ladder": {"sizes": ["a"], "multiples": [1, 2]},
    "targets": [{"size": "a", "multiple": 4, "train": True}],
    "recipe": {"batch_divisor": 20},
    "evaluation": {"at": [0.5]},
}
TEXT_CORPUS = {
    "kind": "text",
    "tokenizer": {"train": 300},
    "sources": [{"name": "own", "files": ["*.jsonl"], "weight": 2.0}],
    "continuations": [{"name": "goes_on"}],
}


@dataclass(frozen=True)
class Reader:
    """A reader, its valid files by name, and how it is called on the folder they lie in."""

    name: str
    files: Mapping[str, File]
    """Those to be damaged, one in each case."""
    read: Callable[[Path], object]
    """Reads, and asserts that what was read is valid."""
    beside: Mapping[str, bytes] | None = None
    """Files that stay as they are."""


def readers() -> dict[str, Reader]:
    """All of them by name."""
    return {reader.name: reader for reader in (*_configs(), *_tables(), *_foreign(), *_ours())}


def _configs() -> list[Reader]:
    text = {**CONFIG, "corpus": TEXT_CORPUS, "cluster": {"time": "1:00:00", "sizes": {"a": {}}}}
    recipes = {**CONFIG, "recipes": {"adamw": {}, "muon": {"optimizer": "muon"}}, "seeds": [0, 1]}
    every = {"walks.yaml": CONFIG, "text.yaml": text, "recipes.yaml": recipes}
    shards = {"name": File([CONFIG, text, recipes], as_json)}
    return [
        Reader("configs", {k: File(v, as_yaml) for k, v in every.items()}, _read_configs),
        Reader("config documents", shards, _read_documents),
    ]


def _read_configs(folder: Path) -> None:
    for path in sorted(folder.glob("*.yaml"), key=lambda p: -p.stat().st_mtime_ns)[:1]:
        _check_config(path)


def _check_config(path: Path) -> None:
    from ladder.config import dump_config, load_config, parse_config
    from ladder.plan import make_plan

    config = load_config(str(path))
    assert parse_config(yaml.safe_load(dump_config(config)), "again") == config
    plan = make_plan(config)
    assert all(run.steps >= 1 for run in plan.runs)
    as_json([run.describe() for run in plan.runs])


def _read_documents(folder: Path) -> None:
    from ladder.config import parse_config

    try:
        documents = json.loads((folder / "name").read_bytes())
    except (ValueError, RecursionError):
        return
    refused = None
    for document in documents if isinstance(documents, list) else ():
        if isinstance(document, dict):
            try:
                parse_config(document, "name")
            except InputError as error:
                refused = error
    if refused:
        raise refused


def _tables() -> list[Reader]:
    table = synthetic(sizes=(1.9e8, 3.7e8), multiples=(1,), targets=())
    table["seed"], table["soft"] = 1, 0.25
    rows = [list(table.columns), *(list(map(str, row)) for row in table.to_numpy().tolist())]
    columns = {"columns": {name: table[name].tolist() for name in table.columns}}
    wide = [
        ["model", "N", "D", "it", "bpb", "acc"],
        *[["190M", "1.9e8", "3.8B", str(n), f"1.{n}", f"{20 + n}%"] for n in range(1, 4)],
    ]
    chart = [["Step", "a-1xC - loss", "a-1xC - loss__MIN"], ["1", "2.5", "2"], ["2", "2.25", ""]]
    other = [["_step", "a-1xC - acc"], ["1", "0.25"], ["2", "0.5"]]
    log = [
        ["_step", "throughput/total_tokens", "batch_size_in_tokens", "eval/c4/CrossEntropyLoss"],
        *[[str(n), str(n * 1000), "1000", f"3.{n}"] for n in range(1, 4)],
    ]
    for row, cell in zip(log, ("eval/downstream_bpb/arc_easy_rc_5shot_bpb", *"123"), strict=True):
        row.append(cell)
    for row, cell in zip(log, ("eval/downstream/arc_easy_rc_5shot_len_norm", *"010"), strict=True):
        row.append(cell)
    final = {"190M": {"paths": ["x/190M-1xC.csv"], "n": 190_000_000, "flops": 1.9e9}}
    return [
        Reader("observations, CSV", {"o.csv": File(rows, as_csv())}, _read_observations),
        Reader("observations, Parquet", {"o.parquet": File(columns, as_parquet)}, _read_parquet),
        Reader(
            "import csv",
            {
                "wide.csv": File(wide, as_csv()),
                "wide.tsv": File(wide, as_csv("\t")),
                "long.csv": File(rows, as_csv(";")),
            },
            _import_csv,
        ),
        Reader(
            "import wandb",
            {"a.csv": File(chart, as_csv()), "b.csv": File(other, as_csv())},
            _import_wandb,
        ),
        Reader(
            "import olmo-ladder",
            {"190M-1xC.csv": File(log, as_csv()), "final.json": File(final)},
            _import_olmo,
        ),
    ]


def _check_table(table: Any) -> None:
    from evaluation.records import KEY

    numbers = table[["params", "tokens", "loss"]].to_numpy(dtype=float)
    assert len(numbers) > 0
    assert np.isfinite(numbers).all()
    assert (numbers >= 0).all()
    assert not table.duplicated(list(KEY)).any()
    if "accuracy" in table:
        shares = table["accuracy"].to_numpy(dtype=float)
        assert (np.isnan(shares) | ((shares >= 0) & (shares <= 1))).all()


def _read_observations(folder: Path) -> None:
    from evaluation.records import read_observations

    _check_table(read_observations(folder / "o.csv"))


def _read_parquet(folder: Path) -> None:
    from evaluation.records import read_observations

    _check_table(read_observations(folder / "o.parquet"))


def _newest(folder: Path) -> Path:
    return max(folder.iterdir(), key=lambda path: path.stat().st_mtime_ns)


def _import_csv(folder: Path) -> None:
    from evaluation.tabular import ColumnMap, TaskColumns, import_csv

    path = _newest(folder)
    if path.stem == "long":
        _check_table(import_csv(path, ColumnMap()))
        return
    columns = {"run": "model", "params": "N", "tokens": "D", "step": "it"}
    task = TaskColumns("quiz", "bpb", "acc")
    mapping = ColumnMap(columns, {"loss_unit": "bits/byte"}, (task,), percent=True)
    _check_table(import_csv(path, mapping))


def _import_wandb(folder: Path) -> None:
    from evaluation.tabular import ColumnMap, TaskColumns, import_wandb

    values, runs = {"loss_unit": "bits/byte"}, {"a-1xC": (1e6, 2e7)}
    mapping = ColumnMap(values=values, tasks=(TaskColumns("quiz", "loss", "acc"),), runs=runs)
    _check_table(import_wandb(folder, mapping))


def _import_olmo(folder: Path) -> None:
    from evaluation.sources import import_olmo_ladder

    _check_table(import_olmo_ladder(folder).observations)


def _foreign() -> list[Reader]:
    lm_eval = {
        f"results_{DATE}.json": File(json.loads((LOGS / f"results_{DATE}.json").read_bytes()))
    }
    for task in ("colours", "last_word", "pronouns"):
        name = f"samples_{task}_{DATE}.jsonl"
        lines = (LOGS / name).read_bytes().splitlines()
        lm_eval[name] = File([json.loads(line) for line in lines], as_lines)
    items = [
        {"id": "a", "context": "2 + 2 is", "choices": [" 4", " 5"], "gold": 0},
        {"id": "b", "context": ["x", "y"], "choices": [" same", " same"], "gold": 1},
    ]
    prompt = {
        "data": "rows.csv",
        "context": "Question: {question}\nAnswer:",
        "choices": [" {one}", " {two}"],
        "gold": "right",
        "gold_as": "letter",
        "examples": "solved.jsonl",
        "shots": 1,
        "id": "name",
    }
    rows = [["name", "question", "one", "two", "right"], ["1", "who?", "me", "you", "A"]]
    solved = [{"name": "2", "question": "why?", "one": "so", "two": "no", "right": "b"}]
    documents = [{"text": "one document"}, {"text": "another\none"}]
    texts = {
        "a.jsonl": File(documents, as_lines),
        "b.txt": File(b"one\n\ntwo \xc3\xa9\n\nthree"),
        "c.parquet": File({"columns": {"text": ["a", "b"], "n": [1, 2]}}, as_parquet),
        "d.jsonl.gz": File(gzip.compress(as_lines(documents)), as_bytes),
    }
    texts["b.txt"] = File(texts["b.txt"].document, as_bytes)
    array = io.BytesIO()
    np.save(array, np.arange(64, dtype=np.uint16))
    tokens = {
        "a.npy": File(array.getvalue(), as_bytes),
        "b.bin": File(bytes(range(128)), as_bytes),
    }
    edges = {"e.txt": File([["a", "b", "1"], ["b", "c", "2"], ["c", "a", "0.5"]], as_csv(" "))}
    graphml = (
        b'<?xml version="1.0"?><graphml xmlns="http://graphml.graphdrawing.org/xmlns"><graph '
        b'edgedefault="undirected"><node id="a"/><node id="b"/><edge source="a" target="b"/>'
        b"</graph></graphml>"
    )
    edges["g.graphml"] = File(graphml, as_bytes)
    return [
        Reader("import lm-eval", lm_eval, _import_lm_eval),
        Reader("tasks, JSONL", {"quiz.jsonl": File(items, as_lines)}, _read_task),
        Reader(
            "tasks, YAML and rows",
            {
                "own.yaml": File(prompt, as_yaml),
                "rows.csv": File(rows, as_csv()),
                "solved.jsonl": File(solved, as_lines),
            },
            _read_prompted,
        ),
        Reader("documents", texts, _read_texts),
        Reader("arrays of tokens", tokens, _read_arrays),
        Reader("edges", edges, _read_edges),
        Reader("dataset rows", {"rows.json": File(documents)}, _read_dataset),
        Reader("hub answers", {"answer.json": File({"status": 200})}, _read_hub),
        Reader("saved models", _model_files(), _read_model, _model_beside()),
    ]


def _import_lm_eval(folder: Path) -> None:
    from evaluation.lm_eval import import_lm_eval

    _check_table(import_lm_eval(folder, {"190M-1xC": (190e6, 3.8e9)}).observations)


def _check_task(task: Any) -> None:
    from evaluation.tasks import checked_task

    assert task.chance is None or 0 < task.chance <= 0.5
    assert len(checked_task(task, "again").digest()) == 64


def _read_task(folder: Path) -> None:
    from evaluation.tasks import read_task

    _check_task(read_task(folder / "quiz.jsonl"))


def _read_prompted(folder: Path) -> None:
    from evaluation.prompts import read_prompted

    _check_task(read_prompted(folder / "own.yaml"))


def _source(**given: Any) -> Any:
    from ladder.corpora.settings import Source

    return Source.model_validate({"name": "own", **given})


def _read_texts(folder: Path) -> None:
    from ladder.corpora.documents import read_unit, units

    source = _source(files=[str(_newest(folder))], separator="\n\n")
    for unit in units(source):
        for text, share in read_unit(source, unit):
            text.encode()
            assert 0 <= share <= 1


def _read_arrays(folder: Path) -> None:
    from ladder.corpora.shards import open_arrays

    stream = open_arrays("own", [_newest(folder)], "uint16", 65_536)
    tokens = stream[: len(stream)]
    assert len(tokens) == len(stream) > 0


def _read_edges(folder: Path) -> None:
    from ladder.corpora.edges import read_edges

    read_edges.cache_clear()
    edges = read_edges(str(_newest(folder)), False)
    assert len(edges) > 0
    assert edges.size > max(edges.tails.max(), edges.heads.max())


def _read_dataset(folder: Path) -> None:
    """Rows as a dataset of the hub gives them, of any type."""
    from ladder.corpora import documents, hub

    try:
        rows = json.loads((folder / "rows.json").read_bytes())
    except (ValueError, RecursionError):
        return
    known, hub._load = hub._load, lambda wanted: _Rows(rows)
    try:
        source = _source(dataset={"path": "someone/texts"})
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


def _ours() -> list[Reader]:
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
    run = {
        "a-1xC/manifest.json": File(manifest),
        "a-1xC/progress.json": File(progress),
        "a-1xC/metrics.jsonl": File([line, {**line, "step": 2, "tokens": 200}], as_lines),
        "tasks/index.json": File(["next"]),
        "predictions.json": File({"made_from": {"a-1xC/scores.parquet": digest}}),
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
        Reader("runs folders", run, _read_run, {"config.yaml": as_yaml(CONFIG)}),
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
        Reader("saved predictors and seals", _saved_fits(), _read_fits),
    ]


def _read_shards(folder: Path) -> None:
    from ladder.corpora.shards import open_shards, read_index
    from ladder.corpora.tokenise import _check_same, _records
    from ladder.corpora.tokenizer import read_encoding

    newest = _newest(folder).name
    if newest == "encoding.json":
        read_encoding(folder)
    elif newest == "000000-0000.json":
        _records(folder, 0)
    elif newest == "begun.json":
        from ladder.corpora.tokenise import read_begun

        _check_same("own", folder, {"source": "0" * 64, "tokenizer": "t"}, read_begun(folder))
    else:
        index = read_index(folder)
        assert index is not None
        train, held_out = open_shards("own", folder, index, 10, "t")
        assert train[:4].tolist() == [0, 0, 0, 0][: len(train)]
        assert len(held_out) == 0


def _read_run(folder: Path) -> None:
    from ladder.plan import make_plan
    from ladder.report_provenance import _record
    from ladder.runs import RunsFolder
    from ladder.slurm import _read_jobs
    from ladder.tracker import _lines

    runs = RunsFolder(folder)
    plan = make_plan(_config(folder))
    for status in runs.statuses(plan):
        as_json([status.loss, status.seconds_left, status.error])
    record = _record("a-1xC", folder / "a-1xC")
    assert record.seconds is None or 0 <= record.seconds < float("inf")
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

    if _newest(folder).name == "seal.json":
        read_seal(folder / "seal.json")
        return
    for prediction in TwoStage.load(folder / "model.json").predict_targets(
        [Target("T0", 6.9e9, 4e12)]
    ):
        assert prediction.predicted is None or 0 <= prediction.predicted <= 1


def place(folder: Path, reader: Reader) -> None:
    """Write all of a reader's valid files."""
    whole = {k: f.bytes() for k, f in reader.files.items()} | dict(reader.beside or {})
    for name, content in whole.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        os.utime(path, ns=(0, 0))
