"""Compute against error: the ladder cut by size, multiple or FLOPs, and audited each time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pandas as pd

from evaluation.records import InputError
from predict.audit import audit
from predict.numbers import levels, spaced
from predict.points import RungPoint
from predict.two_stage import TwoStage
from predict.watch import each


@dataclass(frozen=True)
class CurvePoint:
    """The error for one target of a predictor that saw a part of the ladder."""

    cut: str
    """`size`, `multiple` or `flops`."""
    limit: float
    """Largest params, tokens a parameter or FLOPs (6ND) of a rung that it saw."""
    target: str
    rungs: int
    ladder_flops: float
    """All rungs together, by 6ND."""
    share_of_target: float
    mean_abs_error: float
    mean_abs_relative_error: float | None
    """None where every actual accuracy is 0."""
    unpredictable: int
    """Tasks that the predictor called so, among those that it was scored on."""


@dataclass(frozen=True)
class Curve:
    """Points in the order of their cut and limit; cuts that were not or could not be fitted."""

    points: tuple[CurvePoint, ...]
    left_out: tuple[str, ...]


MEASURES: dict[str, Callable[[RungPoint], float]] = {
    "size": lambda r: r.params,
    "multiple": lambda r: r.tokens / r.params,
    "flops": lambda r: 6 * r.params * r.tokens,
}
"""What a ladder can be cut by."""


MOST_LIMITS = 40
"""Limits of one measure up to which a ladder is cut at every one."""

THINNED = 12
"""Limits of one measure at which a ladder of more is cut, evenly spaced (benchmarks/load.md)."""


def limits(rungs: Sequence[RungPoint], cut: str) -> list[float]:
    """Where a ladder is cut by one of MEASURES, rising; the last keeps all of it.

    A ladder of more than MOST_LIMITS is cut at THINNED of them: work would else grow with the
    square of the rungs.
    """
    every = levels((MEASURES[cut](r) for r in rungs), 1.05)
    return every if len(every) <= MOST_LIMITS else spaced(every, THINNED)


def compute_curve(
    make_model: Callable[[], TwoStage],
    observations: pd.DataFrame,
    cuts: Sequence[str] = tuple(MEASURES),
) -> Curve:
    """Refit on every cut of the ladder, by the measures named in `cuts`, and audit the targets.

    `make_model` gives a predictor that is not fitted; its rungs are the whole ladder. Raises
    InputError where not even the whole ladder can be audited.
    """
    whole = make_model()
    rows = whole.fitted_rows(observations, every_task=True)
    targets = observations[observations["role"] == "target"]
    last = rows.sort_values("tokens").groupby("run", sort=False).tail(1)
    rungs = [
        RungPoint(str(r.run), float(r.params), float(r.tokens), 0.0, None)
        for r in last.itertuples()
    ]
    audit(make_model().fit(observations), observations)
    points: list[CurvePoint] = []
    left_out = [
        f"{cut}: {len(every)} limits could be cut at; {len(some)} evenly spaced ones are"
        for cut in cuts
        if len(some := limits(rungs, cut))
        < len(every := levels((MEASURES[cut](r) for r in rungs), 1.05))
    ]
    for cut, limit in each([(c, limit) for c in cuts for limit in limits(rungs, c)], "cuts"):
        measure = MEASURES[cut]
        kept = [r for r in rungs if measure(r) <= limit]
        part = rows[rows["run"].isin([r.run for r in kept])].assign(role="ladder")
        table = pd.concat([part, targets], ignore_index=True)
        model = make_model()
        model.rungs = ()
        try:
            audited = audit(model.fit(table), table)
        except InputError as error:
            left_out.append(f"{cut} up to {limit:.3g}: {error}")
            continue
        flops = sum(6 * r.params * r.tokens for r in kept)
        for pooled in audited.pooled:
            if pooled.target == "all" or pooled.mean_abs_error is None:
                continue
            size = next(
                6 * r.prediction.params * r.prediction.tokens
                for r in audited.rows
                if r.prediction.target == pooled.target
            )
            points.append(
                CurvePoint(
                    cut=cut,
                    limit=limit,
                    target=pooled.target,
                    rungs=len(kept),
                    ladder_flops=flops,
                    share_of_target=flops / size,
                    mean_abs_error=pooled.mean_abs_error,
                    mean_abs_relative_error=pooled.mean_abs_relative_error,
                    unpredictable=sum(
                        r.prediction.status == "unpredictable"
                        for r in audited.rows
                        if r.prediction.target == pooled.target and r.error is not None
                    ),
                )
            )
    return Curve(tuple(points), tuple(left_out))
