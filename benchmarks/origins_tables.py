"""Tables of benchmarks/origins.py, each from what is kept of the corpora's grids."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from evaluation.files import read_json
from evaluation.records import read_observations
from ladder.grid_exponents import ratio
from ladder.report_exponents import PAPER
from predict.numbers import human
from predict.slices import geometric_mean

RESULTS = Path(__file__).parent / "results"

SPEAKERS = "origins-speakers"

CORPORA = (
    "origins-walks",
    "origins-er",
    "origins-er-wide",
    "origins-er-biased",
    "origins-ba",
    "origins-bigram",
    "origins-t1l",
    "origins-t2l",
    "origins-t4l",
)
"""In the order of the tables; those that are not kept are left out."""

SPOKEN = {
    "origins-walks": "the quick start's graph, complete",
    "origins-er": "Erdos-Renyi, 1,000 nodes, 5,000 edges",
    "origins-er-wide": "the same, only models that can hold it",
    "origins-er-biased": "Erdos-Renyi, edges by rank^-1",
    "origins-ba": "Barabasi-Albert, 1,000 nodes",
    "origins-bigram": "pairs of tokens of Python's library",
    "origins-t1l": "a transformer of 1 layer speaking",
    "origins-t2l": "of 2 layers",
    "origins-t4l": "of 4 layers",
}


@dataclass(frozen=True)
class Corpus:
    """One corpus: the losses at the ends of its runs, and what was fitted to them."""

    name: str
    losses: pd.DataFrame
    """Columns run, params, tokens, loss."""
    document: dict[str, Any]
    """exponents.json, and `seconds` of one core."""

    @property
    def entropy(self) -> float:
        """The loss that no model can fall below, nats per token."""
        return float(self.document["entropy"]["value"])

    @property
    def entropy_se(self) -> float:
        """Its standard error; 0 where it is exact."""
        return float(self.document["entropy_se"] or 0.0)

    def slices(self, name: str) -> list[dict[str, Any]]:
        """The slices of one exponent."""
        return [s for s in self.document["slices"] if s["exponent_name"] == name]

    def mean(self, name: str) -> dict[str, Any] | None:
        """The mean exponent; None where no slice bounds it."""
        return next((m for m in self.document["means"] if m["name"] == name), None)


def read(name: str, results: Path = RESULTS) -> Corpus:
    """A corpus that is kept."""
    document = read_json(results / f"{name}.json")
    table = read_observations(results / f"{name}.parquet")
    rows = table[table["final"] & (table["task"] == document["task"])]
    return Corpus(name, rows[["run", "params", "tokens", "loss"]], document)


def kept(results: Path = RESULTS) -> list[Corpus]:
    """Every corpus that is kept, in the tables' order."""
    return [read(name, results) for name in CORPORA if (results / f"{name}.json").is_file()]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown."""
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def span(low: float | None, high: float | None, form: str = ".3f") -> str:
    """An interval, open at an end that is not bounded."""
    if low is None:
        return "" if high is None else f"to {high:{form}}"
    return f"{low:{form}} or more" if high is None else f"{low:{form}} to {high:{form}}"


def corpora_table(corpora: Sequence[Corpus]) -> str:
    """What was trained on what."""
    rows = []
    for c in corpora:
        sizes, tokens = sorted(set(c.losses["params"])), sorted(set(c.losses["tokens"]))
        error = f" ± {c.entropy_se:.4f}" if c.entropy_se else ""
        rows.append(
            [
                c.name,
                SPOKEN[c.name],
                f"{c.entropy:.4f}{error}",
                f"{len(c.losses)}",
                f"{human(sizes[0])} to {human(sizes[-1])}",
                f"{human(tokens[0])} to {human(tokens[-1])}",
                cost(c.document),
            ]
        )
    head = ["config", "corpus", "entropy", "runs", "params", "tokens", "core minutes"]
    return table(head, rows)


def cost(document: dict[str, Any]) -> str:
    """Core minutes, and how many runs were taken from another corpus's folder."""
    shared = document.get("runs_of_origins_er", 0)
    minutes = f"{document['seconds'] / 60:.0f}"
    return f"{minutes}, with {shared} runs of origins-er" if shared else minutes


def speakers(results: Path) -> list[str]:
    """What the speakers of the spoken languages cost, where they were trained."""
    path = results / f"{SPEAKERS}.json"
    if not path.is_file():
        return []
    return [f"The speakers took {read_json(path)['seconds'] / 60:.0f} core minutes more."]


def entropy_table(corpora: Sequence[Corpus]) -> str:
    """Lowest losses and fitted floors against the entropy."""
    rows = []
    for c in corpora:
        best = c.losses.loc[c.losses["loss"].idxmin()]
        check, most = c.document["entropy"], float(c.losses["loss"].max())
        floor, holds = check["floor"], check["holds"]
        off = "" if floor is None else f"{100 * (floor - c.entropy) / (most - c.entropy):+.1f}%"
        rows.append(
            [
                c.name,
                f"{c.entropy:.4f}",
                f"{best['loss']:.4f} ({best['run']})",
                f"{best['loss'] - c.entropy:+.4f}",
                str(int((c.losses["loss"] < c.entropy).sum())),
                "" if floor is None else f"{floor:.4f}",
                span(check["lower"], check["upper"], ".4f"),
                "" if holds is None else "yes" if holds else "no",
                off,
            ]
        )
    head = ["config", "entropy H", "lowest loss", "less H", "losses below H"]
    return table([*head, "fitted floor", "95%", "holds H", "floor less H, of the range"], rows)


def excess_table(corpus: Corpus) -> str:
    """Loss less entropy of every run: sizes down, tokens across."""
    wide = corpus.losses.assign(
        tokens=corpus.losses["run"].str.split("-").str[1],
        excess=corpus.losses["loss"] - corpus.entropy,
    )
    order = corpus.losses.assign(name=wide["tokens"]).sort_values("tokens")["name"]
    grid = wide.pivot(index="params", columns="tokens", values="excess")[list(dict.fromkeys(order))]
    rows = [
        [human(n), *(f"{v:.4f}" for v in row)]
        for n, row in zip(grid.index, grid.values, strict=True)
    ]
    return table(["params", *grid.columns], rows)


@dataclass(frozen=True)
class Ratio:
    """A geometric mean of ratios over slices, with 95% by Student's distribution."""

    value: float
    lower: float
    upper: float
    above: int
    """Slices whose ratio is above 1: the power law is better."""
    slices: int

    @property
    def said(self) -> str:
        """The mean and its interval."""
        return f"{ratio(self.value)} ({ratio(self.lower)} to {ratio(self.upper)})"

    @property
    def winner(self) -> str:
        """Who is ahead, where the interval has one."""
        return (
            "power law" if self.lower > 1 else "exponential" if self.upper < 1 else "no clear lead"
        )


def ratio_of(values: Sequence[float]) -> Ratio | None:
    """Of exponential over power law; None for fewer than two slices."""
    if len(values) < 2:
        return None
    mean, low, high = geometric_mean(values)
    above = sum(value > 1 for value in values)
    return Ratio(mean, low or 0.0, high or math.inf, above, len(values))


def in_sample(corpus: Corpus, name: str) -> Ratio | None:
    """Mean squares of all slices, those whose exponent is not bounded too."""
    return ratio_of([s["fit"]["lead"]["mse_ratio"] for s in corpus.slices(name)])


def held_out(corpus: Corpus, name: str) -> Ratio | None:
    """Squared errors at the last point of all slices, those before it fitted."""
    found = [s["fit"]["lead"]["held_out_ratio"] for s in corpus.slices(name)]
    return ratio_of([value for value in found if value is not None])


def laws_table(corpora: Sequence[Corpus], name: str) -> str:
    """Power law against exponential, in sample and held out."""
    rows = []
    for c in corpora:
        inside, outside = in_sample(c, name), held_out(c, name)
        told = [s["fit"]["lead"]["verdict"] for s in c.slices(name)]
        counts = [str(told.count(v)) for v in ("power", "exponential", "neither", "undecided")]
        rows.append(
            [
                c.name,
                str(len(told)),
                inside.said if inside else "",
                inside.winner if inside else "",
                " / ".join(counts),
                outside.said if outside else "",
                f"{outside.above} of {outside.slices}" if outside else "",
                outside.winner if outside else "",
            ]
        )
    head = ["config", "slices", "MSE ratio, 95%", "better", "verdicts", "held out, 95%"]
    return table([*head, "power law nearer", "better"], rows)


def exponents_table(corpora: Sequence[Corpus], name: str) -> str:
    """Mean exponents, of the loss and with the floor held at the entropy."""
    rows = []
    for c in corpora:
        mean, every = c.mean(name), c.slices(name)
        least = [s["fit"]["exponent"] for s in every]
        bounded = mean["slices"] if mean else 0
        rows.append(
            [
                c.name,
                f"{c.entropy:.4f}",
                spread(mean["mean"], mean["sd"]) if mean else "not bounded",
                f"{bounded} of {len(every)}",
                f"{mean['debiased']:.3f}" if mean and mean["debiased"] is not None else "",
                f"{mean['without_floor']:.3f}" if mean else "",
                span(*extremes(least)) if least else "",
                *(spread(*slope) if (slope := mean_slope(c, name, n)) else "" for n in (None, 2)),
            ]
        )
    value, own, _ = PAPER[name]
    rows.append(["the paper's, 8K/50K", "", f"{value} ± {own}", *[""] * 6])
    head = ["config", "entropy", "mean ± SD", "bounded", "debiased", "no floor"]
    return table([*head, "over slices", "floor at H", "floor at H, last two"], rows)


def extremes(found: Sequence[dict[str, Any]]) -> tuple[float, float]:
    """Least and greatest exponent of the slices."""
    values = [f["boot"]["value"] for f in found]
    return min(values), max(values)


def mean_slope(corpus: Corpus, name: str, last: int | None) -> tuple[float, float] | None:
    """Mean and SD over slices of the exponent of the `last` points, or all, above the entropy."""
    found = [below_floor(corpus, s, last) for s in corpus.slices(name)]
    known = [slope for slope in found if slope is not None]
    return (float(np.mean(known)), float(np.std(known, ddof=1))) if len(known) > 1 else None


def below_floor(corpus: Corpus, part: dict[str, Any], last: int | None = None) -> float | None:
    """Minus the slope of log(loss - entropy): the exponent if the floor of the slice were H."""
    over = np.array(part["losses"])[-(last or 0) :] - corpus.entropy
    if (over <= 0).any():
        return None
    return -float(np.polyfit(np.log(part["x"][-(last or 0) :]), np.log(over), 1)[0])


def spread(mean: float, sd: float | None, digits: int = 3) -> str:
    """Mean and SD."""
    return f"{mean:.{digits}f}" if sd is None else f"{mean:.{digits}f} ± {sd:.{digits}f}"


def slices_table(corpus: Corpus) -> str:
    """Every slice of a corpus."""
    rows = []
    for s in corpus.document["slices"]:
        fit, power = s["fit"], s["fit"]["forms"]["power"]
        fixed = human(float(f"{s['fixed']:.3g}"))
        low, high = fit["window_spread"] or (None, None)
        held, bounded = fit["lead"]["held_out_ratio"], "rate" not in power["at_bound"]
        rows.append(
            [
                f"L(N), D = {fixed}" if s["variable"] == "params" else f"L(D), N = {fixed}",
                str(len(s["x"])),
                f"{power['rate']:.3f}" + "*" * (not bounded or power["minima"] != 1),
                span(fit["exponent"]["lower"], fit["exponent"]["upper"], ".2f"),
                f"{power['floor'] - corpus.entropy:+.3f}",
                ratio(fit["lead"]["mse_ratio"]),
                fit["lead"]["verdict"],
                "" if held is None else ratio(held),
                span(low, high, ".2f"),
            ]
        )
    head = ["slice", "points", "exponent", "95%", "floor less H", "MSE ratio", "verdict"]
    return table([*head, "held out", "windows"], rows)


def surfaces_table(corpora: Sequence[Corpus]) -> str:
    """Compute-optimal exponents and held-out errors of every method."""
    rows = []
    for c in corpora:
        for m in (c.document["two_variable"] or {"methods": []})["methods"]:
            own = m["exponent"]
            errors = [m["rms"], m["held_out_run"], m["held_out_largest"]]
            rows.append(
                [
                    c.name,
                    m["name"],
                    "" if own is None else f"{own['value']:.3f}",
                    "" if own is None else span(own["lower80"], own["upper80"]),
                    *("" if v is None else f"{100 * v:.2f}" for v in errors),
                ]
            )
    head = ["config", "method", "N ~ C^", "80%", "fitted, %", "each run, %", "largest size, %"]
    return table(head, rows)
