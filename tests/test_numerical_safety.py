"""Any finite table gives finite predictions in their ranges, or is refused in one line."""

from __future__ import annotations

import io
import json
import math
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import synthetic
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ladder.cli import main
from predict.laws import LAWS
from predict.methods import METHODS

STEP1 = [
    n
    for n, law in LAWS.items()
    if law.output == "loss" and set(law.inputs) <= {"params", "tokens", "flops"}
]
LINKS = [n for n, law in LAWS.items() if law.inputs == ("loss",)]

finite = st.one_of(
    st.floats(0, allow_infinity=False), st.sampled_from([0.0, 5e-324, 1e-300, 1.0, 1e300, 1.7e308])
)
wild = st.one_of(
    st.floats(-59, 59).map(lambda x: 10.0**x),
    st.floats(1e-3, 1e3),
    st.sampled_from([1e-59, 1.0, 1e59]),
)
positive = st.one_of(
    st.sampled_from([5e-324, 1e-300, 1e-3, 1.0, 1e9, 1e30, 1e150, 1e300]),
    st.floats(0, allow_infinity=False, exclude_min=True),
)
shares = st.one_of(st.floats(0, 1), st.sampled_from([0.0, 5e-324, 1e-9, 0.25, 1 - 2**-53, 1.0]))


@st.composite
def tables(draw: st.DrawFn) -> pd.DataFrame:
    """A small ladder and targets; each column plain, all equal, or of any numbers at all."""
    sizes, multiples = [1.0, 2.0, 4.0, 8.0], [1.0, 2.0, 5.0]
    if draw(st.integers(0, 3)) == 0:
        sizes = draw(st.lists(st.sampled_from([*sizes, 8.01]), min_size=1, max_size=4))
        multiples = draw(st.lists(st.sampled_from(multiples), min_size=1, max_size=3))
    unit = draw(st.sampled_from([1e8, 1e8, 1e8, 1e8, 1.0, 1e-3, 1e30, 1e150]))
    tasks = draw(st.integers(1, 3))
    checkpoints = draw(st.sampled_from([1, 1, 2, 6]))
    kinds = st.sampled_from(["law", "law", "law", "equal", "wild", "wild", "any"])
    scale_kind, loss_kind, score_kind = draw(kinds), draw(kinds), draw(st.one_of(kinds, st.none()))
    scale = draw(st.sampled_from([1.0, 1.0, 1.0, 1.0, 1e-300, 1e-59, 1e-30, 1e30, 1e58, 1e290]))
    runs = [
        (f"r{i}-{j}", "ladder", s, m) for i, s in enumerate(sizes) for j, m in enumerate(multiples)
    ]
    runs += [("big", "target", 64.0, 10.0)] * draw(st.integers(0, 1))
    runs += [("more", "extra", 16.0, 2.0)] * draw(st.integers(0, 1))
    seeded = draw(st.booleans())
    rows = []
    equal = draw(finite), draw(shares)
    for run, role, size, multiple in runs:
        params, tokens = unit * size, 20 * unit * size * multiple
        if scale_kind in ("any", "wild"):
            kind = positive if scale_kind == "any" else wild
            params, tokens = draw(kind), draw(kind)
        elif scale_kind == "equal":
            params, tokens = unit, 20 * unit
        for task in range(tasks):
            for step in range(checkpoints):
                share = (step + 1) / checkpoints
                loss = scale * (0.5 + size**-0.3 + (size * multiple * share) ** -0.3)
                score = 0.25 + 0.7 / (1 + math.exp(min(6 * (loss / scale - 1.5), 600)))
                if loss_kind != "law":
                    loss = {"equal": equal[0], "any": draw(finite), "wild": draw(wild)}[loss_kind]
                if score_kind != "law":
                    score = equal[1] if score_kind == "equal" else draw(shares)
                rows.append(
                    {
                        "run": run,
                        "role": role,
                        "params": params,
                        "tokens": tokens * share,
                        "step": step,
                        "final": step == checkpoints - 1,
                        "task": f"t{task}",
                        "loss": loss,
                        "loss_unit": "bits/byte",
                        "accuracy": None if score_kind is None else score,
                    }
                )
    table = pd.DataFrame(rows)
    table["chance"] = draw(st.one_of(st.none(), st.sampled_from([0.0, 0.25, 1.0])))
    table["instances"] = draw(st.sampled_from([None, 1, 1000, 2**53]))
    if seeded:
        table["seed"] = draw(st.sampled_from([0, 7]))
    return table


@st.composite
def commands(draw: st.DrawFn) -> list[str]:
    """A command on a table named OBS, and another one of the same recipe's kind named MORE."""
    fitting: list[str] = []
    if draw(st.booleans()):
        fitting += ["--method", draw(st.sampled_from(sorted(METHODS)))]
    if draw(st.integers(0, 3)) == 0:
        fitting += ["--law", draw(st.sampled_from(STEP1))]
    if draw(st.integers(0, 3)) == 0:
        fitting += ["--link", draw(st.sampled_from(LINKS))]
    size = st.sampled_from(["6.9e9", "1", "1e-40", "1e40", "64e8", "2e8"])
    target = ["--target", f"T:{draw(size)}:{draw(size)}"]
    return draw(
        st.sampled_from(
            [
                ["predict", "OBS", *target, *fitting],
                ["predict", "OBS", *target],
                ["audit", "OBS", *fitting],
                ["audit", "OBS"],
                ["backtest", "OBS", *fitting],
                ["noise", "OBS"],
                ["allocate", "OBS", "--flops", "1e22", "--replicates", "3"],
                [
                    "next",
                    "OBS",
                    *target,
                    "--candidate",
                    "c:8e8:3e10",
                    "--candidate",
                    "d:8:9",
                    "--budget",
                    "1e22",
                ],
                ["compare", "OBS", "MORE", *target, *fitting],
                ["forecast", "OBS", "--run", "more", "--tokens", draw(size), *fitting],
                ["exponents", "OBS", "--task", "t0", "--replicates", "3", "--slices-only"],
            ]
        )
    )


def told(command: list[str], *found: pd.DataFrame) -> tuple[int, str, str]:
    """Status, standard output and standard error of a command; a warning is a failure."""
    with tempfile.TemporaryDirectory() as folder:
        names = {"OBS": Path(folder, "obs.csv"), "MORE": Path(folder, "more.csv")}
        for path, table in zip(names.values(), found, strict=False):
            table.to_csv(path, index=False)
        words = [str(names.get(word, word)) for word in command]
        out, err = io.StringIO(), io.StringIO()
        with warnings.catch_warnings(), redirect_stdout(out), redirect_stderr(err):
            warnings.simplefilter("error")
            status = main(words)
    return status, out.getvalue(), err.getvalue()


def check(command: list[str], table: pd.DataFrame) -> None:
    """Run a command for its JSON, and look at every number."""
    status, out, err = told([*command, "--json"], table, table.assign(loss=table["loss"] * 0.9))
    assert status in (0, 2), err
    if status == 2:
        assert err.splitlines()[-1].startswith("ladder: ")
    else:
        check_numbers(json.loads(out, parse_constant=pytest.fail))


SHARES = ("predicted", "accuracy", "lower80", "upper80", "lower95", "upper95", "actual", "top_rung")
ORDERED = (
    ("lower95", "lower80", "predicted", "upper80", "upper95"),
    ("lower95", "lower80", "accuracy", "upper80", "upper95"),
    ("loss_lower80", "loss_predicted", "loss_upper80"),
    ("loss_lower80", "loss", "loss_upper80"),
)


def check_numbers(document: Any) -> None:
    """Every row of predictions in its ranges and in order."""
    for row in dictionaries(document):
        if "predicted" in row or "accuracy" in row:
            for name in SHARES:
                value = row.get(name)
                assert not isinstance(value, float) or 0 <= value <= 1, (name, row)
        for names in ORDERED:
            values = [row[n] for n in names if isinstance(row.get(n), int | float)]
            if names[len(names) // 2] in row and isinstance(row[names[len(names) // 2]], float):
                assert values == sorted(values), row
        for name in ("loss_predicted", "loss_actual"):
            assert not isinstance(row.get(name), float) or row[name] >= 0, row


def dictionaries(document: Any) -> Iterator[dict[str, Any]]:
    if isinstance(document, dict):
        yield document
        document = list(document.values())
    if isinstance(document, list):
        for part in document:
            yield from dictionaries(part)


@given(tables(), commands())
@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_finite_table_is_predicted_in_range_or_refused_in_one_line(
    table: pd.DataFrame, command: list[str]
) -> None:
    check(command, table)


@pytest.mark.slow
@given(tables(), commands())
@settings(max_examples=3000, deadline=None, suppress_health_check=list(HealthCheck))
def test_many_finite_tables_are_predicted_in_range_or_refused(
    table: pd.DataFrame, command: list[str]
) -> None:
    check(command, table)


def plain() -> pd.DataFrame:
    return synthetic(multiples=(1, 2, 5), tasks=("t0", "t1")).query("step == 3")


def spread(column: str, by: str) -> pd.DataFrame:
    """A column spread over 110 powers of ten."""
    table = plain()
    rng = np.random.default_rng(0)
    table[column] = table.groupby(by)[column].transform(lambda _: 10.0 ** rng.uniform(-55, 55))
    return table


NASTY = {
    "losses over 110 powers of ten": lambda: spread("loss", "run"),
    "sizes over 110 powers of ten": lambda: spread("params", "run"),
    "tokens over 110 powers of ten": lambda: spread("tokens", "run"),
    "losses of 1e-59": lambda: plain().assign(loss=lambda t: t["loss"] * 1e-59),
    "losses of 1e300": lambda: plain().assign(loss=lambda t: t["loss"] * 1e300),
    "equal everything": lambda: plain().assign(loss=1.0, accuracy=0.5, tokens=1e10),
    "every answer right, guessing too": lambda: plain().assign(accuracy=1.0, chance=1.0),
    "runs of 1e-200 params": lambda: plain().assign(params=1e-200),
}
TARGET = ["--target", "T:6.4e9:1e12"]
ASKED = {
    "predict": [*TARGET],
    "audit": [],
    "compare": ["MORE", *TARGET],
    "next": [*TARGET, "--candidate", "c:8e8:3e10", "--budget", "1e22"],
    "noise": [],
    "allocate": ["--flops", "1e22", "--replicates", "2", "--task", "t0"],
}


@pytest.mark.parametrize("case", NASTY)
def test_numbers_that_no_ladder_has_are_answered_or_refused(case: str) -> None:
    for verb, options in ASKED.items():
        check([verb, "OBS", *options], NASTY[case]())


def test_a_task_of_wild_losses_is_told_of_and_the_others_go_on() -> None:
    table = plain()
    rng = np.random.default_rng(0)
    loss = np.where(table["task"] == "t1", 10.0 ** rng.uniform(-59, 59, len(table)), table["loss"])
    status, out, _ = told(["predict", "OBS", *TARGET, "--json"], table.assign(loss=loss))
    assert status == 0
    rows = {row["task"]: row for row in json.loads(out)["rows"]}
    assert rows["t0"]["status"] == "extrapolated"
    assert "t1" not in rows or "loss" in rows["t1"]["reason"] or rows["t1"]["predicted"] is None


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("params", 0),
        ("params", -1e9),
        ("tokens", -1),
        ("tokens", 1e-300),
        ("loss", -1),
        ("accuracy", 1.1),
        ("accuracy", -0.1),
        ("loss", np.nan),
        ("loss", np.inf),
        ("params", np.inf),
        ("params", 1e61),
    ],
)
def test_numbers_that_mean_nothing_are_refused(column: str, value: float) -> None:
    status, _, err = told(["predict", "OBS", *TARGET], plain().assign(**{column: value}))
    assert status == 2
    assert column in err
    assert len(err.splitlines()) == 1


def test_the_same_bytes_come_from_every_process_and_number_of_threads(tmp_path: Path) -> None:
    plain().to_csv(tmp_path / "obs.csv", index=False)
    told_by = []
    for number in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": number, "OMP_NUM_THREADS": number}
        command = [
            "allocate",
            str(tmp_path / "obs.csv"),
            "--flops",
            "1e22",
            "--replicates",
            "5",
            "--task",
            "t0",
            "--json",
        ]
        told_by.append(
            subprocess.run(
                [sys.executable, "-m", "ladder.cli", *command],
                env=environment,
                capture_output=True,
                check=True,
            ).stdout
        )
    assert told_by[0] == told_by[1] != b""
