"""Letter forms: a known emergence and sigmoid are found, and what has not emerged says so."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from predict import InputError
from predict.flight import Flight
from predict.forecast import Forecast
from predict.letters import emergence, fit_letters, forecast_letters

FLIGHT = Flight("big", 7e9, 4e12)
CLOZE = Forecast(
    task="quiz_rc_5shot",
    run="big",
    params=7e9,
    tokens=4e12,
    tokens_seen=2e12,
    checkpoints=50,
    loss_predicted=0.70,
    loss_lower80=0.69,
    loss_upper80=0.71,
    ladder_loss=0.72,
    status="ok",
    reason="",
    **dict.fromkeys(
        (
            *("predicted", "lower80", "upper80", "lower95", "upper95", "ladder_predicted"),
            *("ladder_lower80", "ladder_upper80", "ladder_loss_lower80", "ladder_loss_upper80"),
            *("own_predicted", "own_loss", "last_accuracy", "last_loss"),
        )
    ),
)
CHANCE, MIDDLE, SLOPE = 0.25, 0.8, 14.0


def letter_accuracy(loss: np.ndarray | float) -> np.ndarray | float:
    return 1 + (CHANCE - 1) / (1 + np.exp(-SLOPE * (loss - MIDDLE)))


def run(emerges: float = 0.1, noise: float = 0.0, count: int = 100) -> pd.DataFrame:
    """A run to half its tokens whose letter form is at chance up to the share `emerges`."""
    generator = np.random.default_rng(2)
    shares = np.linspace(0.5 / count, 0.5, count)
    loss = 0.6 + 0.1 * shares**-0.35
    scores = np.where(shares < emerges, CHANCE, letter_accuracy(loss))
    scores = scores + noise * generator.normal(size=count)
    base = {"run": "big", "tokens": shares * 4e12, "step": np.arange(1, count + 1), "loss": loss}
    cloze = pd.DataFrame({**base, "task": "quiz_rc_5shot", "accuracy": 0.5})
    letters = pd.DataFrame({**base, "task": "quiz_mc_5shot", "accuracy": scores})
    return pd.concat([cloze, letters]).assign(chance=CHANCE, instances=1000)


def test_the_end_is_read_off_the_sigmoid_of_the_checkpoints_after_emergence() -> None:
    found = forecast_letters(run(), FLIGHT, "quiz_mc_5shot", CLOZE)
    assert found.status == "ok"
    assert found.emerged == pytest.approx(0.1 * 4e12, rel=0.15)
    assert found.predicted == pytest.approx(letter_accuracy(0.70), abs=0.01)
    assert found.last_accuracy < found.predicted - 0.05
    assert found.lower80 < letter_accuracy(0.70) < found.upper80


def test_noise_moves_the_forecast_by_little_and_widens_it() -> None:
    clean = forecast_letters(run(), FLIGHT, "quiz_mc_5shot", CLOZE)
    noisy = forecast_letters(run(noise=0.02), FLIGHT, "quiz_mc_5shot", CLOZE)
    assert noisy.predicted == pytest.approx(letter_accuracy(0.70), abs=0.02)
    wide = replace(CLOZE, loss_lower80=0.65, loss_upper80=0.75)
    unsure = forecast_letters(run(), FLIGHT, "quiz_mc_5shot", wide)
    assert unsure.upper80 - unsure.lower80 > clean.upper80 - clean.lower80


def test_a_known_sigmoid_is_recovered_within_its_bounds() -> None:
    loss = np.linspace(0.6, 1.1, 40)
    found = fit_letters(loss, letter_accuracy(loss), CHANCE)
    assert found.parameters["L0"] == pytest.approx(MIDDLE, abs=1e-3)
    assert found.parameters["k"] == pytest.approx(SLOPE, rel=0.01)
    assert CHANCE - 1 <= found.parameters["a"] <= CHANCE - 0.999
    assert 0.999 <= found.parameters["b"] <= 1


def test_a_task_at_chance_has_not_emerged() -> None:
    found = forecast_letters(run(emerges=1.0, noise=0.005), FLIGHT, "quiz_mc_5shot", CLOZE)
    assert (found.status, found.predicted, found.emerged) == ("unpredictable", None, None)
    assert "has not emerged" in found.reason


def test_later_checkpoints_than_the_share_are_not_looked_at() -> None:
    early = replace(FLIGHT, share=0.08)
    found = forecast_letters(run(), early, "quiz_mc_5shot", CLOZE)
    assert found.status == "unpredictable"
    assert forecast_letters(run(), FLIGHT, "quiz_mc_5shot", CLOZE).status == "ok"


def test_a_few_checkpoints_after_emergence_are_too_few() -> None:
    found = forecast_letters(run(emerges=0.49, count=100), FLIGHT, "quiz_mc_5shot", CLOZE)
    assert found.status == "unpredictable"
    assert "a fit needs 10" in found.reason


def test_emergence_is_for_good() -> None:
    scores = np.array([0.25, 0.5, 0.25, 0.3, 0.4, 0.5])
    assert emergence(scores, 0.25, 1000) == 3
    assert emergence(scores, 0.25, None) == 4
    assert emergence(scores[:3], 0.25, 1000) is None
    assert emergence(np.zeros(0), 0.25, 1000) is None


def test_what_is_missing_is_named() -> None:
    with pytest.raises(InputError, match="no accuracy of it"):
        forecast_letters(run(), FLIGHT, "other_mc_5shot", CLOZE)
    with pytest.raises(InputError, match="no chance level"):
        forecast_letters(run().assign(chance=np.nan), FLIGHT, "quiz_mc_5shot", CLOZE)


def test_a_first_checkpoint_without_a_chance_or_a_loss_hides_neither() -> None:
    table = run().reset_index(drop=True)
    is_letters, step = table["task"] == "quiz_mc_5shot", table["step"]
    table.loc[is_letters & (step == 1), ["chance", "instances"]] = np.nan
    whole = forecast_letters(run(), FLIGHT, "quiz_mc_5shot", CLOZE)
    assert forecast_letters(table, FLIGHT, "quiz_mc_5shot", CLOZE) == whole
    table.loc[~is_letters & (step == 90), "loss"] = np.nan
    found = forecast_letters(table, FLIGHT, "quiz_mc_5shot", CLOZE)
    assert found.checkpoints == whole.checkpoints - 1
    assert found.predicted == pytest.approx(whole.predicted, abs=0.002)
