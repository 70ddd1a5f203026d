"""Under wsd one trunk a size gives every multiple; a branch is the run that it would be alone."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from evaluation.files import InputError
from evaluation.records import read_observations
from ladder import pipeline
from ladder.checkpoint import checkpoints, latest_checkpoint, step_of
from ladder.config import load_config
from ladder.plan import make_plan
from ladder.runs import RunsFolder
from ladder.train import train_rung

WSD = ("recipe.schedule=wsd", "recipe.decay=0.2", "checkpoints.every=7")


def losses(runs: RunsFolder, name: str) -> dict[int, float]:
    lines = map(json.loads, runs.rung(name).metrics.read_text().splitlines())
    return {line["step"]: line["loss"] for line in lines}


def weights(runs: RunsFolder, name: str) -> dict[str, torch.Tensor]:
    found = latest_checkpoint(runs.rung(name).checkpoints)
    assert found is not None
    (file,) = found[0].glob("*.safetensors")
    return load_file(file)


@pytest.fixture(scope="module")
def trained(tiny_config: Path, tmp_path_factory: pytest.TempPathFactory) -> RunsFolder:
    """A size trained as a trunk with its branches, by the command's own way."""
    config = load_config(str(tiny_config), WSD)
    path = tmp_path_factory.mktemp("wsd") / "runs"
    pipeline.train(config, path, ("b-1xC", "b-2xC"), engine="here")
    return RunsFolder(path)


def test_a_branch_has_the_weights_of_the_run_that_never_left_the_trunk(
    trained: RunsFolder, tiny_config: Path, tmp_path: Path
) -> None:
    config = load_config(str(tiny_config), WSD)
    alone = RunsFolder(tmp_path / "alone")
    alone.prepare(config)
    for name in ("b-1xC", "b-2xC"):
        branch = make_plan(config).run(name)
        assert branch.trunk is not None
        # All its steps, with the trunk's name, which draws weights and batches.
        whole = replace(branch, name=branch.trunk.name, trunk=None, branch_step=0)
        train_rung(config, whole, alone)
        one, other = weights(trained, name), weights(alone, whole.name)
        assert one.keys() == other.keys()
        assert all(torch.equal(one[key], other[key]) for key in one)
        both = losses(alone, whole.name)
        for step, loss in losses(trained, name).items():
            assert step > branch.branch_step
            assert loss == both.get(step, loss)
        alone = RunsFolder(tmp_path / "again")
        alone.prepare(config)


def test_the_trunk_keeps_what_rungs_go_on_from_and_stays_out_of_the_fit(
    trained: RunsFolder, tiny_config: Path
) -> None:
    plan = make_plan(load_config(str(tiny_config), WSD))
    trunk = plan.run("b-trunk")
    kept = [step_of(path) for path in checkpoints(trained.rung("b-trunk").checkpoints)]
    assert set(trunk.branches) <= set(kept)
    assert trunk.steps == max(kept)
    rows = read_observations(trained.rung("b-trunk").scores)
    assert set(rows["role"]) == {"extra"}
    rows = read_observations(trained.rung("b-1xC").scores)
    assert rows["step"].min() > plan.run("b-1xC").branch_step
    assert (rows["tokens"] == rows["step"] * trunk.batch_tokens).all()


def test_a_rung_that_is_named_brings_its_trunk_and_one_without_it_says_so(
    trained: RunsFolder, tiny_config: Path, tmp_path: Path
) -> None:
    config = load_config(str(tiny_config), WSD)
    assert trained.rung("b-trunk").finished
    assert not trained.rung("a-trunk").path.exists()
    runs = RunsFolder(tmp_path / "runs")
    runs.prepare(config)
    with pytest.raises(InputError, match=r"goes on from step \d+ of b-trunk"):
        train_rung(config, make_plan(config).run("b-1xC"), runs)


def test_a_ladder_of_trunks_trains_side_by_side(tiny_config: Path, tmp_path: Path) -> None:
    config = load_config(str(tiny_config), (*WSD, "ladder.sizes=[a, b]"))
    done = pipeline.train(config, tmp_path / "runs", workers=2)
    plan = make_plan(config)
    assert {status.state for status in done.runs.statuses(plan)} == {"finished"}
    assert [rung.name for rung in done.rungs[:2]] == ["a-trunk", "b-trunk"]
    final = done.runs.gather(plan).query("final and role == 'ladder'")
    assert set(final["run"]) == {rung.name for rung in plan.rungs}
