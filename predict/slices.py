"""Slices of an observations table, L(N) at a fixed D and L(D) at a fixed N, and their exponents."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator

from evaluation.records import InputError
from predict.registry import Array
from predict.slices_bootstrap import Scheme
from predict.slices_compare import LEAST_POINTS, SliceFit, fit_slice

Seeds = Literal["mean", "best"]

TOLERANCE = 1.01
"""Ratio up to which params or tokens count as equal: batches round tokens by less."""

BETWEEN = 2.0
"""Ratio of neighbouring token counts at which losses are read between finished runs."""


@dataclass(frozen=True)
class Point:
    """The loss of one (N, D): of several runs the mean or the best."""

    params: float
    tokens: float
    loss: float
    runs: int


@dataclass(frozen=True)
class Slice:
    """Losses along one variable, the other held."""

    variable: str
    """`params` for L(N) at a fixed D, `tokens` for L(D) at a fixed N."""
    fixed: float
    """The other one's value, a geometric mean."""
    spread: float
    """Greatest over least of the values that count as it, less 1."""
    x: tuple[float, ...]
    losses: tuple[float, ...]
    runs: int
    fit: SliceFit

    @property
    def exponent_name(self) -> str:
        """alpha_D, the size exponent at fixed D, or beta_N, the data exponent at fixed N."""
        return "alpha_D" if self.variable == "params" else "beta_N"


@dataclass(frozen=True)
class MeanExponent:
    """The exponents of all slices of one variable together."""

    name: str
    mean: float
    sd: float | None
    """Between slices (n - 1); None for one slice."""
    debiased: float | None
    """Mean of the debiased exponents."""
    without_floor: float
    """Mean exponent of the same slices fitted without a floor."""
    slices: int
    left_out: int
    """Slices whose points do not bound the exponent: they are in no mean."""
    mse_ratio: float
    """Geometric mean of the slices' ratios, exponential over power law."""
    mse_ratio_lower: float | None
    """Ends of 95% of that mean by Student's distribution over the slices' logarithms."""
    mse_ratio_upper: float | None
    held_out_ratio: float | None
    """The same of squared errors at held-out points."""
    held_out_lower: float | None
    held_out_upper: float | None
    verdicts: dict[str, int]


@dataclass(frozen=True)
class Slices:
    """Every slice of a table and the mean exponents."""

    task: str
    loss_unit: str
    slices: tuple[Slice, ...]
    means: tuple[MeanExponent, ...]
    short: int
    """Slices with fewer than LEAST_POINTS points, not fitted."""

    def document(self) -> dict[str, Any]:
        """For JSON."""
        found = []
        for part in self.slices:
            row = asdict(part)
            row["exponent_name"] = part.exponent_name
            row["fit"]["lead"]["verdict"] = part.fit.lead.verdict
            row["fit"]["window_spread"] = part.fit.window_spread
            found.append(row)
        return {
            "slices": found,
            "means": [asdict(mean) for mean in self.means],
            "slices_too_short": self.short,
        }


def points_of(
    rows: pd.DataFrame,
    feature: str = "loss",
    seeds: Seeds = "mean",
    tolerance: float = TOLERANCE,
    checkpoints: bool = False,
) -> list[Point]:
    """The points of one task's rows: the ends of runs, or with `checkpoints` every row.

    A checkpoint in the middle of a learning-rate schedule is worse than a run that ends there, so
    checkpoints are for schedules without decay. Runs of one N and D within the tolerance, such as
    seeds and learning rates, count as their mean or their best.
    """
    if seeds not in ("mean", "best"):
        raise InputError(f"seeds {seeds!r}: must be mean or best")
    if not 1 < tolerance < 2:
        raise InputError(f"tolerance {tolerance}: must be a ratio above 1 and below 2")
    rows = rows[np.isfinite(rows[feature]) & (rows["tokens"] > 0)]
    if not checkpoints:
        rows = rows[rows["final"]]
    size = groups(rows["params"].to_numpy(dtype=float), tolerance)
    data = groups(rows["tokens"].to_numpy(dtype=float), tolerance)
    cells = rows.assign(_size=size, _data=data).sort_values(["run", "step"], kind="stable")
    # Of checkpoints of one run in one cell the last counts.
    cells = cells.drop_duplicates(["run", "_size", "_data"], keep="last")
    found = []
    for _, part in cells.groupby(["_size", "_data"], sort=True):
        losses = part[feature].to_numpy(dtype=float)
        found.append(
            Point(
                _centre(part["params"]),
                _centre(part["tokens"]),
                float(losses.mean() if seeds == "mean" else losses.min()),
                len(losses),
            )
        )
    return found


def groups(values: Array, tolerance: float) -> NDArray[np.intp]:
    """Which group each value is of: a group reaches from its least value to that times the ratio.

    The reach is fixed, so that values close to one another do not run together in a chain.
    """
    order = np.argsort(values, kind="stable")
    found = np.zeros(len(values), dtype=np.intp)
    start, group = -math.inf, -1
    for i in order:
        if values[i] > start * tolerance or group < 0:
            start, group = float(values[i]), group + 1
        found[i] = group
    return found


def read_between(
    points: Sequence[Point], tolerance: float = TOLERANCE, ratio: float = BETWEEN
) -> list[Point]:
    """The points, and at common token counts those that each size's own curve passes between them.

    For designs whose sizes share no token count, such as multiples of N: losses are read between a
    size's points by a monotone cubic in logarithms (Fritsch and Carlson 1980), never beyond them.
    Only L(N) at a fixed D may be fitted to them, as they add nothing to L(D).
    """
    own = {k: _merged(part, tolerance) for k, part in _by(points, "params", tolerance).items()}
    curves = {k: part for k, part in own.items() if len(part) >= 3}
    if not curves:
        raise InputError("no size has 3 token counts to read losses between; train more")
    low = min(p.tokens for part in curves.values() for p in part)
    high = max(p.tokens for part in curves.values() for p in part)
    count = max(int(math.log(high / low) / math.log(ratio)), 1) + 1
    found = []
    for part in curves.values():
        curve = PchipInterpolator(
            np.log([p.tokens for p in part]), np.log([p.loss for p in part]), extrapolate=False
        )
        size = _centre(pd.Series([p.params for p in part]))
        for tokens in np.geomspace(low, high, count):
            value = float(np.exp(curve(math.log(tokens))))
            if math.isfinite(value):
                found.append(Point(size, float(tokens), value, len(part)))
    return found


def _merged(points: Sequence[Point], tolerance: float) -> list[Point]:
    """The points of one size, by rising tokens, those of the same tokens as their mean.

    Sizes whose centres lie within the tolerance of one another are one size here.
    """
    found = []
    for part in _by(points, "tokens", tolerance).values():
        size, data = (
            _centre(pd.Series([getattr(p, k) for p in part])) for k in ("params", "tokens")
        )
        loss = float(np.mean([p.loss for p in part]))
        found.append(
            part[0] if len(part) == 1 else Point(size, data, loss, sum(p.runs for p in part))
        )
    return found


def find_slices(
    points: Sequence[Point],
    task: str = "",
    loss_unit: str = "",
    tolerance: float = TOLERANCE,
    between: bool = False,
    replicates: int = 400,
    seed: int = 0,
    scheme: Scheme = "residual",
    holdout: int = 1,
    drop: int = 2,
) -> Slices:
    """Fit every slice of LEAST_POINTS points or more, L(N) first, and average the exponents.

    With `between` L(N) is read at common token counts between the points of each size. Raises
    InputError where there is no slice.
    """
    if holdout < 0 or drop < 0:
        raise InputError("holdout and drop: must be 0 or more")
    sized = read_between(points, tolerance) if between else points
    by_data = _by(sized, "tokens", tolerance)
    by_size = _by(points, "params", tolerance)
    found: list[Slice] = []
    short = 0
    for variable, fixed, cells in (("params", "tokens", by_data), ("tokens", "params", by_size)):
        for part in cells.values():
            part = sorted(part, key=lambda p: getattr(p, variable))
            if len(part) < LEAST_POINTS:
                short += 1
                continue
            x = np.array([getattr(p, variable) for p in part])
            held = np.array([getattr(p, fixed) for p in part])
            losses = np.array([p.loss for p in part])
            own = fit_slice(x, losses, replicates, seed + len(found), scheme, holdout, drop)
            found.append(
                Slice(
                    variable,
                    float(np.exp(np.log(held).mean())),
                    float(held.max() / held.min() - 1),
                    tuple(float(v) for v in x),
                    tuple(float(v) for v in losses),
                    sum(p.runs for p in part),
                    own,
                )
            )
    if not found:
        raise InputError(
            f"no {LEAST_POINTS} sizes share a token count and no size has {LEAST_POINTS} token "
            "counts; train a grid of both, or read losses between runs"
        )
    means = [_mean([s for s in found if s.variable == v]) for v in ("params", "tokens")]
    return Slices(task, loss_unit, tuple(found), tuple(m for m in means if m), short)


def _mean(slices: Sequence[Slice]) -> MeanExponent | None:
    bounded = [s for s in slices if s.fit.forms["power"].certified]
    if not bounded:
        return None
    exponents = np.array([s.fit.exponent.boot.value for s in bounded])
    debiased = [s.fit.exponent.boot.debiased for s in bounded]
    leads = [s.fit.lead for s in bounded]
    ratio, low, high = geometric_mean([lead.mse_ratio for lead in leads])
    held = [lead.held_out_ratio for lead in leads if lead.held_out_ratio is not None]
    outside = geometric_mean(held) if held else (None, None, None)
    verdicts = [lead.verdict for lead in leads]
    return MeanExponent(
        name=bounded[0].exponent_name,
        mean=float(exponents.mean()),
        sd=float(exponents.std(ddof=1)) if len(exponents) > 1 else None,
        debiased=None if None in debiased else float(np.mean([d for d in debiased if d])),
        without_floor=float(np.mean([s.fit.forms["no_floor"].rate for s in bounded])),
        slices=len(bounded),
        left_out=len(slices) - len(bounded),
        mse_ratio=ratio,
        mse_ratio_lower=low,
        mse_ratio_upper=high,
        held_out_ratio=outside[0],
        held_out_lower=outside[1],
        held_out_upper=outside[2],
        verdicts={v: verdicts.count(v) for v in sorted(set(verdicts))},
    )


def geometric_mean(ratios: Sequence[float]) -> tuple[float, float | None, float | None]:
    """The geometric mean with the ends of its 95% by Student's distribution; of one no ends."""
    from scipy.special import stdtrit

    values = np.asarray(ratios, dtype=float)
    logs = np.log(values)
    mean = float(logs.mean())
    # Rounding may carry the mean of numbers at a float's end beyond it, but not beyond themselves.
    with np.errstate(over="ignore"):
        centre = float(np.exp(mean).clip(values.min(), values.max()))
    if len(logs) < 2:
        return centre, None, None
    half = float(stdtrit(len(logs) - 1, 0.975) * logs.std(ddof=1) / math.sqrt(len(logs)))
    # Squared errors may be apart by any factor: an end that no number holds is none.
    ends = [math.exp(end) if abs(end) < 700 else None for end in (mean - half, mean + half)]
    return centre, ends[0], ends[1]


def _by(points: Sequence[Point], name: str, tolerance: float) -> dict[int, list[Point]]:
    place = groups(np.array([getattr(p, name) for p in points], dtype=float), tolerance)
    found: dict[int, list[Point]] = {}
    for point, group in sorted(zip(points, place, strict=True), key=lambda pair: int(pair[1])):
        found.setdefault(int(group), []).append(point)
    return found


def _centre(values: pd.Series) -> float:
    return float(np.exp(np.log(values.to_numpy(dtype=float)).mean()))
