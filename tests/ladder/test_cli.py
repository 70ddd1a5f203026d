"""The commands: their JSON, their exit statuses, and one clear line for a mistake."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from command_line import document, fails
from conftest import synthetic

from evaluation.records import write_observations
from ladder.cli import main
from ladder.commands import COMMANDS
from ladder.commands.options import parse_target
from predict.methods import METHODS

PREDICT_FIELDS = {
    "task",
    "target",
    "params",
    "tokens",
    "predicted",
    "lower80",
    "upper80",
    "lower95",
    "upper95",
    "loss_predicted",
    "loss_lower80",
    "loss_upper80",
    "status",
    "reason",
}
AUDIT_FIELDS = {
    "actual",
    "error",
    "loss_actual",
    "loss_error",
    "step1_error",
    "step2_error",
}


def test_a_reader_that_leaves_is_no_error() -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "ladder.cli", "--help"],
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (1, "")


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    listed = capsys.readouterr().out
    assert all(f"\n  {name} " in listed for name in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    assert f"ladder {command}" in capsys.readouterr().out


def test_plan_has_the_promised_shape(capsys: pytest.CaptureFixture[str]) -> None:
    plan = document(capsys, "plan", "quickstart")
    assert plan["version"] == 1
    assert len(plan["rungs"]) == 16
    assert {"rungs", "targets", "ladder_flops", "share_of_target"} <= set(plan)
    assert set(plan["targets"][0]) == {
        "name",
        "params",
        "tokens",
        "flops",
        "flops_6nd",
        "flops_per_token",
        "batch_sequences",
        "learning_rate",
        "warmup_steps",
        "steps",
    }


def test_plan_tells_gpu_hours_only_at_a_stated_mfu(capsys: pytest.CaptureFixture[str]) -> None:
    plain = document(capsys, "plan", "quickstart")
    plan = document(capsys, "plan", "quickstart", "--mfu", "0.4")
    for row, without in zip(
        plan["rungs"] + plan["targets"], plain["rungs"] + plain["targets"], strict=True
    ):
        assert row.pop("gpu_hours") > 0
        assert row == without
    hours = document(capsys, "plan", "quickstart", "--mfu", "0.4")["rungs"]
    assert plan.pop("ladder_gpu_hours") == pytest.approx(sum(r["gpu_hours"] for r in hours))
    assert plan == plain
    sets = ("--set", "recipe.schedule=wsd", "--set", "ladder.sizes=[3K]")
    trunk = document(capsys, "plan", "quickstart", *sets, "--mfu", "0.4")
    separate = sum(row["gpu_hours"] for row in trunk["rungs"])
    # What several rungs share counts once, of hours as of FLOPs.
    saved = trunk["ladder_flops"] / trunk["separate_flops"]
    assert saved < 1
    assert trunk["ladder_gpu_hours"] / separate == pytest.approx(saved)
    assert main(["plan", "olmo2", "--mfu", "0.4"]) == 0
    assert "4,468 hours of one H100 at an MFU of 0.4" in capsys.readouterr().out
    assert "together with --mfu" in fails(capsys, "plan", "quickstart", "--gpu", "A100")


def test_predict_has_the_promised_shape(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = document(
        capsys, "predict", table, "--target", "7B:6.9e9:4T", "--target", "13B:13B:5e12"
    )
    assert found["method"] == "default"
    assert [r["target"] for r in found["rows"]] == ["7B", "13B"]
    assert all(set(r) == PREDICT_FIELDS for r in found["rows"])
    assert found["rows"][0]["tokens"] == 4e12
    assert 0 < found["rows"][0]["predicted"] < 1


def test_predict_takes_the_tables_targets(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert [r["target"] for r in document(capsys, "predict", table)["rows"]] == ["T0"]


def test_audit_has_the_promised_shape(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = document(capsys, "audit", table)
    (row,) = found["rows"]
    assert set(row) >= PREDICT_FIELDS | AUDIT_FIELDS
    assert found["mean_abs_error"] == pytest.approx(abs(row["error"]))


def test_intervals_hold_the_prediction(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for method in METHODS:
        for row in document(capsys, "predict", table, "--method", method)["rows"]:
            bounds = [row[f] for f in ("lower95", "lower80", "predicted", "upper80", "upper95")]
            if bounds[0] is None:
                assert row["status"] == "unpredictable"
                continue
            assert bounds == sorted(bounds)
            assert row["loss_lower80"] <= row["loss_predicted"] <= row["loss_upper80"]


def test_backtest_and_noise_are_documents(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = document(capsys, "backtest", table, "--methods", "own", "--methods", "published")
    assert found["version"] == 1
    assert found["scores"][0]["method"] == found["chosen"]
    assert {s["method"] for s in found["scores"]} == {"own", "published", "default"}
    assert {"split", "task", "run", "error", "lower80"} <= set(found["rows"][0])
    assert main(["backtest", str(table), "--out", str(tmp_path / "b.csv")]) == 0
    assert "chosen: " in capsys.readouterr().out
    assert len(pd.read_csv(tmp_path / "b.csv")) == len(found["rows"]) * 2 // 3
    noise = document(capsys, "noise", table, "--last", "3")
    assert [row["task"] for row in noise["rows"]] == ["quiz"]
    assert main(["noise", str(table)]) == 0
    assert "loss SD" in capsys.readouterr().out


def test_checkpoints_far_from_a_runs_end_are_told(
    tmp_path: Path, observations: pd.DataFrame, capsys: pytest.CaptureFixture[str]
) -> None:
    sparse = observations.assign(tokens=observations["tokens"] * (observations["step"] + 1) / 3)
    ends = sparse.groupby("run")["step"].transform("max") + 1
    write_observations(sparse.assign(tokens=sparse["tokens"] * 3 / ends), tmp_path / "sparse.csv")
    write_observations(observations, tmp_path / "dense.csv")
    for name, told in (("sparse", True), ("dense", False)):
        assert main(["noise", str(tmp_path / f"{name}.csv")]) == 0
        assert ("what it still learned" in " ".join(capsys.readouterr().out.split())) == told


def test_the_curve_is_part_of_the_audit(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = document(capsys, "audit", table, "--curve")
    assert {p["cut"] for p in found["curve"]} == {"size", "multiple", "flops"}
    assert found["pooled"][0]["target"] == "T0"
    assert main(["audit", str(table), "--curve"]) == 0
    assert "compute against error" in capsys.readouterr().out


def test_a_seal_goes_from_predict_to_audit(
    tmp_path: Path, observations: pd.DataFrame, capsys: pytest.CaptureFixture[str]
) -> None:
    before, after, seal = (tmp_path / n for n in ("before.csv", "after.csv", "seal.json"))
    write_observations(observations[observations["role"] != "target"], before)
    write_observations(observations, after)
    target = ["--target", "T0:6.9e9:4T", "--seal", seal]
    sealed = document(capsys, "predict", before, *target)
    found = document(capsys, "audit", after, "--sealed", seal)
    assert found["ladder_unchanged"]
    assert found["rows"][0]["predicted"] == sealed["rows"][0]["predicted"]
    assert found["rows"][0]["actual"] is not None
    assert main(["audit", str(after), "--sealed", str(seal)]) == 0
    assert "unchanged since" in capsys.readouterr().out
    assert "exists" in fails(capsys, "predict", before, *target)
    assert "already" in fails(capsys, "predict", after, *target[:2], "--seal", tmp_path / "n.json")
    assert "must end in .json" in fails(capsys, "predict", before, *target[:3], tmp_path / "s.txt")


@pytest.mark.parametrize("command", ["predict", "report"])
def test_a_target_given_twice_is_refused(
    command: str, table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    targets = ["--target", "7B:7B:1T", "--target", "7B:7B:2T"]
    assert "--target 7B: is given twice" in fails(capsys, command, table, *targets)


def test_a_ceiling_that_no_rung_shows_is_told_of_only_where_a_prediction_comes_near_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, table = tmp_path / "high.csv", synthetic()

    def said_of(middle: float) -> str:
        accuracy = 1 - 0.75 / (1 + np.exp(-6 * (table["loss"] - middle)))
        write_observations(table.assign(accuracy=accuracy), path)
        assert main(["predict", str(path), "--method", "published"]) == 0
        return capsys.readouterr().err

    assert said_of(1.2) == (
        "note: near 100%, where the ladder shows no ceiling, so none is assumed: quiz\n"
    )
    assert said_of(0.8) == ""


@pytest.mark.parametrize("command", ["predict", "audit"])
def test_tables_and_files_say_the_same(
    command: str, table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = document(capsys, command, table)
    assert main([command, str(table), "--out", str(tmp_path / "x.json")]) == 0
    shown = capsys.readouterr().out
    assert json.loads((tmp_path / "x.json").read_text()) == found
    assert f"{100 * found['rows'][0]['predicted']:.1f}" in shown
    assert main([command, str(table), "--out", str(tmp_path / "x.csv")]) == 0
    (row,) = pd.read_csv(tmp_path / "x.csv").to_dict("records")
    assert row["predicted"] == pytest.approx(found["rows"][0]["predicted"])
    capsys.readouterr()
    assert "must end in .json or .csv" in fails(
        capsys, command, table, "--json", "--out", tmp_path / "x.txt"
    )


def test_a_target_smaller_than_the_ladder_is_a_warning(
    table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", str(table), "--target", "small:2e8:4e9"]) == 0
    assert "warning: target small" in capsys.readouterr().err


@pytest.mark.parametrize(
    "text", ["7B", "7B:6.9e9", ":1:2", "7B:x:4T", "7B:-1:4T", "7B:nan:4T", "7B:inf:4T", "7B:0:4T"]
)
def test_a_bad_target_is_named(text: str, table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert f"--target {text}" in fails(capsys, "predict", table, "--target", text)


def test_counts_take_suffixes() -> None:
    target = parse_target("a:b:6.9B:4t")
    assert (target.name, target.params, target.tokens) == ("a:b", 6.9e9, 4e12)


def test_mistakes_are_one_line(tmp_path: Path, table: Path, capsys: pytest.CaptureFixture) -> None:
    assert "did you mean 'predict'?" in fails(capsys, "predikt", table)
    assert "no such file" in fails(capsys, "predict", tmp_path / "absent.csv")
    assert "no such file" in fails(capsys, "plan", tmp_path / "absent.yaml")
    assert "method 'best': unknown" in fails(capsys, "audit", table, "--method", "best")
    assert "no runs folder" in fails(capsys, "status", tmp_path)
    assert "must end" in fails(capsys, "plan", "quickstart", "--json", "--out", "x.yaml")
    assert "no such folder" in fails(
        capsys, "import", "olmo-ladder", tmp_path / "absent", "--out", tmp_path / "x.csv"
    )
    assert "is a runs folder" in fails(capsys, "report", tmp_path, "--feature", "soft")
    few = tmp_path / "few.csv"
    write_observations(synthetic(sizes=(1e8,)), few)
    assert f"{few}: step 1 (chinchilla) needs 5 rungs and there are 4" in fails(
        capsys, "predict", few, "--target", "7B:7B:1T", "--method", "published"
    )
    assert "--target 7B: is given twice" in fails(
        capsys, "predict", table, "--target", "7B:7B:1T", "--target", "7B:7B:2T"
    )
    assert "must read KEY=VALUE" in fails(
        capsys, "import", "csv", few, "--out", tmp_path / "o.csv", "--map", "run"
    )
    assert "takes PATH and --out only" in fails(
        capsys, "import", "olmo-ladder", few, "--out", tmp_path / "o.csv", "--percent"
    )
    assert "brings its own method" in fails(
        capsys, "audit", table, "--sealed", few, "--method", "published"
    )
    bare = tmp_path / "bare.csv"
    write_observations(synthetic(targets=()), bare)
    assert "name one with --target" in fails(capsys, "predict", bare)


@pytest.mark.parametrize(
    "arguments",
    [
        ("predict",),
        ("predict", "obs.csv", "--metod", "published"),
        ("import", "lm-eval", "x", "--out", "y.csv"),
        ("run", "quickstart", "--workers", "two"),
    ],
)
def test_a_misspelled_option_is_one_line(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    fails(capsys, *arguments)


def test_an_older_name_of_an_option_is_not_what_is_suggested(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert "did you mean --map?" in fails(capsys, "predict", "obs.csv", "--mapp", "run=x")
    assert "did you mean --seal?" in fails(capsys, "predict", "obs.csv", "--seall", "x.json")


def test_an_internal_failure_is_one_line_with_status_1(
    table: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("predict.two_stage.TwoStage.fit", lambda *_: 1 / 0)
    assert main(["predict", str(table)]) == 1
    said = capsys.readouterr().err
    assert "ZeroDivisionError" in said
    assert said.count("\n") == 1
    monkeypatch.setenv("LADDER_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        main(["predict", str(table)])


def test_a_report_of_a_table_is_one_self_contained_file(
    table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(table)]) == 0
    html = table.with_suffix(".html").read_text()
    assert "http://" not in html.replace("http://www.w3.org", "")
    assert not re.search("<(script|link|img)[^>]* (src|href)=", html)
    assert "quiz" in html
    assert main(["report", str(table), "--target", "7B:7B:4T", "--out", str(table) + ".html"]) == 0
    assert "7B" in Path(str(table) + ".html").read_text()


@pytest.mark.parametrize("command", ["predict", "audit", "report"])
def test_the_table_that_is_read_is_never_overwritten(
    command: str, tmp_path: Path, observations: pd.DataFrame, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "obs.csv"
    write_observations(observations, path)
    before = path.read_bytes()
    said = fails(capsys, command, path, "--out", path)
    assert "is the table that is read" in said or "must end in .html" in said
    assert path.read_bytes() == before
    folder = tmp_path / "x.json"
    folder.mkdir()
    if command != "report":
        assert "is a folder" in fails(capsys, command, path, "--out", folder)


def test_what_would_fail_after_the_training_fails_before_it(
    tmp_path: Path, tiny_config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*sets: str) -> str:
        arguments = [word for s in sets for word in ("--set", s)]
        return fails(capsys, "run", tiny_config, "--runs", tmp_path / "runs", *arguments)

    assert "method 'foo': unknown" in refused("predict.method=foo")
    assert "4 rungs, and method published needs 5" in refused(
        "ladder.sizes=[a]", "ladder.multiples=[1,2,3,4]"
    )
    assert "multiples" in refused("ladder.multiples=[0]")
    assert "betas" in refused("recipe.betas=[2,3]")
    assert "less than one sequence" in refused("ladder.tokens_per_param=0.001")
    assert "must be at least 1" in fails(
        capsys, "run", tiny_config, "--runs", tmp_path / "other", "--workers", "0"
    )
    assert not (tmp_path / "runs").exists()
    assert not (tmp_path / "other").exists()
    (tmp_path / "file").write_text("")
    assert "is a file" in fails(capsys, "run", tiny_config, "--runs", tmp_path / "file")
    assert "cannot be made" in fails(capsys, "run", tiny_config, "--runs", tmp_path / "file" / "x")
