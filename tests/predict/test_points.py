"""Which points both steps see: windows, smoothing, reruns."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from conftest import synthetic

from evaluation.records import validate
from predict.methods import get_method
from predict.points import (
    END,
    RungPoint,
    mean_of_seeds,
    points_by_task,
    rung_weights,
    task_points,
    trailing_mean,
)


def test_the_trailing_mean_is_pandas_rolling_mean() -> None:
    values = np.random.default_rng(0).normal(size=23)
    expected = pd.Series(values).rolling(5, min_periods=1).mean()
    assert trailing_mean(values, 5) == pytest.approx(expected.to_numpy())
    assert len(trailing_mean(np.zeros(0), 5)) == 0


def test_reruns_share_the_weight_of_one() -> None:
    points = [
        RungPoint("a", 1e9, 2e10, 1.0, 0.5),
        RungPoint("a-rerun", 1e9, 2.004e10, 1.1, 0.5),
        RungPoint("b", 1e9, 4e10, 0.9, 0.6),
    ]
    assert rung_weights(points, get_method("default")) == [0.5, 0.5, 1.0]
    assert rung_weights(points, get_method("published")) == [1.0, 1.0, 1.0]


def test_rows_without_the_feature_drop_out_and_noise_is_kept() -> None:
    table = validate(synthetic(targets=())).sort_values(["run", "step"])
    table["soft"] = table["loss"].where(table["step"] > 1)
    table["loss"] += 0.01 * table["step"]
    found = task_points(table, get_method("published"), "soft")
    assert len(found.rungs) == 16
    assert len(found.link_loss) == 16  # two checkpoints are left, the first is skipped
    by_loss = task_points(table, get_method("published"), "loss").rungs[0]
    assert by_loss.loss_sd == pytest.approx(0.01)
    assert by_loss.accuracy_sd == pytest.approx(0, abs=1e-12)
    whole = task_points(table, replace(get_method("published"), skip=0), "loss")
    assert list(np.bincount(whole.link_rung)) == [3] * 16


def ragged(seed: int) -> pd.DataFrame:
    """Runs of 1 to 13 checkpoints with gaps in feature and accuracy, some tasks on few runs."""
    rng = np.random.default_rng(seed)
    rows = []
    for run in range(9):
        for task in rng.permutation(["quiz", "riddle", "lm", "gap"])[: rng.integers(1, 5)]:
            for step in range(int(rng.integers(1, 14))):
                rows.append(
                    {
                        "run": f"r{run}",
                        "params": 1e8 * 2.0 ** (run // 2),
                        "tokens": 1e9 * (1 + step),
                        "step": step,
                        "task": task,
                        "loss": np.nan if task == "gap" or rng.random() < 0.1 else rng.random(),
                        "accuracy": np.nan if task == "lm" or rng.random() < 0.2 else rng.random(),
                        "chance": 0.25 if rng.random() < 0.5 else np.nan,
                        "seed": rng.integers(3),
                    }
                )
    table = pd.DataFrame(rows).sort_values(["run", "step"], kind="stable", ignore_index=True)
    table["seed"] = table["seed"].astype("Int64")
    return table


@pytest.mark.parametrize("method", ["default", "published"])
@pytest.mark.parametrize("seed", range(5))
def test_points_of_all_tasks_at_once_are_to_the_bit_those_of_a_loop(method: str, seed: int) -> None:
    table, chosen = ragged(seed), get_method(method)
    found = points_by_task(table, chosen, "loss")
    assert list(found) == list(table["task"].unique())
    for task, rows in table.groupby("task", sort=False):
        own, rungs, losses, scores, origin = found[str(task)], [], [], [], []
        known = rows["chance"].dropna().to_numpy()
        for run, part in rows[rows["loss"].notna()].groupby("run", sort=False):
            last = part[part["tokens"] >= END * part["tokens"].iloc[-1]].tail(chosen.window)
            measured = last["accuracy"].dropna().to_numpy()
            rungs.append(
                RungPoint(
                    str(run),
                    part["params"].iloc[-1],
                    part["tokens"].iloc[-1],
                    last["loss"].to_numpy().mean(),
                    measured.mean() if len(measured) else None,
                    last["loss"].to_numpy().std(ddof=1) if len(last) > 1 else None,
                    measured.std(ddof=1) if len(measured) > 1 else None,
                    known.mean() if len(known) else None,
                    int(part["seed"].iloc[-1]),
                )
            )
            kept = part[part["accuracy"].notna()]
            skipped = max(min(math.ceil(len(kept) * chosen.skip), len(kept) - 1), 0)
            for name, into in (("loss", losses), ("accuracy", scores)):
                total = np.cumsum(np.r_[0.0, kept[name].to_numpy()[skipped:]])
                for end in range(1, len(total)):
                    begin = max(end - chosen.smoothing, 0)
                    into.append((total[end] - total[begin]) / (end - begin))
            origin += [len(rungs) - 1] * (len(kept) - skipped)
        assert own.rungs == tuple(rungs)
        assert own.link_loss.tolist() == losses
        assert own.link_accuracy.tolist() == scores
        assert own.link_rung.tolist() == origin


def test_a_rung_is_what_it_is_at_its_end_however_far_apart_its_checkpoints_lie() -> None:
    run = pd.DataFrame({"tokens": 1e9 * np.arange(1, 11), "step": range(10), "accuracy": 0.5})
    run = run.assign(run="a", params=1e8, task="quiz", loss=2.0 - 0.1 * run["step"])
    dense = run.assign(tokens=1e10 + 1e8 * run["step"])
    for rows, taken in ((run, 2), (dense, 5), (run.iloc[[-1]], 1)):
        (point,) = task_points(rows, get_method("default"), "loss").rungs
        assert point.loss == pytest.approx(rows["loss"].tail(taken).mean())
        assert point.tokens == rows["tokens"].max()
        assert (point.loss_sd is None) == (taken == 1)


def test_no_rows_are_no_points() -> None:
    found = task_points(ragged(0).iloc[:0], get_method("default"), "loss")
    assert found.rungs == ()
    assert len(found.link_loss) == 0


def test_runs_of_several_seeds_are_one_mean_wherever_a_grid_cell_ends() -> None:
    rng = np.random.default_rng(0)
    sizes = np.exp(rng.uniform(np.log(1e8), np.log(1e10), 12))
    runs = [
        RungPoint(f"{i}-{seed}", n * rng.uniform(1, 1.004), 20 * n, 1.0 + seed, 0.5, seed=seed)
        for i, n in enumerate(sizes)
        for seed in range(3)
    ]
    found = mean_of_seeds(runs)
    assert [r.run for r in found] == [f"{i}-0" for i in range(12)]
    assert {r.loss for r in found} == {2.0}
    assert mean_of_seeds([replace(r, seed=None) for r in runs]) == [
        replace(r, seed=None) for r in runs
    ]
