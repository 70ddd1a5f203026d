"""What few rungs say of the laws: gradients, posterior against brute force, units, the prior."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from conftest import synthetic, true_accuracy, true_loss

from evaluation.records import validate
from predict.beliefs import LAW, LINK, METHOD, OWN, Belief, believe
from predict.fit import Prior, refit
from predict.points import TaskPoints, task_points
from predict.problem import Objective
from predict.two_stage import TwoStage

TARGET = np.array([6.9e9]), np.array([4e12])


def points_of(table: pd.DataFrame) -> dict[str, TaskPoints]:
    rows = TwoStage().fitted_rows(validate(table))
    return {str(t): task_points(part, METHOD, "loss") for t, part in rows.groupby("task")}


def belief(table: pd.DataFrame, draws: int = 1) -> Belief:
    (found,) = believe(points_of(table), {"quiz": (0.25, 1000)}, (), draws, 0)
    return found


def variance(found: Belief, points: TaskPoints | None, which: int) -> np.ndarray:
    gradient = found.gradients(*TARGET)[which][:, 0]
    return np.einsum("mi,mij,mj->m", gradient, np.linalg.inv(found.precision(points)), gradient)


def test_a_ladder_without_noise_gives_back_its_law() -> None:
    log_loss, accuracy = belief(synthetic()).values(*TARGET)
    assert np.exp(log_loss[0, 0]) == pytest.approx(true_loss(6.9e9, 4e12), rel=0.03)
    assert accuracy[0, 0] == pytest.approx(true_accuracy(true_loss(6.9e9, 4e12)), abs=0.04)


def test_gradients_are_the_slopes_of_the_values() -> None:
    found = belief(synthetic())
    for which in (0, 1):
        gradient = found.gradients(*TARGET)[which][0, 0]
        for i in range(LAW.size + LINK.size):
            step = np.zeros(LAW.size + LINK.size)
            step[i] = 1e-6
            high, low = (
                replace(found, draws=found.draws + side * step).values(*TARGET)[which][0, 0]
                for side in (1, -1)
            )
            assert gradient[i] == pytest.approx((high - low) / 2e-6, abs=1e-5)


def test_the_covariance_is_that_of_refits_over_draws_of_laws_and_noise() -> None:
    points = points_of(synthetic())["quiz"]
    found = belief(synthetic())
    truth = found.draws[0, : LAW.size]
    # Priors narrow enough that the law is straight over them.
    sd = np.array([0.03, 0.01, 0.03, 0.01, 0.01])
    precision = found.prior_precision.copy()
    precision[:5, :5] = np.diag(sd**-2.0)
    found = replace(found, prior_precision=precision, noise=0.004)
    generator = np.random.default_rng(0)
    params, tokens = (np.array([getattr(r, k) for r in points.rungs]) for k in ("params", "tokens"))
    inputs = found.unit.inputs(params, tokens)
    laws = truth + sd * generator.standard_normal((4000, 5))
    clean, _ = LAW.evaluate(laws, inputs)
    seen = clean * np.exp(0.004 * generator.standard_normal(clean.shape))
    fitted = refit(
        LAW,
        [np.broadcast_to(x, clean.shape) for x in inputs],
        seen,
        Objective(log=True),
        np.ones(clean.shape),
        np.tile(truth, (4000, 1)),
        np.full(4000, 0.004),
        Prior(truth, sd),
    )
    off = fitted - laws
    expected = np.linalg.inv(found.precision(points)[0])[:5, :5]
    scale = np.sqrt(np.diag(expected))
    assert off.T @ off / 4000 / np.outer(scale, scale) == pytest.approx(
        expected / np.outer(scale, scale), abs=0.08
    )
    there = found.unit.inputs(*TARGET)
    errors = np.log(LAW.evaluate(fitted, there)[0] / LAW.evaluate(laws, there)[0])
    assert errors.std() == pytest.approx(np.sqrt(variance(found, points, 0)[0]), rel=0.05)


def test_more_rungs_are_more_certain_and_draws_lie_closer() -> None:
    few = synthetic(sizes=(1.9e8, 3.7e8), multiples=(1, 2))
    many = synthetic()
    spreads, errors = [], []
    for table in (few, many):
        found = belief(table, draws=64)
        spreads.append(found.values(*TARGET)[0].std())
        errors.append([variance(found, points_of(table)["quiz"], i)[0] for i in (0, 1)])
    assert spreads[1] < 0.7 * spreads[0]
    assert np.all(np.array(errors[1]) < errors[0])


def test_a_single_rung_is_enough_to_begin_with() -> None:
    found = belief(synthetic(sizes=(1.9e8,), multiples=(1,)), draws=8)
    assert np.isfinite(found.draws).all()
    seen = found.values(np.array([1.9e8]), np.array([3.8e9]))[0][0, 0]
    assert np.exp(seen) == pytest.approx(true_loss(1.9e8, 3.8e9), rel=0.05)


def test_without_observations_the_prior_stands_alone_and_the_candidates_set_the_units() -> None:
    (found,) = believe({}, {}, [(1e8, 2e9), (1e10, 2e11)], 4, 0)
    assert found.task == "prior"
    assert (found.unit.params, found.unit.tokens) == (pytest.approx(1e9), pytest.approx(2e10))
    assert found.draws[0] == pytest.approx(
        [np.log(0.3), 0.3, np.log(0.3), 0.3, 0.4, -0.75, 0.9, 5, 1]
    )
    assert found.draws.shape == (4, LAW.size + LINK.size)


def test_units_of_loss_and_of_counts_change_nothing() -> None:
    table = synthetic()
    other = table.assign(loss=table["loss"] * 3)
    other[["params", "tokens"]] *= 1e-4
    one, scaled = belief(table), belief(other)
    points, more = points_of(table)["quiz"], points_of(other)["quiz"]
    assert scaled.draws == pytest.approx(one.draws, rel=1e-4)
    small = one.information(1e9, 1e11)[0]
    assert scaled.information(1e5, 1e7)[0] == pytest.approx(small, rel=1e-3, abs=1e-6)
    assert scaled.precision(more) == pytest.approx(one.precision(points), rel=1e-3, abs=1e-3)


def test_a_task_without_an_accuracy_says_nothing_of_step_2() -> None:
    table = synthetic().assign(accuracy=np.nan, chance=np.nan)
    found = belief(table)
    assert not found.has_accuracy
    assert not found.information(1e9, 1e11)[0, LAW.size :].any()


def test_exponents_lie_about_what_all_tasks_have_in_common() -> None:
    found = believe(
        points_of(synthetic(tasks=("a", "b"))), dict.fromkeys("ab", (0.25, None)), (), 1, 0
    )
    for one in found:
        spread = 1 / np.sqrt(one.prior_precision[1, 1])
        assert OWN.priors[0].sd < spread < 0.1
