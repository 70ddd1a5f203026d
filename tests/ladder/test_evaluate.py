"""`ladder evaluate`: the promised shape, resumed task by task, rescored without the model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from tiny_model import TASK, saved

from evaluation.tasks import write_task
from ladder.cli import main


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    write_task(TASK, tmp_path)
    return saved(tmp_path / "model"), tmp_path / "colours.jsonl"


def rows(capsys: pytest.CaptureFixture[str], *arguments: object) -> list[dict]:
    assert main(["evaluate", *map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)["rows"]


def test_the_rows_have_the_promised_shape(
    files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    model, task = files
    (row,) = rows(capsys, model, "--tasks", task)
    assert row["task"] == "colours"
    assert row["loss_unit"] == "bits/byte"
    assert row["accuracy_metric"] == "acc_per_char"
    assert row["instances"] == 3
    assert row["loss"] == row["bpb"] > row["bpb_v2"] > 0
    assert {"loss_se", "accuracy", "accuracy_se", "soft", "task_ce_se"} <= set(row)
    assert main(["evaluate", str(model), "--tasks", str(task)]) == 0
    assert "per character" in capsys.readouterr().out


def test_kept_scores_are_read_and_need_no_model(
    files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, task = files
    kept = tmp_path / "scores"
    first = rows(capsys, model, "--tasks", task, "--keep", kept)
    shutil.rmtree(model)
    assert rows(capsys, model, "--tasks", task, "--keep", kept) == first
    assert rows(capsys, model, "--tasks", task, "--keep", kept, "--rescore") == first


def test_scores_of_another_model_or_other_items_are_refused(
    files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, task = files
    kept = tmp_path / "scores"
    rows(capsys, model, "--tasks", task, "--keep", kept)

    def fails(*arguments: object) -> str:
        assert main(["evaluate", *map(str, arguments)]) == 2
        return capsys.readouterr().err

    assert "holds scores of" in fails("other", "--tasks", task, "--keep", kept)
    task.write_text(task.read_text().splitlines()[0] + "\n")
    assert "other items" in fails(model, "--tasks", task, "--keep", kept)
    assert "needs --keep" in fails(model, "--tasks", task, "--rescore")
    assert "is not empty" in fails(model, "--tasks", task, "--keep", model)
    assert "no such task file" in fails(model, "--tasks", tmp_path / "absent.jsonl")
