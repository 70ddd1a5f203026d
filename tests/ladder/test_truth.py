"""The truth is compared with the fit of whatever held-out loss it is known of."""

from __future__ import annotations

import pytest
from conftest import LAW, synthetic

from evaluation.records import validate
from ladder.pipeline import analyse
from predict import TwoStage


@pytest.mark.parametrize("task", ["graph_validation", "walks_validation"])
def test_the_floor_of_any_held_out_loss_is_checked(task: str) -> None:
    table = validate(synthetic(tasks=(task, "quiz")))
    known = (task, LAW["E"] + 0.01)
    found = analyse(TwoStage("published"), table, known=known).truth
    assert found is not None
    assert found.fitted == pytest.approx(LAW["E"], abs=1e-3)
    losses = table[(table["task"] == task) & (table["role"] == "ladder") & table["final"]]["loss"]
    spread = losses.max() - losses.min()
    assert found.floor_error == pytest.approx(-0.01 / spread, rel=0.1)
    assert found.excess_predicted == pytest.approx(found.excess_actual, rel=1e-3)


def test_nothing_is_checked_where_nothing_is_known_or_the_loss_was_not_fitted() -> None:
    table = validate(synthetic())
    assert analyse(TwoStage("published"), table, known=("quiz", None)).truth is None
    assert analyse(TwoStage("published"), table).truth is None
    assert analyse(TwoStage("published"), table, known=("graph_validation", 1.0)).truth is None
