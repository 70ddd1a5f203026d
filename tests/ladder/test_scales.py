"""What `ladder scales` says of multipliers is what their files hold."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import save_file

from evaluation.files import InputError
from ladder import train as training
from ladder.cli import main
from ladder.config import load_config
from ladder.plan import make_plan
from ladder.runs import RunsFolder
from ladder.scales import learned, spreads

MULTIPLIERS = {
    "model.layers.0.mlp.up_proj.row": [1.0, 3.0],
    "model.layers.10.mlp.up_proj.row": [2.0, 6.0],
    "model.layers.2.mlp.up_proj.row": [3.0, 3.0],
    "model.layers.0.mlp.up_proj.column": [0.5, 0.5, 2.0],
    "model.embed_tokens.scalar": [-1.0],
}


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "runs" / "190M-1xC" / "checkpoints" / "step-70"
    (path / "multipliers").mkdir(parents=True)
    (path / "config.json").write_text("{}")
    tensors = {name: np.array(values, np.float32) for name, values in MULTIPLIERS.items()}
    save_file(tensors, path / "multipliers" / "model-00001-of-00001.safetensors")
    return path


def test_spreads_are_within_matrices_and_over_layers(checkpoint: Path) -> None:
    found = learned(checkpoint)
    assert [one.layer for one in found if one.side == "row"] == [0, 2, 10]
    by = {(one.kind, one.side): one for one in spreads(found)}
    assert by.keys() == {("up_proj", "row"), ("up_proj", "column"), ("embed_tokens", "scalar")}
    rows = by["up_proj", "row"]
    assert (rows.run, rows.step, rows.matrices) == ("190M-1xC", 70, 3)
    assert rows.mean == pytest.approx(3)
    assert rows.sd_within == pytest.approx(((1 + 0 + 4) / 3) ** 0.5)
    assert rows.sd_between == pytest.approx((2 / 3) ** 0.5)
    assert rows.rms == pytest.approx(((5 + 9 + 20) / 3) ** 0.5)
    assert (rows.smallest, rows.largest) == (1, 6)
    scalar = by["embed_tokens", "scalar"]
    assert (scalar.mean, scalar.sd_within, scalar.sd_between) == (-1, 0, 0)


def test_the_command_prints_a_table_json_and_csv(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["scales", str(checkpoint), "--out", str(tmp_path / "scales.csv")]) == 0
    said = capsys.readouterr().out
    assert "190M-1xC after step 70" in said
    assert "up_proj" in said
    table = pd.read_csv(tmp_path / "scales.csv")
    assert table["mean"].tolist() == pytest.approx([-1, 1, 3])
    assert main(["scales", str(checkpoint), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["version"] == 1
    assert len(document["rows"]) == 3
    assert [one["layer"] for one in document["matrices"]] == [None, 0, 0, 2, 10]


def test_a_runs_folder_and_a_rung_are_read_at_their_newest_checkpoints(
    tiny_config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sets = ("recipe.multipliers={kind: both}", "evaluation.at=[1]", "checkpoints.keep=2")
    config, runs = load_config(str(tiny_config), sets), RunsFolder(tmp_path / "runs")
    runs.prepare(config)
    with pytest.raises(InputError, match="no checkpoint here has multipliers; train with"):
        learned(runs.path)
    rung = make_plan(config).run("a-1xC")
    training.train_rung(config, rung, runs)
    for path in (runs.path, runs.path / "a-1xC"):
        found = learned(path)
        assert {(one.run, one.step) for one in found} == {("a-1xC", rung.steps)}
        assert len(found) == 2 * (7 + 1)
        assert all(one.sd > 1e-3 for one in found)
    assert main(["scales", str(runs.path)]) == 0
    assert "embed_tokens" in capsys.readouterr().out


def test_what_holds_no_multipliers_or_broken_ones_is_refused(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["scales", str(tmp_path)]) == 2
    assert "no runs folder" in capsys.readouterr().err
    (file,) = (checkpoint / "multipliers").iterdir()
    file.write_bytes(file.read_bytes()[:40])
    assert main(["scales", str(checkpoint)]) == 2
    said = capsys.readouterr().err
    assert "damaged" in said
    assert said.count("\n") == 1
