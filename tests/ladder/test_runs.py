"""The runs folder: refusals, states, locks."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import threading
import time
from pathlib import Path

import pandas as pd
import pytest
from command_line import fails

from evaluation.checksums import check_text
from evaluation.files import InputError
from evaluation.records import write_observations
from ladder import kept_config, pipeline
from ladder.cli import main
from ladder.config import Experiment, load_config
from ladder.plan import Plan, Rung, make_plan
from ladder.runs import UNSURE, Progress, RunsFolder
from ladder.scored_runs import find_runs
from ladder.slurm import Job, with_job


@pytest.fixture
def runs(tiny_config: Path, tmp_path: Path) -> RunsFolder:
    folder = RunsFolder(tmp_path / "runs")
    folder.prepare(load_config(str(tiny_config)))
    return folder


def test_a_folder_of_another_config_is_refused_with_the_difference(
    runs: RunsFolder, tiny_config: Path
) -> None:
    runs.prepare(load_config(str(tiny_config)))
    with pytest.raises(InputError) as error:
        runs.prepare(load_config(str(tiny_config), ("corpus.seed=9", "seed=2")))
    assert "seed: 0 -> 2; corpus.seed: 0 -> 9" in str(error.value)


def test_before_anything_has_begun_another_recipe_takes_the_place_of_the_first(
    runs: RunsFolder, tiny_config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs.corpus.mkdir()  # Tokenised, say.
    tasks = {path: path.stat().st_mtime_ns for path in runs.task_files}
    other = load_config(str(tiny_config), ("recipe.eps=1e-9", "ladder.multiples=[1, 2]"))
    runs.prepare(other)
    assert runs.load_config() == other
    assert tasks == {path: path.stat().st_mtime_ns for path in runs.task_files}
    said = capsys.readouterr().err
    assert "nothing was trained by it yet; changed: " in said
    assert "recipe.eps: 1e-08 -> 1e-09" in said
    runs.prepare(other)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("begun", ["b-1xC", "slurm", "observations.parquet"])
def test_once_anything_has_begun_another_recipe_is_refused(
    runs: RunsFolder, tiny_config: Path, begun: str
) -> None:
    before = runs.config.read_bytes()
    (runs.path / begun).mkdir()
    with pytest.raises(InputError, match=r"was made from another config: recipe\.eps"):
        runs.prepare(load_config(str(tiny_config), ("recipe.eps=1e-9",)))
    assert runs.config.read_bytes() == before


def test_another_recipe_is_refused_while_a_command_is_about_to_train_and_to_ranks(
    runs: RunsFolder, tiny_config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other, before = load_config(str(tiny_config), ("recipe.eps=1e-9",)), runs.config.read_bytes()
    for shared in (False, True):
        with (
            runs.lock(shared=shared),
            pytest.raises(InputError, match=r"process \d+ .* trains this ladder"),
        ):
            runs.prepare(other)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="was made from another config"):
        runs.prepare(other)
    assert runs.config.read_bytes() == before


def test_nothing_is_trained_by_a_config_that_another_command_replaced_meanwhile(
    tiny_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, runs = load_config(str(tiny_config)), RunsFolder(tmp_path / "runs")
    real = RunsFolder.prepare

    def prepare(self: RunsFolder, own: Experiment) -> None:
        real(self, own)
        real(self, load_config(str(tiny_config), ("recipe.eps=1e-9",)))

    monkeypatch.setattr(RunsFolder, "prepare", prepare)
    with pytest.raises(InputError, match=r"another config: recipe\.eps: 1e-09 -> 1e-08"):
        pipeline.train(config, runs.path, ("a-1xC",), engine="here")
    assert not list(runs.path.glob("*/manifest.json"))


def test_of_two_commands_that_make_a_folder_at_once_the_second_finds_the_first_ones(
    tiny_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the first still makes its tasks, which of a text takes minutes."""
    runs, order = RunsFolder(tmp_path / "runs"), list[str]()
    real, second = kept_config.open_corpus, list[threading.Thread]()

    def other() -> None:
        with pytest.raises(InputError, match=r"another config: corpus\.seed: 0 -> 9"):
            RunsFolder(runs.path).prepare(load_config(str(tiny_config), ("corpus.seed=9",)))
        order.append("second")

    def slow(*given: object) -> object:
        if not second:
            second.append(threading.Thread(target=other))
            second[0].start()
            time.sleep(0.5)
            order.append("first")
        return real(*given)

    monkeypatch.setattr(kept_config, "open_corpus", slow)
    runs.prepare(load_config(str(tiny_config)))
    second[0].join()
    assert order == ["first", "second"]
    assert runs.load_config() == load_config(str(tiny_config))


def test_a_folder_that_is_someone_elses_is_refused(tiny_config: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(InputError, match="is not empty"):
        RunsFolder(tmp_path).prepare(load_config(str(tiny_config)))
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_folder_cut_short_while_it_was_made_is_made_again(
    runs: RunsFolder, tiny_config: Path
) -> None:
    runs.config.unlink()
    runs.prepare(load_config(str(tiny_config)))
    assert runs.config.is_file()


def test_states_are_read_from_the_files(runs: RunsFolder) -> None:
    config = runs.load_config()
    rung = make_plan(config).run("b-1xC")
    folder = runs.rung(rung.name)
    assert folder.status(rung).state == "pending"
    with folder.lock():
        folder.write_manifest(rung, "running")
        folder.write_progress(Progress(5, rung.steps, 3.0, 100.0, time.time()))
        status = folder.status(rung)
        assert (status.state, status.step, status.loss) == ("running", 5, 3.0)
        left = (rung.steps - 5) * rung.batch_tokens / 100
        assert status.seconds_left == pytest.approx(left)
        with (
            pytest.raises(InputError, match=r"process \d+ \(.*\), since .*, trains this rung"),
            folder.lock(wait=0.2),
        ):
            pass
    assert folder.status(rung).state == "interrupted"
    folder.write_manifest(rung, "failed", error="no memory")
    assert folder.status(rung).error == "no memory"
    folder.write_manifest(rung, "finished")
    assert folder.finished


def test_a_run_that_ends_while_its_state_is_read_is_not_told_as_interrupted(
    runs: RunsFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    rung = make_plan(runs.load_config()).run("b-1xC")
    folder = runs.rung(rung.name)
    folder.path.mkdir()
    folder.write_manifest(rung, "running")

    def ends() -> bool:
        folder.write_manifest(rung, "finished")
        return False

    monkeypatch.setattr(folder, "is_locked", ends)
    assert folder.status(rung).state == "finished"


def test_without_locks_a_status_says_that_it_cannot_tell_and_the_queue_may(
    runs: RunsFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rung = make_plan(runs.load_config()).run("b-1xC")
    folder = runs.rung(rung.name)
    with folder.lock():
        folder.write_manifest(rung, "running")
        folder.write_progress(Progress(5, rung.steps, 3.0, 100.0, time.time()))

    def refuses(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuses)
    status = folder.status(rung)
    assert (status.state, status.error) == ("running", UNSURE)
    main(["status", str(runs.path)])
    assert f"{rung.name}: running: {UNSURE}" in " ".join(capsys.readouterr().out.split())
    queued, runs_on = (Job("7", state, "") for state in ("PENDING", "RUNNING"))
    assert with_job(status, queued, rung).state == "queued"
    known = with_job(status, runs_on, rung)
    assert (known.state, known.error) == ("running", "")


def test_nothing_is_gathered_before_a_run_has_finished(runs: RunsFolder) -> None:
    with pytest.raises(InputError, match="no run has finished"):
        runs.gather(make_plan(runs.load_config()))


def test_a_damaged_manifest_is_named_with_the_cure(runs: RunsFolder) -> None:
    rung = make_plan(runs.load_config()).run("b-1xC")
    folder = runs.rung(rung.name)
    folder.path.mkdir()
    for damage in ("{", "[]", "{}", '{"state": "banana"}'):
        folder.manifest.write_text(damage)
        with pytest.raises(InputError, match="damaged; remove"):
            folder.status(rung)


def test_progress_that_cannot_be_read_is_no_error(runs: RunsFolder) -> None:
    config = runs.load_config()
    rung = make_plan(config).run("b-1xC")
    folder = runs.rung(rung.name)
    folder.path.mkdir()
    folder.write_manifest(rung, "finished")
    for text in ("{", '{"step": null}', '{"step": 1, "steps": 2, "loss": NaN}'):
        folder.progress.write_text(text)
        assert folder.status(rung).step == rung.steps


def test_every_version_and_machine_that_had_a_hand_is_kept(
    runs: RunsFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = runs.load_config()
    rung = make_plan(config).run("b-1xC")
    folder = runs.rung(rung.name)
    folder.path.mkdir()
    folder.write_manifest(rung, "running")
    folder.write_manifest(rung, "failed", error="x")
    monkeypatch.setattr("ladder.runs.version_of", lambda name: "9.9")
    monkeypatch.setattr("ladder.runs.machine_name", lambda: "8 cores of Y, 2 x H100")
    folder.write_manifest(rung, "finished")
    manifest = json.loads(folder.manifest.read_text())
    assert len(manifest["versions"]) == 2
    assert manifest["versions"][1]["torch"] == "9.9"
    assert len(manifest["machines"]) == 2
    assert " cores of " in manifest["machines"][0]
    assert manifest["machines"][1] == "8 cores of Y, 2 x H100"


def test_a_lost_task_is_made_again_and_a_damaged_one_named(
    runs: RunsFolder, tiny_config: Path
) -> None:
    config, path = load_config(str(tiny_config)), runs.tasks / "next.jsonl"
    before = path.read_bytes()
    path.write_bytes(before.replace(b'"gold": 1', b'"gold": 0', 1))
    with pytest.raises(InputError, match=r"next\.jsonl: is damaged or was edited; remove it"):
        runs.prepare(config)
    path.unlink()
    runs.prepare(config)
    assert path.read_bytes() == before


def test_tasks_without_checksums_are_read_as_they_are(runs: RunsFolder, tiny_config: Path) -> None:
    (runs.tasks / "index.json").write_text('["next"]')
    path = runs.tasks / "next.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"gold": 1', b'"gold": 0', 1))
    runs.prepare(load_config(str(tiny_config)))
    assert runs.task_files == [path]
    path.unlink()
    with pytest.raises(InputError, match=r"next\.jsonl: no such task file"):
        runs.prepare(load_config(str(tiny_config)))


def test_a_folder_of_an_older_ladder_whose_tasks_are_gone_is_read_once_they_are_made(
    runs: RunsFolder, tiny_config: Path
) -> None:
    runs.config.write_text(check_text(runs.config))
    shutil.rmtree(runs.tasks)
    runs.prepare(load_config(str(tiny_config)))
    assert runs.load_config() == load_config(str(tiny_config))


def test_a_config_that_is_not_what_was_written_names_a_copy(
    runs: RunsFolder, tiny_config: Path
) -> None:
    config, text = load_config(str(tiny_config)), runs.config.read_text()
    runs.config.write_text(text.replace("seed: 0", "seed: 1", 1))
    with pytest.raises(InputError, match="no rung holds another: bring it back, or remove"):
        runs.load_config()
    copy = runs.path / "b-1xC" / "config.yaml"
    copy.parent.mkdir()
    copy.write_text(text)
    with pytest.raises(InputError) as error:
        runs.prepare(config)
    assert str(error.value).endswith(f"mend it by: cp {copy} {runs.config}")
    runs.config.unlink()
    (runs.path / "b-1xC" / "manifest.json").write_text("{}")
    with pytest.raises(InputError) as error:
        find_runs(runs.path)
    said = f"is gone; mend it by: cp {copy} {runs.config}"
    assert str(error.value).endswith(said)
    runs.config.write_text(text)
    runs.prepare(config)


def test_a_config_that_is_gone_is_had_again_from_a_rung(
    runs: RunsFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    rung = runs.rung("a-1xC")
    rung.path.mkdir()
    rung.write_manifest(make_plan(runs.load_config()).run("a-1xC"), "running")
    shutil.copy(runs.config, rung.path / "config.yaml")
    before = runs.config.read_bytes()
    runs.config.unlink()
    for command in ("status", "evaluate"):
        said = fails(capsys, command, runs.path)
        assert f"config.yaml: is gone; mend it by: cp {rung.path / 'config.yaml'} " in said
    source, target = said.split()[-2:]
    shutil.copy(source, target)
    assert runs.config.read_bytes() == before


def test_scores_that_change_while_they_are_analysed_are_not_vouched_for(
    runs: RunsFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = runs.load_config()
    plan = make_plan(config)

    def finish(rung: Rung, shift: float = 0.0) -> None:
        loss = 2 + shift + 9 * rung.params**-0.5 + 9 * rung.tokens**-0.3
        task = {"task": "walks_validation", "loss": loss, "loss_unit": "nats/token"}
        folder = runs.rung(rung.name)
        folder.path.mkdir(exist_ok=True)
        write_observations(pd.DataFrame([{**rung.observed(rung.steps), **task}]), folder.scores)
        folder.write_manifest(rung, "finished")

    for rung in plan.runs:
        finish(rung)
    monkeypatch.setattr(pipeline, "_write", lambda *_: None)  # The report, which takes seconds.
    pipeline.analyse_runs(config, plan, runs)
    assert runs.is_complete(plan)
    real = RunsFolder.gather

    def gather(self: RunsFolder, plan: Plan) -> pd.DataFrame:
        found = real(self, plan)
        finish(plan.run("a-1xC"), shift=0.1)  # Another command has scored it anew.
        return found

    monkeypatch.setattr(RunsFolder, "gather", gather)
    pipeline.analyse_runs(config, plan, runs)
    assert not runs.is_complete(plan)
