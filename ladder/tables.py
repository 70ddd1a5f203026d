"""What commands print: tables for people, one JSON document for scripts, a file on request."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from evaluation.columns import some
from evaluation.files import InputError, atomic_write, write_json
from evaluation.plain import plain
from ladder.layout import show as show
from ladder.layout import width_of, wrapped

if TYPE_CHECKING:
    from predict.audit import Audit
    from predict.backtest import Backtest
    from predict.curve import Curve
    from predict.noise import TaskNoise
    from predict.task_fit import Prediction, Target
    from predict.two_stage import TwoStage


NEAR_CEILING = 0.9
"""Accuracy from which a ceiling of 100% may be too high: benchmarks have wrong labels."""

MOST_TASKS = 4
"""Tasks that a line on standard error names."""


def check_out(
    out: Path | None,
    source: Path | None = None,
    endings: tuple[str, ...] = (".json", ".csv"),
    option: str = "--out",
) -> None:
    """Raise InputError, before any work is done, where --out cannot or must not be written.

    `source` is the file that is read, never to be overwritten.
    """
    if out is not None and out.suffix not in endings:
        raise InputError(f"{option} {out}: must end in {' or '.join(endings)}")
    if out is not None and not out.parent.is_dir():
        raise InputError(f"{option} {out}: the folder {out.parent} does not exist; make it first")
    if out is not None and out.is_dir():
        raise InputError(f"{option} {out}: is a folder; name a file")
    if out is not None and source is not None and out.exists() and out.samefile(source):
        raise InputError(f"{option} {out}: is the table that is read; name another file")


def emit(
    document: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], as_json: bool, out: Path | None
) -> None:
    """Write the document to `out`, JSON or its rows as CSV; with `as_json` print it too."""
    check_out(out)
    if out is not None and out.suffix == ".json":
        write_json(out, document)
    elif out is not None:
        atomic_write(out, lambda temporary: pd.DataFrame(rows).to_csv(temporary, index=False))
    if as_json:
        sys.stdout.write(json.dumps(document, indent=2, allow_nan=False) + "\n")


def say(line: str) -> None:
    """Print a line on standard output, broken between words where the screen ends."""
    print(wrapped(plain(line), width_of()))


def note(line: str) -> None:
    """Print one line on standard error; a terminal breaks it between words."""
    line = plain(line)
    print(wrapped(line, width_of(sys.stderr)) if sys.stderr.isatty() else line, file=sys.stderr)


def points(share: float | None, signed: bool = False) -> str:
    """An accuracy or an error in points; empty for none."""
    if share is None or share != share:
        return ""
    return f"{100 * share:+z.1f}" if signed else f"{100 * share:z.1f}"


def duration(seconds: float | None) -> str:
    """Seconds as 1h02m or 3m05s; empty for none."""
    if seconds is None:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02}m" if hours else f"{minutes}m{rest:02}s"


def warn(model: TwoStage, targets: Sequence[Target]) -> None:
    """Say on standard error what a reader of the fits must know."""
    from predict.audit import not_beyond_ladder

    for task, fitted in model.fits_.items():
        for step, law_fit in fitted.steps():
            if not law_fit.certified:
                note(f"warning: {task}, {step}: {law_fit.doubt}")
    if model.unfinished_:
        note(f"warning: no final row, so not fitted: {some(model.unfinished_, MOST_TASKS)}")
    for line in not_beyond_ladder(model, targets):
        note(f"warning: {line}")
    for what, tasks in _bounds(model, targets).items():
        note(f"note: {what}: {some(tasks, MOST_TASKS)}")
    reasons: dict[str, list[str]] = {}
    for task, why in model.left_out_.items():
        reasons.setdefault(why, []).append(task)
    for why, tasks in reasons.items():
        note(f"left out, {why}: {some(tasks, MOST_TASKS)}")


def _bounds(model: TwoStage, targets: Sequence[Target]) -> dict[str, list[str]]:
    """Tasks by what a parameter at a bound means for their predictions, where it means anything.

    A ceiling of 100% says that the ladder does not show one, which is usual and far from what is
    predicted, unless that is high. `TwoStage.report` tells of every bound of every chain.
    """
    from predict.laws import LAWS

    found: dict[str, list[str]] = {}
    for task, fitted in model.fits_.items():
        own = fitted.chains[0]
        fits = [("step 1", own.step1)] + ([("step 2", own.step2)] if own.step2 else [])
        highest = max((v for t in targets for v in fitted.chain_values(t).values()), default=0)
        for step, law_fit in fits:
            meanings = {p.name: p.meaning for p in LAWS[law_fit.law].parameters}
            for name in law_fit.at_bound:
                ceiling = step == "step 2" and meanings[name].startswith("ceiling")
                if ceiling and highest < NEAR_CEILING:
                    continue
                what = f"{step}, {name} ({meanings[name]}) is at a bound"
                if ceiling:
                    what = "near 100%, where the ladder shows no ceiling, so none is assumed"
                elif name == "E":
                    what = "step 1 finds no irreducible loss, so the loss falls on with scale"
                found.setdefault(what, []).append(task)
    return found


def span(lower: float | None, upper: float | None) -> str:
    """An interval of accuracies in points; empty for none."""
    return "" if lower is None or upper is None else f"{100 * lower:.1f}-{100 * upper:.1f}"


def loss_span(lower: float | None, upper: float | None) -> str:
    """An interval of losses; empty for none."""
    return "" if lower is None or upper is None else f"{lower:.3f}-{upper:.3f}"


def why(predictions: Sequence[Prediction]) -> list[str]:
    """The reasons behind what is unpredictable or goes by other chains, a line a task."""
    lines: dict[str, None] = {}
    for p in predictions:
        goes_by_others = "does not fall clearly" in p.reason
        if p.status == "unpredictable" or (p.status == "ok" and p.reason) or goes_by_others:
            lines[f"{p.task}: {p.status}, {p.reason}"] = None
    return list(lines)


def show_scores(model: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Print a model's scores, standard errors behind them; n/t are nats per token."""

    def pair(row: Mapping[str, Any], name: str, scale: float = 100, form: str = ".1f") -> str:
        value, se = row.get(name), row.get(f"{name}_se")
        if value is None or value != value:
            return ""
        return f"{scale * value:{form}}" + ("" if se is None else f" +-{scale * se:{form}}")

    several = len({row.get("run") for row in rows}) > 1
    columns = ("task", "items", "bits per byte", "accuracy, %", "picked by")
    show(
        model,
        ("run", *columns) if several else columns,
        [
            (
                *((row.get("run", ""),) if several else ()),
                row["task"],
                "" if row.get("instances") is None else f"{row['instances']:,.0f}",
                pair(row, "loss", 1, ".3f") + (" n/t" if row["loss_unit"] == "nats/token" else ""),
                pair(row, "accuracy"),
                (row.get("accuracy_metric") or "").removeprefix("acc_"),
            )
            for row in rows
        ],
        keys=2 if several else 1,
    )


def show_tasks(suites: Mapping[str, Sequence[str]], forms: Mapping[str, Sequence[str]]) -> None:
    """Print suites, and the forms of every kind of task that was fetched."""
    for suite, members in suites.items():
        say(f"{suite}: {', '.join(members)}")
    if not forms:
        say("the OLMES requests are not here yet; `ladder tasks fetch` brings them")
        return
    print()
    say("OLMES tasks, such as arc_easy_test_rc_5shot, and patterns, such as 'arc_*_rc_5shot':")
    for kind, own in forms.items():
        say(f"  {kind}: {' '.join(own)}")


def units(model: TwoStage) -> str:
    """What numbers of a table of predictions are in."""
    names = dict.fromkeys(fitted.loss_unit for fitted in model.fits_.values())
    losses = " or ".join(names) if model.feature == "loss" else f"that of {model.feature}"
    return f"accuracy in points, loss in {losses}"


def show_audit(audited: Audit, method: str, said: str = "accuracy in points") -> None:
    """Print predicted against actual, accuracies and errors in points."""
    show(
        f"predicted against actual, method {method}; {said}; errors in points",
        (
            "task",
            "target",
            "predicted",
            "80%",
            "actual",
            "error",
            "relative",
            "status",
            "step 1",
            "step 2",
            "top rung",
            "loss predicted",
            "loss actual",
        ),
        [
            (
                row.prediction.task,
                row.prediction.target,
                points(row.prediction.predicted),
                span(row.prediction.lower80, row.prediction.upper80),
                points(row.actual),
                points(row.error, signed=True),
                "" if row.relative_error is None else f"{row.relative_error:+.1%}",
                row.prediction.status,
                points(row.step1_error, signed=True),
                points(row.step2_error, signed=True),
                points(row.top_rung),
                f"{row.prediction.loss_predicted:.4f}",
                f"{row.loss_actual:.4f}",
            )
            for row in audited.rows
        ],
        keys=2,
        breaks=("step 1",),
    )
    for line in why([row.prediction for row in audited.rows]):
        say(line)
    for pooled in audited.pooled:
        if pooled.mean_abs_error is None:
            continue
        relative = pooled.mean_abs_relative_error
        over = "" if relative is None else f" ({relative:.1%} relative)"
        share = "" if pooled.step1_share is None else f", step 1 owns {pooled.step1_share:.0%}"
        say(
            f"{pooled.target}: mean absolute error {points(pooled.mean_abs_error)} points"
            f"{over}{share}; "
            f"{pooled.inside80} of {pooled.with_interval} inside 80%, {pooled.inside95} inside 95%"
        )


def show_curve(curve: Curve) -> None:
    """Print compute against error, errors in points."""
    show(
        "compute against error: the ladder cut, mean absolute error in points",
        (
            "cut",
            "limit",
            "target",
            "rungs",
            "FLOPs",
            "of target",
            "error",
            "relative",
            "unpredictable",
        ),
        [
            (
                p.cut,
                f"{p.limit:.3g}",
                p.target,
                p.rungs,
                f"{p.ladder_flops:.3g}",
                f"{p.share_of_target:.2%}",
                points(p.mean_abs_error),
                "" if p.mean_abs_relative_error is None else f"{p.mean_abs_relative_error:.1%}",
                p.unpredictable or "",
            )
            for p in curve.points
        ],
        keys=3,
    )
    for line in curve.left_out:
        note(f"left out: {line}")


def show_backtest(result: Backtest) -> None:
    """Print how the methods did, and which one to choose."""
    show(
        f"back-test on {len(result.splits)} splits of the ladder; errors and widths in points",
        (
            "method",
            "error",
            "+-",
            "loss error",
            "in 80%",
            "in 95%",
            "left out 80%",
            "left out 95%",
            "half-width",
            "score 80%",
            "constant",
        ),
        [
            (
                s.method,
                f"{100 * s.mean_abs_error:.2f}",
                "" if s.standard_error != s.standard_error else f"{100 * s.standard_error:.2f}",
                f"{s.loss_error:.1%}",
                f"{s.coverage80:.2f}",
                f"{s.coverage95:.2f}",
                f"{s.left_out80:.2f}",
                f"{s.left_out95:.2f}",
                points(s.width80),
                f"{100 * s.winkler80:.2f}",
                f"{100 * s.winkler80_constant:.2f}",
            )
            for s in result.scores
        ],
    )
    by_task = result.by_task()
    names = [s.method for s in result.scores]
    show(
        "mean absolute error a task, points",
        ("task", *names),
        [
            (task, *(f"{100 * errors[n]:.2f}" if n in errors else "" for n in names))
            for task, errors in by_task.items()
        ],
    )
    for c in result.comparisons:
        clear = "more than" if c.clear else "no more than"
        say(
            f"{c.method} against {c.against}: {100 * c.difference:+.2f} points, {clear} the paired "
            f"standard error of {100 * c.standard_error:.2f}"
        )
    for line in result.left_out:
        note(f"left out: {line}")
    if result.thinned:
        note(f"left out: {result.thinned}")
    sure = "" if result.clear else ", though not clearly better than every other"
    say(f"chosen: {result.chosen}{sure}")


def show_noise(found: Sequence[TaskNoise], losses: str) -> None:
    """Print checkpoint noise; accuracies in points, losses in the unit that is named."""
    from predict.noise import early_checkpoints

    def number(value: float | None, form: str) -> str:
        return "" if value is None else format(value, form)

    run, count = found[0].run, max(n.checkpoints for n in found)
    show(
        f"noise over the last {count} checkpoints of {run}; accuracy in points, loss in {losses}",
        (
            "task",
            "loss SD",
            "relative",
            "S/N",
            "acc. SD",
            "S/N",
            "rerun loss",
            "rerun acc.",
        ),
        [
            (
                n.task,
                number(n.loss_sd, ".5f"),
                number(n.loss_relative_sd, ".2%"),
                number(n.loss_signal_to_noise, ".1f"),
                "" if n.accuracy_sd is None else f"{100 * n.accuracy_sd:.2f}",
                number(n.accuracy_signal_to_noise, ".1f"),
                number(n.rerun_loss, ".2%"),
                "" if n.rerun_accuracy is None else f"{100 * n.rerun_accuracy:.2f}",
            )
            for n in found
        ],
    )
    if early := early_checkpoints(found):
        say(f"{early}; --last takes fewer.")
    for n in found:
        if n.verdict:
            say(f"{n.task}: {n.verdict}")
