"""Which checkpoints stay, whose they may be, and what happens where one cannot be written."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.distributed.checkpoint import CheckpointException

from evaluation.files import InputError, read_json
from ladder import train as training
from ladder.checkpoint import TRAINING, checkpoints, latest_checkpoint, step_of
from ladder.config import Experiment, load_config
from ladder.plan import Rung, make_plan
from ladder.runs import RunsFolder


def prepared(config: Path, path: Path, *sets: str) -> tuple[Experiment, Rung, RunsFolder]:
    experiment = load_config(str(config), sets)
    runs = RunsFolder(path)
    runs.prepare(experiment)
    return experiment, make_plan(experiment).run("b-2xC"), runs


def test_the_newest_checkpoints_stay_and_those_that_are_named(
    tiny_config: Path, tmp_path: Path
) -> None:
    sets = ("checkpoints={every: 10, keep: 3, keep_at: [0.25]}", "evaluation.at=[1]")
    config, rung, runs = prepared(tiny_config, tmp_path / "runs", *sets)
    training.train_rung(config, rung, runs)
    steps = [step_of(path) for path in checkpoints(runs.rung(rung.name).checkpoints)]
    tens = [step for step in range(1, rung.steps) if step % 10 == 0]
    assert steps == sorted({round(0.25 * rung.steps), *tens[-2:], rung.steps})


def test_in_the_background_or_not_the_same_is_saved(tiny_config: Path, tmp_path: Path) -> None:
    found = []
    for background in ("true", "false"):
        sets = (f"checkpoints={{every: 7, background: {background}}}",)
        config, rung, runs = prepared(tiny_config, tmp_path / background, *sets)
        training.train_rung(config, rung, runs)
        path, _ = latest_checkpoint(runs.rung(rung.name).checkpoints) or pytest.fail("none")
        files = sorted(path.rglob("*.safetensors"))
        found.append(
            {(str(p.relative_to(path)), k): v for p in files for k, v in load_file(p).items()}
        )
    assert found[0].keys() == found[1].keys()
    assert all(torch.equal(found[0][key], found[1][key]) for key in found[0])


def test_a_checkpoint_of_another_run_is_refused(tiny_config: Path, tmp_path: Path) -> None:
    config, rung, runs = prepared(tiny_config, tmp_path / "runs")
    training.train_rung(config, rung, runs)
    (tmp_path / "other").mkdir()
    sets = ("recipe.learning_rate_base=0.1",)
    config, rung, other = prepared(tiny_config, tmp_path / "other" / "runs", *sets)
    runs.rung(rung.name).checkpoints.rename(_made(other, rung) / "checkpoints")
    said = r"another run \(learning_rate_base is 0\.2, not 0\.1; .*; remove it"
    with pytest.raises(InputError, match=said):
        training.train_rung(config, rung, other)


def _made(runs: RunsFolder, rung: Rung) -> Path:
    folder = runs.rung(rung.name).path
    folder.mkdir()
    return folder


@pytest.mark.parametrize(
    ("where", "error"),
    [
        (
            "transformers.PreTrainedTokenizerFast.save_pretrained",
            Exception("No space left on device (os error 28)"),
        ),
        (
            "ladder.checkpoint.dcp.save",
            CheckpointException("write", {0: (OSError(28, "No space left on device"), None)}),
        ),
    ],
)
def test_a_full_disk_that_a_library_meets_is_named_too(
    where: str,
    error: BaseException,
    tiny_config: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """That of tokenizers raises an exception of no kind, torch one that is none of Exception's."""
    config, rung, runs = prepared(tiny_config, tmp_path / "runs", "checkpoints.every=10")

    def full(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(where, full)
    said = r"step 10 cannot be saved \(No space left on device"
    with pytest.raises(InputError, match=said):
        training.train_rung(config, rung, runs)
    assert not list(runs.rung(rung.name).checkpoints.iterdir())


def test_a_full_disk_is_named_and_what_was_saved_is_kept(
    tiny_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, rung, runs = prepared(tiny_config, tmp_path / "runs", "checkpoints.every=10")
    import ladder.checkpoint as saving

    real, calls = saving.dcp.save, []

    def full(*arguments: object, **named: object) -> None:
        calls.append(1)
        if len(calls) > 5:  # Two a checkpoint: the third one's optimizer finds no room.
            raise OSError(28, "No space left on device")
        real(*arguments, **named)

    monkeypatch.setattr(saving.dcp, "save", full)
    with pytest.raises(InputError, match=r"step 30 cannot be saved \(No space left on device\)"):
        training.train_rung(config, rung, runs)
    folder = runs.rung(rung.name)
    assert [step_of(path) for path in checkpoints(folder.checkpoints)] == [10, 20]
    assert not list(folder.checkpoints.glob(".*"))
    assert "No space left" in folder.status(rung).error
    monkeypatch.setattr(saving.dcp, "save", real)
    training.train_rung(config, rung, runs)
    assert folder.finished


def nans(monkeypatch: pytest.MonkeyPatch, at: set[int]) -> None:
    """The gradient is not finite in the so-manieth steps from now."""
    real, calls = training.optimizer_step, []

    def step(*arguments: object) -> object:
        calls.append(1)
        if len(calls) in at:
            raise FloatingPointError("loss is nan, gradient norm nan; lower it")
        return real(*arguments)

    monkeypatch.setattr(training, "optimizer_step", step)


def test_a_step_that_is_not_finite_stops_the_run_with_its_state_kept(
    tiny_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, rung, runs = prepared(tiny_config, tmp_path / "runs", "checkpoints.every=10")
    with monkeypatch.context() as patched:
        nans(patched, {26})
        with pytest.raises(FloatingPointError, match=r"step 26: loss is nan"):
            training.train_rung(config, rung, runs)
    folder = runs.rung(rung.name)
    assert latest_checkpoint(folder.checkpoints) == (folder.checkpoints / "step-25", 25)
    assert "skip_non_finite" in folder.status(rung).error
    assert folder.status(rung).state == "failed"


def test_steps_that_are_not_finite_are_left_out_within_the_allowance(
    tiny_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sets = ("execution.skip_non_finite=2", "checkpoints.every=10")
    config, rung, runs = prepared(tiny_config, tmp_path / "runs", *sets)
    with monkeypatch.context() as patched:
        nans(patched, {13, 26, 37})
        with pytest.raises(FloatingPointError, match="step 37"):
            training.train_rung(config, rung, runs)
    folder = runs.rung(rung.name)
    lines = [json.loads(line) for line in folder.metrics.read_text().splitlines()]
    assert [line["step"] for line in lines if "skipped" in line] == [13, 26]
    # The count outlives the process, and the allowance may be raised in the same folder.
    saved = json.loads((folder.checkpoints / "step-36" / TRAINING).read_text())
    assert saved["skipped"] == 2
    config, _, _ = prepared(
        tiny_config, tmp_path / "runs", "execution.skip_non_finite=3", "checkpoints.every=10"
    )
    with monkeypatch.context() as patched:
        nans(patched, {1})
        training.train_rung(config, rung, runs)
    assert folder.finished


def test_a_checkpoint_that_is_there_is_not_replaced(
    tiny_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, rung, runs = prepared(tiny_config, tmp_path / "runs", "checkpoints.every=10")
    import ladder.checkpoint as saving

    written, real = [], saving.Saver._write
    monkeypatch.setattr(
        saving.Saver,
        "_write",
        lambda self, training, *rest: (written.append(training.step), real(self, training, *rest)),
    )
    nans(monkeypatch, {21})
    with pytest.raises(FloatingPointError, match="step 21"):
        training.train_rung(config, rung, runs)
    assert written == [10, 20]


def test_a_damaged_checkpoint_is_put_aside_and_the_one_before_used(
    tiny_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    """A bit of the weights, of the optimizer, of what says whose they are: the result is the same.

    Where no other is left, the run begins anew rather than go on from wrong weights.
    """
    sets = ("checkpoints.every=10", "evaluation.at=[0.1]")
    config, rung, whole = prepared(tiny_config, tmp_path / "whole", *sets)
    training.train_rung(config, rung, whole)
    _, _, half = prepared(tiny_config, tmp_path / "half", *sets)
    with monkeypatch.context() as patched:
        nans(patched, {35})
        with pytest.raises(FloatingPointError):
            training.train_rung(config, rung, half)
    saved = half.rung(rung.name).checkpoints
    assert [step_of(path) for path in checkpoints(saved)] == [30, 34]
    weights = "model-00001-of-00001.safetensors"
    hurt = [("step-34", name) for name in (weights, f"optimizer/{weights}", "training.json")]
    for number, (step, name) in enumerate([*hurt, ("step-30", weights)]):
        runs = RunsFolder(tmp_path / f"{number}" / "runs")
        shutil.copytree(half.path, runs.path)
        own = runs.rung(rung.name)
        flip(own.checkpoints / "step-34" / name)
        if step == "step-30":
            flip(own.checkpoints / step / name)
        training.train_rung(config, rung, runs)
        assert own.scores.read_bytes() == whole.rung(rung.name).scores.read_bytes()
        said = capfd.readouterr().err
        assert f"{rung.name}: the checkpoint of step 34 is damaged ({name}" in said
        goes = "from where the run began" if step == "step-30" else "goes on from step 30"
        assert goes in said
        assert (own.checkpoints / "damaged-step-34" / weights).is_file()


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) * 2 // 3] ^= 1
    path.write_bytes(content)


def test_scores_that_are_damaged_are_made_again(
    tiny_config: Path, tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    config, rung, runs = prepared(tiny_config, tmp_path / "runs")
    training.train_rung(config, rung, runs)
    folder = runs.rung(rung.name)
    before = folder.scores.read_bytes()
    flip(folder.scores)
    assert not folder.complete
    with pytest.raises(InputError, match="not what was written; `ladder train` scores that run"):
        runs.gather(make_plan(config))
    training.train_rung(config, rung, runs)
    assert folder.scores.read_bytes() == before
    assert "made again from the checkpoint" in capfd.readouterr().err


def test_a_checkpoint_without_checksums_is_read_and_said_so_once(
    tiny_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    config, rung, runs = prepared(tiny_config, tmp_path / "runs", "checkpoints.every=10")
    with monkeypatch.context() as patched:
        nans(patched, {35})
        with pytest.raises(FloatingPointError):
            training.train_rung(config, rung, runs)
    for path in checkpoints(runs.rung(rung.name).checkpoints):
        (path / "checksums.json").unlink()
        (path / "rows.json").unlink()
        document = {**read_json(path / TRAINING), "version": 1}
        (path / TRAINING).write_text(json.dumps(document))
    with monkeypatch.context() as patched:
        patched.setattr("evaluation.checksums._told", set())
        nans(patched, {2})
        with pytest.raises(FloatingPointError, match="step 36"):
            training.train_rung(config, rung, runs)
    assert capfd.readouterr().err.count("checkpoints are read unverified") == 1
    # Lost from a checkpoint that had them, they are damage.
    latest, _ = latest_checkpoint(runs.rung(rung.name).checkpoints) or pytest.fail("none")
    (latest / "checksums.json").unlink()
    training.train_rung(config, rung, runs)
    assert "(checksums.json is missing)" in capfd.readouterr().err
