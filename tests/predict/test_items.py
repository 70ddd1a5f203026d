"""A step 2 from items: known standings and lines are found, and the accuracy that follows."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from conftest import true_loss

from evaluation.records import validate
from predict import InputError
from predict.items import (
    Margins,
    backtest_items,
    fit_items,
    jackknife,
    normal_cdf,
    predict_items,
)
from predict.task_fit import Target

ITEMS = 4000
SCALES = np.linspace(0, 3, 12)


def drawn(
    share: float = 0.5, seed: int = 0, items: int = ITEMS, scales: np.ndarray = SCALES
) -> np.ndarray:
    """Margins (items, rungs): mean -0.5 + 0.4 x, spread e^(0.3 - 0.2 x), `share` an item's own."""
    generator = np.random.default_rng(seed)
    standing = generator.normal(size=(items, 1)) * math.sqrt(share)
    luck = generator.normal(size=(items, len(scales))) * math.sqrt(1 - share)
    return -0.5 + 0.4 * scales + np.exp(0.3 - 0.2 * scales) * (standing + luck)


def true_accuracy_at(scale: float) -> float:
    return float(normal_cdf(np.array((-0.5 + 0.4 * scale) / math.exp(0.3 - 0.2 * scale))))


def test_known_lines_give_the_known_accuracy_beyond_the_rungs() -> None:
    found = fit_items(SCALES, drawn())
    assert found.mean_line == pytest.approx((0.4, -0.5), abs=0.03)
    assert found.spread_line == pytest.approx((-0.2, 0.3), abs=0.02)
    assert found.chance**2 == pytest.approx(0.5, abs=0.06)
    for scale in (4.0, 5.0):
        assert found.accuracy(scale) == pytest.approx(true_accuracy_at(scale), abs=0.015)


def test_the_accuracy_at_a_rung_is_the_measured_one() -> None:
    margins = drawn()
    found = fit_items(SCALES, margins)
    for index in (0, 6, 11):
        measured = (margins[:, index] > 0).mean()
        assert found.accuracy(SCALES[index]) == pytest.approx(measured, abs=0.02)


def test_items_that_never_differ_from_luck_have_no_standing() -> None:
    lucky = fit_items(SCALES, drawn(share=0.0))
    assert np.abs(lucky.standing).max() < 0.2
    steady = fit_items(SCALES, drawn(share=0.99))
    assert np.corrcoef(steady.standing, drawn(share=0.99)[:, 0])[0, 1] > 0.98


def test_wrongly_labelled_items_hold_the_accuracy_below_one() -> None:
    margins = drawn(share=0.9)
    margins[: ITEMS // 10] = -3 - np.abs(margins[: ITEMS // 10])
    assert fit_items(SCALES, margins).accuracy(5.0) < 0.95


def test_the_jackknife_is_wider_outside_the_rungs() -> None:
    margins = drawn(items=300) + np.random.default_rng(1).normal(0, 0.1, len(SCALES))
    near, far = (jackknife(SCALES, margins, scale) for scale in (1.25, -2.0))
    assert 0 < near < far


def test_the_normal_distribution_is_right() -> None:
    points = np.linspace(-5, 5, 41)
    exact = [0.5 * (1 + math.erf(x / math.sqrt(2))) for x in points]
    assert normal_cdf(points) == pytest.approx(exact, abs=1e-6)


@pytest.mark.parametrize(
    ("scales", "margins", "message"),
    [
        (SCALES[:3], drawn()[:, :3], "need 4"),
        (np.ones(12), drawn(), "same scale"),
        (SCALES, np.ones((10, 12)), "do not differ"),
    ],
)
def test_what_cannot_be_fitted_is_told(
    scales: np.ndarray, margins: np.ndarray, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        fit_items(scales, margins)


def ladder() -> tuple[pd.DataFrame, dict[str, Margins]]:
    """Rungs whose items follow lines in log compute, and a target of known accuracy."""
    sizes, multiples = (1.9e8, 3.7e8, 7.6e8, 1.28e9), (1, 2, 5, 10)
    runs = [(f"{n:.2g}-{m}xC", "ladder", n, 20 * n * m) for n in sizes for m in multiples]
    runs.append(("T", "target", 6.9e9, 4e12))
    scale = {run: (math.log(n * d) - 42) / 2 for run, _, n, d in runs}
    margins = drawn(scales=np.array(list(scale.values())), items=2000, share=0.7)
    rows = [
        {
            "run": run,
            "role": role,
            "params": n,
            "tokens": d,
            "step": 1,
            "final": True,
            "task": "quiz",
            "loss": true_loss(n, d),
            "loss_unit": "bits/byte",
            "accuracy": (margins[:, index] > 0).mean(),
            "chance": 0.25,
            "instances": 2000,
        }
        for index, (run, role, n, d) in enumerate(runs)
    ]
    names = tuple(run for run, role, _, _ in runs if role == "ladder")
    return validate(pd.DataFrame(rows)), {"quiz": Margins(names, margins[:, :-1])}


def test_items_that_follow_compute_are_chosen_and_predict_the_target() -> None:
    table, margins = ladder()
    (row,) = predict_items(table, margins, [Target("T", 6.9e9, 4e12)])
    errors = backtest_items(table, margins)["quiz"]
    assert set(errors) == {"compute", "loss", "method"}
    assert errors["compute"] < 0.02
    assert row.chosen == min(errors, key=lambda way: errors[way])
    assert row.by_compute == pytest.approx(row.actual, abs=0.02)
    assert row.predicted in (row.by_compute, row.by_loss, row.by_method)


def test_the_target_chooses_nothing() -> None:
    table, margins = ladder()
    spoilt = table.copy()
    spoilt.loc[spoilt["role"] == "target", "accuracy"] = 0.01
    before = predict_items(table, margins, [Target("T", 6.9e9, 4e12)])[0]
    after = predict_items(spoilt, margins, [Target("T", 6.9e9, 4e12)])[0]
    assert (before.chosen, before.predicted) == (after.chosen, after.predicted)


def test_a_task_that_the_method_leaves_out_has_no_row() -> None:
    table, margins = ladder()
    few = table[table["run"].isin(table["run"].unique()[:2])].assign(task="few")
    both = validate(pd.concat([table, few], ignore_index=True))
    (row,) = predict_items(both, margins | {"few": margins["quiz"]}, [Target("T", 6.9e9, 4e12)])
    assert row.task == "quiz"
