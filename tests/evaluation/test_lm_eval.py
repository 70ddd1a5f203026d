"""What lm-evaluation-harness wrote becomes observations, or one line says why not.

tests/data/lm_eval is what lm-eval 0.4.13 wrote of tests/tiny_model.py on tasks of its words, once
with --log_samples and once with --limit 3 instead; only hashes, versions and the like are cut.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.files import InputError
from evaluation.lm_eval import import_lm_eval
from ladder.cli import main

LOGS = Path(__file__).parent.parent / "data" / "lm_eval"
RUNS = {"190M-1xC": (190e6, 3.8e9)}
SCORED = "190M-1xC__step300"
Change = Callable[[dict[str, Any]], object]


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    shutil.copytree(LOGS, tmp_path / "logs")
    return tmp_path / "logs"


def results(folder: Path, name: str = SCORED) -> Path:
    return next((folder / name).glob("results_*.json"))


def samples(folder: Path, task: str) -> Path:
    return next((folder / SCORED).glob(f"samples_{task}_2*.jsonl"))


def read_samples(task: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in samples(LOGS, task).read_text("utf-8").splitlines()]


def change(file: Path, edit: Change) -> None:
    """Edit a results file, or every line of samples."""
    whole = file.suffix == ".json"
    text = file.read_text("utf-8")
    documents = [json.loads(part) for part in ([text] if whole else text.splitlines())]
    for document in documents:
        edit(document)
    file.write_text("".join(json.dumps(d) + "\n" for d in documents), encoding="utf-8")


def final(folder: Path) -> pd.DataFrame:
    table = import_lm_eval(folder, RUNS).observations
    return table[table["final"]].set_index("task")


def test_bits_per_byte_is_that_of_the_right_answer_by_hand(logs: Path) -> None:
    rows = final(logs)
    by_hand = {
        "colours": [("grass", 0), ("is", 3), ("is", 1), ("the grass", 0), ("日本", 0)],
        "colours_olmes": [("blue sky", 1), ("grass", 2), ("is", 1), ("is", 2)],
    }
    for task, answers in by_hand.items():
        bits = []
        for (text, place), sample in zip(answers, read_samples(task), strict=True):
            assert sample["arguments"][f"gen_args_{place}"]["arg_1"] == f" {text}"
            nats = -float(sample["filtered_resps"][place][0])
            bits.append(nats / math.log(2) / len(text.encode()))
        assert rows.at[task, "loss"] == pytest.approx(sum(bits) / len(bits), rel=1e-12)
        assert rows.at[task, "loss_unit"] == "bits/byte"
        assert rows.at[task, "instances"] == len(answers)


@pytest.mark.parametrize(
    ("task", "ours", "theirs"),
    [
        ("colours", "acc", "acc"),
        ("colours", "acc_per_char", "acc_norm"),
        ("colours", "acc_per_byte", "acc_bytes"),
        ("colours_olmes", "acc", "acc"),
        ("colours_olmes", "acc_pmi", "acc_mutual_info"),
        ("pronouns", "acc", "acc"),
        ("all_colours", "acc", "acc"),
    ],
)
def test_accuracies_and_their_errors_are_lm_evals_own(
    logs: Path, task: str, ours: str, theirs: str
) -> None:
    reported = json.loads(results(logs).read_text("utf-8"))["results"][task]
    row = final(logs).loc[task]
    assert row[ours] == pytest.approx(reported[f"{theirs},none"], rel=1e-12)
    if task != "all_colours":
        assert row[f"{ours}_se"] == pytest.approx(reported[f"{theirs}_stderr,none"], rel=1e-12)


def test_one_document_tells_no_standard_error(logs: Path) -> None:
    file = samples(logs, "last_word")
    file.write_text(file.read_text("utf-8").splitlines()[0] + "\n", encoding="utf-8")

    def keep_one(document: dict[str, Any]) -> None:
        document["n-samples"]["last_word"] = {"original": 1, "effective": 1}

    change(results(logs), keep_one)
    row = final(logs).loc["last_word"]
    assert row["accuracy"] == 0
    assert math.isnan(row["accuracy_se"])
    assert math.isnan(row["loss_se"])


def test_accuracy_is_of_the_kind_that_lm_eval_reports(logs: Path) -> None:
    rows = final(logs)
    assert rows.at["colours", "accuracy_metric"] == "acc_per_char"
    assert rows.at["colours", "accuracy"] == rows.at["colours", "acc_per_char"]
    assert rows.at["pronouns", "accuracy_metric"] == "acc"
    assert rows.at["last_word", "accuracy_metric"] == "greedy"
    assert rows.at["colours", "chance"] == pytest.approx(
        (1 / 3 + 1 / 4 + 1 / 4 + 1 / 3 + 1 / 2) / 5
    )


def test_a_group_is_all_its_tasks_documents(logs: Path) -> None:
    rows = final(logs)
    parts = rows.loc[["colours", "colours_olmes"]]
    assert rows.at["all_colours", "instances"] == 9
    for column in ("loss", "accuracy", "chance"):
        mean = (parts[column] * parts["instances"]).sum() / 9
        assert rows.at["all_colours", column] == pytest.approx(mean)


@pytest.mark.parametrize("metric", ["acc", "acc_norm"])
def test_a_group_is_left_out_where_its_tasks_weigh_alike(logs: Path, metric: str) -> None:
    by_documents = {"acc": (5 * 0.6 + 4 * 0.5) / 9, "acc_norm": (5 * 0.2 + 4 * 0.25) / 9}
    by_tasks = {"acc": (0.6 + 0.5) / 2, "acc_norm": (0.2 + 0.25) / 2}
    for value, is_left_out in ((by_documents[metric], False), (by_tasks[metric], True)):
        own = {f"{metric},none": value}
        change(results(logs), lambda r, own=own: r["results"].update(all_colours=own))
        imported = import_lm_eval(logs, RUNS)
        said = [line for line in imported.left_out if "all_colours" in line]
        assert any("not the mean over its documents" in line for line in said) == is_left_out
        last = imported.observations[imported.observations["final"]]
        assert ("all_colours" in set(last["task"])) != is_left_out


def test_older_versions_list_a_task_as_a_group_of_none(logs: Path) -> None:
    expected = final(logs)
    change(results(logs), lambda r: r["group_subtasks"].update(colours=[], pages=[]))
    pd.testing.assert_frame_equal(final(logs), expected)


def test_a_corpus_needs_no_samples(logs: Path) -> None:
    samples(logs, "pages").unlink()
    row = final(logs).loc["pages"]
    bits = sum(-float(s["filtered_resps"][0]) for s in read_samples("pages")) / math.log(2)
    assert row["loss"] == pytest.approx(bits / (34 + 18))
    assert pd.isna(row["accuracy"])


def test_a_step_is_read_from_the_model_and_has_its_share_of_the_tokens(logs: Path) -> None:
    table = import_lm_eval(logs, RUNS).observations
    pages = table[table["task"] == "pages"].set_index("step")
    assert pages["tokens"].to_dict() == {300: 3.8e9, 100: pytest.approx(3.8e9 / 3)}
    assert pages["final"].to_dict() == {300: True, 100: False}
    assert (table["params"] == 190e6).all()


@pytest.mark.parametrize(
    ("model", "args", "run", "step"),
    [
        ("org/190M", {"revision": "step1000-tokens2B"}, "190M", 1000),
        ("org/190M", "pretrained=org/190M,revision=stage1-step70-tokens1B", "org/190M", 70),
        ("/x/190M-5xC/checkpoint-20", {}, "190M-5xC", 20),
        ("/x/190M-5xC_iter_0000030", {}, "190M-5xC", 30),
        ("/x/190M-5xC/step40-unsharded", {}, "190M-5xC", 40),
        ("/x/190M-5xC-hf", {}, "190M-5xC-hf", 0),
        ("/tmp/model", {}, "folder", 0),
    ],
)
def test_a_run_is_named_by_the_models_path_or_else_by_the_folder(
    logs: Path, model: str, args: object, run: str, step: int
) -> None:
    folder = shutil.move(logs / SCORED, logs / "folder")
    file = results(logs, "folder")
    change(file, lambda r: r.update(model_name=model, config={"model_args": args}))
    table = import_lm_eval(folder, {run: (1e8, 2e9), "other": (1.0, 1.0)}).observations
    assert set(table["run"]) == {run}
    assert set(table["step"]) == {step}


def test_what_has_no_loss_is_named(logs: Path) -> None:
    found = "\n".join(import_lm_eval(logs, {**RUNS, "1B-1xC": (1e9, 2e10)}).left_out)
    assert "answers (190M-1xC step 300): generate_until gives no" in found
    assert "colours (190M-1xC step 100): neither samples nor bits_per_byte" in found
    assert "--run 1B-1xC: no row is of it" in found
    change(results(logs, "190M-1xC__step100"), lambda r: r["results"].pop("pages"))
    with pytest.raises(InputError, match=r"no task has a loss; colours .*--log_samples"):
        import_lm_eval(logs / "190M-1xC__step100", RUNS)


def test_the_newest_result_of_a_task_counts(logs: Path) -> None:
    newer = logs / "again"
    newer.mkdir()
    document = json.loads(results(logs).read_text("utf-8"))
    document["results"] = {"pages": {"bits_per_byte,none": 7.0}}
    (newer / "results_2030-01-01T00-00-00.json").write_text(json.dumps(document))
    found = import_lm_eval(logs, RUNS)
    rows = found.observations[found.observations["final"]].set_index("task")
    assert rows.at["pages", "loss"] == 7.0
    assert "colours" in rows.index
    assert any(
        line.startswith("pages (190M-1xC step 300): scored again") for line in found.left_out
    )


def test_other_shots_are_another_task(logs: Path) -> None:
    change(results(logs, "190M-1xC__step100"), lambda r: r["n-shot"].update(pages=5))
    tasks = set(import_lm_eval(logs, RUNS).observations["task"])
    assert {"pages_0shot", "pages_5shot", "colours"} <= tasks


def test_two_models_are_not_one_run(logs: Path) -> None:
    change(results(logs, "190M-1xC__step100"), lambda r: r.update(model_name="b/190M-1xC/step300"))
    with pytest.raises(InputError, match=r"would be one checkpoint of '190M-1xC'"):
        import_lm_eval(logs, RUNS)


def test_a_step_here_and_none_there_is_refused(logs: Path) -> None:
    older = results(logs, "190M-1xC__step100")
    (logs / "190M-1xC").mkdir()
    shutil.move(older, logs / "190M-1xC" / older.name)
    change(logs / "190M-1xC" / older.name, lambda r: r.update(model_name="190M-1xC"))
    with pytest.raises(InputError, match="with a step and without"):
        import_lm_eval(logs, RUNS)


def number_the_choices(sample: dict[str, Any]) -> None:
    for place, request in enumerate(sample["arguments"].values(), 1):
        request["arg_1"] = f" {place}"


def test_a_target_is_an_index_or_a_text_whichever_fits_the_accuracies(logs: Path) -> None:
    expected = final(logs).at["colours", "acc"]
    file = samples(logs, "colours")
    change(file, number_the_choices)
    assert final(logs).at["colours", "acc"] == expected
    change(file, lambda s: s.update(target=str(int(s["target"]) + 1)))
    assert final(logs).at["colours", "acc"] == expected


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (lambda s: s.update(target="[0, 1]"), "neither target nor acc tells"),
        (lambda s: s.update(target="C"), "neither target nor acc tells"),
        (lambda s: s.update(acc=0.37), "neither target nor acc tells"),
        (lambda s: s.update(acc=1 - s["acc"]), "neither target nor acc tells"),
        (lambda s: s["arguments"]["gen_args_1"].update(arg_1=" "), "a choice is empty"),
    ],
)
def test_an_answer_that_cannot_be_told_leaves_the_task_out(
    logs: Path, edit: Change, reason: str
) -> None:
    change(samples(logs, "colours"), edit)
    found = import_lm_eval(logs, RUNS)
    assert any(line.startswith("colours (") and reason in line for line in found.left_out)
    assert not {"colours", "all_colours"} & set(found.observations["task"])


def test_white_space_that_ends_a_context_is_scored_with_the_choice(logs: Path) -> None:
    def move(sample: dict[str, Any]) -> None:
        for request in sample["arguments"].values():
            request["arg_0"] += " "
            request["arg_1"] = request["arg_1"].removeprefix(" ")

    expected = final(logs).loc["colours", ["loss", "bpb_v2"]].tolist()
    change(samples(logs, "colours"), move)
    assert final(logs).loc["colours", ["loss", "bpb_v2"]].tolist() == expected


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda s: s.pop("target"), "line 1: target: Field required"),
        (lambda s: s.update(arguments=[]), "line 1: arguments: Input should be"),
        (lambda s: s.update(filtered_resps=[["nan", "False"]]), "line 1: filtered_resps.0.0"),
        (lambda s: s.update(filtered_resps=[["0.5", "False"]]), "line 1: filtered_resps.0.0"),
        (lambda s: s["filtered_resps"].pop(), "line 1: 2 filtered_resps for 3 arguments"),
        (lambda s: s.update(doc_id=7), "line 2: a second document 7"),
        (lambda s: s.update(acc_mutual_info=1.0), "line 1: acc_mutual_info, but no second half"),
    ],
)
def test_damaged_samples_are_named_with_their_line(logs: Path, edit: Change, message: str) -> None:
    file = samples(logs, "colours")
    change(file, edit)
    with pytest.raises(InputError) as caught:
        import_lm_eval(logs, RUNS)
    assert f"{file}: {message}" in str(caught.value)


def test_samples_that_were_cut_short_are_refused(logs: Path) -> None:
    file = samples(logs, "colours")
    text = file.read_text("utf-8")
    for cut, message in (
        (text[: text.rindex("{", 0, -9)], "line 5"),
        ("".join(text.splitlines(keepends=True)[:3]), "holds 3 of 5 documents"),
    ):
        file.write_text(cut, encoding="utf-8")
        with pytest.raises(InputError, match=message):
            import_lm_eval(logs, RUNS)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda r: r.pop("results"), "results: Field required"),
        (lambda r: r["results"].update(pages=3), "results.pages: Input should be"),
        (lambda r: r["results"]["pages"].update({"bits_per_byte,none": math.nan}), "is nan"),
        (lambda r: r["results"]["pages"].update({"bits_per_byte,none": "x"}), "is 'x'"),
        (lambda r: r["results"]["pages"].update({"acc,none": 31.0}), "'pages': acc is 31.0"),
        (lambda r: r.update({"n-samples": {"pages": {"original": -1}}}), "n-samples.pages"),
        (lambda r: r.update(model_name="z"), "add --run z:PARAMS:TOKENS"),
    ],
)
def test_damaged_results_are_named(logs: Path, edit: Change, message: str) -> None:
    folder = shutil.move(logs / SCORED, logs / "folder")
    file = results(logs, "folder")
    change(file, edit)
    with pytest.raises(InputError) as caught:
        import_lm_eval(folder, RUNS)
    assert str(file) in str(caught.value)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


VALUES = st.sampled_from(
    [None, -1, 0, 10**400, math.nan, math.inf, "", "x", "\x00", "9" * 5000, [], [[]], {}, True]
)


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_no_damage_raises_anything_but_an_input_error(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("damaged") / "logs"
    shutil.copytree(LOGS / SCORED, folder)
    file = data.draw(st.sampled_from(sorted(folder.iterdir())), label="file")
    if data.draw(st.booleans(), label="bytes"):
        raw = file.read_bytes()
        at = data.draw(st.integers(0, len(raw)), label="at")
        file.write_bytes(raw[:at] + data.draw(st.binary(max_size=4)) + raw[at + 2 :])
    else:
        change(file, lambda document: damage(document, data))
    with suppress(InputError):
        import_lm_eval(folder, RUNS)


def damage(document: Any, data: st.DataObject) -> None:
    """Replace or remove one value somewhere below."""
    while True:
        places = list(document) if isinstance(document, dict) else range(len(document))
        place = data.draw(st.sampled_from(places), label="place")
        inner = document[place]
        if isinstance(inner, dict | list) and inner and data.draw(st.booleans(), label="deeper"):
            document = inner
            continue
        if data.draw(st.booleans(), label="remove"):
            del document[place]
        else:
            document[place] = data.draw(VALUES, label="value")
        return


def test_the_command_writes_the_table_and_says_what_it_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "obs.csv"
    known = ["--run", "190M-1xC:190M:3.8B", "--target", "190*"]
    assert main(["import", "lm-eval", str(LOGS), "--out", str(out), *known]) == 0
    assert "left out: answers" in capsys.readouterr().err
    assert set(pd.read_csv(out)["role"]) == {"target"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "add --run 190M-1xC:PARAMS:TOKENS"),
        (["--run", "190M-1xC:1:1", "--target", "7B"], "--target 7B: matches no run"),
        (["--run", "190M-1xC:1:1", "--percent"], "import lm-eval: takes PATH"),
        (["--run", "190M-1xC:1:1", "--column", "a=b"], "import lm-eval: takes PATH"),
    ],
)
def test_the_command_refuses_in_one_line(
    options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["import", "lm-eval", str(LOGS), "--out", str(tmp_path / "o.csv"), *options]) == 2
    assert message in capsys.readouterr().err
