"""Workers of the local engine take turns over the GPUs; without any there is one a core."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from ladder import cluster
from ladder.cluster import TrainingError, assigned_gpus, train_local, visible_gpus
from ladder.config import Experiment, load_config
from ladder.plan import Rung, make_plan
from ladder.runs import RunsFolder


def tell_environment(config: Experiment, rung: Rung, path: Path) -> None:
    """In the place of training: what this worker sees; ends when all workers have told."""
    names = ("CUDA_VISIBLE_DEVICES", *cluster.THREAD_SETTINGS)
    seen = {name: os.environ.get(name) for name in names}
    told = path / f"{os.getpid()}.json"
    told.with_suffix(".tmp").write_text(json.dumps({**seen, "torch": "torch" in sys.modules}))
    told.with_suffix(".tmp").rename(told)
    deadline = time.monotonic() + 30
    while len(list(path.glob("*.json"))) < config.seed and time.monotonic() < deadline:
        time.sleep(0.05)


def environments(
    tiny_config: Path, path: Path, monkeypatch: pytest.MonkeyPatch, workers: int | None, expect: int
) -> list[dict]:
    """What each worker saw when nine rungs were trained."""
    path.mkdir()
    monkeypatch.setattr(cluster, "_train", tell_environment)
    config = load_config(str(tiny_config), (f"seed={expect}",))
    rungs = list(make_plan(config).rungs)
    train_local(config, rungs, RunsFolder(path), lambda: None, workers)
    return [json.loads(told.read_text()) for told in path.glob("*.json")]


def test_workers_take_gpus_in_turn() -> None:
    assert assigned_gpus(2, ("0", "1")) == ["0", "1"]
    assert assigned_gpus(5, ("4", "6")) == ["4", "6", "4", "6", "4"]
    assert assigned_gpus(1, ("GPU-a", "GPU-b")) == ["GPU-a"]
    assert assigned_gpus(2, ()) == [None, None]


@pytest.mark.parametrize(
    ("given", "count", "names"),
    [
        (None, 2, ("0", "1")),
        ("4,6", 2, ("4", "6")),
        ("GPU-a, GPU-b,GPU-absent", 2, ("GPU-a", "GPU-b")),
        ("", 0, ()),
        (None, 0, ()),
    ],
)
def test_gpus_are_those_that_this_process_may_see(
    monkeypatch: pytest.MonkeyPatch, given: str | None, count: int, names: tuple[str, ...]
) -> None:
    monkeypatch.setattr(cluster, "GPU_DRIVERS", (Path("/"),))
    monkeypatch.setattr("torch.cuda.device_count", lambda: count)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if given is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
    assert visible_gpus("auto") == visible_gpus("cuda") == names
    assert visible_gpus("cpu") == ()


def test_no_driver_no_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "GPU_DRIVERS", (Path("/dev/absent"),))
    monkeypatch.setattr("torch.cuda.device_count", lambda: pytest.fail("torch was asked"))
    assert visible_gpus("auto") == ()


def test_a_worker_sees_one_gpu_before_it_loads_torch(
    tiny_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "visible_gpus", lambda device: ("4", "6"))
    monkeypatch.setattr(cluster, "cores", lambda: 12)
    seen = environments(tiny_config, tmp_path / "runs", monkeypatch, 3, 3)
    assert sorted(one["CUDA_VISIBLE_DEVICES"] for one in seen) == ["4", "4", "6"]
    assert {one[name] for one in seen for name in cluster.THREAD_SETTINGS} == {"4"}
    assert not any(one["torch"] for one in seen)


def end_at_once(config: Experiment, rung: Rung, path: Path) -> None:
    """In the place of training: the worker is killed, as by a machine without memory."""
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_worker_is_told_of_runs_that_wait_for_their_trunk_too(
    tiny_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "_train", end_at_once)
    config = load_config(str(tiny_config), ("recipe.schedule=wsd", "ladder.sizes=[a]"))
    runs = [run for run in make_plan(config).runs if run.role != "target"]
    assert [run.name for run in runs if run.trunk] == ["a-1xC", "a-2xC", "a-4xC"]
    with pytest.raises(TrainingError) as error:
        train_local(config, runs, RunsFolder(tmp_path), lambda: None, 1)
    assert str(error.value) == (
        "a-trunk, a-4xC, a-2xC, a-1xC: a worker process was killed; the same command goes on from "
        "here"
    )


def test_there_is_a_worker_a_gpu_by_default(
    tiny_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "visible_gpus", lambda device: ("4", "6"))
    monkeypatch.setattr(cluster, "cores", lambda: 1)
    seen = environments(tiny_config, tmp_path / "runs", monkeypatch, None, 2)
    assert sorted(one["CUDA_VISIBLE_DEVICES"] for one in seen) == ["4", "6"]
    assert {one["OMP_NUM_THREADS"] for one in seen} == {"1"}


def test_without_gpus_there_is_a_worker_a_core_of_one_thread(
    tiny_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "visible_gpus", lambda device: ())
    monkeypatch.setattr(cluster, "cores", lambda: 2)
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    seen = environments(tiny_config, tmp_path / "runs", monkeypatch, None, 2)
    assert len(seen) == 2
    assert all(one["CUDA_VISIBLE_DEVICES"] is None for one in seen)
    assert {one[name] for one in seen for name in cluster.THREAD_SETTINGS} == {"1"}
    assert os.environ["OMP_NUM_THREADS"] == "7"
