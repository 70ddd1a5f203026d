"""The command that fits scaling exponents, one variable at a time and both together: exponents."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tyro import conf

from evaluation.files import InputError
from ladder.commands.options import Flag, Maps, Names, read_table

if TYPE_CHECKING:
    from predict.exponents import Exponents
    from predict.slices import MeanExponent, Slice
    from predict.surrogate_methods import Method


BETTER = {"undecided": "?", "exponential": "exp."}
"""Verdicts as the table has room for them."""


def exponents(
    observations: conf.Positional[Path],
    task: str | None = None,
    rungs: Names = (),
    recipe: str | None = None,
    map: Maps = (),
    feature: str = "loss",
    entropy: float | None = None,
    seeds: Literal["mean", "best"] = "mean",
    tolerance: float = 1.01,
    between: Flag = False,
    checkpoints: Flag = False,
    holdout: int = 1,
    drop: int = 2,
    scheme: Literal["residual", "pairs", "normal"] = "residual",
    slices_only: Flag = False,
    replicates: int = 200,
    seed: int = 0,
    json: Flag = False,
    out: Path | None = None,
) -> None:
    """Exponents of L(N), of L(D), and of the best N.

    A power law or an exponential is fitted a slice, a law and neural fits to both together.

    Example: ladder exponents obs.parquet --between

    Args:
        observations: A table of observations, .parquet or .csv.
        task: The LM set or task whose loss is fitted; by default the first LM set.
        rungs: Patterns of runs to fit; by default those of role ladder.
        recipe: Only the runs of this recipe, or of those that match a pattern.
        map: OURS=THEIRS, such as params=n_params, where the table has names of its own.
        feature: Column of the loss.
        entropy: Exact entropy rate in the loss's unit; the fitted floor is checked against it.
        seeds: Whether runs of one N and D count as their mean or their best loss.
        tolerance: Ratio up to which params, or tokens, count as equal.
        between: Read L(N) at common token counts between the runs of each size, where sizes share
            none.
        checkpoints: Fit checkpoints too; for schedules that do not decay.
        holdout: Last points of a slice that are predicted from the others.
        drop: Points left out at either end to see how the exponent moves.
        scheme: How a slice is resampled: residuals, points, or normal errors.
        slices_only: Fit no two-variable surface.
        replicates: Resamples that intervals are made of; at most 100 for surfaces.
        seed: Of the resamples and the networks.
        json: Print one JSON document.
        out: Write a .json or .csv file.
    """
    from ladder import tables
    from predict.exponents import exponents as fitted

    tables.check_out(out, observations)
    if replicates < 0:
        raise InputError(f"--replicates {replicates}: must be 0 or more")
    if holdout < 0 or drop < 0:
        raise InputError("--holdout, --drop: must be 0 or more")
    if entropy is not None and not 0 < entropy < math.inf:
        raise InputError(f"--entropy {entropy}: must be above 0")
    table = read_table(observations, recipe, rungs, map)
    try:
        found = fitted(
            table,
            rungs,
            task,
            feature,
            seeds,
            tolerance,
            checkpoints,
            between,
            entropy,
            replicates,
            seed,
            scheme,
            holdout,
            drop,
            not slices_only,
        )
    except InputError as error:
        raise InputError(f"{observations}: {error}") from None
    tables.emit(found.document(), _flat(found), json, out)
    if not json:
        _show(found)


def _flat(found: Exponents) -> list[dict[str, Any]]:
    """One row a slice for CSV, and behind them one a two-variable method."""
    rows: list[dict[str, Any]] = []
    for part in found.slices.slices if found.slices else ():
        power = part.fit.forms["power"]
        rows.append(
            {
                "kind": part.exponent_name,
                "fixed": part.fixed,
                "points": len(part.x),
                "exponent": power.rate,
                "exponent_lower95": part.fit.exponent.lower,
                "exponent_upper95": part.fit.exponent.upper,
                "debiased": part.fit.exponent.boot.debiased,
                "floor": power.floor,
                "floor_lower95": part.fit.floor.lower,
                "floor_upper95": part.fit.floor.upper,
                "mse_ratio": part.fit.lead.mse_ratio,
                "verdict": part.fit.lead.verdict,
                **{f"mse_{name}": form.mse for name, form in part.fit.forms.items()},
                **{f"aicc_{name}": form.aicc for name, form in part.fit.forms.items()},
            }
        )
    for method in found.two.methods if found.two else ():
        estimate = method.exponent
        rows.append(
            {
                "kind": method.name,
                "exponent": None if estimate is None else estimate.value,
                "exponent_lower80": None if estimate is None else estimate.lower80,
                "exponent_upper80": None if estimate is None else estimate.upper80,
                "held_out_run": method.held_out_run,
                "held_out_largest": method.held_out_largest,
            }
        )
    return rows


def _show(found: Exponents) -> None:
    """Print the slices, the means, the surfaces, and what could not be told."""
    from ladder import tables

    tables.say(f"{found.task}: {found.points} points of N and D, {found.seeds} of seeds")
    if found.slices is not None:
        tables.show(
            f"E + A x^-a, {found.loss_unit}; ratio: MSE of the exponential / the power law",
            ("slice", "n", "a", "95%", "E", "95%", "ratio", "better"),
            [_slice_cells(part) for part in found.slices.slices],
        )
        tables.show(
            "mean exponents",
            ("", "mean", "SD", "debiased", "no E", "ratio", "95%", "held", "n"),
            [_mean_cells(mean) for mean in found.slices.means],
        )
    if found.two is not None:
        tables.show(
            "surfaces of N and D: exponent of the best N; log errors in %",
            ("method", "N~C^", "80%", "fitted", "each run", "largest size"),
            [_method_cells(method) for method in found.two.methods],
        )
    for line in _notes(found):
        tables.say(line)


def _slice_cells(part: Slice) -> tuple[Any, ...]:
    from predict.numbers import human

    fit, fixed = part.fit, human(float(f"{part.fixed:.3g}"))
    name = f"L(N) D={fixed}" if part.variable == "params" else f"L(D) N={fixed}"
    unbounded = "*" * (not fit.forms["power"].certified)
    return (
        name,
        len(part.x),
        f"{fit.exponent.boot.value:.3f}{unbounded}",
        _span(fit.exponent.lower, fit.exponent.upper, 2),
        f"{fit.floor.boot.value:.3f}",
        _span(fit.floor.lower, fit.floor.upper, 2),
        _ratio(fit.lead.mse_ratio),
        BETTER.get(fit.lead.verdict, fit.lead.verdict),
    )


def _mean_cells(mean: MeanExponent) -> tuple[Any, ...]:
    return (
        mean.name,
        f"{mean.mean:.3f}",
        "" if mean.sd is None else f"{mean.sd:.3f}",
        "" if mean.debiased is None else f"{mean.debiased:.3f}",
        f"{mean.without_floor:.3f}",
        _ratio(mean.mse_ratio),
        ""
        if mean.mse_ratio_lower is None
        else f"{_ratio(mean.mse_ratio_lower)}-{_ratio(mean.mse_ratio_upper)}",
        _ratio(mean.held_out_ratio),
        mean.slices,
    )


def _method_cells(method: Method) -> tuple[Any, ...]:
    estimate = method.exponent
    return (
        method.name,
        "" if estimate is None else f"{estimate.value:.3f}",
        "" if estimate is None else _span(estimate.lower80, estimate.upper80, 3),
        _percent(method.rms),
        _percent(method.held_out_run),
        _percent(method.held_out_largest),
    )


def _notes(found: Exponents) -> list[str]:
    lines = []
    if found.slices is not None:
        slices = found.slices
        if any(not s.fit.forms["power"].certified for s in slices.slices):
            lines.append("* the points do not bound the exponent; it is in no mean")
        if slices.short:
            line = f"{slices.short} slices have fewer than 4 points and are not fitted"
            if not any(s.variable == "params" for s in slices.slices):
                line += "; --between reads L(N) at token counts between the runs of each size"
            lines.append(line)
        for mean in slices.means:
            verdicts = ", ".join(f"{v} {n}" for v, n in mean.verdicts.items())
            lines.append(f"{mean.name}: {verdicts} of {mean.slices} slices{_moved(found, mean)}")
    else:
        lines.append(f"no slices: {found.slices_reason}")
    if found.two_reason:
        lines.append(f"no surface: {found.two_reason}")
    for method in found.two.methods if found.two else ():
        if method.reason:
            lines.append(f"{method.name}: {method.reason}")
    if found.entropy is not None:
        lines += _entropy_lines(found)
    return lines


def _moved(found: Exponents, mean: MeanExponent) -> str:
    """How far the window moves the exponents."""
    assert found.slices is not None  # noqa: S101
    spans = [s.fit.window_spread for s in found.slices.slices if s.exponent_name == mean.name]
    known = [high - low for low, high in filter(None, spans)]
    if not known:
        return ""
    middle = sorted(known)[len(known) // 2]
    return f"; narrower windows move an exponent by {middle:.3f} (median over slices)"


def _entropy_lines(found: Exponents) -> list[str]:
    check, unit = found.entropy, found.loss_unit
    assert check is not None  # noqa: S101
    lines = []
    if check.floor is None:
        lines.append(f"entropy {check.value:.4f} {unit}: no two-variable law was fitted")
    else:
        ends = _span(check.lower, check.upper, 4)
        word = {True: "holds it", False: "does not hold it", None: "has no ends"}[check.holds]
        lines.append(
            f"entropy {check.value:.4f} {unit}: the law's floor is {check.floor:.4f}, 95% {ends}, "
            f"which {word}"
        )
    if check.points_below:
        lines.append(f"{check.points_below} points lie below the entropy")
    if check.slices_below:
        lines.append(f"the floors of {check.slices_below} slices lie below the entropy (95%)")
    return lines


def _span(low: float | None, high: float | None, digits: int) -> str:
    if low is None and high is None:
        return ""
    left = "" if low is None else f"{low:.{digits}f}"
    right = "" if high is None else f"{high:.{digits}f}"
    return f"{left}-{right}"


def _ratio(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.1f}" if 0.1 <= value < 1000 else f"{value:.0e}".replace("+", "")


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.2f}"
