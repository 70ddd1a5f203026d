"""Forecasts of runs in flight: chosen on runs inside the ladder, then told of the targets.

    python benchmarks/forecast.py [FOLDER]

FOLDER holds the logs of allenai/OLMo-ladder (default ../shared/olmo-ladder). Runs of the ladder up
to 3.2B are treated as in flight, each forecast from its first tokens by a ladder of smaller and
shorter runs; every constant was chosen there. The targets' forecasts come last and choose nothing.
Prints Markdown; benchmarks/forecast.md holds a run.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pandas as pd

from evaluation.sources import import_olmo_ladder
from predict import TwoStage
from predict import forecast as forecasting
from predict.audit import actual_of
from predict.flight import Flight
from predict.forecast import Forecast, forecast
from predict.letters import forecast_letters
from predict.points import task_points
from predict.schedule_gap import Gap
from predict.splits import make_splits

PAPER = (
    *(f"{t}_test_rc_5shot" for t in ("mmlu", "arc_challenge", "arc_easy", "openbookqa")),
    *(f"{t}_val_rc_5shot" for t in ("hellaswag", "piqa", "csqa", "socialiqa")),
)
LETTERS = tuple(task.replace("_rc_", "_mc_") for task in PAPER)
SHARES = (0.1, 0.25, 0.5, 0.75, 0.9)
TARGETS = (("7B-4T", "7B-4T-stage1", 5e12), ("13B-5T", "13B-5T-full", 5e12))
"""A target, the run that holds its checkpoints, and the tokens its cosine was set for
(arXiv 2412.04403: the 7B was cut short of 5T and decayed linearly)."""


@dataclass(frozen=True)
class Case:
    """A fitted ladder, and the runs to be forecast from each share."""

    model: TwoStage
    flights: tuple[Flight, ...]


@dataclass(frozen=True)
class Scored:
    """A forecast beside what came."""

    share: float
    row: Forecast
    loss: float
    accuracy: float

    def loss_error(self, predicted: float | None) -> float:
        """|log(predicted / actual)|, NaN for none."""
        return math.nan if predicted is None else abs(math.log(predicted / self.loss))

    def error(self, predicted: float | None) -> float:
        """|predicted - actual| of the accuracy, NaN for none."""
        return math.nan if predicted is None else abs(predicted - self.accuracy)


def main(folder: Path) -> None:
    """Print everything."""
    table = import_olmo_ladder(folder).observations
    inside = table[(table["role"] != "target") & (table["params"] < 5e9)]
    inside = inside[inside["task"].isin(PAPER)]
    cases = list(cases_inside(inside))
    print(f"`python benchmarks/forecast.py`, {len(PAPER)} tasks, mean absolute errors\n")
    print("## Runs inside the ladder, treated as in flight\n")
    show(score(inside, cases), by_task=False)
    print("\n## What was chosen there\n")
    show_choices(inside, cases)
    print("\n## The targets\n")
    show_targets(table)
    print("\n## Letter forms, fitted on the target's own checkpoints\n")
    show_letters(table)


def cases_inside(table: pd.DataFrame) -> Iterator[Case]:
    """Every split of the ladder, fitted once, with the bigger runs as flights."""
    method = TwoStage().method
    points = task_points(
        table[table["task"] == PAPER[0]].sort_values(["run", "step"]), method, "loss"
    ).rungs
    scored_only = [p.run for p in points if p.run.startswith("3B")]
    ladder = set(table.loc[table["role"] == "ladder", "run"])
    used = [p for p in points if p.run in ladder or p.run in scored_only]
    for split in make_splits(used, scored_only):
        part = table[table["run"].isin(split.fitted)].assign(role="ladder")
        ends = {p.run: p for p in used}
        flights = tuple(
            Flight(run, ends[run].params, ends[run].tokens, share)
            for run in split.scored
            for share in SHARES
        )
        yield Case(TwoStage(tasks=PAPER).fit(part), flights)


def score(table: pd.DataFrame, cases: Sequence[Case]) -> list[Scored]:
    """Every flight's forecast beside the mean of the run's last rows; ladder-only ones left out."""
    found = []
    actual = {
        key: actual_of(rows, "loss") for key, rows in table.groupby(["run", "task"], sort=False)
    }
    for case in cases:
        known = table.assign(role="ladder")
        rows = forecast(case.model, known, case.flights)
        shares = [f.share for f in case.flights for _ in case.model.fits_]
        for share, row in zip(shares, rows, strict=True):
            loss, accuracy = actual[row.run, row.task]
            if row.checkpoints:
                found.append(Scored(share, row, loss, float(accuracy or math.nan)))
    return found


def show(scored: Sequence[Scored], by_task: bool) -> None:
    """A line a share: errors of the ladder, the last checkpoint, the run alone, the forecast."""
    print(
        "| share | forecasts | loss, %: ladder only | last checkpoints | own alone | forecast "
        "| in 80% | ladder's in 80% | accuracy, points: ladder only | last checkpoints | own alone "
        "| forecast | in 80% | in 95% | ladder's in 80% |\n" + "| --- " * 15 + "|"
    )
    for share in dict.fromkeys(s.share for s in scored):
        own = [s for s in scored if s.share == share]
        losses = [
            mean(own, lambda s, n=name: s.loss_error(getattr(s.row, n)))
            for name in ("ladder_loss", "last_loss", "own_loss", "loss_predicted")
        ]
        points = [
            mean(own, lambda s, n=name: s.error(getattr(s.row, n)))
            for name in ("ladder_predicted", "last_accuracy", "own_predicted", "predicted")
        ]
        inside = [
            np.mean([lower(s) <= actual(s) <= upper(s) for s in own])
            for lower, upper, actual in (
                bounds("loss_lower80", "loss_upper80", "loss"),
                bounds("ladder_loss_lower80", "ladder_loss_upper80", "loss"),
                bounds("lower80", "upper80", "accuracy"),
                bounds("lower95", "upper95", "accuracy"),
                bounds("ladder_lower80", "ladder_upper80", "accuracy"),
            )
        ]
        cells = [
            *(f"{100 * x:.2f}" for x in losses),
            *(f"{x:.2f}" for x in inside[:2]),
            *(f"{100 * x:.2f}" for x in points),
            *(f"{x:.2f}" for x in inside[2:]),
        ]
        print(f"| {share:.0%} | {len(own)} | " + " | ".join(cells) + " |")
    if not by_task:
        return
    print(
        "\n| task | share | actual | ladder only | last | forecast | 80% |\n" + "| --- " * 7 + "|"
    )
    for s in scored:
        r = s.row
        print(
            f"| {r.task} | {s.share:.0%} | {100 * s.accuracy:.1f} | {pts(r.ladder_predicted)} "
            f"| {pts(r.last_accuracy)} | {pts(r.predicted)} | {pts(r.lower80)}-{pts(r.upper80)} |"
        )


def bounds(lower: str, upper: str, actual: str):
    """Readers of an interval and of what it should hold."""
    return (
        lambda s: getattr(s.row, lower),
        lambda s: getattr(s.row, upper),
        lambda s: getattr(s, actual),
    )


def mean(scored: Sequence[Scored], error) -> float:
    """Mean over tasks of the means over runs and splits."""
    by_task: dict[str, list[float]] = {}
    for s in scored:
        by_task.setdefault(s.row.task, []).append(error(s))
    return float(np.mean([np.nanmean(values) for values in by_task.values()]))


def pts(value: float | None) -> str:
    """An accuracy in points."""
    return "" if value is None else f"{100 * value:.1f}"


def show_choices(table: pd.DataFrame, cases: Sequence[Case]) -> None:
    """Errors and coverage with other constants, and without the gap."""
    print(
        "| variant | "
        + " | ".join(f"loss, {s:.0%}" for s in SHARES)
        + " | in 80% | "
        + " | ".join(f"accuracy, {s:.0%}" for s in SHARES)
        + " | in 80% |\n"
        + "| --- " * 13
        + "|"
    )
    variants: list[tuple[str, dict[str, float]]] = [("as it is", {})]
    variants += [(f"slope {x:g}", {"SLOPE": x}) for x in (0.0, 0.15, 0.5)]
    variants += [(f"walk {x:g}", {"WALK": x}) for x in (0.15, 0.4)]
    variants += [(f"recent {x:g}", {"RECENT": x}) for x in (1.5, 6.0)]
    for name, changed in variants:
        with ExitStack() as stack:
            for constant, value in changed.items():
                stack.enter_context(patch.object(forecasting, constant, value))
            line(name, score(table, cases))
    with patch.object(Gap, "at", lambda self, shares: (0 * shares, 0 * shares + self.spread[0])):
        line("no gap", score(table, cases))


def line(name: str, scored: Sequence[Scored]) -> None:
    """One variant: errors of loss and accuracy a share, with the coverage of all."""
    cells = []
    for predicted, error, low, high, actual in (
        ("loss_predicted", Scored.loss_error, "loss_lower80", "loss_upper80", "loss"),
        ("predicted", Scored.error, "lower80", "upper80", "accuracy"),
    ):
        for share in SHARES:
            own = [s for s in scored if s.share == share]
            value = mean(own, lambda s, e=error, p=predicted: e(s, getattr(s.row, p)))
            cells.append(f"{100 * value:.2f}")
        lower, upper, truth = bounds(low, high, actual)
        cells.append(f"{np.mean([lower(s) <= truth(s) <= upper(s) for s in scored]):.2f}")
    print(f"| {name} | " + " | ".join(cells) + " |")


def target_flights(table: pd.DataFrame) -> Iterator[tuple[str, list[Flight]]]:
    """Each target with its flights from 10, 25 and 50% of its tokens."""
    for target, run, horizon in TARGETS:
        own = table[table["run"] == target]
        params, tokens = float(own["params"].iloc[0]), float(own["tokens"].max())
        yield (
            target,
            [Flight(run, params, tokens, s, max(horizon, tokens)) for s in (0.1, 0.25, 0.5)],
        )


def show_targets(table: pd.DataFrame) -> None:
    """The forecasts of the targets by each method's ladder, as they are."""
    for method in ("default", "published"):
        model = TwoStage(method, tasks=PAPER).fit(table)
        for target, flights in target_flights(table):
            rows = forecast(model, table, flights)
            shares = [f.share for f in flights for _ in model.fits_]
            measured = dict(list(table[table["run"] == target].groupby("task")))
            scored = []
            for share, row in zip(shares, rows, strict=True):
                loss, accuracy = actual_of(measured[row.task], "loss")
                scored.append(Scored(share, row, loss, float(accuracy or math.nan)))
            print(f"\n### {target}, method {method}\n")
            show(scored, by_task=method == "default")


def show_letters(table: pd.DataFrame) -> None:
    """Letter forms at the end of the targets, from their own checkpoints after emergence."""
    print(
        "| target | task | share | emerged at, tokens | actual | last | forecast | 80% | status |\n"
        + "| --- " * 9
        + "|"
    )
    model = TwoStage(tasks=PAPER).fit(table)
    pooled: dict[tuple[str, float], list[tuple[float, float, bool, bool]]] = {}
    for target, flights in target_flights(table):
        measured = dict(list(table[table["run"] == target].groupby("task")))
        for flight in [*flights, replace(flights[0], share=1.0)]:
            cloze = {r.task: r for r in forecast(model, table, [flight])}
            for task in LETTERS:
                found = forecast_letters(table, flight, task, cloze[task.replace("_mc_", "_rc_")])
                _, actual = actual_of(measured[task], "loss")
                begun = "" if found.emerged is None else f"{found.emerged:.3g}"
                print(
                    f"| {target} | {task} | {flight.share:.0%} | {begun} | {pts(actual)} "
                    f"| {pts(found.last_accuracy)} | {pts(found.predicted)} "
                    f"| {pts(found.lower80)}-{pts(found.upper80)} | {found.status} |"
                )
                if found.predicted is not None and actual is not None:
                    pooled.setdefault((target, flight.share), []).append(
                        (
                            abs(found.predicted - actual),
                            abs(found.last_accuracy - actual),
                            found.lower80 <= actual <= found.upper80,
                            found.status == "ok",
                        )
                    )
    print(
        "\n| target | share | forecast, mean absolute error | last checkpoints | in 80% | ok "
        "| error of those that are ok |\n" + "| --- " * 7 + "|"
    )
    for (target, share), values in pooled.items():
        errors, last, inside, sound = map(np.array, zip(*values, strict=True))
        kept = f"{100 * errors[sound].mean():.1f}" if sound.any() else ""
        print(
            f"| {target} | {share:.0%} | {100 * errors.mean():.1f} | {100 * last.mean():.1f} "
            f"| {inside.mean():.2f} | {sound.sum()} | {kept} |"
        )


if __name__ == "__main__":
    here = Path(__file__).resolve().parent.parent.parent / "shared" / "olmo-ladder"
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else here)
