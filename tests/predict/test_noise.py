"""Checkpoint noise, rerun differences, signal to noise: by hand and as the paper has them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import synthetic

from evaluation.records import read_observations, validate
from predict import InputError, TwoStage
from predict.noise import early_checkpoints, task_noise

PUBLISHED_SD = {
    "csqa_val_rc_5shot": 0.00556,
    "openbookqa_test_rc_5shot": 0.00473,
    "arc_easy_test_rc_5shot": 0.00453,
    "arc_challenge_test_rc_5shot": 0.00366,
    "mmlu_test_rc_5shot": 0.00256,
    "socialiqa_val_rc_5shot": 0.00244,
    "piqa_val_rc_5shot": 0.00195,
    "hellaswag_val_rc_5shot": 0.00070,
}
"""SD of the loss over the last ten checkpoints of 1B-10xC (arXiv 2412.04403, variance analysis)."""


def wobbling() -> pd.DataFrame:
    """The top rung's checkpoints alternate by 0.02 in loss and 0.04 in accuracy."""
    table = validate(synthetic(targets=()))
    top = table["run"] == "1280M-10xC"
    sign = np.where(table["step"] == 2, 1.0, -1.0)
    table.loc[top, "loss"] += 0.01 * sign[top]
    table.loc[top, "accuracy"] += 0.02 * sign[top]
    return table


def test_the_published_noise_of_the_loss_is_reproduced(olmo_observations: Path) -> None:
    table = read_observations(olmo_observations)
    found = task_noise(TwoStage(tasks=list(PUBLISHED_SD)), table)
    assert {n.task: n.loss_sd for n in found} == pytest.approx(PUBLISHED_SD, abs=5.1e-6)
    assert {n.run for n in found} == {"1B-10xC"}
    assert all(n.checkpoints == 10 and n.rerun_pairs >= 4 and not n.verdict for n in found)


def test_the_standard_deviation_is_that_of_the_last_checkpoints() -> None:
    table = wobbling()
    (found,) = task_noise(TwoStage(), table)
    own = table.loc[table["run"] == "1280M-10xC", ["loss", "accuracy"]]
    assert found.loss_sd == pytest.approx(own["loss"].std(ddof=0))
    assert found.accuracy_sd == pytest.approx(own["accuracy"].std(ddof=0))
    (two,) = task_noise(TwoStage(), table, last=2)
    assert two.loss_sd == pytest.approx(0.01)
    ends = table.loc[table["run"] == "1280M-10xC", "tokens"].to_numpy()
    assert two.begins == pytest.approx(ends[-2] / ends[-1])
    (other,) = task_noise(TwoStage(), table, run="190M-1xC")
    assert other.loss_sd == pytest.approx(0, abs=1e-12)
    assert other.loss_signal_to_noise is None or other.loss_signal_to_noise > 1e6


def test_reruns_are_pairs_of_the_same_size_and_length() -> None:
    table = validate(synthetic(targets=()))
    again = table[table["run"] == "190M-1xC"].assign(run="190M-1xC-rerun", role="extra")
    again["loss"] *= 1.01
    again["accuracy"] += 0.02
    (found,) = task_noise(TwoStage(), pd.concat([table, again], ignore_index=True))
    assert found.rerun_pairs == 1
    assert found.rerun_loss == pytest.approx(0.01 / 1.005)
    assert found.rerun_accuracy == pytest.approx(0.02)


def test_a_task_that_moves_less_than_its_noise_is_too_noisy() -> None:
    table = wobbling()
    table["accuracy"] = 0.5 + 0.01 * (table["accuracy"] - 0.5)
    top = table["run"] == "1280M-10xC"
    table.loc[top, "accuracy"] += 0.05 * (table.loc[top, "step"] == 2)
    (found,) = task_noise(TwoStage(), table)
    assert "accuracy moves" in found.verdict


def test_checkpoints_that_begin_long_before_the_runs_end_hold_more_than_noise() -> None:
    (found,) = task_noise(TwoStage(), wobbling())
    assert early_checkpoints([replace(found, begins=0.5)]).startswith(
        "These checkpoints begin at 50%"
    )
    assert early_checkpoints([replace(found, begins=0.81), replace(found, begins=None)]) == ""


def test_what_is_not_there_is_named() -> None:
    with pytest.raises(InputError, match="no such run"):
        task_noise(TwoStage(), wobbling(), run="9B")
    with pytest.raises(InputError, match="at least 2"):
        task_noise(TwoStage(), wobbling(), last=1)


def test_half_a_run_is_no_rerun_of_a_run_of_half_its_length() -> None:
    table = synthetic(tasks=("quiz", "exam"), targets=())
    own = table["run"] == "190M-2xC"
    table.loc[own & (table["step"] == 1), "tokens"] /= 2
    table = validate(table[~(own & (table["task"] == "exam") & (table["step"] > 1))])
    assert [n.rerun_pairs for n in task_noise(TwoStage(), table)] == [0, 0]
