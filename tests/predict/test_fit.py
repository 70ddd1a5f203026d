"""Fits recover known constants, reach the brute-force optimum, and say how sure they are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import curve_fit, least_squares, minimize

from predict.fit import Objective, Prior, fit, refit
from predict.laws import LAWS, InputError

HUBER = Objective(delta=1e-3, log=True)
SIZES = np.repeat([1.9e8, 3.7e8, 7.6e8, 1.28e9], 4)
TOKENS = SIZES * 20 * np.tile([1, 2, 5, 10], 4)


def ladder(theta: list[float], noise: float = 0, seed: int = 0) -> np.ndarray:
    exact = LAWS["chinchilla"].value(theta, SIZES, TOKENS)
    return exact * np.exp(noise * np.random.default_rng(seed).standard_normal(len(exact)))


@given(
    st.floats(3, 7),
    st.floats(0.2, 0.6),
    st.floats(4, 7),
    st.floats(0.2, 0.6),
    st.floats(0.3, 2),
)
@settings(max_examples=15, deadline=None)
def test_a_law_is_recovered_from_its_own_values(
    a: float, alpha: float, b: float, beta: float, floor: float
) -> None:
    theta = [a, alpha, b, beta, floor]
    found = fit(LAWS["chinchilla"], [SIZES[None], TOKENS[None]], ladder(theta)[None], HUBER)[0]
    target = LAWS["chinchilla"].value(theta, 7e9, 4e12)
    assert LAWS["chinchilla"].value(found.theta, 7e9, 4e12) == pytest.approx(target, rel=0.01)
    assert found.parameters["E"] == pytest.approx(floor, rel=0.01, abs=0.01)


@pytest.mark.parametrize("seed", range(4))
def test_the_best_objective_is_no_worse_than_brute_force(seed: int) -> None:
    values = ladder([5, 0.3, 6, 0.3, 0.6], noise=0.01, seed=seed)
    found = fit(LAWS["chinchilla"], [SIZES[None], TOKENS[None]], values[None], HUBER)[0]

    def residuals(theta: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore"):
            return np.log(LAWS["chinchilla"].value(theta, SIZES, TOKENS) / values)

    rng = np.random.default_rng(seed)
    best = np.inf
    for _ in range(60):
        start = [rng.uniform(0, 12), rng.uniform(0, 1), rng.uniform(0, 12), rng.uniform(0, 1)]
        result = least_squares(
            residuals,
            [*start, rng.uniform(0, 0.8)],
            loss="huber",
            f_scale=1e-3,
            bounds=([0] * 5, np.inf),
            x_scale="jac",
            ftol=1e-13,
            xtol=1e-13,
            gtol=1e-13,
            max_nfev=2000,
        )
        best = min(best, result.cost)
    assert found.objective <= best * (1 + 1e-6)
    assert found.certified


def test_the_link_is_recovered_and_certified() -> None:
    theta = [-0.7, 0.95, 6.0, 0.97]
    loss = np.linspace(0.7, 1.5, 40)
    values = LAWS["sigmoid"].value(theta, loss)
    found = fit(LAWS["sigmoid"], [loss[None]], values[None], Objective())[0]
    assert found.theta == pytest.approx(theta, rel=1e-4)
    assert found.certified
    assert found.at_bound == ()
    assert found.relative_rms < 1e-6


def test_a_parameter_on_its_bound_is_reported() -> None:
    theta = [5, 0.3, 6, 0.3, 0.0]
    values = ladder(theta) - 0.05
    found = fit(LAWS["chinchilla"], [SIZES[None], TOKENS[None]], values[None], HUBER)[0]
    assert found.at_bound == ("E",)


def test_ragged_problems_are_fitted_as_each_alone() -> None:
    values = np.stack([ladder([5, 0.3, 6, 0.3, 0.5], 0.01, s) for s in (1, 2)])
    weights = np.ones_like(values)
    weights[1, 12:] = 0
    both = fit(
        LAWS["chinchilla"],
        [np.tile(SIZES, (2, 1)), np.tile(TOKENS, (2, 1))],
        values,
        HUBER,
        weights,
    )
    alone = fit(LAWS["chinchilla"], [SIZES[None, :12], TOKENS[None, :12]], values[1:, :12], HUBER)[
        0
    ]
    assert both[1].points == 12
    assert both[1].objective == pytest.approx(alone.objective, rel=1e-6)


@pytest.mark.parametrize("noise", [None, (0.002, 0.05)])
def test_fits_in_small_batches_are_to_the_bit_those_of_one_batch(
    noise: tuple[float, float] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    thetas = rng.uniform([3, 0.2, 4, 0.2, 0], [6, 0.5, 6, 0.5, 1], (12, 5)).tolist()
    values = np.array([ladder(t, noise=0.02, seed=i) for i, t in enumerate(thetas)])
    inputs = [np.broadcast_to(x, values.shape) for x in (SIZES, TOKENS)]
    law, objective = LAWS["chinchilla_scaled"], Objective(delta=1.0, log=True)
    whole = fit(law, inputs, values, objective, noise=noise)
    monkeypatch.setattr("predict.fit.LARGEST_BATCH", 5 * 16 * law.size * law.cells(inputs))
    assert fit(law, inputs, values, objective, noise=noise) == whole
    alone = [
        fit(law, [x[i : i + 1] for x in inputs], values[i : i + 1], objective, noise=noise)[0]
        for i in range(len(values))
    ]
    assert alone == whole


def test_fewer_points_than_parameters_are_refused() -> None:
    with pytest.raises(InputError, match="4 points for 5 parameters"):
        fit(LAWS["chinchilla"], [SIZES[None, :4], TOKENS[None, :4]], np.ones((1, 4)), HUBER)


@pytest.mark.parametrize("scale", [1.0, 1e30])
def test_a_fit_does_not_depend_on_the_unit_of_the_loss(scale: float) -> None:
    values = scale * ladder([5, 0.3, 6, 0.3, 0.5], noise=0.003)
    found = fit(LAWS["chinchilla"], [SIZES[None], TOKENS[None]], values[None], HUBER)[0]
    one = fit(LAWS["chinchilla"], [SIZES[None], TOKENS[None]], values[None] / scale, HUBER)[0]
    assert found.objective == pytest.approx(one.objective, rel=1e-6)
    assert found.parameters["alpha"] == pytest.approx(one.parameters["alpha"], rel=1e-3)


def test_losses_beyond_the_bounds_give_a_finite_fit_that_says_so() -> None:
    values = 1e-30 * ladder([5, 0.3, 6, 0.3, 0.5])
    found = fit(LAWS["chinchilla"], [SIZES[None], TOKENS[None]], values[None], HUBER)[0]
    assert np.isfinite(found.theta).all()
    assert found.at_bound


def test_a_link_through_one_accuracy_is_undetermined_by_a_finite_number() -> None:
    loss = np.linspace(0.7, 1.5, 40)
    found = fit(LAWS["sigmoid"], [loss[None]], np.full((1, 40), 0.5), Objective())[0]
    assert found.parameters["b"] == pytest.approx(0.5)
    assert np.isfinite(found.condition)
    assert not found.determined
    assert "do not determine" in found.doubt


def test_a_certified_fit_reaches_the_best_of_a_thousand_starts() -> None:
    values = ladder([5, 0.3, 6, 0.3, 0.6], noise=0.01, seed=7)
    found = fit(LAWS["chinchilla"], [SIZES[None], TOKENS[None]], values[None], HUBER)[0]
    rng = np.random.default_rng(0)
    best = np.inf
    for _ in range(1000):
        start = [
            rng.uniform(0, 15),
            rng.uniform(0, 1),
            rng.uniform(0, 15),
            rng.uniform(0, 1),
            rng.uniform(0, 1),
        ]
        best = min(
            best, minimize(huber_sum, start, (values,), jac=True, bounds=[(0, None)] * 5).fun
        )
    assert found.certified
    assert found.objective <= best * (1 + 1e-6)


def huber_sum(theta: np.ndarray, values: np.ndarray) -> tuple[float, np.ndarray]:
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        value, gradient = LAWS["chinchilla"].evaluate(theta, [SIZES, TOKENS])
        residual = np.log(value / values)
        size = np.minimum(np.abs(residual), 1e-3)
        slope = np.clip(residual, -1e-3, 1e-3) / value
        return float((size * (np.abs(residual) - size / 2)).sum()), slope @ gradient


def test_a_prior_pulls_what_the_points_leave_open_and_nothing_else() -> None:
    law = LAWS["chinchilla_scaled"]
    theta = [-1.0, 0.3, -0.8, 0.3, 0.6]
    exact = law.value(theta, SIZES, TOKENS)
    prior = Prior(np.array([0, 0.5, 0, 0.5, 0]), np.array([np.inf, 0.05, np.inf, 0.05, np.inf]))
    noise = (0.002, 0.05)
    clear, vague = (
        fit(
            law,
            [SIZES[None], TOKENS[None]],
            (exact * np.exp(sd * np.random.default_rng(1).standard_normal(16)))[None],
            Objective(2.0, log=True),
            noise=noise,
            prior=prior,
        )[0]
        for sd in (0.0, 0.03)
    )
    assert clear.noise < 0.003
    assert 0.005 < vague.noise < 0.05
    assert abs(vague.parameters["alpha"] - 0.5) < abs(clear.parameters["alpha"] - 0.5)


def test_the_noise_is_the_residuals() -> None:
    law = LAWS["chinchilla_scaled"]
    exact = law.value([-1.0, 0.3, -0.8, 0.3, 0.6], SIZES, TOKENS)
    rng = np.random.default_rng(0)
    values = exact * np.exp(0.01 * rng.standard_normal((40, 16)))
    same = [np.broadcast_to(x, values.shape) for x in (SIZES, TOKENS)]
    prior = Prior(np.array([0, 0.3, 0, 0.3, 0]), np.array([np.inf, 0.05, np.inf, 0.05, np.inf]))
    found = fit(law, same, values, Objective(2.0, log=True), noise=(1e-4, 1.0), prior=prior)
    assert np.median([f.noise for f in found]) == pytest.approx(0.01, rel=0.15)


def test_the_covariance_is_that_of_least_squares() -> None:
    law = LAWS["sigmoid"]
    x = np.linspace(0.4, 1.6, 400)
    rng = np.random.default_rng(0)
    y = law.value([-0.7, 0.9, 6, 0.95], x) + 0.01 * rng.standard_normal(400)
    found = fit(law, [x[None]], y[None], Objective())[0]
    reference = curve_fit(
        lambda x, *theta: law.value(theta, x), x, y, p0=[-0.7, 0.9, 6, 0.95], absolute_sigma=False
    )[1]
    assert np.array(found.covariance) == pytest.approx(reference, rel=0.01, abs=1e-12)


def test_shared_errors_widen_the_covariance() -> None:
    law = LAWS["sigmoid"]
    x = np.tile(np.linspace(0.4, 1.6, 40), 10)
    groups = np.repeat(np.arange(10), 40)
    rng = np.random.default_rng(0)
    y = law.value([-0.7, 0.9, 6, 0.95], x) + 0.02 * rng.standard_normal(10)[groups]
    y += 0.005 * rng.standard_normal(400)
    alone = fit(law, [x[None]], y[None], Objective())[0]
    shared = fit(law, [x[None]], y[None], Objective(), clusters=groups[None])[0]
    ceiling = law.names.index("b")
    # Ten runs that share an offset of .02 leave a level uncertain by .02 / sqrt(10).
    assert shared.covariance[ceiling][ceiling] == pytest.approx(0.02**2 / 10, rel=0.6)
    assert shared.covariance[ceiling][ceiling] > 1.3 * alone.covariance[ceiling][ceiling]
    assert shared.parameters == alone.parameters


def test_refitting_from_the_optimum_stays_there() -> None:
    law = LAWS["chinchilla"]
    values = ladder([5, 0.3, 6, 0.3, 0.6], noise=0.01)[None]
    found = fit(law, [SIZES[None], TOKENS[None]], values, HUBER)[0]
    again = refit(
        law,
        [SIZES[None], TOKENS[None]],
        values,
        HUBER,
        np.ones_like(values),
        found.theta[None],
        np.ones(1),
    )
    assert again[0] == pytest.approx(found.theta, rel=1e-3)
