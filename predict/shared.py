"""One feature for every task: the mean log loss of all tasks that move clearly with scale."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

WEAK = 6.0
"""Range of a feature's logarithm over the ladder, in units of a rung's noise, below which its task
does not move clearly with scale: every task of the published ladder has 20 and more
(tests/predict/test_two_stage.py)."""

COVERAGE = 0.9
"""Share of the ladder's evaluations that a task must have taken part in to be pooled."""


def pooled_tasks(table: pd.DataFrame, feature: str, signals: Mapping[str, float]) -> list[str]:
    """Tasks whose feature moves clearly, measured on every run and at nearly every evaluation."""
    strong = [task for task, signal in signals.items() if signal >= WEAK]
    rows = table[table["task"].isin(strong) & table[feature].notna()]
    by_task = rows.groupby("task", sort=False)
    counts, runs = by_task["step"].size(), by_task["run"].nunique()
    evaluations = len(rows[["run", "step"]].drop_duplicates())
    return [
        task
        for task in strong
        if counts[task] >= COVERAGE * evaluations and runs[task] == runs.max()
    ]


def shared_feature(table: pd.DataFrame, feature: str, tasks: list[str]) -> pd.Series:
    """The tasks' geometric mean feature by (run, step), where all of them have one."""
    rows = table[table["task"].isin(tasks)]
    logs = pd.DataFrame({"run": rows["run"], "step": rows["step"], "log": np.log(rows[feature])})
    groups = logs.dropna().groupby(["run", "step"], sort=False)["log"]
    means = groups.mean()[groups.size() == len(tasks)]
    return np.exp(means)
