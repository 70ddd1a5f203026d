"""The compute-optimal curve is that of the law behind the losses, or says why there is none."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import synthetic

from evaluation.records import validate
from predict import InputError, TwoStage
from predict.allocate import allocate
from predict.allocation import Question
from predict.optimal_curve import optimal_curve
from predict.points import RungPoint


def rungs(noise: float = 0.0, **ladder: object) -> tuple[RungPoint, ...]:
    table = validate(synthetic(**ladder))
    rng = np.random.default_rng(0)
    table["loss"] *= np.exp(noise * rng.standard_normal(len(table)))
    return TwoStage("published").fit(table).fits_["quiz"].rungs


def test_the_best_size_is_that_of_the_law_that_made_the_losses() -> None:
    curve = optimal_curve(rungs(), 1e23)
    # A = e^5, B = e^6, alpha = beta = .3: N = (A / B)^(1 / .6) (C / 6)^.5
    best = np.exp((5.0 - 6.0) / 0.6) * (curve.flops / 6) ** 0.5
    assert curve.params == pytest.approx(best, rel=1e-3)
    assert curve.exponent == pytest.approx(0.5, abs=1e-3)
    assert (curve.lower80 <= curve.params * 1.001).all()
    assert curve.tokens * curve.params * 6 == pytest.approx(curve.flops)


def test_it_says_what_ladder_allocate_says_by_approach_3() -> None:
    table = validate(synthetic().query("final"))
    table["loss"] *= np.exp(0.01 * np.random.default_rng(1).standard_normal(len(table)))
    curve = optimal_curve(TwoStage("published").fit(table).fits_["quiz"].rungs, 1e23)
    said = allocate(table, Question(flops=1e23), task="quiz")
    (row,) = (r for r in said.rows if r.approach == "parametric")
    assert row.params is not None
    assert row.exponent_params is not None
    assert curve.params[-1] == pytest.approx(row.params.value, rel=1e-4)
    assert curve.exponent == pytest.approx(row.exponent_params.value, rel=1e-4)


def test_noise_widens_the_interval_and_the_same_seed_gives_the_same() -> None:
    little, much = (optimal_curve(rungs(noise), 1e23) for noise in (0.001, 0.01))
    assert (much.upper80 / much.lower80)[-1] > 2 * (little.upper80 / little.lower80)[-1]
    assert (optimal_curve(rungs(0.01), 1e23).upper80 == much.upper80).all()
    assert much.exponent80[0] < much.exponent80[1]


@pytest.mark.parametrize(
    ("ladder", "why"),
    [
        ({"sizes": (1e8, 2e8), "multiples": (1, 2, 4, 8)}, "have 2 sizes, and a split needs 3"),
        ({"sizes": (1e8, 2e8, 4e8, 8e8, 2e9), "multiples": (5,)}, "has 100 tokens a parameter"),
    ],
)
def test_a_ladder_that_does_not_tell_is_refused(ladder: dict[str, object], why: str) -> None:
    with pytest.raises(InputError, match=why):
        optimal_curve(rungs(**ladder), 1e23)
