"""Intervals: made of their parts, nested, and inside what is possible."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from predict.intervals import Uncertainty, interval, sampling_noise
from predict.methods import Widths

SHARE = st.floats(0, 1)


def test_the_parts_add_in_squares_with_their_weights() -> None:
    parts = Uncertainty(parameters=0.04, spread=0.03, climb=0.2, noise=0.01)
    found = parts.standard_error(Widths(climb=0.1, spread=1, parameters=0.5))
    assert found == pytest.approx(math.sqrt(0.02**2 + 0.03**2 + 0.02**2 + 0.01**2))


@given(SHARE, st.floats(0, 0.5))
def test_intervals_are_nested_and_stay_between_nought_and_one(value: float, error: float) -> None:
    found = interval(value, error, 0.0, 1.0)
    assert 0 <= found.lower95 <= found.lower80 <= value
    assert value <= found.upper80 <= found.upper95 <= 1


def test_eighty_per_cent_of_a_normal_error_are_inside() -> None:
    found = interval(0.5, 0.1, 0.0, 1.0)
    assert found.upper80 - 0.5 == pytest.approx(0.12816, abs=1e-4)
    assert found.upper95 - 0.5 == pytest.approx(0.196, abs=1e-4)


def test_a_measured_accuracys_noise_is_binomial_and_between_checkpoints() -> None:
    assert sampling_noise(0.5, 100, None) == pytest.approx(0.05)
    assert sampling_noise(0.5, 100, 0.12) == pytest.approx(0.13)
    assert sampling_noise(0.5, None, None) == 0
