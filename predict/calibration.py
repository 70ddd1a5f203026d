"""How often intervals hold what came: coverage at every level, from errors and their widths."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from predict.audit import AuditRow
from predict.backtest import Backtest
from predict.intervals import LEVEL95
from predict.laws import Array

LEVELS = np.linspace(0.05, 0.99, 95)
"""Nominal levels at which coverage is read."""


@dataclass(frozen=True)
class Coverage:
    """Shares of rows whose central intervals hold the actual value."""

    name: str
    """Where the rows are from."""
    rows: int
    tasks: int
    inside80: float
    inside95: float
    curve: Array
    """Share at each of LEVELS."""


def coverage_of_audit(rows: Sequence[AuditRow]) -> Coverage | None:
    """Coverage over an audit's rows that have an interval; None without one."""
    scores, inside80, inside95, tasks = [], 0, 0, set()
    for row in rows:
        p = row.prediction
        if row.error is None or p.predicted is None or p.lower95 is None or p.upper95 is None:
            continue
        # An interval may be cut at 0 or 1: the longer half is whole.
        width = max(p.upper95 - p.predicted, p.predicted - p.lower95) / LEVEL95
        scores.append(abs(row.error) / width if width else math.inf)
        inside80 += bool(row.inside80)
        inside95 += bool(row.inside95)
        tasks.add(p.task)
    if not scores:
        return None
    count = len(scores)
    return Coverage(
        "audit", count, len(tasks), inside80 / count, inside95 / count, _curve(np.array(scores))
    )


def coverage_of_backtest(result: Backtest, method: str) -> Coverage | None:
    """Coverage over a back-test's rows of one method; None where none has an interval."""
    rows = [r for r in result.rows if r.method == method and r.lower80 is not None]
    scores = [
        abs(r.error) / r.standard_error
        for r in rows
        if r.error is not None and r.standard_error is not None and r.standard_error > 0
    ]
    if not scores:
        return None
    (score,) = (s for s in result.scores if s.method == method)
    return Coverage(
        "back-test",
        len(scores),
        len({r.task for r in rows if r.error is not None}),
        score.coverage80,
        score.coverage95,
        _curve(np.array(scores)),
    )


def _curve(scores: Array) -> Array:
    """The share of |error| / standard error below each level's quantile of the normal."""
    bounds = np.array([NormalDist().inv_cdf((1 + level) / 2) for level in LEVELS])
    return np.asarray((scores[None, :] <= bounds[:, None]).mean(axis=1))
