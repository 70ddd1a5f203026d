"""The section of a report on scaling exponents: slices, surfaces, the entropy, other corpora."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from evaluation.columns import some
from ladder.grid_exponents import NAMES, CorpusPoint, GridExponents, ratio
from ladder.report_context import Context
from ladder.report_parts import Cell, Picture, Section, Table, number, plural
from predict.exponents import Exponents
from predict.figures_exponents import (
    Mark,
    entropy_figure,
    slices_figure,
    surfaces_figure,
)
from predict.numbers import human
from predict.slices import MeanExponent, Slice
from predict.surrogate_methods import TwoVariable

PAPER = {"alpha_D": (1.028, 0.129, (5, 10)), "beta_N": (0.749, 0.014, (50, 100))}
"""Mean exponents, their spread, and from where to where the MSE of an exponential over a power
law's goes, on a walk over an Erdos-Renyi graph of 8,000 nodes and 50,000 edges: arXiv 2601.10684,
as digests of it report."""

LAWS = {"alpha_D": "L(N) at a fixed D", "beta_N": "L(D) at a fixed N"}
BETTER = {"undecided": "?"}
"""Verdicts as a table has them."""

OPEN = 1e9
"""The width of an open interval, behind all others."""


def scaling_exponents(context: Context) -> Section | None:
    """Everything on the exponents of a ladder that is a grid; None for any other."""
    known = context.result.exponents
    if known is None:
        return None
    title, found = "Exponents", known.found
    against = _against_entropy(known)
    if found is None:
        return Section(title, (f"Not told: {known.reason}.",), sections=(against,))
    runs = sorted({(float(r.params), float(r.tokens)) for r in context.rungs})
    parts = (
        _slices(found),
        _surfaces(found, runs),
        _entropy(known, found),
        against,
    )
    means = found.slices.means if found.slices else ()
    text = (
        f"Laws of one variable, the other held, and of both, fitted to {found.task} of "
        f"{plural(found.points, 'point')} of N and D, {found.seeds} of seeds. `ladder exponents` "
        "on the observations has more.",
        *_who_won(known, found),
    )
    tables = (_means(means),) if means else ()
    every = found.slices.slices if found.slices else ()
    beside = tuple(
        line
        for mean in means
        for line in _beside_paper(mean, [s for s in every if s.exponent_name == mean.name])
    )
    return Section(title, text, (), tables, beside, parts)


def _who_won(known: GridExponents, found: Exponents) -> list[str]:
    """Sentences on which law won, for either variable, and on what cannot tell."""
    if found.slices is None:
        return [f"No law won: {found.slices_reason}."]
    lost = [
        f"{LAWS[name]}: no slice bounds its exponent, so no law won." for name in known.unbounded
    ]
    return [*map(_winner, found.slices.means), *lost]


def _winner(mean: MeanExponent) -> str:
    """Which law fits slices of one variable better, by how much, and how sure that is."""
    value = mean.mse_ratio
    if value == 1:
        lead = "power law and exponential fit alike"
    else:
        winner = "the power law" if value > 1 else "the exponential"
        lead = f"{winner} fits better, {ratio(max(value, 1 / value))} times less mean square error"
    low, high = mean.mse_ratio_lower, mean.mse_ratio_upper
    if low is None or high is None:
        sure = "one slice tells no interval"
    elif low > 1 or high < 1:
        ends = (low, high) if value > 1 else (1 / high, 1 / low)
        sure = f"95% {ratio(ends[0])} to {ratio(ends[1])}"
    else:
        sure = f"which over slices is no clear lead, 95% of the ratio {ratio(low)} to {ratio(high)}"
    told = mean.verdicts
    both = told.get("neither", 0)
    text = (
        f"{LAWS[mean.name]}: {lead} ({sure}). Of {plural(mean.slices, 'slice')} the test rules the "
        f"exponential out in {told.get('power', 0) + both} and the power law in "
        f"{told.get('exponential', 0) + both}."
    )
    if mean.held_out_ratio is not None:
        held = mean.held_out_ratio
        better = "power law's" if held > 1 else "exponential's"
        by = ratio(max(held, 1 / held))
        text += f" On the last point, held out, the {better} squared error is {by} times less"
        low, high = mean.held_out_lower, mean.held_out_upper
        if low is None or high is None:
            text += "."
        elif low <= 1 <= high:
            text += f", no clear lead: 95% of the ratio {ratio(low)} to {ratio(high)}."
        else:
            ends = (low, high) if held > 1 else (1 / high, 1 / low)
            text += f" (95% {ratio(ends[0])} to {ratio(ends[1])})."
    return text


def _beside_paper(mean: MeanExponent, slices: Sequence[Slice]) -> tuple[str, str]:
    """How far a mean exponent and its law's lead are from the paper's, and how firm they are."""
    value, spread, (least, most) = PAPER[mean.name]
    both = math.hypot(spread, mean.sd or 0.0)
    off = mean.mean - value
    held = sum(
        (s.fit.exponent.lower or 0.0) <= value <= (s.fit.exponent.upper or math.inf) for s in slices
    )
    line = (
        f"{mean.name}: {off:+.3f} from the paper's {value} +- {spread}, {abs(off) / both:.1f} "
        f"times both spreads together; the 95% of {held} of {plural(len(slices), 'slice')} holds "
        "the paper's"
    )
    bounded = [s for s in slices if s.fit.forms["power"].certified]
    if moved := [s.fit.window_spread for s in bounded if s.fit.window_spread]:
        middle = float(np.median([high - low for low, high in moved]))
        line += f"; dropping points at the ends moves a slice's by {middle:.2f} (median)"
    out = mean.verdicts.get("exponential", 0) + mean.verdicts.get("neither", 0)
    if 2 * out > mean.slices:
        line += (
            f"; the test rules a power law out in {out} of {mean.slices}, so that this is no "
            "exponent of the losses"
        )
    low, high = mean.mse_ratio_lower, mean.mse_ratio_upper
    if low is None or high is None:
        low = high = mean.mse_ratio
    where = "above" if low > most else "below" if high < least else "not apart from"
    lead = f"{LAWS[mean.name]}: the MSE ratio {ratio(mean.mse_ratio)} is {where} the paper's"
    return line, f"{lead} {least} to {most}"


def _means(means: tuple[MeanExponent, ...]) -> Table:
    rows = []
    for mean in means:
        value, spread, (least, most) = PAPER[mean.name]
        ends = _span(mean.mse_ratio_lower, mean.mse_ratio_upper, ratio)
        rows.append(
            (
                f"{mean.name}, {LAWS[mean.name][:4]}",
                number(mean.mean, ".3f"),
                number(mean.sd, ".3f"),
                number(mean.debiased, ".3f"),
                number(mean.without_floor, ".3f"),
                Cell(
                    str(mean.slices),
                    mean.slices,
                    f"{mean.left_out} more do not bound the exponent" if mean.left_out else "",
                ),
                Cell(ratio(mean.mse_ratio), mean.mse_ratio),
                ends,
                f"{value} +- {spread}",
                f"{least} to {most}",
            )
        )
    columns = ("exponent", "mean", "SD", "debiased", "no floor", "slices", "MSE ratio", "95%")
    caption = (
        "MSE ratio: of the exponential over the power law, geometric mean over slices. The paper's "
        "columns are those of arXiv 2601.10684 for an Erdos-Renyi graph of 8,000 nodes and 50,000 "
        "edges, as digests of it report; its sizes, tokens, and choice of the best seed and "
        "learning rate are another scale and recipe than this ladder's."
    )
    return Table((*columns, "the paper's mean", "its MSE ratio"), tuple(rows), caption)


def _slices(found: Exponents) -> Section:
    title = "Slices"
    if found.slices is None:
        return Section(title, (f"None: {found.slices_reason}.",))
    slices = found.slices.slices
    picture = Picture(
        "exponents-slices",
        slices_figure(slices, found.loss_unit, found.entropy.value if found.entropy else None),
        f"Loss of {plural(len(slices), 'slice')}, each with a power law and an exponential",
        "Both laws have a floor. Solid: E + A x^-a; dotted: E + A exp(-a x).",
    )
    columns = ("slice", "n", "a", "95%", "floor E", "95%", "MSE ratio", "better", "held out")
    lines = []
    if any(not s.fit.forms["power"].certified for s in slices):
        lines.append("* the points do not bound the exponent; it is in no mean")
    if found.slices.short:
        lines.append(f"{plural(found.slices.short, 'slice')} of fewer than 4 points not fitted")
    table = Table(
        (*columns, "windows"),
        tuple(_slice(part) for part in slices),
        "95% by the profile of squares. MSE ratio, and held out the last point's: exponential "
        "over power law. better: the law that is left as the other is ruled out at 5%, ? where "
        "none is. windows: the exponent as up to two points are dropped at either end, which is "
        "in no interval.",
    )
    return Section(title, (), (picture,), (table,), tuple(lines))


def _slice(part: Slice) -> tuple[Cell | str, ...]:
    fit, fixed = part.fit, human(float(f"{part.fixed:.3g}"))
    power, lead = fit.forms["power"], fit.lead
    held = lead.held_out_ratio
    low, high = fit.window_spread or (None, None)
    return (
        f"L(N), D = {fixed}" if part.variable == "params" else f"L(D), N = {fixed}",
        number(len(part.x), "d"),
        Cell(f"{power.rate:.3f}" + "*" * (not power.certified), power.rate),
        _span(fit.exponent.lower, fit.exponent.upper, "{:.2f}".format),
        number(power.floor, ".4f"),
        _span(fit.floor.lower, fit.floor.upper, "{:.3f}".format),
        Cell(ratio(lead.mse_ratio), lead.mse_ratio),
        BETTER.get(lead.verdict, lead.verdict),
        Cell("") if held is None else Cell(ratio(held), held),
        _span(low, high, "{:.2f}".format),
    )


def _surfaces(found: Exponents, runs: list[tuple[float, float]]) -> Section:
    title, two = "Surfaces of N and D", found.two
    if two is None:
        return Section(title, (f"None: {found.two_reason}.",))
    text = (
        "The compute-optimal size grows as a power of C = 6ND. It is read from each surface only "
        "inside the runs; envelope and isoflop are the first two approaches of Hoffmann et al. "
        "2022 and have no surface.",
    )
    pictures: tuple[Picture, ...] = ()
    if any(any(method.optimal_params) for method in two.methods):
        pictures = (
            Picture(
                "exponents-optimal",
                surfaces_figure(two, runs),
                "Compute-optimal number of parameters against training FLOPs, by each method",
            ),
        )
    lines = tuple(f"{m.name}: {m.reason}" for m in two.methods if m.reason)
    return Section(title, text, pictures, (_methods(two),), lines)


def _methods(two: TwoVariable) -> Table:
    rows = []
    for method in two.methods:
        own = method.exponent
        rows.append(
            (
                method.name,
                number(None if own is None else own.value, ".3f"),
                _span(own.lower80, own.upper80, "{:.3f}".format) if own else Cell(""),
                number(method.rms, ".2f", 100),
                number(method.held_out_run, ".2f", 100),
                number(method.held_out_largest, ".2f", 100),
            )
        )
    columns = ("method", "N ~ C^", "80%", "fitted", "each run", "largest size")
    caption = (
        "Root mean square errors of log loss, %: on the runs that were fitted, on each from the "
        "others, and on the largest size from the smaller ones."
    )
    return Table(columns, tuple(rows), caption)


def _entropy(known: GridExponents, found: Exponents) -> Section:
    """Losses and fitted floors against the loss that no model can fall below."""
    title, check, unit = "Losses and the entropy", found.entropy, found.loss_unit
    if check is None:
        why = "The entropy of this corpus is not known, so that no floor can be checked."
        return Section(title, (why,))
    text, lines = [], []
    error = known.known.entropy_se
    exactly = "estimated on held-out sequences" if error is not None else "known exactly"
    spread = "" if error is None else f" +- {error:.4f}"
    text.append(f"No model can fall below {check.value:.4f}{spread} {unit}, {exactly}.")
    if known.lowest is not None:
        loss, run = known.lowest
        word = "above" if loss >= check.value else "below"
        lines.append(
            f"lowest loss: {loss:.4f}, of {run}, {abs(loss - check.value):.4f} {word} the entropy"
        )
    lines.append(
        f"{plural(check.points_below, 'point')} below the entropy; where the held-out loss is "
        "measured as floor plus divergence, as on walks, graphs and spoken languages, none can be"
    )
    if check.floor is None:
        lines.append(f"fitted floor: none, {found.two_reason or 'the law was not fitted'}")
    elif check.lower is None or check.upper is None:
        lines.append(f"fitted floor of the law of N and D: {check.floor:.4f}, without an interval")
    else:
        word = "holds" if check.holds else "does not hold"
        lines.append(
            f"fitted floor of the law of N and D: {check.floor:.4f}, 95% {check.lower:.4f} to "
            f"{check.upper:.4f}, which {word} the entropy"
        )
    if check.slices_below:
        lines.append(f"the floors of {plural(check.slices_below, 'slice')} lie below it (95%)")
    if known.known.doubt:
        lines.append(f"unigram and bigram entropy not told: {known.known.doubt}")
    elif known.known.unigram_entropy is not None and known.known.bigram_entropy is not None:
        lines.append(
            f"unigram entropy {known.known.unigram_entropy:.4f}, the best model's without "
            f"context; bigram entropy, of a pair of tokens, {known.known.bigram_entropy:.4f}"
        )
    return Section(title, tuple(text), lines=tuple(lines))


def _against_entropy(known: GridExponents) -> Section:
    """Mean exponents of this corpus and of those in the folders beside it."""
    own = known.own
    points = sorted([*known.others, *([own] if own else [])], key=lambda p: p.entropy_rate)
    lines = tuple(f"left out: {line}" for line in known.left_out)
    if known.others:
        folders = [point.folder for point in known.others]
        text = [f"Read beside this folder: {some(folders, 20)}."]
    else:
        text = [
            "Only this corpus: no folder beside this one has exponents of another. Run another "
            "corpus into the same parent folder, then `ladder report` on this one again."
        ]
    if own is None and known.found is not None:
        text.append("This corpus has no point: its entropy or its exponents are not known.")
    if not points:
        return Section("Exponents against entropy", tuple(text), lines=lines)
    names = _names(points)
    panels = [
        (
            name,
            [
                Mark(
                    label,
                    p.entropy_rate,
                    p.entropy_se,
                    p.means[name].value,
                    p.means[name].sd,
                    p is own,
                )
                for label, p in zip(names, points, strict=True)
                if name in p.means
            ],
        )
        for name in NAMES
    ]
    picture = Picture(
        "exponents-entropy",
        entropy_figure(panels),
        f"Mean exponents against entropy rate: {some(names, 20)}",
        "A point a corpus, this one in another colour; bars: SD between slices, and where the "
        "entropy is an estimate its standard error.",
    )
    rows: list[tuple[Cell | str, ...]] = [
        (point.corpus, point.folder, number(point.entropy_rate, ".4f"), *_exponents(point))
        for point in points
    ]
    columns = ("corpus", "folder", "entropy rate", "alpha_D", "SD", "beta_N", "SD")
    bold = frozenset(i for i, point in enumerate(points) if point is own)
    table = Table(columns, tuple(rows), bold=bold)
    return Section("Exponents against entropy", tuple(text), (picture,), (table,), lines)


def _exponents(point: CorpusPoint) -> tuple[Cell, ...]:
    """Mean and spread of either exponent, empty for one that is missing."""
    known = [point.means.get(name) for name in NAMES]
    pairs = [(mean.value, mean.sd) if mean else (None, None) for mean in known]
    return tuple(number(value, ".3f") for pair in pairs for value in pair)


def _names(points: list[CorpusPoint]) -> list[str]:
    """Names of corpora, with the folder where several share one."""
    every = [point.corpus for point in points]
    return [p.corpus if every.count(p.corpus) == 1 else f"{p.corpus}, {p.folder}" for p in points]


def _span(low: float | None, high: float | None, form: Callable[[float], str]) -> Cell:
    """A cell of an interval, open at an end that is not bounded, sorted by its width."""
    if low is None:
        return Cell("") if high is None else Cell(f"to {form(high)}", OPEN)
    if high is None:
        return Cell(f"{form(low)} or more", OPEN)
    return Cell(f"{form(low)} to {form(high)}", high - low)
