"""Back-tests: what is fitted and scored, how methods compare, and that targets choose nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import synthetic

from evaluation.records import read_observations, validate
from predict import InputError
from predict.backtest import Backtest, backtest
from predict.backtest_scores import compare, interval_score, left_out_quantile, winkler
from predict.points import RungPoint
from predict.splits import STEP_UP, make_splits

PAPER = [
    *(f"{t}_test_rc_5shot" for t in ("mmlu", "arc_challenge", "arc_easy", "openbookqa")),
    *(f"{t}_val_rc_5shot" for t in ("hellaswag", "piqa", "csqa", "socialiqa")),
]
LADDERS = {"16 rungs": (), "24 rungs": ("190M-*", "370M-*", "760M-*", "1B-*")}


def noisy(seed: int = 0, tasks: tuple[str, ...] = ("a", "b", "c")) -> pd.DataFrame:
    table = validate(synthetic(tasks=tasks))
    rng = np.random.default_rng(seed)
    table["loss"] *= np.exp(0.004 * rng.standard_normal(len(table)))
    table["accuracy"] += 0.003 * rng.standard_normal(len(table))
    return table


@pytest.fixture(scope="module", params=LADDERS)
def real(request: pytest.FixtureRequest, olmo_observations: Path) -> Backtest:
    table = read_observations(olmo_observations)
    rungs = LADDERS[request.param]
    return backtest(table, ("default", "published"), rungs, ("3B-*",), PAPER)


def test_the_default_beats_the_published_method_by_more_than_the_paired_error(
    real: Backtest,
) -> None:
    assert real.chosen == "default"
    (pair,) = real.comparisons
    assert pair.difference < -2 * pair.standard_error
    assert real.clear


def test_its_intervals_cover_what_they_say_and_beat_a_constant_width(real: Backtest) -> None:
    score = real.scores[0]
    assert 0.75 <= score.left_out80 <= 0.85
    assert 0.91 <= score.left_out95 <= 0.98
    assert 0.75 <= score.coverage80 <= 0.86
    assert 0.91 <= score.coverage95 <= 0.98
    assert score.winkler80 < score.winkler80_constant
    assert 0.65 <= score.loss_coverage80 <= 0.9


def test_a_split_scores_only_what_it_did_not_fit_and_what_costs_more() -> None:
    rungs = [
        RungPoint(f"{n:g}-{m}", n, 20 * n * m, 1.0, 0.5)
        for n in (1e8, 2e8, 4e8, 8e8)
        for m in (1, 2, 5, 10)
    ]
    splits = make_splits(rungs)
    cost = {r.run: r.params * r.tokens for r in rungs}
    assert len(splits) == len({s.fitted for s in splits}) > 3
    for split in splits:
        assert not set(split.fitted) & set(split.scored)
        top = max(cost[run] for run in split.fitted)
        assert all(cost[run] >= STEP_UP * top for run in split.scored)
    held = make_splits(rungs, scored_only=["8e+08-10"])
    assert all("8e+08-10" not in split.fitted for split in held)


def test_the_targets_choose_nothing() -> None:
    table = noisy()
    before = backtest(table)
    table.loc[table["role"] == "target", ["loss", "accuracy"]] = [0.1, 0.99]
    assert backtest(table) == before
    assert not any(row.run.startswith("T") for row in before.rows)
    copy = table[table["role"] == "target"].assign(run="T-early", role="extra")
    table = pd.concat([table, copy], ignore_index=True)
    with pytest.raises(InputError, match="matches no run"):
        backtest(table, score=("T-early",))


def test_runs_to_score_are_never_fitted() -> None:
    table = noisy()
    table.loc[table["run"].str.startswith("1280M"), "role"] = "extra"
    found = backtest(table, score=("1280M-*",))
    assert all(not run.startswith("1280M") for s in found.splits for run in s.fitted)
    assert any(run.startswith("1280M") for s in found.splits for run in s.scored)


def test_a_paired_difference_is_taken_between_tasks() -> None:
    rows = backtest(noisy()).rows
    pair = compare(rows, "default", "published")
    frame = pd.DataFrame([vars(r) for r in rows])
    size = frame.assign(size=frame["error"].abs()).pivot_table(
        index=["task", "split", "run"], columns="method", values="size"
    )
    means = (size["default"] - size["published"]).groupby("task").mean()
    assert pair.difference == pytest.approx(means.mean())
    assert pair.standard_error == pytest.approx(means.std(ddof=1) / np.sqrt(3))
    assert compare(rows, "default", "default").difference == 0


def test_the_interval_score_is_the_width_and_a_fine_for_misses() -> None:
    assert winkler(np.array([0.0, 0.1]), np.array([0.1, 0.1]), 0.8) == pytest.approx(0.2)
    assert winkler(np.array([0.3]), np.array([0.1]), 0.8) == pytest.approx(0.2 + 10 * 0.2)


@pytest.mark.parametrize("level", [0.0, 0.37, 0.8, 0.95, 1.0])
def test_a_left_out_quantile_is_that_of_every_other_tasks_values(level: float) -> None:
    rng = np.random.default_rng(0)
    tasks = rng.choice(list("abcde"), 60)
    values = rng.choice([*rng.uniform(0, 1, 40), 0.5], 60)
    found = left_out_quantile(values, tasks, level)
    for task in "abcde":
        expected = np.quantile(values[tasks != task], level)
        assert found[tasks == task] == pytest.approx(expected, abs=1e-15)
    alone = left_out_quantile(values, np.full(60, "a"), level)
    assert alone == pytest.approx(np.quantile(values, level))


def test_a_single_task_is_compared_between_splits() -> None:
    found = backtest(noisy(tasks=("only",)))
    assert np.isfinite(found.comparisons[0].standard_error)
    assert found.document()["chosen"] in ("default", "published")


def test_a_ladder_without_a_split_is_named() -> None:
    with pytest.raises(InputError, match="no split of the ladder"):
        backtest(validate(synthetic(sizes=(1e8, 2e8), multiples=(1, 2, 5))))
    with pytest.raises(InputError, match="no held-out rung has an accuracy"):
        backtest(noisy().assign(accuracy=np.nan))


def test_a_targets_own_checkpoints_are_not_even_fitted_when_named() -> None:
    table = noisy()
    early = table[table["role"] == "target"].assign(run="T0-early", role="extra")
    early["tokens"] /= 2
    found = backtest(pd.concat([table, early], ignore_index=True), rungs=("*",))
    runs = {run for s in found.splits for run in (*s.fitted, *s.scored)}
    assert "T0-early" not in runs


def test_runs_that_have_not_ended_are_not_scored() -> None:
    table = noisy()
    top = table["run"] == "1280M-10xC"
    table.loc[top, "role"] = "extra"
    table.loc[top, "final"] = False
    with pytest.raises(InputError, match="matches no run"):
        backtest(table, score=("1280M-10xC",))


def test_a_task_that_only_big_rungs_measured_stops_nothing() -> None:
    table = noisy()
    late = (table["task"] == "c") & (table["params"] < 1e9)
    found = backtest(table[~late])
    assert set(found.by_task()) == {"a", "b"}


def test_a_cut_interval_is_scored_by_its_bounds() -> None:
    assert interval_score(0.945, 0.94, 1.0, 0.8) == pytest.approx(0.06)
    assert interval_score(0.93, 0.94, 1.0, 0.8) == pytest.approx(0.06 + 10 * 0.01)


def test_the_losses_of_tasks_without_an_accuracy_are_scored_where_all_methods_predict() -> None:
    """Published needs five rungs, default three: on four of an LM set only the latter speaks."""
    table = noisy()
    lm = table[table["task"] == table["task"].iloc[0]].assign(task="lm", accuracy=np.nan)
    few = [run for run in lm["run"].unique() if run.startswith("190M")]
    big = [run for run in lm["run"].unique() if run.startswith("1280M")]
    table = validate(pd.concat([table, lm[lm["run"].isin([*few, *big])]], ignore_index=True))
    rows = backtest(table).rows
    keys = {
        name: {(r.task, r.split, r.run) for r in rows if r.method == name}
        for name in ("default", "published")
    }
    assert keys["default"] == keys["published"]


def test_a_task_that_a_scored_run_measured_for_half_of_it_is_not_scored() -> None:
    table = noisy()
    own = table["run"] == "1280M-10xC"
    table.loc[own, "role"] = "extra"
    table.loc[own & (table["step"] == 1), "tokens"] //= 2
    table = table[~(own & (table["task"] == "a") & (table["step"] > 1))].reset_index(drop=True)
    rows = backtest(table, ("own",), score=("1280M-10xC",), tasks=("a", "b")).rows
    assert {r.task for r in rows if r.run == "1280M-10xC"} == {"b"}
