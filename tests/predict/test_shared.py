"""The shared feature: who is in it, and what it is."""

from __future__ import annotations

import pytest
from conftest import synthetic

from evaluation.records import validate
from predict.shared import WEAK, pooled_tasks, shared_feature

TABLE = validate(synthetic(tasks=("a", "b", "rare"), targets=()))
TABLE = TABLE[(TABLE["task"] != "rare") | TABLE["final"]].reset_index(drop=True)


def test_weak_tasks_and_rarely_measured_ones_are_left_out() -> None:
    strong = {"a": 20.0, "b": WEAK, "rare": 50.0}
    assert pooled_tasks(TABLE, "loss", strong) == ["a", "b"]
    assert pooled_tasks(TABLE, "loss", {**strong, "b": WEAK - 0.1}) == ["a"]
    assert pooled_tasks(TABLE, "loss", dict.fromkeys("ab", 0.0)) == []


def test_it_is_the_geometric_mean_of_the_same_evaluation() -> None:
    table = TABLE.copy()
    table.loc[table["task"] == "b", "loss"] *= 4
    shared = shared_feature(table, "loss", ["a", "b"])
    own = table[table["task"] == "a"].set_index(["run", "step"])["loss"]
    assert shared[own.index].to_numpy() == pytest.approx(2 * own.to_numpy())


def test_an_evaluation_that_lacks_one_task_has_none() -> None:
    gap = TABLE[~((TABLE["task"] == "b") & (TABLE["run"] == "190M-1xC"))]
    shared = shared_feature(gap, "loss", ["a", "b"])
    runs = set(shared.index.get_level_values("run"))
    assert runs == set(TABLE["run"]) - {"190M-1xC"}
