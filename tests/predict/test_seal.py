"""A seal is written before the target exists, and shows any change afterwards."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from conftest import synthetic

from evaluation.records import validate
from predict import InputError, Target, TwoStage
from predict.seal import check_seal, hash_document, hash_rows, write_seal

WHOLE = validate(synthetic(tasks=("quiz", "exam")))
LADDER = WHOLE[WHOLE["role"] != "target"].reset_index(drop=True)
TARGET = Target("T0", 6.9e9, 4e12)


@pytest.fixture
def seal(tmp_path: Path) -> Path:
    path = tmp_path / "seal.json"
    model = TwoStage().fit(LADDER)
    write_seal(path, model, LADDER, [TARGET], model.predict_targets([TARGET]), "2026-01-01T00:00")
    return path


def test_a_seal_is_scored_against_what_came(seal: Path) -> None:
    check = check_seal(seal, WHOLE)
    assert check.ladder_unchanged
    assert check.largest_change == 0
    assert check.sealed_at == "2026-01-01T00:00"
    expected = TwoStage().fit(LADDER).predict_one("quiz", TARGET)
    row = next(r for r in check.audit.rows if r.prediction.task == "quiz")
    assert row.prediction == expected
    assert row.step2_error is not None
    assert check.unscored == ()


def test_it_holds_what_the_predictions_were_made_from(seal: Path) -> None:
    document = json.loads(seal.read_text())
    assert document["method"]["method"] == "default"
    assert document["ladder"]["runs"] == sorted(LADDER["run"].unique())
    assert {"python", "numpy", "scipy", "task-ladder"} <= set(document["versions"])
    assert document["targets"] == [{"name": "T0", "params": 6.9e9, "tokens": 4e12}]


@pytest.mark.parametrize("field", ["predicted", "lower80", "loss_predicted", "status"])
def test_a_changed_number_breaks_it(seal: Path, field: str) -> None:
    document = json.loads(seal.read_text())
    row = document["predictions"][0]
    row[field] = "ok" if field == "status" else row[field] + 1e-9
    seal.write_text(json.dumps(document))
    with pytest.raises(InputError, match="changed after it was sealed"):
        check_seal(seal, WHOLE)


def test_another_layout_of_the_same_json_does_not(seal: Path) -> None:
    seal.write_text(json.dumps(json.loads(seal.read_text()), sort_keys=True))
    assert check_seal(seal, WHOLE).ladder_unchanged


def test_changed_rungs_are_seen_and_the_predictions_stand(seal: Path) -> None:
    table = WHOLE.copy()
    table.loc[table["run"] == "190M-1xC", "loss"] *= 1.001
    check = check_seal(seal, table)
    assert not check.ladder_unchanged
    assert check.largest_change is None
    assert all(r.error is not None and r.step2_error is None for r in check.audit.rows)
    gone = check_seal(seal, WHOLE[WHOLE["run"] != "190M-1xC"])
    assert not gone.ladder_unchanged


def test_further_rows_and_another_order_change_nothing(seal: Path) -> None:
    extra = WHOLE[WHOLE["run"] == "190M-1xC"].assign(run="new", role="extra")
    table = pd.concat([WHOLE.sample(frac=1, random_state=0), extra], ignore_index=True)
    assert check_seal(seal, table).largest_change == 0
    assert hash_rows(WHOLE) == hash_rows(WHOLE.sample(frac=1, random_state=1))


def test_columns_that_no_fit_reads_change_nothing(seal: Path) -> None:
    assert check_seal(seal, WHOLE.assign(accuracy_se=0.1, recipe="x")).largest_change == 0


def test_another_unit_of_the_loss_is_refused(seal: Path) -> None:
    with pytest.raises(InputError, match="sealed in bits/byte and is measured in nats/token"):
        check_seal(seal, WHOLE.assign(loss_unit="nats/token"))


def test_rungs_that_can_no_longer_be_fitted_leave_the_predictions(seal: Path) -> None:
    table = WHOLE.copy()
    table.loc[table["role"] == "ladder", "final"] = False
    check = check_seal(seal, table)
    assert not check.ladder_unchanged
    assert len(check.audit.rows) == 2


def test_a_forged_seal_is_one_line(seal: Path) -> None:
    for field, value in (("method", "default"), ("targets", []), ("ladder", {"runs": None})):
        document = json.loads(seal.read_text())
        del document["sha256"]
        document[field] = value
        forged = seal.with_name(f"{field}.json")
        forged.write_text(json.dumps({**document, "sha256": hash_document(document)}))
        with pytest.raises(InputError, match="is no seal"):
            check_seal(forged, WHOLE)


def test_what_has_not_been_measured_is_listed(seal: Path) -> None:
    table = WHOLE[~((WHOLE["role"] == "target") & (WHOLE["task"] == "exam"))]
    assert check_seal(seal, table).unscored == ("T0, exam: not measured",)
    with pytest.raises(InputError, match="none of its targets has been measured: T0"):
        check_seal(seal, LADDER)


def test_another_model_than_the_sealed_one_is_refused(seal: Path) -> None:
    table = WHOLE.copy()
    table.loc[table["role"] == "target", "tokens"] *= 2
    with pytest.raises(InputError, match="sealed with tokens 4e\\+12 and has 8e\\+12"):
        check_seal(seal, table)


def test_a_seal_is_written_once_and_only_before(seal: Path, tmp_path: Path) -> None:
    model = TwoStage().fit(LADDER)
    predictions = model.predict_targets([TARGET])
    with pytest.raises(InputError, match="exists"):
        write_seal(seal, model, LADDER, [TARGET], predictions, "now")
    with pytest.raises(InputError, match="has results in the observations already"):
        write_seal(tmp_path / "late.json", model, WHOLE, [TARGET], predictions, "now")
    assert not (tmp_path / "late.json").exists()


@pytest.mark.parametrize("text", ["", "{}", "[]", "nonsense", '{"sha256": 1, "version": 1}'])
def test_what_is_no_seal_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(InputError, match="is no seal"):
        check_seal(path, WHOLE)


def test_other_seeds_are_other_rows_as_a_fit_takes_the_mean_of_seeds() -> None:
    assert hash_rows(WHOLE.assign(seed=1)) != hash_rows(WHOLE.assign(seed=2))


def test_a_task_that_the_target_measured_for_half_its_run_is_not_scored(seal: Path) -> None:
    table = WHOLE.copy()
    own = table["role"] == "target"
    table.loc[own, "tokens"] *= table["step"] / 3
    table = table[~(own & (table["task"] == "exam") & (table["step"] > 1))]
    check = check_seal(seal, table)
    assert [row.prediction.task for row in check.audit.rows] == ["quiz"]
    assert check.unscored == ("T0, exam: not measured to the end of its run",)
