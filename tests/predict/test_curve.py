"""Compute against error: every cut is a smaller ladder, the last one the whole."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import synthetic

from evaluation.records import validate
from predict import InputError, TwoStage, audit
from predict import curve as curves
from predict.curve import compute_curve


def test_the_last_point_of_every_cut_is_the_whole_ladder() -> None:
    table = validate(synthetic(targets=((6.9e9, 4e12), (1.3e10, 5e12))))
    rng = np.random.default_rng(0)
    table["loss"] *= np.exp(0.003 * rng.standard_normal(len(table)))
    curve = compute_curve(lambda: TwoStage("published"), table)
    whole = {p.target: p for p in audit(TwoStage("published").fit(table), table).pooled}
    for cut in ("size", "multiple", "flops"):
        points = [p for p in curve.points if p.cut == cut and p.target == "T0"]
        assert [p.limit for p in points] == sorted(p.limit for p in points)
        assert [p.rungs for p in points] == sorted(p.rungs for p in points)
        assert points[-1].rungs == 16
        assert points[-1].mean_abs_error == pytest.approx(whole["T0"].mean_abs_error)
    first = next(p for p in curve.points if p.cut == "flops" and p.target == "T0")
    assert first.rungs == 5
    costs = sorted(6 * n * n * 20 * m for n in (1.9e8, 3.7e8, 7.6e8, 1.28e9) for m in (1, 2, 5, 10))
    assert first.ladder_flops == pytest.approx(sum(costs[:5]))
    assert first.share_of_target == pytest.approx(sum(costs[:5]) / (6 * 6.9e9 * 4e12))
    assert any("flops up to" in line and "needs 5 rungs" in line for line in curve.left_out)


def test_a_ladder_of_many_limits_is_cut_at_a_few_and_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    table = validate(synthetic())
    whole = compute_curve(lambda: TwoStage("published"), table, ["flops"])
    monkeypatch.setattr(curves, "MOST_LIMITS", 10)
    monkeypatch.setattr(curves, "THINNED", 4)
    few = compute_curve(lambda: TwoStage("published"), table, ["flops"])
    assert {p.limit for p in few.points} < {p.limit for p in whole.points}
    assert few.points[-1] == whole.points[-1]
    assert "limits could be cut at; 4 evenly spaced ones are" in few.left_out[0]
    assert not any("limits could be cut at" in line for line in whole.left_out)


def test_a_table_without_targets_is_named() -> None:
    with pytest.raises(InputError, match="role target"):
        compute_curve(TwoStage, validate(synthetic(targets=())))


def test_chosen_tasks_keep_the_shared_loss_of_the_others() -> None:
    table = validate(synthetic(tasks=("a", "b", "c")))
    rng = np.random.default_rng(0)
    table["loss"] *= np.exp(0.003 * rng.standard_normal(len(table)))
    curve = compute_curve(lambda: TwoStage(tasks=["a"]), table)
    whole = audit(TwoStage(tasks=["a"]).fit(table), table)
    assert curve.points[-1].mean_abs_error == pytest.approx(whole.mean_abs_error)
