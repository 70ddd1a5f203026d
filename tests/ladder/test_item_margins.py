"""The command items on a folder of stored scores of choices."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import true_loss

from evaluation.choices import ChoiceScores, ItemScores, write_choices
from evaluation.records import validate, write_observations
from ladder.cli import main

COUNT = 200


def store(path: Path, margins: np.ndarray, digest: str = "same") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    items = tuple(
        ItemScores(str(i), 0, (0.0, -float(m)), (1, 1), (1, 1), (0, 0), (1, 1))
        for i, m in enumerate(margins)
    )
    write_choices(ChoiceScores("quiz", items, digest), path)


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Sixteen rungs and a target; two checkpoints each of 200 items."""
    generator = np.random.default_rng(0)
    standing, rows = generator.normal(size=COUNT), []
    sizes, multiples = (1.9e8, 3.7e8, 7.6e8, 1.28e9), (1, 2, 5, 10)
    names = [(f"{n:.2g}-{m}xC", "ladder", n, 20 * n * m) for n in sizes for m in multiples]
    for run, role, n, d in [*names, ("T", "target", 6.9e9, 4e12)]:
        scale = (np.log(n * d) - 42) / 2
        for step in (1, 2):
            margins = -0.5 + 0.4 * scale + standing + 0.3 * generator.normal(size=COUNT)
            store(tmp_path / run / "choices" / f"step-{step}" / "quiz.parquet", margins)
            rows.append(
                {
                    "run": run,
                    "role": role,
                    "params": n,
                    "tokens": d * step / 2,
                    "step": step,
                    "final": step == 2,
                    "task": "quiz",
                    "loss": true_loss(n, d * step / 2),
                    "loss_unit": "bits/byte",
                    "accuracy": (margins > 0).mean(),
                    "accuracy_metric": "acc",
                    "chance": 0.5,
                    "instances": COUNT,
                }
            )
    write_observations(validate(pd.DataFrame(rows)), tmp_path / "observations.parquet")
    return tmp_path


def test_the_json_has_every_way_and_its_error(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["items", str(runs), "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    assert (row["task"], row["target"]) == ("quiz", "T")
    assert row["by_compute"] == pytest.approx(row["actual"], abs=0.05)
    assert row["chosen"] in ("compute", "loss", "method")
    assert row["compute_error"] < 0.05
    assert row["standard_error"] > 0
    assert main(["items", str(runs), "--target", "X:1e10:1T"]) == 0
    assert "X" in capsys.readouterr().out


def test_rungs_scored_on_other_items_are_refused(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store(runs / "1.9e+08-2xC" / "choices" / "step-2" / "quiz.parquet", np.ones(9), "other")
    assert main(["items", str(runs)]) == 2
    error = capsys.readouterr().err
    assert "on other items than" in error
    assert error.count("\n") == 1


def test_a_folder_without_stored_choices_is_one_line(
    runs: Path, capsys: pytest.CaptureFixture[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    bare = tmp_path_factory.mktemp("bare")
    (bare / "observations.parquet").write_bytes((runs / "observations.parquet").read_bytes())
    assert main(["items", str(bare)]) == 2
    assert "no rung has stored scores of choices" in capsys.readouterr().err
