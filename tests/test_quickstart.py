"""The quick start keeps what it promises, run as the README says."""

from __future__ import annotations

import subprocess
import sys

import pandas as pd
import pytest

from evaluation.records import read_observations
from ladder.config import load_config
from ladder.corpora.settings import WALKS_VALIDATION
from ladder.corpora.walks import Walks
from ladder.truth import check_truth
from predict import Audit, TwoStage, audit


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    folder = tmp_path_factory.mktemp("quickstart")
    command = [sys.executable, "-m", "ladder.cli", "run", "quickstart"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    runs = folder / "runs" / "quickstart"
    assert "Every prediction is within 5 points" in (runs / "report.html").read_text()
    return read_observations(runs / "observations.parquet")


@pytest.fixture(scope="module")
def model(table: pd.DataFrame) -> TwoStage:
    return TwoStage("published").fit(table)


@pytest.fixture(scope="module")
def audited(model: TwoStage, table: pd.DataFrame) -> Audit:
    return audit(model, table)


def test_the_irreducible_loss_and_the_targets_excess_are_found(
    model: TwoStage, audited: Audit
) -> None:
    entropy = Walks(load_config("quickstart").corpus).entropy_rate
    truth = check_truth(model, audited, WALKS_VALIDATION, entropy)
    assert truth is not None
    assert abs(truth.floor_error) <= 0.1
    assert truth.excess_error is not None
    assert abs(truth.excess_error) <= 0.3


def test_every_task_climbs_and_is_not_saturated(table: pd.DataFrame, audited: Audit) -> None:
    final = table[
        table["final"] & (table["role"] == "ladder") & (table["task"] != WALKS_VALIDATION)
    ]
    accuracy = final.groupby("task")["accuracy"]
    assert accuracy.ngroups >= 3
    assert (accuracy.max() - accuracy.min() >= 0.2).all()
    for row in audited.rows:
        if row.actual is not None:
            assert row.actual - row.top_rung >= 0.03


def test_the_target_is_predicted_within_5_points_and_better_than_by_the_top_rung(
    audited: Audit,
) -> None:
    rows = [row for row in audited.rows if row.error is not None]
    assert len(rows) >= 3
    for row in rows:
        assert abs(row.error) <= 0.05
        assert abs(row.error) < abs(row.actual - row.top_rung)
