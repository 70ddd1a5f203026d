"""Priors give way to points that refute them, and to nothing less."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import synthetic

from evaluation.records import validate
from predict import Target, TwoStage, refuted
from predict.fit import Objective, fit
from predict.laws import get_law, law_inputs

LAW = get_law("chinchilla_scaled")
SIZES = (1.9e8, 3.7e8, 7.6e8, 1.28e9)
FLOOR = 0.002


def steep(params: float, tokens: float, alpha: float = 1.2, beta: float = 0.8) -> float:
    return 0.6 + 0.5 * (params / 1e9) ** -alpha + 0.4 * (tokens / 1e11) ** -beta


def ladder(noise: float, alpha: float = 1.2, beta: float = 0.8) -> pd.DataFrame:
    """Two tasks as the priors have it, and `walks` with exponents of its own."""
    table = synthetic(sizes=SIZES, targets=(), tasks=("one", "two", "walks"))
    rng = np.random.default_rng(0)
    own = table["task"] == "walks"
    pairs = zip(table["params"], table["tokens"], strict=True)
    losses = np.array([steep(n, d, alpha, beta) for n, d in pairs])
    table["loss"] = np.where(own, losses, table["loss"])
    table["loss"] *= np.exp(noise * rng.standard_normal(len(table)))
    return validate(table)


def error(table: pd.DataFrame) -> float:
    """Of the loss of `walks` far above the ladder, relative."""
    said = TwoStage().fit(table).predict_one("walks", Target("big", 6.9e9, 4e12))
    assert said.loss_predicted is not None
    return abs(said.loss_predicted / steep(6.9e9, 4e12) - 1)


@pytest.mark.parametrize("noise", [0.0, 0.002, 0.005])
def test_a_task_that_falls_faster_than_the_others_is_followed(noise: float) -> None:
    assert error(ladder(noise)) < 0.005 + 4 * noise


def test_with_priors_alone_it_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refuted, "REFUTED", 0.0)
    assert error(ladder(0.002)) > 0.05


def test_noise_does_not_refute_exponents_that_are_as_believed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    table = ladder(0.01, alpha=0.3, beta=0.3)
    with_rule = _parameters(TwoStage().fit(table))
    monkeypatch.setattr(refuted, "REFUTED", 0.0)
    assert _parameters(TwoStage().fit(table)) == with_rule


def test_no_chain_of_the_published_ladder_is_refuted(
    olmo_observations: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = pd.read_parquet(olmo_observations)
    with_rule = _parameters(TwoStage().fit(table))
    monkeypatch.setattr(refuted, "REFUTED", 0.0)
    assert _parameters(TwoStage().fit(table)) == with_rule


def test_a_fit_that_only_passes_through_the_points_refutes_nothing() -> None:
    """Residuals below the least noise are none: eight points, five parameters."""
    params, tokens = np.array([(n, d) for n in SIZES[:3] for d in (4e9, 2e10, 1e11)])[:8].T
    wave = 1 + 0.001 * np.array([1, -1, 1, 1, -1, 1, -1, 1])
    losses = np.array([steep(n, d) for n, d in zip(params, tokens, strict=True)]) * wave
    inputs = law_inputs(LAW, {"params": params[None], "tokens": tokens[None]})
    (found,) = fit(LAW, inputs, losses[None], Objective(log=True))
    free, held = replace(found, relative_rms=1e-5), replace(found, relative_rms=0.002)
    assert refuted.refutes(free, held, 2, 0.0)
    assert not refuted.refutes(free, held, 2, FLOOR)
    assert not refuted.refutes(replace(free, agreeing=1), held, 2, 0.0)


def _parameters(model: TwoStage) -> list[dict[str, float]]:
    return [chain.step1.parameters for fitted in model.fits_.values() for chain in fitted.chains]
