"""A user's own task from rows and a few lines of YAML."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from evaluation.files import InputError
from evaluation.prompts import read_prompted

ROWS = "question,a,b,answer\nWho?,me,you,B\n2 + 2?,four,five,A\n"
SOLVED = "question,a,b,answer\nSky?,blue,green,A\nSnow?,red,white,B\nSun?,up,down,A\n"
YAML = """
data: quiz.csv
context: "Question: {question}\\nAnswer:"
choices: [" {a}", " {b}"]
gold: answer
gold_as: letter
"""


@pytest.fixture
def quiz(tmp_path: Path) -> Path:
    (tmp_path / "quiz.csv").write_text(ROWS)
    (tmp_path / "solved.csv").write_text(SOLVED)
    (tmp_path / "quiz.yaml").write_text(YAML)
    return tmp_path / "quiz.yaml"


def test_rows_become_questions(quiz: Path) -> None:
    task = read_prompted(quiz)
    assert task.name == "quiz"
    assert [item.context for item in task.items] == [
        "Question: Who?\nAnswer:",
        "Question: 2 + 2?\nAnswer:",
    ]
    assert [item.choices for item in task.items] == [(" me", " you"), (" four", " five")]
    assert [item.gold for item in task.items] == [1, 0]
    assert [item.id for item in task.items] == ["0", "1"]


def test_solved_examples_stand_before_every_question(quiz: Path) -> None:
    quiz.write_text(YAML + "examples: solved.csv\nshots: 2\npreamble: 'A quiz.\n\n  '\nid: a\n")
    head = "A quiz.\nQuestion: Sky?\nAnswer: blue\n\nQuestion: Snow?\nAnswer: white\n\n"
    task = read_prompted(quiz)
    assert task.items[0].context == head + "Question: Who?\nAnswer:"
    assert [item.id for item in task.items] == ["me", "four"]


@pytest.mark.parametrize(
    ("gold_as", "values", "golds"),
    [("index", (1, "0"), [1, 0]), ("letter", ("b", "A"), [1, 0]), ("text", ("y", "x"), [1, 0])],
)
def test_the_right_choice_is_named_in_three_ways(
    tmp_path: Path, gold_as: str, values: tuple[object, object], golds: list[int]
) -> None:
    rows = [{"q": "?", "options": ["x", "y"], "right": value} for value in values]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "t.yaml").write_text(
        f"data: rows.jsonl\ncontext: '{{q}}'\nchoices: options\ngold: right\ngold_as: {gold_as}\n"
    )
    task = read_prompted(tmp_path / "t.yaml")
    assert [item.gold for item in task.items] == golds
    assert task.items[0].choices == (" x", " y")


@pytest.mark.parametrize("value", [["x", "y"], {"text": "x"}])
def test_a_template_asks_for_texts_and_not_for_lists(tmp_path: Path, value: object) -> None:
    row = {"q": value, "options": ["x", "y"], "right": 0}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row))
    (tmp_path / "t.yaml").write_text(
        "data: rows.jsonl\ncontext: 'Q: {q}'\nchoices: options\ngold: right\n"
    )
    with pytest.raises(InputError, match=r"rows\.jsonl, line 1: 'q' holds no text"):
        read_prompted(tmp_path / "t.yaml")


def test_one_choice_is_a_right_continuation(quiz: Path) -> None:
    quiz.write_text("data: quiz.csv\ncontext: 'Q: {question}'\nchoices: [' {a}{{}}']\n")
    task = read_prompted(quiz)
    assert not task.has_choices
    assert task.items[0].choices == (" me{}",)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (("gold_as: letter", "gold_as: index"), "line 2: gold 'B' is no index; say gold_as"),
        (("gold_as: letter", "gold_as: text"), "gold 'B' is none of the choices"),
        (("gold: answer", ""), "2 choices, and no gold"),
        (("{question}", "{qestion}"), "no column 'qestion'; there are question, a, b, answer"),
        (("{question}", "{question.__class__}"), "no column 'question.__class__'"),
        (("{question}", "{question!r}"), "only {column} is known"),
        (("{question}", "{question"), "write {{ for {"),
        (("data: quiz.csv", "data: none.csv"), "none.csv: no such file"),
        (("data: quiz.csv", "data: quiz.parquet"), r"must be \.csv or \.jsonl"),
        (("data: quiz.csv", "date: quiz.csv"), "known keys are data, context"),
        (("data: quiz.csv", "data: [}"), "not readable as YAML"),
        (("gold: answer", "gold: answer\nshots: 1"), "shots needs examples"),
        (("gold: answer", "gold: answer\nshots: 9\nexamples: solved.csv"), "9 shots, and 3"),
        (("gold: answer", "gold: answer\nshots: 1\nexamples: quiz.csv"), "other rows than data"),
        (("gold: answer", "gold: answer\nmetric: acc_pmi"), "acc_pmi needs unconditional"),
        (('[" {a}", " {b}"]', "a"), "must hold a list of choices"),
    ],
)
def test_a_mistake_is_named(quiz: Path, change: tuple[str, str], problem: str) -> None:
    assert change[0] in YAML
    quiz.write_text(YAML.replace(*change))
    with pytest.raises(InputError, match=problem):
        read_prompted(quiz)


@pytest.mark.parametrize("row", ["only\n", "Who?,me,you,B,more\n", '"Who?,me\n'])
def test_a_broken_row_is_named(quiz: Path, row: str) -> None:
    (quiz.parent / "quiz.csv").write_text(ROWS + row)
    with pytest.raises(InputError, match=r"quiz\.csv"):
        read_prompted(quiz)


def test_files_that_are_no_text_are_named(quiz: Path) -> None:
    (quiz.parent / "quiz.csv").write_bytes(b"question\n\xff\n")
    with pytest.raises(InputError, match="UTF-8"):
        read_prompted(quiz)
    quiz.write_bytes(b"\xff")
    with pytest.raises(InputError, match="YAML"):
        read_prompted(quiz)
    with pytest.raises(InputError, match="no such task file"):
        read_prompted(quiz.parent / "absent.yaml")
