"""The commands forecast, on a run in flight, and items, on the margins of single items."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from tyro import conf

from ladder.commands.options import (
    NO_OPTIONS,
    Flag,
    Names,
    Options,
    fit_table,
    parse_count,
    parse_targets,
    read_table,
)

if TYPE_CHECKING:
    from pandas import DataFrame

    from predict.flight import Flight
    from predict.forecast import Forecast
    from predict.letters import LetterForecast


def forecast(
    observations: conf.Positional[Path],
    run: str,
    tokens: str | None = None,
    share: conf.UseAppendAction[tuple[float, ...]] = (),
    horizon: str | None = None,
    fitting: Options = NO_OPTIONS,
    json: Flag = False,
    out: Path | None = None,
) -> None:
    """Where a run in flight will end: by the ladder and by itself.

    Example: ladder forecast obs.parquet --run 7B-4T-stage1 --tokens 3.945T --horizon 5T

    Args:
        observations: A table of observations, .parquet or .csv.
        run: The run in flight, which is never fitted.
        tokens: Where it will end, such as 3.95T; a run that has ended takes its last by default.
        share: Use its checkpoints up to this share of those tokens, such as 0.25.
            By default all of them.
        horizon: Tokens at which its learning-rate schedule was set to end, where it is cut short;
            by default where it ends.
        fitting: Method, rungs, tasks, feature and laws of the ladder's prediction.
        json: Print one JSON document.
        out: Write a .json or .csv file.
    """
    from ladder import tables
    from predict.flight import flight_of
    from predict.forecast import forecast as forecast_flights
    from predict.forecast import forecast_document

    tables.check_out(out, observations)
    end, planned = parse_count(tokens, "--tokens"), parse_count(horizon, "--horizon")
    table = fitting.read(observations)
    flights = [flight_of(table, run, end, s, planned) for s in share or (None,)]
    model = fit_table(fitting.model(), table[table["run"] != run], observations)
    forecasts = forecast_flights(model, table, flights)
    tables.warn(model, [flights[0].target])
    letters = _letters(table, flights, forecasts, fitting.feature, model.method.window)
    told = {found.task for found in letters}
    rows = [row for row in forecasts if row.task not in told]
    document = {
        **forecast_document(model, rows),
        "letters": [asdict(found) for found in letters],
    }
    tables.emit(document, [asdict(row) for row in rows], json, out)
    if not json:
        _show(model.method.name, tables.units(model), rows, letters)


def items(
    runs: conf.Positional[Path],
    target: conf.UseAppendAction[Names] = (),
    method: str = "default",
    tasks: Names = (),
    recipe: str | None = None,
    json: Flag = False,
    out: Path | None = None,
) -> None:
    """Predict accuracy from how the margins of single items move.

    Example: ladder items runs/quickstart

    Args:
        runs: A runs folder whose rungs' scores of choices are stored, with observations.parquet.
        target: NAME:PARAMS:TOKENS. By default the runs of role target.
        method: The method that the items are compared with.
        tasks: Patterns of tasks; by default all.
        recipe: Only the runs of this recipe, or of those that match a pattern.
        json: Print one JSON document.
        out: Write a .json or .csv file.
    """
    from ladder import tables
    from ladder.item_margins import read_margins
    from predict.audit import targets_of
    from predict.items import predict_items
    from predict.methods import get_method

    path = runs / "observations.parquet"
    tables.check_out(out, path)
    window = get_method(method).window
    wanted = parse_targets(target)
    table = read_table(path, recipe)
    margins = read_margins(runs, table, window)
    rows = predict_items(table, margins, wanted or targets_of(table), method, tasks)
    flat = [{k: None if v != v else v for k, v in asdict(row).items()} for row in rows]
    tables.emit({"version": 1, "method": method, "rows": flat}, flat, json, out)
    if json:
        return
    tables.show(
        f"accuracy in points by items and by method {method}, errors in back-tests behind",
        ("task", "target", "by compute", "by loss", method, "actual", "chosen", "+-"),
        [
            (
                row.task,
                row.target,
                _with_error(row.by_compute, row.compute_error),
                _with_error(row.by_loss, row.loss_error),
                _with_error(row.by_method, row.method_error),
                tables.points(row.actual),
                row.chosen,
                tables.points(row.standard_error),
            )
            for row in rows
        ],
        keys=2,
    )


def _with_error(value: float | None, error: float | None) -> str:
    from ladder.tables import points

    return points(value) + ("" if error is None else f" ({100 * error:.1f})")


def _letters(
    table: DataFrame,
    flights: Sequence[Flight],
    forecasts: Sequence[Forecast],
    feature: str,
    window: int,
) -> list[LetterForecast]:
    """The run's letter forms (`_mc_`) whose cloze form (`_rc_`) has a forecast."""
    from predict.letters import forecast_letters

    own = table[(table["run"] == flights[0].run) & table["accuracy"].notna()]
    tasks = [str(t) for t in own["task"].unique() if "_mc_" in str(t)]
    each = len(forecasts) // len(flights)
    found = []
    for index, flight in enumerate(flights):
        rows = {row.task: row for row in forecasts[index * each : (index + 1) * each]}
        for task in tasks:
            if cloze := rows.get(task.replace("_mc_", "_rc_")):
                found.append(forecast_letters(table, flight, task, cloze, feature, window))
    return found


def _show(
    method: str, units: str, rows: Sequence[Forecast], letters: Sequence[LetterForecast]
) -> None:
    from ladder import tables
    from predict.numbers import human

    first = rows[0]
    tables.show(
        f"{first.run} at {human(first.tokens)} tokens, method {method}; {units}",
        (
            "task",
            "seen",
            "accuracy",
            "80%",
            "ladder only",
            "80%",
            "own alone",
            "last",
            "status",
            "loss",
            "80%",
            "ladder only",
            "last",
        ),
        [
            (
                row.task,
                f"{row.tokens_seen / row.tokens:.0%}",
                tables.points(row.predicted),
                tables.span(row.lower80, row.upper80),
                tables.points(row.ladder_predicted),
                tables.span(row.ladder_lower80, row.ladder_upper80),
                tables.points(row.own_predicted),
                tables.points(row.last_accuracy),
                row.status,
                f"{row.loss_predicted:.4f}",
                tables.loss_span(row.loss_lower80, row.loss_upper80),
                f"{row.ladder_loss:.4f}",
                "" if row.last_loss is None else f"{row.last_loss:.4f}",
            )
            for row in rows
        ],
        keys=2,
        breaks=("loss",),
    )
    for line in dict.fromkeys(
        f"{row.task}: {row.status}, {row.reason}"
        for row in rows
        if row.reason and (row.status == "unpredictable" or not row.checkpoints)
    ):
        tables.say(line)
    if letters:
        tables.show(
            "letter forms, by step 2 on the run's own checkpoints after they emerge; in points",
            ("task", "share", "emerged at", "checkpoints", "accuracy", "80%", "last", "status"),
            [
                (
                    found.task,
                    "" if found.share == 1 else f"{found.share:.0%}",
                    "" if found.emerged is None else human(found.emerged),
                    found.checkpoints,
                    tables.points(found.predicted),
                    tables.span(found.lower80, found.upper80),
                    tables.points(found.last_accuracy),
                    found.status,
                )
                for found in letters
            ],
        )
