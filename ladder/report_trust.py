"""Sections of a report on how far to trust it: coverage of intervals, noise of scores."""

from __future__ import annotations

import pandas as pd

from evaluation.files import InputError
from ladder.report_context import MOST_TASKS, Context, not_drawn
from ladder.report_parts import (
    Picture,
    Section,
    Table,
    number,
    plural,
)
from predict.backtest import Backtest, backtest
from predict.calibration import Coverage, coverage_of_audit, coverage_of_backtest
from predict.figures_errors import coverage_figure, noise_figure
from predict.noise import early_checkpoints, task_noise
from predict.two_stage import TwoStage


def calibration(context: Context) -> Section | None:
    """Whether intervals hold what came as often as they say."""
    model = context.result.model
    found: list[Coverage] = []
    text = []
    splits = context.splits
    refits = splits * len(model.fits_)
    if splits and context.can_refit(refits):
        try:
            result = _backtest(model, context.observations)
            inside = coverage_of_backtest(result, model.method.name)
            found += [inside] if inside else []
            text.append(
                f"Back-test: {plural(len(result.splits), 'cut')} of the ladder, each fitted and "
                "asked for rungs that cost four times its costliest or more."
                + (f" {result.thinned}." if result.thinned else "")
            )
        except InputError as error:
            text.append(f"No back-test: {error}.")
    elif splits:
        text.append(
            f"No back-test inside the ladder, which would take {refits} refits: `ladder backtest` "
            "runs it, and so does `ladder report --full`."
        )
    else:
        text.append("No back-test: no cut of the ladder leaves a rung far enough to score.")
    if audited := coverage_of_audit(context.scored):
        found.append(audited)
        text.append("Audit: this report's own predictions of its targets.")
    if not found:
        return Section("Calibration", tuple(text)) if context.scored else None
    text.append("Rows of one target share its luck, so that few targets say little.")
    rows = tuple(
        (
            c.name,
            number(c.rows, "d"),
            number(c.tasks, "d"),
            number(c.inside80, ".0%"),
            number(c.inside95, ".0%"),
        )
        for c in found
    )
    picture = Picture(
        "calibration",
        coverage_figure(found),
        "Share of actual accuracies inside the interval of every level",
        "Above the diagonal intervals are wider than need be, below it too narrow.",
    )
    columns = ("from", "rows", "tasks", "inside 80%", "inside 95%")
    return Section("Calibration", tuple(text), (picture,), (Table(columns, rows),))


def noise(context: Context) -> Section | None:
    """How much scores move between checkpoints and reruns."""
    found = task_noise(context.result.model, context.observations)
    found = [n for n in found if n.task in context.result.model.fits_]
    if not found or all(n.loss_sd is None for n in found):
        why = "The ladder's costliest rung has one checkpoint, which tells no noise."
        return Section("Noise", (why,))
    count = max(n.checkpoints for n in found)
    rows = tuple(
        (
            n.task,
            number(n.loss_sd, ".5f"),
            number(n.loss_relative_sd, ".2%"),
            number(n.loss_signal_to_noise, ".1f"),
            number(n.accuracy_sd, ".2f", 100),
            number(n.accuracy_signal_to_noise, ".1f"),
            number(n.rerun_loss, ".2%"),
            number(n.rerun_accuracy, ".2f", 100),
            n.verdict,
        )
        for n in found
    )
    columns = (
        *("task", "loss SD", "relative", "S/N", "accuracy SD", "S/N"),
        *("rerun loss", "rerun accuracy", "too noisy"),
    )
    caption = "Accuracy in points. Rerun: mean difference of runs of the same size and length."
    pictures = (
        Picture(
            "noise",
            noise_figure(found[:MOST_TASKS]),
            "Signal to noise of every task's loss and accuracy",
        ),
    )
    text = (
        f"Standard deviation over the last {count} checkpoints of {found[0].run}; signal to noise "
        "is the relative range of the rungs over it.",
        *([f"{early}."] if (early := early_checkpoints(found)) else []),
    )
    return Section("Noise", text, pictures, (Table(columns, rows, caption),), not_drawn(len(found)))


def _backtest(model: TwoStage, observations: pd.DataFrame) -> Backtest:
    own = model.settings()
    name = str(own["method"])
    return backtest(
        observations,
        (name,),
        model.rungs,
        (),
        model.tasks,
        model.feature,
        model.law,
        model.link,
    )
