"""Every approach on tables made from a law, side by side, with what cannot be told said so."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_curves import EQUAL, HOFFMANN_LAW, isoflop_runs, loss_of, made

from evaluation.records import read_observations
from predict.allocate import allocate, complete, default_task, published_allocation
from predict.allocation import Allocation, Question, Row
from predict.flops import SIX_ND
from predict.laws import InputError
from predict.optimum import chinchilla_params

BUDGET = Question(flops=1e21)


def by_name(found: Allocation) -> dict[str, Row]:
    return {row.approach: row for row in found.rows}


@pytest.fixture(scope="module")
def noisy() -> Allocation:
    table = made(HOFFMANN_LAW, sizes=np.geomspace(7e7, 1e10, 10), noise=0.002)
    return allocate(table, Question(flops=1e21, target_loss=2.3, served_tokens=1e12), replicates=60)


@pytest.mark.parametrize(("theta", "exponent"), [(HOFFMANN_LAW, 0.4565), (EQUAL, 0.5)])
def test_chinchillas_three_approaches_agree_on_curves_made_from_a_law(
    theta: np.ndarray, exponent: float
) -> None:
    rows = by_name(allocate(made(theta), BUDGET, replicates=0))
    best = chinchilla_params(theta, 1e21)
    for name in ("envelope", "isoflop", "parametric"):
        row = rows[name]
        assert row.exponent_params is not None
        assert row.params is not None
        assert row.tokens is not None
        assert row.status == "ok"
        assert row.exponent_params.value == pytest.approx(exponent, abs=2e-3)
        assert row.params.value == pytest.approx(best, rel=0.02)
        assert 6 * row.params.value * row.tokens.value == pytest.approx(1e21)
    assert rows["parametric"].exponent_tokens.value == pytest.approx(1 - exponent, abs=1e-4)
    loss = rows["parametric"].loss.value
    assert loss == pytest.approx(loss_of(theta, best, 1e21 / 6 / best), rel=1e-5)


def test_finished_isoflop_runs_are_enough(tmp_path: Path) -> None:
    table = isoflop_runs(HOFFMANN_LAW, (6e18, 3e19, 1e20, 6e20, 3e21), noise=0.001)
    rows = by_name(allocate(table, BUDGET, replicates=50))
    for name in ("isoflop", "parametric"):
        row = rows[name]
        assert row.exponent_params.lower80 < 0.4565 < row.exponent_params.upper80
        assert row.exponent_params.upper80 - row.exponent_params.lower80 < 0.1


def test_intervals_hold_the_truth_and_are_narrow_where_noise_is_small(noisy: Allocation) -> None:
    for name in ("envelope", "isoflop", "parametric"):
        exponent = by_name(noisy)[name].exponent_params
        assert exponent.lower80 <= exponent.value <= exponent.upper80
        assert exponent.lower80 - 0.02 < 0.4565 < exponent.upper80 + 0.02
        assert exponent.upper80 - exponent.lower80 < 0.12


def test_the_same_seed_gives_the_same_intervals_and_another_one_others() -> None:
    table = made(HOFFMANN_LAW, sizes=np.geomspace(1e8, 2e9, 5), noise=0.003, checkpoints=3)
    first, again, other = (allocate(table, BUDGET, replicates=20, seed=s) for s in (0, 0, 1))
    assert first == again
    assert by_name(first)["parametric"] != by_name(other)["parametric"]
    assert by_name(first)["parametric"].params.value == by_name(other)["parametric"].params.value


def test_an_optimum_outside_the_runs_is_marked_and_says_by_how_much() -> None:
    table = made(HOFFMANN_LAW, sizes=np.geomspace(1e8, 2e9, 6))
    inside, outside = (
        by_name(allocate(table, Question(flops=c), replicates=0)) for c in (1e20, 1e24)
    )
    assert inside["parametric"].status == "ok"
    assert outside["parametric"].status == outside["envelope"].status == "extrapolated"
    assert "params" in outside["parametric"].reason
    assert "times the runs' most" in outside["parametric"].reason


def test_one_size_and_two_sizes_are_refused_in_one_line() -> None:
    for sizes in ((1e8,), (1e8, 4e8)):
        with pytest.raises(InputError, match="a split of compute needs 3 sizes or more"):
            allocate(made(HOFFMANN_LAW, sizes=sizes), BUDGET)


def test_too_few_points_make_an_approach_impossible_and_leave_the_others() -> None:
    table = made(HOFFMANN_LAW, sizes=(1e8, 4e8, 1.6e9), multiples=(1, 2))
    rows = by_name(allocate(table, BUDGET, replicates=10))
    assert rows["isoflop"].status == "impossible"
    assert "3 sizes with the same FLOPs" in rows["isoflop"].reason
    assert rows["isoflop"].params is None
    assert rows["parametric"].params is not None


def test_runs_that_all_have_20_tokens_a_parameter_determine_no_law_of_n_and_d() -> None:
    table = made(HOFFMANN_LAW, multiples=(1,), sizes=np.geomspace(1e8, 1e10, 8), checkpoints=1)
    with pytest.raises(InputError, match="every run has 20 tokens a parameter"):
        allocate(table, BUDGET, replicates=0)


def test_exact_flops_move_the_split_by_what_a_token_costs_more() -> None:
    table = made(HOFFMANN_LAW, sizes=np.geomspace(1e8, 2e9, 6))
    plain = by_name(allocate(table, BUDGET, replicates=0))["parametric"]
    found = allocate(table, BUDGET, replicates=0, exact=True)
    exact = by_name(found)["parametric"]
    assert found.counted_by.name == "table"
    # The table says 7 N D: the budget buys what 6/7 of it would at 6 N D.
    best = chinchilla_params(HOFFMANN_LAW, 1e21 * 6 / 7)
    assert exact.params.value == pytest.approx(best, rel=1e-3)
    assert 7 * exact.params.value * exact.tokens.value == pytest.approx(1e21)
    assert plain.params.value > exact.params.value


def test_kaplans_steps_want_nats_and_the_batch() -> None:
    table = made(HOFFMANN_LAW, sizes=np.geomspace(1e8, 2e9, 5), checkpoints=2)
    assert by_name(allocate(table, BUDGET, replicates=0))["kaplan-s"].params is not None
    bits = made(HOFFMANN_LAW, sizes=np.geomspace(1e8, 2e9, 5), checkpoints=2, unit="bits/byte")
    assert "nats/token" in by_name(allocate(bits, BUDGET, replicates=0))["kaplan-s"].reason
    bare = table.drop(columns="batch_tokens")
    assert "batch_tokens" in by_name(allocate(bare, BUDGET, replicates=0))["kaplan-s"].reason


def test_two_of_three_give_the_third_and_the_losses_of_that_model() -> None:
    table = made(HOFFMANN_LAW, sizes=np.geomspace(1e8, 2e9, 6), checkpoints=2)
    found = allocate(table, Question(params=7e9, tokens=1.4e11), replicates=20)
    assert found.implied.flops == pytest.approx(6 * 7e9 * 1.4e11)
    assert found.question.flops == found.implied.flops
    assert found.implied.losses["parametric"].value == pytest.approx(
        loss_of(HOFFMANN_LAW, 7e9, 1.4e11), rel=1e-6
    )
    assert complete(Question(flops=6e20, params=1e9), SIX_ND).tokens == pytest.approx(1e11)
    assert complete(Question(flops=6e20, tokens=1e11), SIX_ND).params == pytest.approx(1e9)
    for alone in (Question(params=1e9), Question(tokens=1e9)):
        with pytest.raises(InputError, match="give --flops as well"):
            complete(alone, SIX_ND)
    with pytest.raises(InputError, match="give two"):
        complete(Question(params=1e9, tokens=1e9, flops=1e20), SIX_ND)


def test_the_cheapest_model_saves_most_where_it_serves_most(noisy: Allocation) -> None:
    (parametric,) = (row for row in noisy.served if row.approach == "parametric")
    assert 0 < parametric.saved < 1
    total = parametric.training_flops + parametric.serving_flops
    assert parametric.serving_flops == pytest.approx(2 * parametric.params.value * 1e12)
    assert total > parametric.training_flops
    assert parametric.params.lower80 < parametric.params.value < parametric.params.upper80


def test_a_target_loss_below_the_floor_is_impossible_and_says_so() -> None:
    table = made(HOFFMANN_LAW, sizes=np.geomspace(1e8, 2e9, 5), checkpoints=2)
    found = allocate(table, Question(target_loss=1.5), replicates=0)
    parametric = next(row for row in found.served if row.approach == "parametric")
    assert parametric.status == "impossible"
    assert "the law's own floor is 1.69" in parametric.reason


def test_repeated_data_move_the_split_only_where_they_are_scarce() -> None:
    table = made(HOFFMANN_LAW, sizes=np.geomspace(1e8, 2e9, 5), checkpoints=2)
    plenty, scarce = (
        by_name(allocate(table, Question(flops=1e22, unique_tokens=u), replicates=0))
        for u in (1e13, 2e10)
    )
    assert plenty["repeated"].params.value == pytest.approx(
        plenty["parametric"].params.value, rel=1e-3
    )
    assert scarce["repeated"].loss.value > scarce["parametric"].loss.value


def test_published_constants_answer_without_a_table() -> None:
    found = published_allocation(Question(flops=5.76e23, target_loss=2.0, unique_tokens=1e11))
    rows = by_name(found)
    assert rows["hoffmann-1"].params.value == pytest.approx(67e9)
    assert rows["hoffmann-3"].params.value == pytest.approx(40.4e9, rel=2e-3)
    assert rows["besiroglu-2024"].exponent_params.value == pytest.approx(0.513, abs=1e-3)
    assert rows["kaplan-2020"].params.value > 5 * rows["hoffmann-1"].params.value
    assert rows["muennighoff-2023"].tokens is not None
    assert {row.status for row in found.rows} == {"published"}
    assert all(row.params is None for row in published_allocation(Question(target_loss=2.0)).rows)


def test_the_default_task_is_an_lm_set_and_several_tasks_without_one_must_be_named() -> None:
    table = made(HOFFMANN_LAW, sizes=(1e8, 2e8), checkpoints=1)
    quiz = table.assign(task="quiz", loss_unit="bits/byte")
    assert default_task(pd.concat([quiz, table])) == "held-out"
    assert default_task(quiz) == "quiz"
    with pytest.raises(InputError, match="name a task with --task: other, quiz"):
        default_task(pd.concat([quiz, quiz.assign(task="other")]))
    with pytest.raises(InputError, match="matches no task"):
        allocate(made(HOFFMANN_LAW, checkpoints=1), BUDGET, task="quiz")


def test_the_document_is_json() -> None:
    table = made(HOFFMANN_LAW, sizes=np.geomspace(1e8, 2e9, 5), checkpoints=2)
    question = Question(flops=1e22, target_loss=2.3, served_tokens=1e12)
    document = json.loads(json.dumps(allocate(table, question, replicates=5).document()))
    assert document["version"] == 1
    assert document["flops"] == 1e22
    assert {row["approach"] for row in document["rows"]} >= {"envelope", "isoflop", "kaplan"}
    assert document["cheapest"][0]["approach"] == "parametric"
    assert document["overfitting"]["published"]["exponent"] == pytest.approx(0.738, abs=1e-3)


def test_the_published_logs_two_schedule_matched_approaches_agree(
    olmo_observations: Path,
) -> None:
    table = read_observations(olmo_observations)
    rungs = ("190M-*", "370M-*", "760M-*", "1B-*", "3B-*")
    rows = by_name(allocate(table, Question(flops=1e22), rungs, replicates=0))
    assert rows["envelope"].exponent_params.value == pytest.approx(0.43, abs=0.03)
    assert rows["isoflop"].exponent_params.value == pytest.approx(0.43, abs=0.03)
    ratio = rows["isoflop"].params.value / rows["envelope"].params.value
    assert ratio == pytest.approx(1, abs=0.1)


def test_a_law_without_a_floor_is_called_a_misfit_where_the_loss_has_one() -> None:
    table = made(EQUAL, sizes=np.geomspace(1e8, 3e9, 6), checkpoints=1, noise=0.001)
    misfits = allocate(table, BUDGET, replicates=0).misfits()
    assert misfits["kaplan"] > 1.5
    assert "parametric" not in misfits


def test_a_feature_that_rises_with_scale_is_no_loss() -> None:
    table = made(EQUAL, sizes=np.geomspace(1e8, 3e9, 6), checkpoints=1)
    table["soft"] = 1 / table["loss"]
    with pytest.raises(InputError, match="'soft': does not fall with FLOPs"):
        allocate(table, BUDGET, feature="soft")


def test_a_loss_that_a_law_without_a_floor_reaches_at_no_price_is_impossible() -> None:
    table = made(EQUAL, sizes=np.geomspace(1e8, 3e9, 6), checkpoints=1)
    found = allocate(table, Question(target_loss=0.01), replicates=0)
    kaplan = next(row for row in found.served if row.approach == "kaplan")
    assert kaplan.status == "impossible"
    assert "FLOPs by this law" in kaplan.reason
