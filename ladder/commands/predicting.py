"""Commands on a table of observations: predict, audit, backtest, noise."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from tyro import conf

from evaluation.files import InputError
from ladder.commands.options import (
    NO_OPTIONS,
    Flag,
    Names,
    Options,
    fit_table,
    parse_targets,
)

if TYPE_CHECKING:
    import pandas as pd


def predict(
    observations: conf.Positional[Path],
    target: conf.UseAppendAction[Names] = (),
    fitting: Options = NO_OPTIONS,
    seal: Path | None = None,
    json: Flag = False,
    out: Path | None = None,
) -> None:
    """Predict a target's loss and accuracy on every task.

    With intervals; a table has the columns of docs/own-results.md, or --map names its own.

    Example: ladder predict mine.csv --target 7B-4T:6.89e9:3.95T

    Args:
        observations: A table of observations, .parquet or .csv.
        target: NAME:PARAMS:TOKENS, such as 7B-4T:6.89e9:3.95T; by default
            the runs of role target.
        fitting: Method, rungs, tasks, feature and laws.
        seal: Keep the predictions, with hashes of what they were made from, in this new file,
            which `ladder audit --sealed` checks once the target exists.
        json: Print one JSON document.
        out: Write a .json or .csv file.
    """
    from ladder import tables
    from predict.audit import targets_of
    from predict.two_stage import predictions_document

    tables.check_out(out, observations)
    tables.check_out(seal, observations, (".json",), "--seal")
    wanted = parse_targets(target)
    table = fitting.read(observations)
    if not wanted:
        if not (table["role"] == "target").any():
            raise InputError(
                f"{observations}: no run has the role target; name one with --target "
                "NAME:PARAMS:TOKENS"
            )
        wanted = targets_of(table)
    model = fit_table(fitting.model(), table, observations)
    predictions = model.predict_targets(wanted)
    if seal is not None:
        from datetime import UTC, datetime

        from predict.seal import write_seal

        now = datetime.now(UTC).isoformat(timespec="seconds")
        write_seal(seal, model, table, wanted, predictions, now)
        tables.note(f"sealed: {seal}")
    tables.warn(model, wanted)
    tables.emit(
        predictions_document(model, predictions), [asdict(p) for p in predictions], json, out
    )
    if json:
        return
    tables.show(
        f"predicted by method {model.method.name}; {tables.units(model)}",
        ("task", "target", "accuracy", "80%", "95%", "status", "loss", "80%"),
        [
            (
                p.task,
                p.target,
                tables.points(p.predicted),
                tables.span(p.lower80, p.upper80),
                tables.span(p.lower95, p.upper95),
                p.status,
                f"{p.loss_predicted:.4f}",
                tables.loss_span(p.loss_lower80, p.loss_upper80),
            )
            for p in predictions
        ],
        keys=2,
        breaks=("loss",),
    )
    for line in tables.why(predictions):
        tables.say(line)


def audit(
    observations: conf.Positional[Path],
    fitting: Options = NO_OPTIONS,
    sealed: Path | None = None,
    curve: Flag = False,
    json: Flag = False,
    out: Path | None = None,
) -> None:
    """Predicted against actual, per task and step.

    Targets are the runs of role target.

    Example: ladder audit obs.parquet --method published

    Args:
        observations: A table of observations, .parquet or .csv.
        fitting: Method, rungs, tasks, feature and laws.
        sealed: Audit the predictions that `ladder predict --seal` kept in this file; their
            method, rungs and tasks are the seal's.
        curve: Compute against error as well: the ladder cut by size, by multiple and by FLOPs.
        json: Print one JSON document.
        out: Write a .json or .csv file.
    """
    from ladder import tables
    from predict.audit import audit as audit_predictions
    from predict.audit import audit_document, targets_of

    tables.check_out(out, observations)
    if sealed is not None:
        if replace(fitting, recipe=None, map=()) != NO_OPTIONS or curve:
            raise InputError(f"--sealed {sealed}: brings its own method, rungs and tasks")
        _audit_sealed(fitting.read(observations), sealed, json, out)
        return
    table = fitting.read(observations)
    if not (table["role"] == "target").any():
        raise InputError(f"{observations}: no run has the role target; nothing to audit against")
    targets = targets_of(table)
    model = fit_table(fitting.model(), table, observations)
    audited = audit_predictions(model, table)
    document = audit_document(model, audited)
    cuts = None
    if curve:
        from predict.curve import compute_curve

        cuts = compute_curve(fitting.model, table)
        document["curve"] = [asdict(point) for point in cuts.points]
        document["curve_left_out"] = list(cuts.left_out)
    tables.warn(model, targets)
    last = table[table["role"] == "target"].groupby("run")["final"].any()
    for name in last.index[~last]:
        tables.note(f"warning: target {name} has no final row; its last rows stand for its result")
    tables.emit(document, [row.flat() for row in audited.rows], json, out)
    if json:
        return
    tables.show_audit(audited, model.method.name, tables.units(model))
    if cuts is not None:
        tables.show_curve(cuts)


def _audit_sealed(table: pd.DataFrame, sealed: Path, json: bool, out: Path | None) -> None:
    from ladder import tables
    from predict.seal import check_seal

    check = check_seal(sealed, table)
    document = {
        "version": 1,
        "method": check.method,
        "sealed_at": check.sealed_at,
        "ladder_unchanged": check.ladder_unchanged,
        "largest_change": check.largest_change,
        "mean_abs_error": check.audit.mean_abs_error,
        "pooled": [asdict(p) for p in check.audit.pooled],
        "rows": [row.flat() for row in check.audit.rows],
        "unscored": list(check.unscored),
    }
    for line in check.unscored:
        tables.note(f"not scored: {line}")
    if not check.ladder_unchanged:
        tables.note(
            "warning: the ladder's rows are not those that were sealed; the predictions stand, "
            "their steps cannot be told apart"
        )
    tables.emit(document, [row.flat() for row in check.audit.rows], json, out)
    if json:
        return
    tables.say(f"{sealed}: sealed {check.sealed_at}, unchanged since")
    if check.largest_change is not None:
        tables.say(
            f"made again from the same rows, they differ by {check.largest_change:.2g} at most"
        )
    tables.show_audit(check.audit, check.method)


def backtest(
    observations: conf.Positional[Path],
    fitting: Options = NO_OPTIONS,
    methods: conf.UseAppendAction[Names] = (),
    score: conf.UseAppendAction[Names] = (),
    json: Flag = False,
    out: Path | None = None,
) -> None:
    """Predict big rungs from small ones: which method is best.

    Example: ladder backtest obs.parquet --score '3B-*'

    Args:
        observations: A table of observations, .parquet or .csv; targets take no part.
        fitting: Rungs, tasks, feature and laws; --method adds one to compare.
        methods: A method to compare. By default default and published.
        score: Pattern of further runs to predict, never fitted, such as '3B-*'.
        json: Print one JSON document.
        out: Write a .json or .csv file.
    """
    from ladder import tables
    from ladder.progress import steps
    from predict.backtest import backtest as run_backtest

    tables.check_out(out, observations)
    chosen = tuple(dict.fromkeys((*methods, fitting.method))) if methods else ()
    chosen = chosen or tuple(dict.fromkeys((fitting.method, "default", "published")))
    table = fitting.read(observations)
    try:
        result = run_backtest(
            table,
            chosen,
            fitting.rungs,
            score,
            fitting.tasks,
            fitting.feature,
            fitting.law,
            fitting.link,
            steps("back-test"),
        )
    except InputError as error:
        raise InputError(f"{observations}: {error}") from None
    tables.emit(result.document(), [asdict(row) for row in result.rows], json, out)
    if not json:
        tables.show_backtest(result)


def noise(
    observations: conf.Positional[Path],
    fitting: Options = NO_OPTIONS,
    run: str | None = None,
    last: int = 10,
    json: Flag = False,
    out: Path | None = None,
) -> None:
    """Checkpoint noise, rerun differences; which tasks are too noisy.

    Example: ladder noise mine.csv

    Args:
        observations: A table of observations, .parquet or .csv.
        fitting: Rungs, tasks and feature.
        run: The run whose last checkpoints are looked at; by default the costliest rung.
        last: How many of its last checkpoints.
        json: Print one JSON document.
        out: Write a .json or .csv file.
    """
    from ladder import tables
    from predict.noise import task_noise

    tables.check_out(out, observations)
    table = fitting.read(observations)
    try:
        found = task_noise(fitting.model(), table, run, last)
    except InputError as error:
        raise InputError(f"{observations}: {error}") from None
    rows = [asdict(n) for n in found]
    tables.emit({"version": 1, "rows": rows}, rows, json, out)
    if not json:
        known = table.loc[table["task"].isin([n.task for n in found]), "loss_unit"]
        own = fitting.feature == "loss"
        tables.show_noise(
            found, " or ".join(known.unique()) if own else f"that of {fitting.feature}"
        )
