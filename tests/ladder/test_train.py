"""A rung trains, scores, and goes on from any checkpoint bit for bit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from evaluation.files import InputError
from evaluation.records import read_observations
from ladder import pipeline
from ladder import train as training
from ladder.checkpoint import latest_checkpoint
from ladder.config import load_config
from ladder.plan import make_plan
from ladder.runs import RungFolder, RunsFolder
from ladder.scores import evaluation_steps


def prepared(tiny_config: Path, path: Path, *sets: str) -> tuple:
    config = load_config(str(tiny_config), sets)
    runs = RunsFolder(path)
    runs.prepare(config)
    return config, make_plan(config).run("b-2xC"), runs


def metrics(folder: RungFolder) -> list[dict]:
    """Lines of metrics.jsonl without what the clock says."""
    lines = [json.loads(line) for line in folder.metrics.read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "tokens_per_second"} for line in lines]


def test_a_rung_is_scored_at_its_shares_and_its_end(tiny_config: Path, tmp_path: Path) -> None:
    config, rung, runs = prepared(tiny_config, tmp_path / "runs")
    training.train_rung(config, rung, runs)
    folder = runs.rung(rung.name)
    scores = read_observations(folder.scores)
    steps = evaluation_steps(rung, config.evaluation.at)
    assert scores["step"].unique().tolist() == steps
    assert steps[-1] == rung.steps
    assert set(scores["task"]) == {"next", "walks_validation"}
    assert scores["final"].sum() == 2
    assert (scores["tokens"] == scores["step"] * rung.batch_tokens).all()
    losses = scores[scores["task"] == "walks_validation"]["loss"].tolist()
    assert losses[-1] < losses[0]
    assert folder.finished
    lines = [json.loads(line) for line in folder.metrics.read_text().splitlines()]
    assert lines[-1]["step"] == rung.steps


def test_the_checkpoint_is_a_hugging_face_model(tiny_config: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    config, rung, runs = prepared(tiny_config, tmp_path / "runs")
    training.train_rung(config, rung, runs)
    path, step = latest_checkpoint(runs.rung(rung.name).checkpoints)
    assert step == rung.steps
    model = AutoModelForCausalLM.from_pretrained(path)
    tokenizer = AutoTokenizer.from_pretrained(path)
    assert model.config.model_type == "olmo2"
    assert tokenizer("00 1f 0a")["input_ids"] == [0, 31, 10]


@pytest.mark.parametrize("dies_after", [0.02, 0.2, 0.7, 0.95])
def test_a_run_that_died_ends_as_one_that_did_not(
    tiny_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dies_after: float
) -> None:
    every = "checkpoints.every=10"
    config, rung, whole = prepared(tiny_config, tmp_path / "whole", every)
    dies_at = round(dies_after * rung.steps)
    training.train_rung(config, rung, whole)
    _, _, broken = prepared(tiny_config, tmp_path / "broken", every)
    real, calls = training.optimizer_step, []

    def dying(*arguments: object) -> object:
        calls.append(1)
        if len(calls) > dies_at:
            raise RuntimeError("node lost")
        return real(*arguments)

    monkeypatch.setattr(training, "optimizer_step", dying)
    with pytest.raises(RuntimeError, match="node lost"):
        training.train_rung(config, rung, broken)
    assert broken.rung(rung.name).status(rung).state == "failed"
    monkeypatch.setattr(training, "optimizer_step", real)
    training.train_rung(config, rung, broken)
    one, other = whole.rung(rung.name), broken.rung(rung.name)
    assert one.scores.read_bytes() == other.scores.read_bytes()
    assert metrics(one) == metrics(other)
    states = [
        {
            name: tensor
            for path in found.rglob("*.safetensors")
            for name, tensor in load_file(path).items()
        }
        for found, _ in map(latest_checkpoint, (one.checkpoints, other.checkpoints))
    ]
    assert states[0].keys() == states[1].keys()
    assert any("exp_avg" in name for name in states[0])
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_a_finished_rung_is_left_as_it_is(
    tiny_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, rung, runs = prepared(tiny_config, tmp_path / "runs")
    training.train_rung(config, rung, runs)
    monkeypatch.setattr(training, "_train", lambda *_: pytest.fail("trained again"))
    training.train_rung(config, rung, runs)


def test_a_diverged_run_fails_with_the_reason(tiny_config: Path, tmp_path: Path) -> None:
    sets = ("recipe.learning_rate_base=1e9", "recipe.gradient_clip=1e30")
    config, rung, runs = prepared(tiny_config, tmp_path / "runs", *sets)
    with pytest.raises(FloatingPointError, match=r"lower recipe\.learning_rate_base"):
        training.train_rung(config, rung, runs)
    status = runs.rung(rung.name).status(rung)
    assert status.state == "failed"
    assert "learning_rate_base" in status.error


def test_the_thread_count_and_determinism_are_restored(tiny_config: Path, tmp_path: Path) -> None:
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    config, rung, runs = prepared(tiny_config, tmp_path / "runs")
    training.train_rung(config, rung, runs)
    assert (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()) == before


def test_what_comes_before_the_first_step_does_not_count_as_time_of_steps(
    tiny_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that goes on is scored first where its scores of that step were lost."""
    config, rung, runs = prepared(tiny_config, tmp_path / "runs")
    order: list[str] = []

    def begins(*_: object) -> None:
        order.append("meter")
        raise RuntimeError("enough")

    monkeypatch.setattr(training, "Meter", begins)
    monkeypatch.setattr(training.Scores, "lack", lambda self, step: True)
    monkeypatch.setattr(training.Scores, "score", lambda self, step: order.append("score"))
    with pytest.raises(RuntimeError, match="enough"):
        training.train_rung(config, rung, runs)
    assert order == ["score", "meter"]


def test_ranks_of_torchrun_are_not_to_start_workers_of_their_own(
    tiny_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match=r"torchrun: .* --engine here"):
        pipeline.train(load_config(str(tiny_config)), tmp_path / "runs")
    assert not (tmp_path / "runs").exists()
