"""`ladder allocate`: its JSON, its table within 80 columns, one clear line for a mistake."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from command_line import fails
from made_curves import HOFFMANN_LAW, made

from evaluation.records import write_observations
from ladder.cli import main


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("curves") / "obs.parquet"
    sizes = np.geomspace(1e8, 3e9, 6)
    write_observations(made(HOFFMANN_LAW, sizes=sizes, noise=0.002, checkpoints=5), path)
    return path


def test_the_json_has_the_promised_shape(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--flops", "1e21", "--replicates", "10", "--json"]
    assert main(["allocate", str(table), *arguments]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["version"] == 1
    assert found["flops_by"] == "6ND"
    row = next(r for r in found["rows"] if r["approach"] == "parametric")
    assert set(row["params"]) == {"value", "lower80", "upper80"}
    assert row["params"]["lower80"] < row["params"]["value"] < row["params"]["upper80"]
    assert row["status"] in ("ok", "extrapolated")


def test_the_tables_fit_80_columns(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    more = ["--target-loss", "2.2", "--served", "12.3T", "--unique-tokens", "1e10"]
    arguments = ["allocate", str(table), "--flops", "1.23e25", "--replicates", "10", *more]
    assert main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    framed = [line for line in lines if line.startswith("  ") or "─" in line]
    assert max(map(len, framed)) <= 80
    assert any("parametric" in line and "*" in line for line in lines)
    assert any(line.startswith("* outside the runs: 100M-3B params") for line in lines)


def test_published_laws_answer_without_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["allocate", "--flops", "5.76e23"]) == 0
    said = capsys.readouterr().out
    assert "67B" in said
    assert "40.4B" in said
    assert main(["allocate", "--params", "7B", "--tokens", "4T"]) == 0
    assert "1.68e+23 FLOPs by 6ND" in capsys.readouterr().out


def test_a_csv_holds_one_line_an_approach(table: Path, tmp_path: Path) -> None:
    out = tmp_path / "rows.csv"
    run = ["allocate", str(table), "--flops", "1e21", "--replicates", "0", "--out", str(out)]
    assert main(run) == 0
    rows = pd.read_csv(out)
    assert list(rows["approach"])[:3] == ["envelope", "isoflop", "parametric"]
    assert {"params", "params_lower80", "exponent_params", "status"} <= set(rows.columns)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ((), "give a table of observations, or --flops"),
        (("--served", "1T"), "give --target-loss as well"),
        (("--flops", "many"), "is not a count above 0"),
        (("--flops", "1e300"), "must lie between 1e+06 and 1e+40"),
        (("--flops", "3"), "must lie between 1e+06 and 1e+40"),
        (("--target-loss", "-1"), "must be above 0"),
        (("--params", "7B"), "give --flops as well"),
        (("--params", "7B", "--tokens", "1T", "--flops", "1e22"), "give two"),
        (("--flops", "1e22", "--task", "c4"), "--task: needs a table"),
        (("--flops", "1e22", "--exact"), "--exact: needs a table"),
        (("--flops", "1e22", "--replicates", "-1"), "must be 0 or more"),
    ],
)
def test_a_mistake_is_one_line(
    arguments: tuple[str, ...], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert why in fails(capsys, "allocate", *arguments)


def test_one_size_is_refused_with_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "one.parquet"
    write_observations(made(HOFFMANN_LAW, sizes=(1e8,), checkpoints=1), path)
    said = fails(capsys, "allocate", path, "--flops", "1e21")
    assert "one.parquet: every finished run has 1e+08 params" in said
    assert "needs 3 sizes" in said
