"""The chain of both fits: known answers, ways to choose the points, refusals, saving."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import synthetic, true_accuracy, true_loss

from evaluation.records import validate
from predict import InputError, Target, TwoStage

TARGET = Target("7B-4T", 6.9e9, 4e12)


def fitted(table: pd.DataFrame, **options: object) -> TwoStage:
    return TwoStage("published", **options).fit(validate(table))  # type: ignore[arg-type]


def test_a_law_without_noise_is_predicted_to_a_fraction_of_a_point() -> None:
    row = fitted(synthetic()).predict(6.9e9, 4e12).iloc[0]
    assert row["loss_predicted"] == pytest.approx(true_loss(6.9e9, 4e12), rel=1e-4)
    # The ideal point (0, 1) is no point of the true link, so accuracy is close, not exact.
    assert row["predicted"] == pytest.approx(true_accuracy(true_loss(6.9e9, 4e12)), abs=0.01)
    assert row["status"] == "extrapolated"
    assert "outside the ladder's" in row["reason"]


def test_a_target_inside_the_ladders_losses_is_no_extrapolation() -> None:
    assert fitted(synthetic()).predict(7e8, 5e10).iloc[0]["status"] == "ok"


def test_every_task_is_fitted_as_if_alone() -> None:
    one, many = synthetic(), synthetic(tasks=("a", "quiz", "z"))
    alone = fitted(one).predict_one("quiz", TARGET)
    among = fitted(many).predict_one("quiz", TARGET)
    assert among.loss_predicted == pytest.approx(alone.loss_predicted, rel=1e-9)
    assert among.predicted == pytest.approx(alone.predicted, rel=1e-9)


def test_step_1_sees_the_mean_of_the_last_five_checkpoints_of_the_last_tenth_and_its_tokens() -> (
    None
):
    rows = []
    for run, part in synthetic(targets=()).groupby("run", sort=False):
        first = part.iloc[0]
        for step in range(1, 9):
            changed = first.to_dict() | {"step": step, "final": step == 8, "run": run}
            changed["loss"] = first["loss"] * step
            changed["tokens"] = first["tokens"] * (1 - (8 - step) / 50)
            rows.append(changed)
    points = fitted(pd.DataFrame(rows)).fits_["quiz"].rungs
    (point,) = (p for p in points if p.run == rows[0]["run"])
    assert point.loss == pytest.approx(rows[0]["loss"] * np.mean([4, 5, 6, 7, 8]))
    assert point.tokens == rows[7]["tokens"]


def test_step_2_drops_the_first_tenth_and_smooths_over_five() -> None:
    rows = []
    for run, part in synthetic(targets=()).groupby("run", sort=False):
        first = part.iloc[0]
        for step in range(1, 13):
            accuracy = step / 100
            rows.append(
                first.to_dict()
                | {"step": step, "final": step == 12, "run": run, "accuracy": accuracy}
            )
    link = fitted(pd.DataFrame(rows)).fits_["quiz"].link_accuracy[:10]
    # ceil(1.2) = 2 of 12 are dropped; the mean trails, shorter at the start.
    assert link == pytest.approx([0.03, 0.035, 0.04, 0.045, 0.05, 0.06, 0.07, 0.08, 0.09, 0.10])


def test_rungs_and_tasks_are_chosen_by_pattern() -> None:
    table = synthetic(tasks=("arc_easy", "arc_hard", "piqa"))
    table.loc[table["run"].str.startswith("1280M"), "role"] = "extra"
    assert len(fitted(table).fits_["piqa"].rungs) == 12
    assert len(fitted(table, rungs=["*"]).fits_["piqa"].rungs) == 16
    assert list(fitted(table, tasks=["arc_*"]).fits_) == ["arc_easy", "arc_hard"]
    assert not any("T0" in r.run for r in fitted(table, rungs=["*"]).fits_["piqa"].rungs)


def test_another_column_can_be_the_feature() -> None:
    table = synthetic()
    table["task_ce"] = 2 * table["loss"]
    by_loss, by_ce = fitted(table), fitted(table, feature="task_ce")
    pair = [m.predict_one("quiz", TARGET).loss_predicted for m in (by_loss, by_ce)]
    assert pair[1] == pytest.approx(2 * pair[0], rel=1e-3)
    with pytest.raises(InputError, match="feature 'soft': no such column"):
        fitted(table, feature="soft")
    with pytest.raises(InputError, match="a feature is loss or"):
        fitted(table, feature="accuracy")
    with pytest.raises(InputError, match="not a column of numbers"):
        fitted(table.assign(note="x"), feature="note")


def test_a_set_without_accuracy_gets_a_loss_only() -> None:
    table = synthetic().assign(accuracy=np.nan, chance=np.nan, loss_unit="nats/token")
    row = fitted(table).predict_one("quiz", TARGET)
    assert row.predicted is None
    assert row.status == "extrapolated"
    assert "times the costliest rung" in row.reason
    assert fitted(table).predict(7e8, 5e10).iloc[0]["status"] == "ok"
    assert row.loss_predicted == pytest.approx(true_loss(6.9e9, 4e12), rel=1e-4)


def test_a_task_at_chance_is_called_unpredictable() -> None:
    table = synthetic()
    table["accuracy"] = 0.25 + 0.01 * np.sin(np.arange(len(table)))
    row = fitted(table).predict_one("quiz", TARGET)
    assert row.status == "unpredictable"
    assert "chance" in row.reason


def test_fewer_rungs_than_parameters_are_refused() -> None:
    table = synthetic(sizes=(1.9e8,))
    with pytest.raises(InputError, match="needs 5 rungs and there are 4"):
        fitted(table)


def test_a_task_that_few_rungs_measured_is_left_out_with_the_reason() -> None:
    table = synthetic(tasks=("quiz", "rare", "new"))
    few = table["run"].isin(["190M-1xC", "370M-1xC"])
    table = table[(table["task"] != "rare") | few]
    table = table[(table["task"] != "new") | (table["role"] == "target")]
    model = fitted(table)
    assert list(model.fits_) == ["quiz"]
    assert model.left_out_ == {"rare": "only 2 rungs measured it", "new": "no rung measured it"}


def test_unfinished_runs_are_not_fitted() -> None:
    table = synthetic()
    table.loc[table["run"] == "1280M-10xC", "final"] = False
    assert len(fitted(table).fits_["quiz"].rungs) == 15


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"rungs": ["9B-*"]}, "matches no run of the ladder; there are 190M-1xC"),
        ({"tasks": ["arc*"]}, "matches no task of the ladder; there are quiz"),
    ],
)
def test_a_pattern_that_matches_nothing_is_named(options: dict[str, object], problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        fitted(synthetic(), **options)


def test_other_misuse_is_named() -> None:
    with pytest.raises(InputError, match="method 'magic': unknown"):
        TwoStage("magic")
    with pytest.raises(InputError, match="not fitted"):
        TwoStage().predict(7e9, 4e12)
    with pytest.raises(InputError, match="role ladder"):
        fitted(synthetic().assign(role="extra"))
    with pytest.raises(InputError, match="at or below 0"):
        fitted(synthetic().assign(loss=0.0))
    with pytest.raises(InputError, match="above 0 and finite"):
        fitted(synthetic()).predict(0, 4e12)


def test_a_saved_predictor_predicts_the_same(tmp_path: Path) -> None:
    table = synthetic(tasks=("quiz", "set"))
    table.loc[table["task"] == "set", "accuracy"] = np.nan
    model = fitted(table)
    model.save(tmp_path / "model.json")
    loaded = TwoStage.load(tmp_path / "model.json")
    pd.testing.assert_frame_equal(loaded.predict(7e9, 4e12), model.predict(7e9, 4e12))
    assert loaded.fits_ == model.fits_
    assert loaded.report() == model.report()
    (tmp_path / "model.json").write_text("{}")
    with pytest.raises(InputError, match="not a saved predictor"):
        TwoStage.load(tmp_path / "model.json")


def test_the_report_names_laws_parameters_and_certificates() -> None:
    text = fitted(synthetic()).report()
    assert "exp(a) / N^alpha + exp(b) / D^beta + E" in text
    assert "11 of 11 starts agree" in text


def test_final_results_alone_are_a_ladder() -> None:
    table = synthetic()
    model = fitted(table[table["final"]])
    assert model.fits_["quiz"].step2.points == 17
    row = model.predict_one("quiz", TARGET)
    assert row.predicted == pytest.approx(true_accuracy(true_loss(6.9e9, 4e12)), abs=0.01)


def test_a_rung_without_an_accuracy_still_has_its_loss() -> None:
    table = synthetic()
    table.loc[table["run"] == "1280M-10xC", "accuracy"] = np.nan
    model = fitted(table)
    rungs = {r.run: r for r in model.fits_["quiz"].rungs}
    assert rungs["1280M-10xC"].accuracy is None
    assert model.fits_["quiz"].step1.points == 16
    assert model.fits_["quiz"].step2.points < fitted(synthetic()).fits_["quiz"].step2.points


def test_a_task_with_too_few_accuracies_is_left_out_and_the_others_are_fitted() -> None:
    table = synthetic(tasks=("quiz", "sparse"))
    keep = table["run"].eq("190M-1xC") | table["task"].eq("quiz")
    table["accuracy"] = table["accuracy"].where(keep)
    model = fitted(table)
    assert list(model.fits_) == ["quiz"]
    assert "only 2 checkpoints have an accuracy" in model.left_out_["sparse"]


def test_a_ladder_of_one_size_is_called_undetermined(tmp_path: Path) -> None:
    model = fitted(synthetic(sizes=(1.9e8,), multiples=(1, 2, 3, 5, 7, 10)))
    row = model.predict_one("quiz", TARGET)
    assert row.status == "unpredictable"
    assert "do not determine" in row.reason
    assert any("not certified" in line for line in model.warnings())
    model.save(tmp_path / "model.json")
    assert TwoStage.load(tmp_path / "model.json").predict_one("quiz", TARGET) == row


def test_unfinished_runs_are_named_in_the_warnings() -> None:
    table = synthetic()
    table.loc[table["run"] == "1280M-10xC", "final"] = False
    assert "run 1280M-10xC: has no final row, not fitted" in fitted(table).warnings()


def test_another_law_or_link_takes_the_place_of_the_methods(tmp_path: Path) -> None:
    table = synthetic()
    model = fitted(table, law="compute", link="weibull")
    assert model.method.name == "published+compute+weibull"
    assert tuple(model.fits_["quiz"].step1.parameters) == ("a", "alpha", "E")
    model.save(tmp_path / "model.json")
    assert (
        TwoStage.load(tmp_path / "model.json").predict(7e9, 4e12).equals(model.predict(7e9, 4e12))
    )
    assert fitted(table, law="chinchilla").method.name == "published"
    with pytest.raises(
        InputError, match=r"--law sigmoid: takes loss and gives accuracy; use one of chinchilla"
    ):
        TwoStage("published", law="sigmoid")
    with pytest.raises(InputError, match="law 'cubic': unknown"):
        TwoStage("published", link="cubic")


def test_tasks_predicted_at_once_have_to_the_bit_what_each_has_alone() -> None:
    table = validate(synthetic(tasks=("a", "b", "c")))
    rng = np.random.default_rng(0)
    table["loss"] *= np.exp(0.004 * rng.standard_normal(len(table)))
    for method in ("default", "krajewski", "single_step"):
        model = TwoStage(method).fit(table)
        targets = [TARGET, Target("near", 2e9, 1e11)]
        alone = [model.predict_one(task, target) for target in targets for task in model.fits_]
        assert model.predict_targets(targets) == alone


def test_a_task_measured_for_half_a_run_is_no_result_of_it_whichever_tasks_are_chosen() -> None:
    table = synthetic(tasks=("quiz", "exam"))
    table["tokens"] *= table["step"] / 3
    table["loss"] *= 1 + 0.3 * (3 - table["step"])
    halfway = (table["task"] == "exam") & table["run"].str.startswith("190M") & (table["step"] > 1)
    table = validate(table[~halfway].reset_index(drop=True))
    alone = TwoStage(tasks=["exam"]).fit(table)
    assert not any(r.run.startswith("190M") for r in alone.fits_["exam"].rungs)
    assert alone.fits_["exam"].rungs == TwoStage().fit(table).fits_["exam"].rungs
    none = table[(table["task"] != "exam") | (table["step"] == 1)].reset_index(drop=True)
    with pytest.raises(InputError, match="exam: measured for a part of every finished run"):
        TwoStage(tasks=["exam"]).fit(none)


def test_a_sparsely_measured_task_is_predicted_alike_alone_and_among_others() -> None:
    generator = np.random.default_rng(0)
    table = synthetic(tasks=("a", "b", "sparse"))
    table = table.loc[table.index.repeat(10)].reset_index(drop=True)
    table["step"] = table.groupby(["run", "task"]).cumcount() + 1
    table["final"] = table["step"] == 30
    table["loss"] *= np.exp(generator.normal(0, 0.01, len(table)))
    table = table[(table["task"] != "sparse") | table["step"].isin([20, 30])]
    table = validate(table.reset_index(drop=True))
    among = TwoStage().fit(table)
    assert among.pooled_ == ["a", "b"]
    alone = TwoStage(tasks=["sparse"]).fit(table)
    one, other = (m.predict_one("sparse", TARGET) for m in (alone, among))
    assert one.loss_predicted == pytest.approx(other.loss_predicted, rel=1e-8)
    assert one.predicted == pytest.approx(other.predicted, rel=1e-8)


def test_seeds_of_too_few_rungs_are_counted_as_the_rungs_that_they_are() -> None:
    one = synthetic(sizes=(1.9e8,), multiples=(1,), targets=())
    seeds = [one.assign(run=f"s{seed}", seed=seed) for seed in range(4)]
    with pytest.raises(InputError, match="quiz, only 1 rung but for their seeds measured it"):
        TwoStage().fit(validate(pd.concat(seeds, ignore_index=True)))


def test_a_name_with_brackets_is_matched_by_itself() -> None:
    table = synthetic(tasks=("c4[en]", "quiz"))
    assert list(fitted(table, tasks=["c4[en]"]).fits_) == ["c4[en]"]
    assert list(fitted(table, tasks=["c4[[]*"]).fits_) == ["c4[en]"]


@pytest.mark.parametrize(
    ("params", "tokens", "said"),
    [
        (1e7, 2e8, "1e+07 params lie outside the ladder's 1.9e+08 to 1.28e+09"),
        (1e10, 3e9, "1e+10 params lie outside the ladder's 1.9e+08 to 1.28e+09"),
        (3.7e8, 1e9, "1e+09 tokens lie outside the ladder's 3.8e+09 to 2.56e+11"),
    ],
)
def test_a_target_of_less_cost_but_other_size_or_length_is_an_extrapolation(
    params: float, tokens: float, said: str
) -> None:
    losses = synthetic(tasks=("lm",)).drop(columns=["accuracy", "chance", "instances"])
    row = fitted(losses).predict(params, tokens).iloc[0]
    assert (row["status"], row["reason"]) == ("extrapolated", said)
    assert fitted(losses).predict(3.7e8, 4e9).iloc[0]["status"] == "ok"


def test_a_link_through_nothing_but_zeros_can_be_saved(tmp_path: Path) -> None:
    model = TwoStage("gadre").fit(validate(synthetic().assign(accuracy=0.0)))
    model.save(tmp_path / "fit.json")
    again = TwoStage.load(tmp_path / "fit.json")
    assert again.predict_one("quiz", TARGET) == model.predict_one("quiz", TARGET)
