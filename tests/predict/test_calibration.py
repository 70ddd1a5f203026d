"""Coverage at every level, from errors in units of their intervals."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from evaluation.records import validate
from predict import AuditRow, Prediction, TwoStage
from predict.backtest import backtest
from predict.calibration import LEVELS, coverage_of_audit, coverage_of_backtest
from predict.intervals import interval


def row(error: float, task: str, se: float = 0.1, predicted: float = 0.5) -> AuditRow:
    bounds = interval(predicted, se, 0.0, 1.0)
    prediction = Prediction(task, "T", 1e9, 1e10, predicted, 1.0, "ok", "", *vars(bounds).values())
    return AuditRow(prediction, predicted - error, error, 1.0, 0.0, None, None, None)


def test_normal_errors_lie_inside_as_often_as_the_level_says() -> None:
    rng = np.random.default_rng(0)
    found = coverage_of_audit(
        [row(0.02 * e, str(i), 0.02) for i, e in enumerate(rng.normal(size=4000))]
    )
    assert found is not None
    assert found.curve == pytest.approx(LEVELS, abs=0.025)
    assert found.inside80 == pytest.approx(0.8, abs=0.02)
    assert found.inside95 == pytest.approx(0.95, abs=0.01)
    assert found.rows == found.tasks == 4000


def test_an_interval_cut_at_one_is_measured_on_its_other_side() -> None:
    found = coverage_of_audit([row(0.15, "a", 0.1, predicted=0.98)])
    assert found is not None
    inside = found.curve[np.searchsorted(LEVELS, [0.85, 0.88])]
    assert inside.tolist() == [0, 1]


def test_rows_without_an_interval_or_an_accuracy_count_for_nothing() -> None:
    bare = Prediction("a", "T", 1e9, 1e10, 0.5, 1.0, "unpredictable", "")
    assert coverage_of_audit([AuditRow(bare, 0.4, 0.1, 1.0, 0.0, None, None, None)]) is None
    assert coverage_of_audit([]) is None


def test_a_back_tests_coverage_is_the_methods_own(observations: pd.DataFrame) -> None:
    table = validate(observations)
    table["loss"] *= np.exp(0.01 * np.random.default_rng(0).standard_normal(len(table)))
    result = backtest(table, ("published",))
    found = coverage_of_backtest(result, "published")
    assert found is not None
    assert (found.inside80, found.inside95) == (
        result.scores[0].coverage80,
        result.scores[0].coverage95,
    )
    assert found.curve[np.searchsorted(LEVELS, 0.8)] == pytest.approx(found.inside80, abs=0.05)
    assert TwoStage("published").method.name == "published"
