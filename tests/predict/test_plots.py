"""Figures show what was fitted, and the same figure gives the same file."""

from __future__ import annotations

import numpy as np
import pandas as pd

from evaluation.records import validate
from predict import TwoStage, audit
from predict.drawing import to_svg
from predict.plots import audit_figure, task_figure


def test_both_steps_are_drawn_with_their_points(observations: pd.DataFrame) -> None:
    table = validate(observations)
    model = TwoStage("published").fit(table)
    rows = audit(model, table).rows
    figure = task_figure(model.fits_["quiz"], [rows[0].prediction], rows)
    step1, step2 = figure.axes
    drawn = np.vstack([c.get_offsets() for c in step1.collections])
    for rung in model.fits_["quiz"].rungs:
        assert np.isclose(drawn, [rung.tokens, rung.loss]).all(axis=1).any()
    predicted = [rows[0].prediction.loss_predicted, rows[0].prediction.predicted]
    assert any(np.allclose(c.get_offsets(), [predicted]) for c in step2.collections)


def test_a_set_without_accuracy_has_one_panel(observations: pd.DataFrame) -> None:
    table = validate(observations.assign(accuracy=np.nan))
    model = TwoStage("published").fit(table)
    assert len(task_figure(model.fits_["quiz"], [], []).axes) == 1


def test_the_same_figure_gives_the_same_svg(observations: pd.DataFrame) -> None:
    table = validate(observations)
    rows = audit(TwoStage("published").fit(table), table).rows
    first, second = to_svg(audit_figure(rows)), to_svg(audit_figure(rows))
    assert first == second
    assert first.count("<svg") == 1


def test_names_from_the_data_are_drawn_as_they_are(observations: pd.DataFrame) -> None:
    table = validate(observations.replace({"quiz": "a$\\frac$", "T0": "_x"}))
    model = TwoStage("published").fit(table)
    rows = audit(model, table).rows
    figure = audit_figure(rows)
    assert "<svg" in to_svg(figure)
    assert len(figure.axes[0].get_legend().get_texts()) == 1
