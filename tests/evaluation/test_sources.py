"""The published logs become observations with the right roles, sizes and means."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from evaluation.records import InputError, read_observations
from evaluation.sources import MMLU_WEIGHTS, import_olmo_ladder


@pytest.fixture(scope="module")
def table(olmo_observations: Path) -> pd.DataFrame:
    return read_observations(olmo_observations)


def test_sixteen_rungs_and_two_targets_come_from_the_file_names(table: pd.DataFrame) -> None:
    roles = table.drop_duplicates("run").set_index("run")["role"]
    sizes, multiples = ("190M", "370M", "760M", "1B"), (1, 2, 5, 10)
    assert set(roles[roles == "ladder"].index) == {f"{s}-{m}xC" for s in sizes for m in multiples}
    assert set(roles[roles == "target"].index) == {"7B-4T", "13B-5T"}
    assert {"7B-4T-stage1", "13B-5T-full", "190M-1xC-rerun", "3B-10xC"} <= set(
        roles[roles == "extra"].index
    )


def test_sizes_tokens_and_flops_are_the_published_ones(table: pd.DataFrame) -> None:
    last = table.sort_values("step").groupby("run").tail(1).set_index("run")
    assert last.at["3B-10xC", "params"] == 3_169_537_280
    assert last.at["1B-10xC", "tokens"] == 255_895_535_616
    assert last.at["7B-4T", "tokens"] == 3_945_065_873_408
    assert last.at["13B-5T", "tokens"] == 5_000_088_518_656
    assert last.at["13B-5T", "flops"] == 5_000_088_518_656 * 91_335_915_520
    finals = table[table["final"]].groupby("run")["step"].nunique()
    assert (finals == 1).all()


def test_mmlu_is_the_weighted_mean_of_its_categories(table: pd.DataFrame) -> None:
    one = table[(table["run"] == "1B-10xC") & table["final"]].set_index("task")
    for column in ("loss", "accuracy", "soft", "task_ce"):
        mean = sum(w * one.at[f"mmlu_{c}_test_rc_5shot", column] for c, w in MMLU_WEIGHTS.items())
        assert one.at["mmlu_test_rc_5shot", column] == pytest.approx(mean)
    assert one.at["piqa_val_rc_5shot", "loss"] == pytest.approx(1.0015865564346313)
    assert one.at["piqa_val_rc_5shot", "accuracy"] == pytest.approx(0.7551686763763428)
    assert one.at["c4_en-validation", "loss"] == pytest.approx(2.8322818279266357)
    assert one.at["c4_en-validation", "loss_unit"] == "nats/token"


def test_letter_forms_carry_the_cloze_forms_loss(table: pd.DataFrame) -> None:
    one = table[(table["run"] == "13B-5T") & table["final"]].set_index("task")
    assert one.at["piqa_val_mc_5shot", "loss"] == one.at["piqa_val_rc_5shot", "loss"]
    assert one.at["piqa_val_mc_5shot", "accuracy_metric"] == "acc"


def test_a_clone_and_a_bare_folder_read_alike(olmo_ladder: Path, tmp_path: Path) -> None:
    logs = ("190M-1xC.csv", "1B-2xC.csv", "peteish7_eval_anneal.csv")
    clone, bare = tmp_path / "clone", tmp_path / "bare"
    data = clone / "src/scripts/paper/data/ladder-runs"
    data.mkdir(parents=True)
    bare.mkdir()
    for log in logs:
        shutil.copy(olmo_ladder / "ladder-runs" / log, data)
        shutil.copy(olmo_ladder / "ladder-runs" / log, bare)
    (clone / "src/scripts/paper/configs").mkdir()
    shutil.copy(olmo_ladder / "final.json", clone / "src/scripts/paper/configs")
    (bare / "notes.csv").write_text("a,b\n1,2\n")
    one, other = import_olmo_ladder(clone), import_olmo_ladder(bare)
    pd.testing.assert_frame_equal(one.observations, other.observations)
    assert one.left_out == ()
    assert other.left_out == ("notes.csv: not a run of the ladder or a known target",)


def test_a_configs_sizes_have_precedence(olmo_ladder: Path, tmp_path: Path) -> None:
    shutil.copy(olmo_ladder / "ladder-runs/190M-1xC.csv", tmp_path)
    entry = {"paths": ["x/190M-1xC.csv"], "n": 5, "flops": 7}
    (tmp_path / "final.json").write_text(json.dumps({"190M": entry}))
    found = import_olmo_ladder(tmp_path).observations
    assert (found["params"] == 5).all()
    assert (found["flops"] == 7 * found["tokens"]).all()


def test_what_is_no_log_is_named(olmo_ladder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        import_olmo_ladder(tmp_path / "absent")
    with pytest.raises(InputError, match="holds no ladder logs"):
        import_olmo_ladder(tmp_path)
    log = (olmo_ladder / "ladder-runs/190M-1xC.csv").read_text().splitlines()
    cells = log[2].split(",")
    cells[1] = "oops"
    bad = tmp_path / "190M-1xC.csv"
    bad.write_text("\n".join([*log[:2], ",".join(cells), *log[3:]]))
    with pytest.raises(InputError, match=r"190M-1xC.csv: row 2, column .*'oops' is not a number"):
        import_olmo_ladder(tmp_path)
    bad.write_text("_step\n1\n")
    with pytest.raises(InputError, match="batch_size_in_tokens"):
        import_olmo_ladder(tmp_path)
    bad.write_text(log[0] + "\n")
    with pytest.raises(InputError, match="has no rows"):
        import_olmo_ladder(tmp_path)
    (tmp_path / "final.json").write_text('{"190M": {"n": 1}}')
    with pytest.raises(InputError, match="lacks paths, n or flops"):
        import_olmo_ladder(tmp_path)


@pytest.mark.parametrize("number", ["1e999", "1" + "0" * 400, "-5", "0", "NaN", '"many"', "[]"])
@pytest.mark.parametrize("key", ["n", "flops"])
def test_sizes_that_are_no_counts_are_refused(key: str, number: str, tmp_path: Path) -> None:
    (tmp_path / "190M-1xC.csv").write_text("_step\n1\n")
    other = "flops" if key == "n" else "n"
    text = f'{{"190M": {{"paths": ["190M-1xC.csv"], "{key}": {number}, "{other}": 7}}}}'
    (tmp_path / "final.json").write_text(text)
    with pytest.raises(InputError, match=r"final\.json: an entry lacks paths, n or flops"):
        import_olmo_ladder(tmp_path)


def test_a_number_of_more_digits_than_any_float_is_named(olmo_ladder: Path, tmp_path: Path) -> None:
    log = (olmo_ladder / "ladder-runs/190M-1xC.csv").read_text().splitlines()
    place = log[0].split(",").index("_step")
    found = {}
    for digits in (400, 25):
        cells = log[2].split(",")
        cells[place] = "1" + "0" * digits
        (tmp_path / "190M-1xC.csv").write_text("\n".join([*log[:2], ",".join(cells), *log[3:]]))
        with pytest.raises(InputError) as caught:
            import_olmo_ladder(tmp_path)
        found[digits] = str(caught.value)
    assert "row 2, column '_step': " in found[400]
    # It is a number, and too large for a step.
    assert "is too large" in found[25]


def test_an_import_gives_the_same_bytes_every_time(olmo_ladder: Path, tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    shutil.copy(olmo_ladder / "ladder-runs/190M-1xC.csv", logs)
    shutil.copy(olmo_ladder / "ladder-runs/peteish13_eval_final.csv", logs)
    for seed in ("1", "2"):
        out = str(tmp_path / f"{seed}.csv")
        command = [sys.executable, "-m", "ladder.cli", "import", "olmo-ladder", str(logs)]
        subprocess.run(
            [*command, "--out", out], check=True, env={**os.environ, "PYTHONHASHSEED": seed}
        )
    assert (tmp_path / "1.csv").read_bytes() == (tmp_path / "2.csv").read_bytes()
