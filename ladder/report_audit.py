"""Sections of a report on what was predicted, what came, and which step erred."""

from __future__ import annotations

from ladder.report_context import MOST_TASKS, Context, not_drawn
from ladder.report_parts import (
    Cell,
    Picture,
    Section,
    Table,
    number,
    plural,
    points,
    span,
)
from predict.figures_errors import steps_figure
from predict.numbers import human
from predict.plots import audit_figure


def predicted_against_actual(context: Context) -> Section | None:
    """Every audited accuracy."""
    scored = context.scored
    if not scored:
        return None
    rows = tuple(
        (
            row.prediction.task,
            row.prediction.target,
            points(row.prediction.predicted),
            span(row.prediction.lower80, row.prediction.upper80),
            points(row.actual),
            points(row.error, signed=True),
            points(row.top_rung),
            Cell(row.prediction.status, note=row.prediction.reason),
        )
        for row in scored
    )
    columns = ("task", "target", "predicted", "80%", "actual", "error", "top rung", "status")
    picture = Picture(
        "predicted-against-actual",
        audit_figure(scored),
        f"Predicted against actual accuracy of {plural(len(scored), 'prediction')}",
        "On the diagonal a prediction is right; lines are 80% intervals; the largest errors are "
        "named.",
    )
    caption = "Accuracies and errors in points; top rung: the ladder's costliest, for comparison."
    return Section("Predicted against actual", (), (picture,), (Table(columns, rows, caption),))


def error_by_step(context: Context) -> Section | None:
    """Which step owns the error."""
    scored, audit = context.scored, context.result.audit
    if not scored or audit is None:
        return None
    drawn = list(dict.fromkeys(r.prediction.task for r in scored))[:MOST_TASKS]
    pictures = (
        Picture(
            "error-by-step",
            steps_figure([r for r in scored if r.prediction.task in drawn]),
            "Error of step 1 and step 2 for every task and target, in points",
            "Step 2's error is what the task's own step 2 errs by when given the true loss; "
            "step 1's is the rest. They may cancel.",
        ),
    )
    pooled = tuple(
        (
            p.target,
            str(p.tasks),
            points(p.mean_abs_error),
            number(p.mean_abs_relative_error, ".1%"),
            points(p.mean_abs_step1_error),
            points(p.mean_abs_step2_error),
            number(p.step1_share, ".0%"),
            number(p.mean_abs_loss_relative_error, ".1%"),
            f"{p.inside80} of {p.with_interval}",
            f"{p.inside95} of {p.with_interval}",
        )
        for p in audit.pooled
    )
    rows = tuple(
        (
            r.prediction.task,
            r.prediction.target,
            points(r.error, signed=True),
            points(r.step1_error, signed=True),
            points(r.step2_error, signed=True),
            number(r.step1_share, ".0%"),
            number(r.prediction.loss_predicted, ".4f"),
            number(r.loss_actual, ".4f"),
            number(r.loss_relative_error, "+.1%"),
        )
        for r in scored
    )
    return Section(
        "Error by task and step",
        (),
        pictures,
        (
            Table(
                (
                    *("target", "tasks", "error", "relative", "step 1", "step 2"),
                    *("step 1's share", "loss error", "inside 80%", "inside 95%"),
                ),
                pooled,
                "Means of absolute errors, in points of accuracy.",
                frozenset(i for i, p in enumerate(audit.pooled) if p.target == "all"),
            ),
            Table(
                (
                    *("task", "target", "error", "step 1", "step 2", "step 1's share"),
                    *("loss predicted", "loss actual", "loss error"),
                ),
                rows,
                folded="every task's steps and losses",
            ),
        ),
        not_drawn(len({r.prediction.task for r in scored})),
    )


def not_yet_measured(context: Context) -> Section | None:
    """Predictions of targets that no one has trained."""
    audit = context.result.audit
    measured = {r.prediction.target for r in audit.rows} if audit else set()
    ahead = [p for p in context.result.predictions if p.target not in measured]
    if not ahead:
        return None
    rows = tuple(
        (
            p.task,
            p.target,
            Cell(human(p.params), p.params),
            Cell(human(p.tokens), p.tokens),
            points(p.predicted),
            span(p.lower80, p.upper80),
            number(p.loss_predicted, ".4f"),
            _loss_span(p.loss_lower80, p.loss_upper80),
            Cell(p.status, note=p.reason),
        )
        for p in ahead
    )
    columns = ("task", "target", "params", "tokens", "accuracy", "80%", "loss", "80%", "status")
    caption = f"Accuracies in points; losses in {_units(context, [p.task for p in ahead])}."
    return Section("Predicted, not yet measured", tables=(Table(columns, rows, caption),))


def _loss_span(lower: float | None, upper: float | None) -> Cell:
    if lower is None or upper is None:
        return Cell("")
    return Cell(f"{lower:.3f} to {upper:.3f}", upper - lower)


def _units(context: Context, tasks: list[str]) -> str:
    """What the losses of these tasks are in."""
    model = context.result.model
    if model.feature != "loss":
        return f"the unit of {model.feature}"
    fits = (model.fits_.get(task) for task in tasks)
    return " or ".join(dict.fromkeys(fit.loss_unit for fit in fits if fit))


def language_modelling(context: Context) -> Section | None:
    """Losses of LM validation sets."""
    audit = context.result.audit
    losses = [r for r in audit.rows if r.error is None] if audit else []
    if not losses:
        return None
    rows = tuple(
        (
            r.prediction.task,
            r.prediction.target,
            number(r.prediction.loss_predicted, ".4f"),
            number(r.loss_actual, ".4f"),
            number(r.loss_error, "+.4f"),
            number(r.loss_relative_error, "+.2%"),
        )
        for r in losses
    )
    columns = ("set", "target", "predicted", "actual", "error", "relative")
    caption = f"In {_units(context, [r.prediction.task for r in losses])}."
    return Section("Language-modelling loss", tables=(Table(columns, rows, caption),))
