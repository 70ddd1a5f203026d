"""Tables fit the width that they are laid out for, and lose nothing on the way."""

from __future__ import annotations

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ladder import layout
from ladder.layout import WIDTH, Grid, fitted, show, width_of, wrapped

AUDIT = ("task", "target", "predicted", "80%", "actual", "error", "status", "loss predicted")


def printed(capsys: pytest.CaptureFixture[str], *arguments: object, **options: object) -> list[str]:
    show(*arguments, **options)  # type: ignore[arg-type]
    return capsys.readouterr().out.splitlines()


def audit_rows(targets: tuple[str, ...], status: tuple[str, ...]) -> list[tuple[str, ...]]:
    return [
        (f"mmlu_social_sciences_{i}_rc", target, "71.2", "68.0-74.4", "70.1", "+1.1", said, "0.71")
        for target in targets
        for i, said in enumerate(status)
    ]


def test_a_table_that_fits_is_printed_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, "points", ("task", "error"), [("arc", "+1.0"), ("piqa", "-12.5")]) == [
        "points",
        "task  error",
        "───────────",
        "arc    +1.0",
        "piqa  -12.5",
        "",
    ]


def test_what_is_the_same_in_every_row_goes_into_the_title(
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = audit_rows(("7B",), ("extrapolated", "extrapolated"))
    lines = printed(capsys, "audit", AUDIT, rows, keys=2, width=70)
    assert lines[0] == "audit; target: 7B; status: extrapolated"
    assert "extrapolated" not in "\n".join(lines[1:])


def test_a_status_that_differs_becomes_a_mark(capsys: pytest.CaptureFixture[str]) -> None:
    rows = audit_rows(("7B",), ("extrapolated", "ok", "unpredictable"))
    lines = printed(capsys, "audit", AUDIT, rows, keys=2, width=75)
    assert lines[0] == "audit; target: 7B; * extrapolated; ! unpredictable"
    marked = [line.split()[1] for line in lines if line.startswith("mmlu")]
    assert marked == ["*", "71.2", "!"]


def test_a_table_too_wide_is_split_and_every_part_names_its_rows(
    capsys: pytest.CaptureFixture[str],
) -> None:
    columns = ("task", *(f"number {i}" for i in range(30)))
    rows = [(name, *(f"{1000 + i}.5" for i in range(30))) for name in ("arc", "piqa")]
    lines = printed(capsys, "many", columns, rows)
    assert max(map(len, lines)) <= WIDTH
    assert sum(line.startswith("arc") for line in lines) > 1
    assert all(any(f"{1000 + i}.5" in line for line in lines) for i in range(30))


def test_an_interval_stays_beside_what_it_is_of() -> None:
    columns = ("task", "accuracy", "80%", "95%", "loss", "80%")
    grid = Grid(columns, (("x" * 30, "71.20", "68.0-74.4", "60-80", "0.712", "0.7-0.8"),))
    parts = fitted(grid, 45)
    assert [part.names for part in parts] == [
        ("task", "accuracy", "80%", "95%"),
        ("task", "loss", "80%"),
    ]


def test_rows_without_anything_in_a_part_are_left_out_of_it() -> None:
    rows = (("arc", "71.2" * 8, "0.7" * 8), ("c4", "", "2.5" * 8))
    first, second = fitted(Grid(("task", "accuracy", "loss"), rows), 45)
    assert [row[0] for row in first.rows] == ["arc"]
    assert [row[0] for row in second.rows] == ["arc", "c4"]


def test_a_name_wider_than_the_screen_goes_over_lines(capsys: pytest.CaptureFixture[str]) -> None:
    name = "".join(f"{i:03}" for i in range(60))
    lines = printed(capsys, "", ("task", "error"), [(name, "+1.0")])
    assert max(map(len, lines)) <= WIDTH
    assert "".join(line.split()[0] for line in lines[2:] if line) == name


cells = st.text("ab1-. ", max_size=24).map(str.strip)


@settings(max_examples=30)
@given(
    st.integers(2, 6).flatmap(
        lambda n: st.tuples(
            st.lists(st.text("abc ", min_size=1, max_size=16), min_size=n, max_size=n),
            st.lists(st.lists(cells, min_size=n, max_size=n), min_size=1, max_size=3),
            st.integers(1, min(n, 3)),
        )
    ),
    st.integers(60, 120),
)
def test_no_part_is_wider_than_the_screen_where_its_keys_leave_room(
    table: tuple[list[str], list[list[str]], int], width: int
) -> None:
    names, rows, keys = table
    grid = Grid(tuple(names), tuple(map(tuple, rows)), keys)
    parts = fitted(grid, width)
    for part in parts:
        assert part.width() <= width or len(part.names) == part.keys + 1 or part.keys > 1
    shown = " ".join(cell for part in parts for row in part.rows for cell in row)
    captions = " ".join(said for part in parts for said in part.caption)
    for row in rows:
        assert all(cell in shown or cell in captions for cell in row)


def test_output_that_is_no_terminal_has_80_columns_whatever_the_screen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert width_of(io.StringIO()) == WIDTH

    class Screen(io.StringIO):
        def isatty(self) -> bool:
            return True

    assert width_of(Screen()) == 200
    monkeypatch.setenv("COLUMNS", "3")
    assert width_of(Screen()) == layout.NARROWEST
    monkeypatch.delenv("COLUMNS")
    assert width_of(Screen()) == WIDTH


def test_lines_break_between_words_only() -> None:
    line = wrapped("a-b " * 30 + "/a/path/that-is-long" * 6, 40)
    assert "/a/path/that-is-long" * 6 in line
    assert all(part.startswith("  ") for part in line.splitlines()[1:])
    assert wrapped("  two in, " + "word " * 20, 40).splitlines()[1].startswith("    word")


def test_columns_up_to_a_break_stay_together_where_they_fit_whole() -> None:
    columns = ("task", "loss", "actual", "accuracy", "top rung")
    grid = Grid(columns, (("x" * 20, *["1" * 10] * 4),), breaks=("accuracy",))
    assert [part.names[1:] for part in fitted(grid, 60)] == [columns[1:3], columns[3:]]
    wide = Grid((*columns, "error"), (("x" * 20, *["1" * 10] * 5),), breaks=("actual", "accuracy"))
    assert [part.names[1:] for part in fitted(wide, 60)] == [columns[1:3], (*columns[3:], "error")]
