"""The sections of a report, in order: one function each."""

from __future__ import annotations

from collections.abc import Callable

from ladder.report_audit import (
    error_by_step,
    language_modelling,
    not_yet_measured,
    predicted_against_actual,
)
from ladder.report_compute import compute_against_error, compute_optimal, the_ladder
from ladder.report_context import MOST_TASKS, Context
from ladder.report_exponents import scaling_exponents
from ladder.report_fits import fits, runs, warnings
from ladder.report_parts import Section
from ladder.report_provenance import provenance
from ladder.report_trust import calibration, noise

SECTIONS: tuple[Callable[[Context], Section | None], ...] = (
    the_ladder,
    predicted_against_actual,
    error_by_step,
    not_yet_measured,
    language_modelling,
    calibration,
    noise,
    compute_optimal,
    compute_against_error,
    scaling_exponents,
    lambda context: fits(context.result, MOST_TASKS),
    lambda context: runs(context.result.model, context.observations),
    lambda context: warnings(context.result.model),
    lambda context: provenance(context.origin),
)
"""The report's sections, in order; a function that has nothing to say returns None."""
