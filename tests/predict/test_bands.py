"""Bands about the fits are the intervals that predictions have."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from evaluation.records import validate
from predict import Target, TwoStage
from predict.bands import accuracy_band, loss_band, loss_curve


@pytest.fixture
def model(observations: pd.DataFrame) -> TwoStage:
    table = validate(observations)
    table["loss"] *= np.exp(0.005 * np.random.default_rng(0).standard_normal(len(table)))
    return TwoStage("published").fit(table)


def test_the_loss_band_is_the_interval_of_a_prediction_at_every_number_of_tokens(
    model: TwoStage,
) -> None:
    tokens = np.array([1e10, 1e11, 4e12])
    band = loss_band(model.fits_["quiz"], model.method, 6.9e9, tokens)
    assert band.lower is not None
    assert band.upper is not None
    for index, count in enumerate(tokens):
        told = model.predict_one("quiz", Target("x", 6.9e9, count))
        assert band.middle[index] == pytest.approx(told.loss_predicted)
        assert band.lower[index] == pytest.approx(told.loss_lower80)
        assert band.upper[index] == pytest.approx(told.loss_upper80)
    assert loss_curve(model.fits_["quiz"], 6.9e9, tokens) == pytest.approx(band.middle)


def test_the_accuracy_band_holds_the_fit_widens_beyond_the_ladder_and_stays_a_share(
    model: TwoStage,
) -> None:
    fitted = model.fits_["quiz"]
    losses = np.linspace(0.0, 2.0, 41)
    band = accuracy_band(fitted, model.method, losses)
    assert band is not None
    assert band.lower is not None
    assert band.upper is not None
    assert band.middle == pytest.approx([fitted.accuracy(x) for x in losses])
    assert ((band.lower <= band.middle) & (band.middle <= band.upper)).all()
    assert band.lower.min() >= 0
    assert band.upper.max() <= 1
    width = band.upper - band.lower
    near = np.abs(losses - fitted.top_rung.loss).argmin()
    assert width[near] < width[near - 4] < width[near - 8]


def test_an_lm_set_has_no_band_of_accuracies(observations: pd.DataFrame) -> None:
    model = TwoStage("published").fit(validate(observations.assign(accuracy=np.nan)))
    assert accuracy_band(model.fits_["quiz"], model.method, np.ones(3)) is None
