"""The default method: what it predicts from, and when it says that it cannot."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import synthetic, true_accuracy, true_loss
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.records import validate
from predict import InputError, Target, TwoStage

TARGET = Target("7B-4T", 6.9e9, 4e12)


def table_of(noise: float = 0.003, seed: int = 0, **options: object) -> pd.DataFrame:
    """A noisy ladder of three tasks: checkpoints of a run share most of their noise."""
    options = {"tasks": ("a", "b", "c"), "targets": ()} | options
    table = validate(synthetic(**options))  # type: ignore[arg-type]
    rng = np.random.default_rng(seed)
    runs = {key: rng.standard_normal() for key in table.groupby(["run", "task"]).groups}
    shared = np.array([runs[key] for key in zip(table["run"], table["task"], strict=True)])
    table["loss"] *= np.exp(noise * (shared + 0.3 * rng.standard_normal(len(table))))
    return table


def spoil(table: pd.DataFrame, task: str, seed: int = 1) -> pd.DataFrame:
    """The task's loss becomes noise about its mean; its accuracy still rises."""
    rng = np.random.default_rng(seed)
    own = table["task"] == task
    table = table.copy()
    table.loc[own, "loss"] = 0.9 * np.exp(0.006 * rng.standard_normal(own.sum()))
    return table


def test_three_chains_vote_and_their_median_predicts() -> None:
    fitted = TwoStage().fit(table_of()).fits_["a"]
    assert fitted.votes == ("own", "shared", "direct")
    values = fitted.chain_values(TARGET)
    prediction = TwoStage().fit(table_of()).predict_one("a", TARGET)
    assert prediction.predicted == pytest.approx(np.median(list(values.values())))
    assert prediction.predicted == pytest.approx(true_accuracy(true_loss(6.9e9, 4e12)), abs=0.03)
    assert prediction.lower95 < prediction.lower80 < prediction.predicted
    assert prediction.loss_lower80 < prediction.loss_predicted < prediction.loss_upper80


def test_a_loss_that_hardly_moves_is_left_for_the_other_tasks() -> None:
    table = spoil(table_of(), "b")
    model = TwoStage().fit(table)
    assert model.fits_["b"].votes == ("shared", "direct")
    assert model.pooled_ == ["a", "c"]
    prediction = model.predict_one("b", TARGET)
    assert "its own loss does not fall clearly" in prediction.reason
    truth = true_accuracy(true_loss(6.9e9, 4e12))
    published = TwoStage("published").fit(table).predict_one("b", TARGET)
    assert abs(prediction.predicted - truth) < 0.05
    assert abs(prediction.predicted - truth) < abs(published.predicted - truth)
    assert published.status == "unpredictable"


def test_a_lone_task_goes_by_its_own_loss_or_by_its_accuracy() -> None:
    alone = table_of(tasks=("a",))
    assert TwoStage().fit(alone).fits_["a"].votes == ("own",)
    assert TwoStage().fit(spoil(alone, "a")).fits_["a"].votes == ("direct",)


def test_an_accuracy_that_does_not_rise_is_called_unpredictable() -> None:
    table = table_of()
    rng = np.random.default_rng(3)
    own = table["task"] == "a"
    table.loc[own, "accuracy"] = 0.6 + 0.005 * rng.standard_normal(own.sum())
    prediction = TwoStage().fit(table).predict_one("a", TARGET)
    assert prediction.status == "unpredictable"
    assert "does not rise clearly" in prediction.reason


@pytest.mark.parametrize("method", ["default", "published"])
def test_one_multiple_is_predicted_along_itself_only(method: str) -> None:
    sizes = (1e8, 1.9e8, 3.7e8, 7.6e8, 1.28e9, 2e9)
    model = TwoStage(method).fit(table_of(sizes=sizes, multiples=(5,)))
    off = model.predict_one("a", Target("7B", 6.9e9, 4e12))
    assert off.status == "unpredictable"
    on = model.predict_one("a", Target("7B", 6.9e9, 6.9e11))
    if method == "default":
        assert on.status == "extrapolated"
        assert "every rung has 100 tokens a parameter" in off.reason


def test_one_size_and_too_few_rungs_are_marked_or_refused() -> None:
    one_size = table_of(sizes=(1.9e8,), multiples=(1, 2, 3, 5, 7, 10))
    prediction = TwoStage().fit(one_size).predict_one("a", TARGET)
    assert prediction.status == "unpredictable"
    assert "every rung has 1.9e+08 params" in prediction.reason
    one_rung = table_of(sizes=(1.9e8,), multiples=(1,))
    with pytest.raises(InputError, match="needs 3 rungs and there is 1"):
        TwoStage().fit(one_rung)


@given(st.floats(-9, 9))
@settings(max_examples=12, deadline=None)
def test_the_unit_of_the_loss_changes_no_accuracy(power: float) -> None:
    table = table_of()
    scaled = table.assign(loss=table["loss"] * 10**power)
    one = TwoStage().fit(table).predict_one("a", TARGET)
    two = TwoStage().fit(scaled).predict_one("a", TARGET)
    assert two.predicted == pytest.approx(one.predicted, abs=1e-4)
    assert two.lower80 == pytest.approx(one.lower80, abs=1e-3)
    assert two.loss_predicted == pytest.approx(one.loss_predicted * 10**power, rel=1e-4)


@given(st.floats(-9, 9), st.floats(-9, 9))
@settings(max_examples=12, deadline=None)
def test_the_units_of_params_and_tokens_change_no_prediction(one: float, two: float) -> None:
    n, d = 10**one, 10**two
    table = table_of()
    other = table.assign(params=table["params"] * n, tokens=table["tokens"] * d)
    first = TwoStage().fit(table).predict_one("a", TARGET)
    second = TwoStage().fit(other).predict_one("a", Target("7B", 6.9e9 * n, 4e12 * d))
    assert second.predicted == pytest.approx(first.predicted, abs=1e-4)
    assert second.loss_predicted == pytest.approx(first.loss_predicted, rel=1e-4)


@given(st.integers(0, 10_000), st.floats(1, 20), st.floats(1, 20))
@settings(max_examples=12, deadline=None)
def test_more_params_and_tokens_never_predict_worse(seed: int, n: float, d: float) -> None:
    model = TwoStage().fit(table_of(seed=seed))
    small, big = Target("s", 2e9, 2e11), Target("b", 2e9 * n, 2e11 * d)
    one, two = model.predict_one("a", small), model.predict_one("a", big)
    assert two.predicted >= one.predicted - 1e-9
    assert two.loss_predicted <= one.loss_predicted + 1e-12
    for p in (one, two):
        assert 0 <= p.lower95 <= p.lower80 <= p.predicted <= p.upper80 <= p.upper95 <= 1


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_extreme_losses_are_as_good_as_any(scale: float) -> None:
    table = table_of()
    one = TwoStage().fit(table).predict_one("a", TARGET)
    two = TwoStage().fit(table.assign(loss=table["loss"] * scale)).predict_one("a", TARGET)
    assert two.predicted == pytest.approx(one.predicted, abs=1e-3)


def test_identical_losses_are_marked() -> None:
    table = table_of().assign(loss=1.0)
    for method in ("default", "published", "own"):
        prediction = TwoStage(method).fit(table).predict_one("a", TARGET)
        assert prediction.status == "unpredictable" or "does not fall" in prediction.reason
        assert np.isfinite(prediction.predicted)


def test_reruns_weigh_as_one_and_change_little() -> None:
    table = table_of()
    again = table[table["run"] == "190M-1xC"].assign(run="190M-1xC-rerun")
    one = TwoStage().fit(table).predict_one("a", TARGET)
    two = TwoStage().fit(pd.concat([table, again], ignore_index=True)).predict_one("a", TARGET)
    assert two.loss_predicted == pytest.approx(one.loss_predicted, rel=1e-6)


def test_other_exponents_are_learnt_from_the_ladder() -> None:
    table = table_of(noise=0.001)
    for n in ("a", "b", "c"):
        own = table["task"] == n
        x = 3e4 * table.loc[own, "params"] ** -0.6 + 6e5 * table.loc[own, "tokens"] ** -0.55
        rng = np.random.default_rng(0)
        table.loc[own, "loss"] = (x + 0.7) * np.exp(0.001 * rng.standard_normal(own.sum()))
    table["accuracy"] = [true_accuracy(x) for x in table["loss"]]
    truth = 3e4 * 6.9e9**-0.6 + 6e5 * 4e12**-0.55 + 0.7
    model = TwoStage().fit(table)
    assert model.fits_["a"].step1.parameters["alpha"] > 0.45
    assert model.predict_one("a", TARGET).loss_predicted == pytest.approx(truth, rel=0.02)


def test_a_target_too_far_beyond_the_ladders_range_is_unpredictable() -> None:
    model = TwoStage().fit(table_of())
    # The ladder spans a factor of 6.7 in params, so that 6.7^4 = 2060 times its top is the limit.
    near, far = (model.predict_one("a", Target("t", 1.28e9 * f, 4e15)) for f in (1500, 3000))
    assert "more than 4 times the ladder's own range" not in near.reason
    assert far.status == "unpredictable"
    assert "more than 4 times the ladder's own range" in far.reason


def test_a_ladder_of_one_multiple_that_is_rounded_predicts_along_it() -> None:
    sizes = (1e8, 1.9e8, 3.7e8, 7.6e8, 1.28e9, 2e9)
    table = table_of(sizes=sizes, multiples=(1,))
    table["tokens"] *= 1 + 0.0002 * np.sin(table["params"])
    prediction = TwoStage().fit(table).predict_one("a", Target("7B", 6.9e9, 6.9e9 * 20.1))
    assert prediction.status == "extrapolated"


def test_a_task_measured_for_a_part_of_a_run_leaves_that_run_out() -> None:
    table = table_of()
    table["tokens"] *= table["step"] / 3
    early = (table["run"] == "1280M-10xC") & (table["task"] == "b") & (table["step"] > 2)
    model = TwoStage().fit(table[~early])
    assert len(model.fits_["b"].rungs) == 15
    assert len(model.fits_["a"].rungs) == 16
    assert model.pooled_ == ["a", "c"]
    assert {r.tokens for r in model.points_["shared"]["a"].rungs} == {
        r.tokens for r in model.fits_["a"].rungs
    }


def test_the_choice_of_tasks_changes_no_prediction() -> None:
    table = table_of()
    table.loc[(table["run"] == "190M-1xC") & (table["task"] == "a"), "final"] = False
    every = TwoStage().fit(table)
    one = TwoStage(tasks=["a"]).fit(table)
    assert one.predict_one("a", TARGET) == every.predict_one("a", TARGET)
    table.loc[table["run"] == "190M-1xC", "final"] = False
    assert TwoStage(tasks=["a"]).fit(table).unfinished_ == ["190M-1xC"]


def test_an_accuracy_of_nought_can_be_fitted_and_saved(tmp_path: Path) -> None:
    table = table_of()
    table.loc[table["params"] < 2e8, "accuracy"] = 0.0
    model = TwoStage().fit(table)
    model.save(tmp_path / "m.json")
    assert all(np.isfinite(f.relative_rms) for _, f in model.fits_["a"].steps())


def test_a_fit_that_fails_leaves_no_old_one_behind() -> None:
    model = TwoStage().fit(table_of())
    with pytest.raises(InputError, match="needs 3 rungs"):
        model.fit(table_of(sizes=(1e8,), multiples=(1, 2)))
    with pytest.raises(InputError, match="not fitted"):
        model.predict_targets([TARGET])
