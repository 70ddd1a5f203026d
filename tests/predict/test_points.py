"""Which points both steps see: windows, smoothing, reruns."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from conftest import synthetic

from evaluation.records import validate
from predict.methods import get_method
from predict.points import RungPoint, rung_weights, task_points, trailing_mean


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
