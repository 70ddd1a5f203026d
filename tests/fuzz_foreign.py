"""Readers of what others wrote, each with valid files to be damaged: configs, results, texts."""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from conftest import synthetic
from fuzzing import (
    File,
    Reader,
    as_bytes,
    as_csv,
    as_lines,
    as_parquet,
    as_yaml,
    newest,
)

from evaluation.files import is_file_name

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


def foreign() -> list[Reader]:
    """All of them."""
    return [*_configs(), *_tables(), *_others()]


def _configs() -> list[Reader]:
    from ladder.config import parse_config

    text = {**CONFIG, "corpus": TEXT_CORPUS, "cluster": {"time": "1:00:00", "sizes": {"a": {}}}}
    recipes = {**CONFIG, "recipes": {"adamw": {}, "muon": {"optimizer": "muon"}}, "seeds": [0, 1]}
    every = {"walks.yaml": CONFIG, "text.yaml": text, "recipes.yaml": recipes}
    # With every default written out, so that every setting is damaged.
    whole = [parse_config(one, "whole").model_dump(mode="json") for one in (CONFIG, text)]
    documents = {"first.json": File(whole[0]), "second.json": File(whole[1])}
    return [
        Reader("configs", {k: File(v, as_yaml) for k, v in every.items()}, _read_configs),
        Reader("config documents", documents, _read_documents),
    ]


def _read_configs(folder: Path) -> None:
    from ladder.config import load_config, parse_config

    config = load_config(str(newest(folder)))
    assert parse_config(config.model_dump(mode="json"), "again") == config
    _check_plan(config)


def _check_plan(config: Any) -> None:
    from ladder.plan import make_plan

    plan = make_plan(config)
    assert all(run.steps > 0 and 0 < run.flops < float("inf") for run in plan.runs)
    assert all(is_file_name(run.name) for run in plan.runs)
    assert 0 < plan.ladder_flops < float("inf")
    assert all(0 < share < float("inf") for share in plan.share_of_target.values())


def _read_documents(folder: Path) -> None:
    from ladder.config import parse_config

    try:
        document = json.loads(newest(folder).read_bytes())
    except (ValueError, RecursionError):
        return
    if isinstance(document, dict):
        _check_plan(parse_config(document, "name"))


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


def _import_csv(folder: Path) -> None:
    from evaluation.tabular import ColumnMap, TaskColumns, import_csv

    path = newest(folder)
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


def _others() -> list[Reader]:
    lm_eval = {
        f"results_{DATE}.json": File(json.loads((LOGS / f"results_{DATE}.json").read_bytes()))
    }
    for task in ("colours", "last_word"):
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
        "b.txt": File(b"one\n\ntwo \xc3\xa9\n\nthree", as_bytes),
        "c.parquet": File({"columns": {"text": ["a", "b"], "n": [1, 2]}}, as_parquet),
        "d.jsonl.gz": File(gzip.compress(as_lines(documents)), as_bytes),
    }
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


def source_of(**given: Any) -> Any:
    """A source of documents."""
    from ladder.corpora.settings import Source

    return Source.model_validate({"name": "own", **given})


def _read_texts(folder: Path) -> None:
    from ladder.corpora.documents import read_unit, units

    source = source_of(files=[str(newest(folder))], separator="\n\n")
    for unit in units(source):
        for text, share in read_unit(source, unit):
            text.encode()
            assert 0 <= share <= 1


def _read_arrays(folder: Path) -> None:
    from ladder.corpora.shards import open_arrays

    stream = open_arrays("own", [newest(folder)], "uint16", 65_536)
    tokens = stream[: len(stream)]
    assert len(tokens) == len(stream) > 0


def _read_edges(folder: Path) -> None:
    from ladder.corpora.edges import read_edges

    read_edges.cache_clear()
    edges = read_edges(str(newest(folder)), False)
    assert len(edges) > 0
    assert edges.size > max(edges.tails.max(), edges.heads.max())
