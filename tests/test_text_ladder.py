"""The ladder on real text, configs/text.yaml: what it says holds, and a small one runs whole."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from evaluation.files import read_json
from evaluation.records import read_observations
from evaluation.tasks import read_task
from ladder.config import load_config
from ladder.corpora.documents import find
from ladder.corpora.settings import TextCorpus
from ladder.plan import make_plan

SMALL = (
    "corpus.sources=[{name: stdlib, files: ['{stdlib}/[a-f]*.py'], format: txt,"
    ' separator: "\\n\\n\\n", repeat: 2}]',
    "corpus.tokenizer={train: 320}",
    "corpus.validation_tokens=8000",
    "corpus.continuations=[{name: continuation, items: 60, context: 80, length: 32}]",
    "model.sizes={S: {layers: 1, width: 8, heads: 1, hidden: 16},"
    " M: {layers: 1, width: 16, heads: 1, hidden: 32}, L: {layers: 1, width: 24, heads: 1,"
    " hidden: 64}}",
    "ladder.sizes=[S, M]",
    "ladder.multiples=[1, 3]",
    "targets=[{size: L, multiple: 2, train: true}]",
    "recipe.batch_divisor=60",
)
"""A ladder of half a minute, with a tokenizer of its own."""


def test_every_size_is_named_by_its_params_and_there_is_text_enough() -> None:
    config = load_config("text")
    plan = make_plan(config)
    for run in plan.runs:
        assert abs(run.params - 1000 * int(run.size.removesuffix("K"))) < 1000
    assert isinstance(config.corpus, TextCorpus)
    (source,) = config.corpus.sources
    paths = find(source.files, "sources")
    size = sum(path.stat().st_size for path in paths)
    assert max(run.tokens for run in plan.runs) < source.repeat * 0.9 * size
    assert not [path for path in paths if "site-packages" in path.parts]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("text")
    sets = [word for change in SMALL for word in ("--set", change)]
    command = [sys.executable, "-m", "ladder.cli", "run", "text", "--workers", "1", *sets]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "training a tokenizer of 320 tokens" in done.stderr
    return folder / "runs" / "text"


def test_the_held_out_loss_falls_with_size_and_tokens(runs: Path) -> None:
    table = read_observations(runs / "observations.parquet")
    final = table[table["final"] & (table["task"] == "text_validation")].set_index("run")["loss"]
    assert len(final) == 5
    assert final.max() < np.log(320) - 0.5
    for size in "SM":
        assert final[f"{size}-3xC"] < final[f"{size}-1xC"] - 0.05
    for multiple in (1, 3):
        assert final[f"M-{multiple}xC"] < final[f"S-{multiple}xC"] - 0.05


def test_a_task_and_the_held_out_loss_are_predicted_and_audited(runs: Path) -> None:
    rows = {r["task"]: r for r in json.loads((runs / "predictions.json").read_text())["rows"]}
    assert set(rows) == {"continuation", "text_validation"}
    audit = pd.read_csv(runs / "audit.csv").set_index("task")
    loss = audit.loc["text_validation"]
    assert loss["loss_predicted"] == pytest.approx(loss["loss_actual"], rel=0.1)
    assert 0 <= audit.loc["continuation", "actual"] <= 1
    assert "continuation" in (runs / "report.html").read_text()


def test_the_task_is_written_into_the_runs_folder(runs: Path) -> None:
    task = read_task(runs / "tasks" / "continuation.jsonl")
    assert len(task.items) == 60
    assert list(read_json(runs / "tasks" / "index.json")["tasks"]) == ["continuation"]


def test_the_tokenizer_goes_with_every_checkpoint(runs: Path) -> None:
    saved = next((runs / "L-2xC" / "checkpoints").glob("step-*/tokenizer.json"))
    assert len(json.loads(saved.read_text())["model"]["vocab"]) == 320
