"""Forecasts of runs in flight: known gaps, known ends, widths, and what is refused."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import true_accuracy, true_loss
from flights import SHARES, gap, in_flight

from predict import InputError, TwoStage
from predict.audit import actual_of
from predict.flight import Flight, flight_of
from predict.forecast import Estimate, Forecast, forecast, own_offset
from predict.schedule_gap import learn_gap, learn_gaps


def forecast_big(table: pd.DataFrame, *shares: float, method: str = "default") -> list[Forecast]:
    others = table[table["run"] != "big"]
    # One checkpoint a point, so that an end is the law's and no mean over a schedule's last part.
    model = TwoStage(method)
    model.method = _one_checkpoint(model)
    model.fit(others)
    flights = [Flight("big", 6.9e9, 200 * 6.9e9, share) for share in shares]
    return forecast(model, table, flights)


def _one_checkpoint(model: TwoStage):

    return replace(model.method, window=1)


def test_a_run_that_follows_the_known_gap_is_forecast_to_its_true_end() -> None:
    table = in_flight(factor=1.03, until=0.5)
    (found,) = forecast_big(table, 0.5)
    truth = 1.03 * true_loss(6.9e9, 200 * 6.9e9)
    ladder_error = abs(found.ladder_loss / truth - 1)
    assert ladder_error > 0.02
    assert found.own_loss == pytest.approx(truth, rel=0.004)
    assert found.loss_predicted == pytest.approx(truth, rel=0.006)
    assert found.loss_lower80 < truth < found.loss_upper80
    assert found.last_loss > 1.02 * truth
    assert found.predicted == pytest.approx(true_accuracy(truth), abs=0.01)
    assert abs(found.predicted - true_accuracy(truth)) < abs(
        found.ladder_predicted - true_accuracy(truth)
    )


def test_without_checkpoints_of_its_own_the_forecast_is_the_ladders_prediction() -> None:
    table = in_flight(until=0.5)
    (found,) = forecast_big(table, 0.01)
    assert found.checkpoints == 0
    assert found.tokens_seen == 0
    assert (found.loss_predicted, found.predicted) == pytest.approx(
        (found.ladder_loss, found.ladder_predicted)
    )
    assert (found.lower80, found.upper80) == (found.ladder_lower80, found.ladder_upper80)
    assert found.loss_lower80 == found.ladder_loss_lower80
    assert found.own_loss is None
    assert "no checkpoint of its own" in found.reason


def test_with_all_of_its_checkpoints_the_forecast_is_the_last_value() -> None:
    table = in_flight(factor=1.1)
    (found,) = forecast_big(table, 1.0)
    last = table[(table["run"] == "big") & table["final"]].iloc[0]
    assert found.loss_predicted == pytest.approx(last["loss"])
    assert found.predicted == pytest.approx(last["accuracy"])
    assert found.upper80 == pytest.approx(found.lower80)


def test_the_interval_shrinks_with_what_is_seen() -> None:
    rows = forecast_big(in_flight(noise=0.003), 0.1, 0.25, 0.5, 0.75, 0.95)
    losses = [r.loss_upper80 - r.loss_lower80 for r in rows]
    scores = [r.upper80 - r.lower80 for r in rows]
    assert losses == sorted(losses, reverse=True)
    assert scores == sorted(scores, reverse=True)
    ladder = rows[0].ladder_loss_upper80 - rows[0].ladder_loss_lower80
    assert losses[0] < ladder


def test_the_intervals_of_noisy_runs_off_the_law_hold_the_end() -> None:
    inside = []
    for factor in (0.97, 0.98, 0.99, 1.0, 1.01, 1.02, 1.03):
        for row in forecast_big(in_flight(factor, noise=0.003), 0.25, 0.5):
            truth = factor * true_loss(6.9e9, 200 * 6.9e9)
            inside.append(row.loss_lower80 <= truth <= row.loss_upper80)
    assert np.mean(inside) >= 0.8


def test_a_schedule_set_for_longer_has_the_gap_of_its_own_share() -> None:
    """A run cut short of its horizon is earlier in its schedule than its share says."""
    table = in_flight(until=0.5)
    half = table["run"] == "big"
    tokens = table.loc[half, "tokens"]
    shares = tokens / (400 * 6.9e9)
    table.loc[half, "loss"] = true_loss(6.9e9, tokens) * (1 + gap(shares))
    model = TwoStage()
    model.method = _one_checkpoint(model)
    model.fit(table[~half])
    end = 200 * 6.9e9
    told, untold = forecast(
        model,
        table,
        [Flight("big", 6.9e9, end, 0.5, 2 * end), Flight("big", 6.9e9, end, 0.5)],
    )
    truth = true_loss(6.9e9, end)
    assert told.own_loss == pytest.approx(truth, rel=0.006)
    assert untold.own_loss > truth * 1.01


def test_a_ladder_without_checkpoints_says_nothing_about_the_gap() -> None:
    table = in_flight(until=0.5)
    table = table[(table["run"] == "big") | table["final"]]
    (found,) = forecast_big(table, 0.5)
    assert "nothing says how a checkpoint relates to an end" in found.reason
    assert found.loss_predicted == pytest.approx(found.ladder_loss)


def test_checkpoints_far_below_the_ladders_runs_say_nothing() -> None:
    table = in_flight(end=30, until=0.3)
    others = table[table["run"] != "big"]
    model = TwoStage().fit(others)
    (found,) = forecast(model, table, [Flight("big", 6.9e9, 30 * 6.9e9, 0.3)])
    assert found.checkpoints == 0
    assert "shorter than half" in found.reason


def test_a_task_that_the_run_did_not_measure_keeps_the_ladders_prediction() -> None:
    table = in_flight(until=0.5)
    again = table[table["run"] != "big"].assign(task="other")
    (quiz, other) = forecast_big(pd.concat([table, again], ignore_index=True), 0.5)
    assert quiz.checkpoints > 0
    assert other.checkpoints == 0
    assert other.predicted == other.ladder_predicted


def test_the_gap_is_the_mean_over_rungs_and_none_at_the_end() -> None:
    curves = [(SHARES, 0.1 * (1 - SHARES) + off * (1 - SHARES)) for off in (-0.02, 0.02)]
    found = learn_gap(curves)
    mean, spread = found.at(np.array([0.5, 1.0]))
    assert mean == pytest.approx([0.05, 0], abs=1e-3)
    assert spread == pytest.approx([0.02 / math.sqrt(2), 0], abs=1e-3)
    assert learn_gap(curves[:1]) is None


def test_an_offset_weighs_late_checkpoints_more_and_knows_the_way_to_go() -> None:
    efolds = np.log(1 / np.array([0.25, 0.5, 0.9]))
    residuals = np.array([0.0, 0.0, 0.03])
    late = own_offset(residuals, 0.06 * efolds, efolds, np.zeros(3), 0.001)
    assert 0.02 < late.value < 0.04
    early = own_offset(residuals[:1], 0.06 * efolds[:1], efolds[:1], np.zeros(1), 0.001)
    assert early.variance > 4 * late.variance


def test_two_estimates_join_as_normal_ones_do() -> None:
    joined = Estimate(1.0, 4.0).with_prior(Estimate(3.0, 4.0))
    assert (joined.value, joined.variance) == (2.0, 2.0)
    assert Estimate(1.0, 4.0).with_prior(Estimate(3.0, math.inf)) == Estimate(1.0, 4.0)


def test_a_run_that_was_fitted_is_refused() -> None:
    table = in_flight()
    model = TwoStage().fit(table)
    with pytest.raises(InputError, match="fit without it"):
        forecast(model, table, [Flight("1.9e+08-1xC", 1.9e8, 3.8e9, 0.5)])


def test_the_published_runs_are_forecast_better_with_their_own_checkpoints(
    olmo_observations: Path,
) -> None:
    """3B-10xC at half its tokens, from the sixteen rungs."""
    table = pd.read_parquet(olmo_observations)
    tasks = [
        "mmlu_test_rc_5shot",
        "hellaswag_val_rc_5shot",
        "arc_easy_test_rc_5shot",
        "piqa_val_rc_5shot",
    ]
    table = table[table["task"].isin(tasks)]
    model = TwoStage(tasks=tasks).fit(table)
    rows = forecast(model, table, [flight_of(table, "3B-10xC", share=0.5)])
    own = table[table["run"] == "3B-10xC"].sort_values("step")
    ends = own.groupby("task")["loss"].apply(lambda x: x.tail(5).mean())
    ladder = np.mean([abs(math.log(r.ladder_loss / ends[r.task])) for r in rows])
    forecasts = np.mean([abs(math.log(r.loss_predicted / ends[r.task])) for r in rows])
    assert forecasts < 0.8 * ladder


def sparse(until: float) -> pd.DataFrame:
    """Checkpoints at every tenth of a run, as a ladder's own evaluations often are."""
    table = in_flight(factor=1.03, until=until)
    return table[table["step"] % 2 == 0].reset_index(drop=True)


def test_an_end_is_the_last_tenths_checkpoints_where_they_are_far_apart() -> None:
    truth = 1.03 * true_loss(6.9e9, 200 * 6.9e9)
    table = sparse(0.5)
    model = TwoStage().fit(table[table["run"] != "big"])
    (found,) = forecast(model, table, [Flight("big", 6.9e9, 200 * 6.9e9, 0.5)])
    # A rung's result is the mean of what it measured at .9 and at 1 of its schedule.
    assert found.own_loss == pytest.approx(truth * (1 + gap(0.95)), rel=0.004)


def test_the_forecast_of_a_run_that_has_ended_is_what_an_audit_takes_for_its_result() -> None:
    table = sparse(1.0)
    model = TwoStage().fit(table[table["run"] != "big"])
    (found,) = forecast(model, table, [Flight("big", 6.9e9, 200 * 6.9e9)])
    own = table[table["run"] == "big"]
    loss, accuracy = actual_of(own, "loss")
    assert (found.loss_predicted, found.predicted) == pytest.approx((loss, accuracy), rel=1e-12)


def test_runs_whose_end_has_no_accuracy_teach_no_gap_of_it() -> None:
    table = in_flight(until=0.5)
    late = table["tokens"] > 0.6 * table.groupby("run")["tokens"].transform("max")
    table.loc[late & (table["run"] != "big") & (table["params"] < 1e9), "accuracy"] = np.nan
    model = TwoStage().fit(table[table["run"] != "big"])
    rows = model.fitted_rows(table[table["run"] != "big"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gaps = learn_gaps(model.fits_["quiz"], rows, "loss", 5)
    assert gaps.loss.rungs == 16
    assert gaps.accuracy.rungs == 4
    assert np.isfinite(gaps.accuracy.mean).all()
