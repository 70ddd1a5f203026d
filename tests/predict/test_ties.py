"""Where points do not determine a fit, which of equal minima it takes is the data's, not luck's."""

from __future__ import annotations

import numpy as np
import pytest

from predict import fit as fitting
from predict.certificate import certify
from predict.fit import Objective, fit
from predict.laws import LAWS
from predict.problem import Prior, Problem

HUBER = Objective(delta=1e-3, log=True)
TWO_SIZES = np.repeat([1.9e8, 3.7e8], 4)
TOKENS = TWO_SIZES * 20 * np.tile([1, 2, 5, 10], 2)


def losses(seed: int) -> np.ndarray:
    exact = LAWS["chinchilla"].value([5, 0.3, 6, 0.3, 0.6], TWO_SIZES, TOKENS)
    return exact * np.exp(0.003 * np.random.default_rng(seed).standard_normal(8))


@pytest.mark.parametrize("seed", range(3))
def test_a_valley_of_equal_minima_gives_one_point_however_sums_are_rounded(seed: int) -> None:
    rng = np.random.default_rng(seed)
    orders = np.array([np.arange(8), *(rng.permutation(8) for _ in range(3))])
    inputs = [TWO_SIZES[orders], TOKENS[orders]]
    found = fit(LAWS["chinchilla"], inputs, losses(seed)[orders], HUBER)
    for other in found:
        # Two sizes leave the exponent of N free, at a bound of the floor, too.
        assert not other.determined
        assert other.covariance == ()
        assert other.theta == pytest.approx(found[0].theta, rel=1e-5, abs=1e-5)
        assert other.objective == pytest.approx(found[0].objective, rel=1e-9)


def test_the_point_taken_is_a_minimum_and_nearer_to_the_laws_own_start_than_others() -> None:
    law, values = LAWS["chinchilla"], losses(0)
    (found,) = fit(law, [TWO_SIZES[None], TOKENS[None]], values[None], HUBER)

    def objective(theta: np.ndarray) -> float:
        size = np.abs(np.log(law.value(theta, TWO_SIZES, TOKENS) / values))
        inside = np.minimum(size, HUBER.delta)
        return float((inside * (size - inside / 2)).sum())

    start = np.array(law.default_start)
    assert objective(found.theta) == pytest.approx(found.objective, rel=1e-4)
    # Along the valley: another exponent of N, with A and E that keep the losses of both sizes.
    terms = np.exp(found.parameters["a"] - found.parameters["alpha"] * np.log(TWO_SIZES[[0, -1]]))
    for alpha in (0.5 * found.parameters["alpha"], 1.5 * found.parameters["alpha"]):
        powers = TWO_SIZES[[0, -1]] ** -alpha
        amplitude = (terms[0] - terms[1]) / (powers[0] - powers[1])
        floor = found.parameters["E"] + terms[0] - amplitude * powers[0]
        other = np.array([np.log(amplitude), alpha, *found.theta[2:4], floor])
        assert objective(other) == pytest.approx(found.objective, rel=1e-4)
        if floor >= 0 and other[0] >= 0:
            assert np.linalg.norm(found.theta - start) < np.linalg.norm(other - start)


def test_a_fit_that_points_determine_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = np.repeat([1.9e8, 3.7e8, 7.6e8, 1.3e9], 4)
    tokens = sizes * 20 * np.tile([1, 2, 5, 10], 4)
    values = LAWS["chinchilla"].value([5, 0.3, 6, 0.3, 0.6], sizes, tokens)
    values = values * np.exp(0.01 * np.random.default_rng(0).standard_normal(16))

    def none(*_: object) -> None:
        raise AssertionError("there is no tie to settle")

    monkeypatch.setattr(fitting, "nearest", none)
    assert fit(LAWS["chinchilla"], [sizes[None], tokens[None]], values[None], HUBER)[0].determined


def test_a_bound_at_which_a_valley_ends_determines_nothing() -> None:
    law, values = LAWS["chinchilla"], losses(0)
    (found,) = fit(law, [TWO_SIZES[None], TOKENS[None]], values[None], HUBER)
    sizes = TWO_SIZES[[0, -1]]
    first, last = (
        np.exp(found.parameters["a"] - found.parameters["alpha"] * np.log(sizes))
        + found.parameters["E"]
    )
    alpha = np.log(first / last) / np.log(sizes[1] / sizes[0])
    theta = np.array([np.log(first) + alpha * np.log(sizes[0]), alpha, *found.theta[2:4], 0.0])
    problem = Problem(
        law,
        HUBER,
        [TWO_SIZES[None, None], TOKENS[None, None]],
        values[None, None],
        np.ones((1, 1, 8)),
        np.ones((1, 1, 1)),
        Prior(np.zeros(5), np.full(5, np.inf)),
    )
    place = theta[None, None]
    cost = problem.cost(problem.residuals(place)[0], place)
    (told,) = certify(problem, place, cost, np.array([8]), False, None)
    assert told.at_bound == ("E",)
    assert told.objective == pytest.approx(found.objective, rel=1e-6)
    assert not told.determined
