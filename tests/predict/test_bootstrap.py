"""The bootstrap agrees with the delta method, an independent way to the same spread."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import synthetic

from evaluation.records import read_observations, validate
from predict import InputError, Target, TwoStage
from predict.bootstrap import bootstrap
from predict.points import rung_weights

TARGET = Target("7B", 6.9e9, 4e12)


def test_a_ladder_without_noise_does_not_move() -> None:
    model = TwoStage("published").fit(validate(synthetic(targets=())))
    found = bootstrap(model, [TARGET], replicates=20)
    exact = model.predict_one("quiz", TARGET)
    assert found["loss"].to_numpy() == pytest.approx(exact.loss_predicted, rel=1e-3)
    assert found["predicted"].median() == pytest.approx(exact.predicted, abs=2e-3)


@pytest.mark.parametrize("method", ["published", "default"])
def test_its_spread_is_of_the_size_of_the_delta_methods(
    olmo_observations: Path, method: str
) -> None:
    tasks = ["mmlu_test_rc_5shot", "hellaswag_val_rc_5shot"]
    model = TwoStage(method, tasks=tasks).fit(read_observations(olmo_observations))
    found = bootstrap(model, [TARGET], replicates=200).groupby("task")["predicted"].std()
    for task in tasks:
        fitted = model.fits_[task]
        delta = fitted.uncertainty(TARGET, fitted.chain_values(TARGET)).parameters
        assert 0.3 < found[task] / delta < 2


def test_the_seed_decides() -> None:
    rng = np.random.default_rng(0)
    table = validate(synthetic(targets=(), tasks=("a", "b")))
    table["loss"] *= np.exp(0.01 * rng.standard_normal(len(table)))
    model = TwoStage().fit(table)
    one, same, other = (bootstrap(model, [TARGET], 30, seed) for seed in (1, 1, 2))
    assert one.equals(same)
    assert not one["predicted"].equals(other["predicted"])
    assert set(one["task"]) == {"a", "b"}
    assert len(one) == 60


def test_a_loaded_predictor_has_nothing_to_draw_from(tmp_path: Path) -> None:
    TwoStage().fit(validate(synthetic())).save(tmp_path / "m.json")
    with pytest.raises(InputError, match="needs the observations"):
        bootstrap(TwoStage.load(tmp_path / "m.json"), [TARGET])


def test_reruns_weigh_in_a_draw_what_they_weigh_in_the_fit() -> None:
    table = validate(synthetic(targets=(), tasks=("a", "b")))
    again = table[table["run"] == "190M-1xC"].copy()
    again["loss"] *= 1.05
    copies = [again.assign(run=f"190M-1xC-{i}") for i in range(4)]
    model = TwoStage("own").fit(pd.concat([table, *copies], ignore_index=True))
    found = bootstrap(model, [TARGET], replicates=60)
    exact = model.predict_one("a", TARGET).loss_predicted
    own = found[found["task"] == "a"]["loss"]
    assert abs(own.mean() - exact) < own.std()
    weights = rung_weights(model.points_["own"]["a"].rungs, model.method)
    assert sorted(weights)[:5] == pytest.approx([0.2] * 5)
