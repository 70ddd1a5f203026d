"""Figures show what was fitted, and the same figure gives the same file."""

from __future__ import annotations

import numpy as np
import pandas as pd
from conftest import synthetic
from matplotlib.backends.backend_agg import FigureCanvasAgg

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


def test_names_of_the_largest_errors_do_not_run_into_each_other_or_over_points() -> None:
    tasks = ("arc_challenge", "mmlu_stem", "csqa", "piqa")
    table = synthetic(targets=((6.9e9, 4e12), (1.3e10, 5e12)), tasks=tasks)
    random = np.random.default_rng(0)
    table["accuracy"] += 0.01 * random.normal(size=len(table))
    model = TwoStage("published").fit(validate(table))
    figure = audit_figure(audit(model, validate(table)).rows)
    renderer = FigureCanvasAgg(figure).get_renderer()
    (axis,) = figure.axes
    boxes = [text.get_window_extent(renderer) for text in axis.texts]
    assert len(boxes) == 6
    assert not [1 for i, a in enumerate(boxes) for b in boxes[:i] if a.overlaps(b)]
    panel = axis.get_window_extent(renderer)
    assert all(panel.x0 <= b.x0 and b.x1 <= panel.x1 for b in boxes)
    points = np.vstack([c.get_offsets() for c in axis.collections])
    seen = axis.transData.transform(points)
    assert len(seen) == 8
    assert not [1 for b in boxes for x, y in seen if b.contains(x, y)]
