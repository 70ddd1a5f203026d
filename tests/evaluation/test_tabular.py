"""CSV files and Weights & Biases exports become observations, or one line says why not."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from evaluation.files import InputError
from evaluation.tabular import (
    ColumnMap,
    TaskColumns,
    count,
    import_csv,
    import_wandb,
    read_mapped,
)


def written(folder: Path, text: str, name: str = "x.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


LONG = """name,N,D,it,bench,bpb,acc
190M-1xC,190M,3.8B,100,arc,1.2,40
190M-1xC,190M,3.8B,200,arc,1.1,44
7B-4T,"6,887,575,552",3.9e12,900,arc,0.7,80
"""
MAPPED = {
    "run": "name",
    "params": "N",
    "tokens": "D",
    "step": "it",
    "task": "bench",
    "loss": "bpb",
    "accuracy": "acc",
}
BITS = {"loss_unit": "bits/byte"}


@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_columns_are_mapped_and_what_follows_is_filled_in(tmp_path: Path, mark: str) -> None:
    text = LONG if mark == "," else LONG.replace('"6,887,575,552"', "6887575552").replace(",", mark)
    mapping = ColumnMap(columns=MAPPED, values=BITS, targets=("7B*",), percent=True)
    table = import_csv(written(tmp_path, text), mapping)
    assert table["run"].tolist() == ["190M-1xC", "190M-1xC", "7B-4T"]
    assert table["params"].tolist() == [190e6, 190e6, 6887575552]
    assert table["tokens"].tolist() == [3.8e9, 3.8e9, 3.9e12]
    assert table["accuracy"].tolist() == pytest.approx([0.40, 0.44, 0.80])
    assert table["final"].tolist() == [False, True, True]
    assert table["role"].tolist() == ["ladder", "ladder", "target"]


def test_a_wide_table_has_a_column_a_score(tmp_path: Path) -> None:
    text = "run,params,tokens,arc_bpb,arc_acc,c4\na,1e8,2e9,1.2,0.4,3.1\nb,2e8,4e9,1.1,,3.0\n"
    tasks = (TaskColumns("arc", "arc_bpb", "arc_acc"), TaskColumns("c4", "c4"))
    table = import_csv(written(tmp_path, text), ColumnMap(values=BITS, tasks=tasks))
    assert table["task"].tolist() == ["arc", "arc", "c4", "c4"]
    assert table["accuracy"].isna().tolist() == [False, True, True, True]
    assert table["final"].all()


def test_a_column_of_ones_own_is_a_feature(tmp_path: Path) -> None:
    text = "run,params,tokens,task,loss,nll\na,1e8,2e9,t,1.2,5\n"
    table = import_csv(written(tmp_path, text), ColumnMap({"margin": "nll"}, BITS))
    assert table["margin"].tolist() == [5.0]


def test_steps_and_the_batch_say_the_tokens(tmp_path: Path) -> None:
    text = "run,params,step,batch_tokens,task,loss\na,1e8,10,1000,t,1.2\na,1e8,20,1000,t,1.1\n"
    table = import_csv(written(tmp_path, text), ColumnMap(values=BITS))
    assert table["tokens"].tolist() == [10_000, 20_000]


CHART = """"Step","a - eval/bpb","a - eval/bpb__MIN","a - eval/bpb__MAX","b - eval/bpb"
"100","1.3","1.3","1.3","1.2"
"200","1.2","1.2","1.2",""
"""


def test_wandb_charts_are_joined_by_run_and_step(tmp_path: Path) -> None:
    folder = tmp_path / "charts"
    folder.mkdir()
    written(folder, CHART, "loss.csv")
    written(folder, CHART.replace("bpb", "acc").replace("1.", "0."), "acc.csv")
    mapping = ColumnMap(
        values=BITS,
        tasks=(TaskColumns("arc", "eval/bpb", "eval/acc"),),
        runs={"a": (1e8, 4e9), "b": (2e8, 8e9)},
    )
    table = import_wandb(folder, mapping).sort_values(["run", "step"])
    assert table[["run", "step"]].values.tolist() == [["a", 100], ["a", 200], ["b", 100]]
    assert table["loss"].tolist() == [1.3, 1.2, 1.2]
    assert table["accuracy"].tolist() == pytest.approx([0.3, 0.2, 0.2])
    assert table["tokens"].tolist() == [2e9, 4e9, 8e9]
    assert table["final"].tolist() == [False, True, True]


def test_a_run_may_go_on_after_its_last_evaluation(tmp_path: Path) -> None:
    text = "Step,a - bpb,a - train\n50,1.3,3\n100,,2.9\n"
    mapping = ColumnMap(values=BITS, tasks=(TaskColumns("t", "bpb"),), runs={"a": (1e8, 2e9)})
    table = import_wandb(written(tmp_path, text), mapping)
    assert table[["tokens", "final"]].values.tolist() == [[1e9, True]]


def test_params_that_a_run_is_given_leave_its_tokens_alone(tmp_path: Path) -> None:
    text = "run,tokens,step,task,loss\na,1e9,50,t,1.2\na,2e9,100,t,1.1\n"
    table = import_csv(written(tmp_path, text), ColumnMap(values=BITS, runs={"a": (1e8, 9e9)}))
    assert table["tokens"].tolist() == [1e9, 2e9]
    assert table["params"].tolist() == [1e8, 1e8]


def test_percentages_bring_their_errors_and_chance_along(tmp_path: Path) -> None:
    text = "run,params,tokens,task,loss,accuracy,accuracy_se,chance\na,1,2,t,1,40%,1.2,25\n"
    table = import_csv(written(tmp_path, text), ColumnMap(values=BITS, percent=True))
    assert table.loc[0, ["accuracy", "accuracy_se", "chance"]].tolist() == [0.4, 0.012, 0.25]


def test_checkpoints_without_a_step_go_by_their_tokens(tmp_path: Path) -> None:
    text = "run,params,tokens,task,loss\na,1,2e9,t,1.1\na,1,1e9,t,1.2\n"
    table = import_csv(written(tmp_path, text), ColumnMap(values=BITS))
    assert table[["step", "final"]].values.tolist() == [[1, True], [0, False]]


def test_a_wandb_run_table_has_a_row_a_run(tmp_path: Path) -> None:
    text = "Name,State,n,tokens,bpb\na,finished,1e8,2e9,1.2\nb,crashed,2e8,4e9,NaN\n"
    mapping = ColumnMap({"params": "n"}, BITS, (TaskColumns("arc", "bpb"),))
    table = import_wandb(written(tmp_path, text), mapping)
    assert table["run"].tolist() == ["a"]
    assert table["params"].tolist() == [1e8]


@pytest.mark.parametrize("text", ["6887575552", "6.887575552B", "6,887,575,552", "6887575.552k"])
def test_counts_are_read_as_people_write_them(text: str) -> None:
    assert count(text) == pytest.approx(6887575552)


@pytest.mark.parametrize(
    ("text", "mapping", "problem"),
    [
        ("", ColumnMap(), "cannot be read as CSV"),
        ("run,params\n", ColumnMap(), "has no rows"),
        ("a,b\n1,2\n", ColumnMap(), "there are a, b; name yours with --map OURS=THEIRS"),
        ("a,b\n1,2\n", ColumnMap({"run": "name"}), "no column 'name'; there are a, b"),
        ("run\nx\n", ColumnMap(values={"sped": "1"}), "'sped': no column of observations"),
        ("run,params\nx,big\n", ColumnMap(), "row 1, column 'params': 'big' is not a count"),
        ("run,params,tokens\nx,1e8,1e9\n", ColumnMap(), "task"),
        ("run,task,loss\nx,t,1\n", ColumnMap(values=BITS, runs={"y": (1, 2)}), "run 'x' has no"),
        ("run,params,tokens,task,loss\nx,1,2,t,1\n", ColumnMap(values=BITS, targets=("7B",)), "7B"),
        ("run,params,step\nx,1,\n", ColumnMap(), "row 1, column 'step': '' is not a count"),
        ("run;params\nx;1,9e8\n", ColumnMap(), "'1,9e8' is not a count.*a decimal point"),
        (
            "Model Name,N,D,arc_bpb\na,1,2,3\n",
            ColumnMap(),
            "needs run, params, tokens, task, loss, loss_unit; there are Model Name, N, D, "
            "arc_bpb; did you mean --map 'run=Model Name' --map params=N --map tokens=D\\?; "
            "add --task NAME=LOSS,ACCURACY --value loss_unit=bits/byte",
        ),
        ("run,task,loss\nx,t,1\n", ColumnMap(values=BITS), "add --run NAME:PARAMS:TOKENS$"),
        (
            "run,params,tokens,benchmark,bpb\nx,1,2,t,1\n",
            ColumnMap(),
            "task=benchmark --map loss=bpb",
        ),
        ("run,run\nx,y\n", ColumnMap(), "the column 'run' twice"),
        ("run,params\nx,1,2\n", ColumnMap(), "cannot be read as CSV"),
        (
            "run,params,tokens,task,loss\nx,1,2,t,1\nx,1,2,t,3\n",
            ColumnMap(values=BITS),
            "several rows and none says its step",
        ),
        (
            "run,params,tokens,task,loss,accuracy\nx,1,2,t,1,0.4\n",
            ColumnMap(values=BITS, percent=True),
            "no accuracy is above 1",
        ),
    ],
)
def test_what_cannot_be_read_is_named(
    tmp_path: Path, text: str, mapping: ColumnMap, problem: str
) -> None:
    with pytest.raises(InputError, match=problem):
        import_csv(written(tmp_path, text), mapping)


def test_files_that_are_none_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        import_csv(tmp_path / "absent.csv", ColumnMap())
    with pytest.raises(InputError, match="holds no"):
        import_wandb(tmp_path, ColumnMap())
    binary = tmp_path / "b.csv"
    binary.write_bytes(b"\x00\xff\xfe\x80,1\n\x81")
    with pytest.raises(InputError, match="cannot be read as CSV"):
        import_csv(binary, ColumnMap())
    with pytest.raises(InputError, match=r"sheet.xlsx: is a spreadsheet; save its sheet as CSV"):
        import_csv(written(tmp_path, "PK", "sheet.xlsx"), ColumnMap())
    binary.write_text(LONG, encoding="utf-16")
    with pytest.raises(InputError, match="it is not UTF-8"):
        import_csv(binary, ColumnMap())
    written(tmp_path, CHART, "one.csv")
    written(tmp_path, LONG, "two.csv")
    binary.unlink()
    with pytest.raises(InputError, match=r"two.csv: is no chart's export"):
        import_wandb(tmp_path, ColumnMap(values=BITS))


THEIRS = ColumnMap(columns=MAPPED, values=BITS)
SHARES = re.sub(r",(\d\d)\n", r",0.\1\n", LONG)


@pytest.mark.parametrize(
    ("cell", "instead", "mapping", "said"),
    [
        ("1.1", "-1", THEIRS, "row 2, column 'bpb': '-1' is too small"),
        ("1.1", "abc", THEIRS, "row 2, column 'bpb': 'abc' is not a number"),
        ("0.44", "44", THEIRS, "row 2, column 'acc': '44' is too large"),
        (
            "0.44",
            "444",
            replace(THEIRS, percent=True),
            "row 2, column 'acc': '444' is no percentage",
        ),
        ("200,arc", "2.5,arc", THEIRS, "row 2, column 'it': 2.5 is not a whole number"),
        ("200,arc", "100,arc", THEIRS, "row 2, columns name, it, bench: a second row for"),
        ("190M,3.8B,200", "9M,3.8B,200", THEIRS, "row 2, column 'N': 9000000.0 differs from"),
        ("3.9e12", "inf", THEIRS, "row 3, column 'D': inf is infinite"),
        ("arc,0.7", ",0.7", THEIRS, "row 3, column 'bench': is empty"),
    ],
)
def test_a_bad_value_is_told_by_the_column_that_the_file_has(
    tmp_path: Path, cell: str, instead: str, mapping: ColumnMap, said: str
) -> None:
    assert cell in SHARES
    path = written(tmp_path, SHARES.replace(cell, instead))
    with pytest.raises(InputError, match=re.escape(said)):
        import_csv(path, mapping)
    if not mapping.percent:
        with pytest.raises(InputError, match=re.escape(said)):
            read_mapped(path, MAPPED | BITS)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a,1,10,,1.1,1\nb,2,20,0.4,1.2,7\n", "row 2, column 'y acc': '7' is too large"),
        ("a,1,10,,1,\na,3,20,0.4,1.2,0.1\n", "row 2, column 'params': 3.0 differs from"),
        ("a,1,10,,-2,\nb,2,20,0.4,,0.1\n", "row 1, column 'y': '-2' is too small"),
        ("a,1,10,7,1,\n", "row 1, column 'x acc': '7' is too large"),
    ],
)
def test_a_bad_value_of_a_wide_table_is_told_by_its_own_row_and_column(
    tmp_path: Path, text: str, said: str
) -> None:
    path = written(tmp_path, f"run,params,tokens,x acc,y,y acc\n{text}")
    tasks = (TaskColumns("x", "y", "x acc"), TaskColumns("y", "y", "y acc"))
    with pytest.raises(InputError, match=re.escape(said)):
        import_csv(path, ColumnMap(values=BITS, tasks=tasks))


def test_a_bad_value_of_a_chart_is_told_by_its_step_and_series(tmp_path: Path) -> None:
    mapping = ColumnMap(
        values=BITS,
        tasks=(TaskColumns("t", "eval/bpb"),),
        runs={"a": (1e8, 2e9), "b": (1e8, 2e9)},
    )
    for cell, said in (("oops", "'oops' is not a number"), ("-3", "'-3' is too small")):
        path = written(tmp_path, CHART.replace('"200","1.2"', f'"200","{cell}"'))
        with pytest.raises(InputError, match=f"x.csv: step 200, column 'a - eval/bpb': {said}"):
            import_wandb(path, mapping)


def test_a_column_that_is_missing_is_asked_for_among_those_that_the_file_has(
    tmp_path: Path,
) -> None:
    path = written(tmp_path, LONG)
    columns = {ours: theirs for ours, theirs in MAPPED.items() if ours != "loss"}
    asked = r"needs loss; there are name, N, .*--map loss=bpb"
    with pytest.raises(InputError, match=asked) as said:
        import_csv(path, ColumnMap(columns=columns, values=BITS))
    assert "loss_unit" not in str(said.value)
    with pytest.raises(InputError, match="--value loss_unit=bits/byte"):
        import_csv(path, ColumnMap(columns=MAPPED))
    # As it says.
    table = import_csv(path, ColumnMap(columns=MAPPED | BITS, percent=True))
    assert set(table["loss_unit"]) == {"bits/byte"}


def test_what_a_chart_says_is_nan_is_no_step_of_that_run(tmp_path: Path) -> None:
    text = "Step,a - bpb,b - bpb\n50,1.3,1.2\n100,1.2,1.1\n200,NaN,1.0\n"
    runs = {"a": (1e8, 2e9), "b": (2e8, 4e9)}
    mapping = ColumnMap(values=BITS, tasks=(TaskColumns("t", "bpb"),), runs=runs)
    table = import_wandb(written(tmp_path, text), mapping).set_index(["run", "step"])
    assert table.loc[("a", 100), ["tokens", "final"]].tolist() == [2e9, True]
    assert table.loc[("b", 100), "tokens"] == 2e9


def test_what_was_not_measured_is_empty_whatever_its_column_is_called(tmp_path: Path) -> None:
    text = "run,params,tokens,task,loss,{}\na,1e8,2e9,t,1.2,nan\nb,2e8,4e9,t,1.1,0.5\n"
    for name, columns in (("accuracy", {}), ("acc", {"accuracy": "acc"})):
        path = written(tmp_path, text.format(name))
        table = import_csv(path, ColumnMap(columns, BITS))
        assert table["accuracy"].isna().tolist() == [True, False]


def test_blanks_around_a_runs_name_make_no_other_run(tmp_path: Path) -> None:
    text = "run,step,task,loss\n a ,1,t,1.2\na,2,t ,1.1\n"
    table = import_csv(written(tmp_path, text), ColumnMap(values=BITS, runs={"a": (1e8, 2e9)}))
    assert table[["run", "task", "tokens", "final"]].values.tolist() == [
        ["a", "t", 1e9, False],
        ["a", "t", 2e9, True],
    ]


def test_two_runs_of_a_run_table_are_not_checkpoints_of_one(tmp_path: Path) -> None:
    text = "Name,State,_step,bpb\na,finished,100,1.2\nb,finished,100,1.1\na,crashed,50,1.4\n"
    runs = {"a": (1e8, 2e9), "b": (2e8, 4e9)}
    mapping = ColumnMap(values=BITS, tasks=(TaskColumns("t", "bpb"),), runs=runs)
    with pytest.raises(InputError, match=r"x\.csv: rows 1 and 3 are two runs named 'a'; keep one"):
        import_wandb(written(tmp_path, text), mapping)


def test_targets_are_not_passed_over_where_the_table_has_roles(tmp_path: Path) -> None:
    text = "run,role,params,tokens,task,loss\na,ladder,1e8,2e9,t,1.2\n"
    with pytest.raises(InputError, match=r"--target a: .*x\.csv tells every run's role itself"):
        import_csv(written(tmp_path, text), ColumnMap(values=BITS, targets=("a",)))


def test_a_percent_sign_without_percent_says_which_option_reads_it(tmp_path: Path) -> None:
    text = "run,params,tokens,task,loss,accuracy\na,1e8,2e9,t,1.2,61.2%\n"
    with pytest.raises(InputError, match=r"'61\.2%' is not a number; .*--percent"):
        import_csv(written(tmp_path, text), ColumnMap(values=BITS))
