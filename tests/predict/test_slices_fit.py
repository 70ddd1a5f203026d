"""Exact fits of one variable: known answers, certified minima, intervals that hold the truth."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import least_squares

from predict.slices_fit import (
    EXPONENTIAL,
    NO_FLOOR,
    POWER,
    Form,
    floor_interval,
    minima,
    rate_interval,
    solve,
)

X = np.geomspace(1e4, 1e6, 7)


def made(form: Form, rate: float, floor: float = 2.0, height: float = 0.8) -> np.ndarray:
    t = form.variable(X) - form.variable(X).min()
    return floor * form.has_floor + height * np.exp(-rate * t)


@pytest.mark.parametrize("rate", [0.05, 0.3, 0.749, 1.028, 2.4])
@pytest.mark.parametrize("form", [POWER, EXPONENTIAL, NO_FLOOR])
def test_a_law_is_recovered_from_its_own_values(form: Form, rate: float) -> None:
    if form is EXPONENTIAL:
        rate = rate / 1e5
    losses = made(form, rate)
    found = solve(form, X, losses)
    assert found.rate[0] == pytest.approx(rate, rel=1e-7)
    assert found.height[0] == pytest.approx(0.8, rel=1e-7)
    assert found.floor[0] == pytest.approx(2.0 * form.has_floor, abs=1e-7)
    assert found.rss[0] < 1e-14
    assert not found.at_end[0]
    assert minima(form, X, losses) == 1
    assert found.values(form, X, X)[0] == pytest.approx(losses, rel=1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_no_least_squares_from_the_truth_or_elsewhere_goes_lower(seed: int) -> None:
    rng = np.random.default_rng(seed)
    losses = made(POWER, 0.7) + 0.01 * rng.standard_normal(7)
    found = solve(POWER, X, losses)
    best = np.inf
    for start in ((2.0, 0.8, 0.7), (1.0, 1.0, 0.3), (2.5, 0.3, 1.5)):
        other = least_squares(
            lambda p: p[0] + p[1] * (X / X[0]) ** -p[2] - losses,
            start,
            bounds=([0, 0, 1e-3], [np.inf, np.inf, 20]),
            xtol=1e-14,
            ftol=1e-14,
            gtol=1e-14,
        )
        best = min(best, 2 * other.cost)
    assert found.rss[0] <= best * (1 + 1e-9)


def test_the_floor_never_falls_below_zero_nor_the_law_rises() -> None:
    steeper = 0.5 * np.exp(-(np.linspace(0, 1, 7) ** 2))
    assert solve(POWER, X, steeper).floor[0] == 0
    rising = np.linspace(1, 2, 7)
    found = solve(POWER, X, rising)
    assert found.height[0] == 0
    assert found.floor[0] == pytest.approx(1.5)


def test_a_weight_of_zero_leaves_a_point_out() -> None:
    losses = made(POWER, 0.7)
    spoilt = losses.copy()
    spoilt[3] = 9.0
    weights = np.ones((1, 7))
    weights[0, 3] = 0
    assert solve(POWER, X, spoilt, weights).rate[0] == pytest.approx(0.7, rel=1e-6)


def test_points_that_fall_in_one_step_do_not_bound_the_rate() -> None:
    losses = np.r_[3.0, np.full(6, 2.0)]
    assert solve(POWER, X, losses).at_end[0]
    low, high = rate_interval(POWER, X, losses + 1e-3 * np.sin(np.arange(7)))
    assert low is not None
    assert high is None


def test_profile_intervals_hold_the_truth_about_95_times_in_100() -> None:
    held = {"rate": 0, "floor": 0}
    x, count = np.geomspace(1, 100, 6), 60
    for seed in range(count):
        y = 2 + 0.8 * x**-0.7 + 0.003 * np.random.default_rng(seed).standard_normal(6)
        low, high = rate_interval(POWER, x, y)
        held["rate"] += (low or 0) <= 0.7 <= (np.inf if high is None else high)
        low, high = floor_interval(POWER, x, y)
        held["floor"] += (low or 0) <= 2.0 <= (np.inf if high is None else high)
    # 95% of 60 are 57 with a standard deviation of 1.7.
    assert held["rate"] >= 52
    assert held["floor"] >= 52
    assert held["rate"] + held["floor"] < 120


def test_no_interval_without_a_point_to_spare() -> None:
    assert rate_interval(POWER, X[:3], made(POWER, 0.7)[:3]) == (None, None)
    assert floor_interval(POWER, X[:3], made(POWER, 0.7)[:3]) == (None, None)
