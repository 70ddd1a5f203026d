"""Where the exponents come from: what the grids of configs/origins-*.yaml gave, in every table.

    python benchmarks/origins.py --out benchmarks/origins.md --figure docs/origins.svg
    python benchmarks/origins.py --train origins-er --runs runs

The first reads what is kept in benchmarks/results: of every corpus origins-NAME.parquet, the
observations, and origins-NAME.json, the exponents.json of its runs folder with the seconds it took.
The second runs a config, one run after another, and keeps that; what had finished is not trained
again. Nothing of the tables or the sentences is written by hand.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy import stats

from evaluation.files import read_json, write_json, write_text
from evaluation.records import read_observations
from ladder.grid_exponents import NAMES, ratio
from ladder.report_exponents import LAWS, PAPER
from predict.drawing import log_axis, to_svg
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


# Corpora and losses


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


# Laws


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


def against_entropy(corpora: Sequence[Corpus], name: str) -> str:
    """Whether exponents rise or fall with entropy, in one sentence."""
    # Another window of sizes on the same graph is no other corpus.
    own = [c for c in corpora if c.name != "origins-er-wide"]
    known = [(c.entropy, m["mean"]) for c in own if (m := c.mean(name))]
    if len(known) < 4:
        return f"{name}: {len(known)} corpora bound it, too few to say how it goes with entropy."
    order = stats.spearmanr(*zip(*known, strict=True))
    exact = stats.permutation_test(
        ([k[0] for k in known],),
        lambda x: stats.spearmanr(x, [k[1] for k in known]).statistic,
        permutation_type="pairings",
        n_resamples=9999,
        rng=np.random.default_rng(0),
    )
    p = float(exact.pvalue)
    way = "rises" if order.statistic > 0 else "falls"
    told = f"{way} with entropy" if p < 0.05 else "has no clear course with entropy"
    return (
        f"{name} over {len(known)} corpora {told}: Spearman {order.statistic:+.2f}, "
        f"p {p:.2g} by permutations."
    )


# Sentences


def findings(corpora: Sequence[Corpus]) -> list[str]:
    """What the tables say, in words that follow from the numbers."""
    lines = []
    for name in NAMES:
        value, own, (least, most) = PAPER[name]
        times = f"{least} to {most}"
        for where, found in (("In sample", in_sample), ("On the held-out point", held_out)):
            told: dict[str, list[str]] = {}
            for c in corpora:
                if lead := found(c, name):
                    told.setdefault(lead.winner, []).append(f"{c.name} {ratio(lead.value)}")
            parts = [
                f"{len(own_)} of {sum(map(len, told.values()))} {verdict} ({', '.join(own_)})"
                for verdict, own_ in told.items()
            ]
            lines.append(
                f"{LAWS[name]}. {where}, ratio exponential over power law: "
                + "; ".join(parts)
                + f". The paper's in sample: {times}."
            )
        told_ = [
            f"{c.name} {spread(mean['mean'], mean['sd'], 2)} ({mean['mean'] - value:+.2f})"
            for c in corpora
            if (mean := c.mean(name))
        ]
        lines.append(
            f"{name} beside the paper's {value} ± {own}, mean ± SD over slices and the difference: "
            f"{', '.join(told_)}."
        )
        ends = [f"{c.name} {spread(*last, 2)}" for c in corpora if (last := mean_slope(c, name, 2))]
        lines.append(
            f"{LAWS[name]}, exponent between the last two points with the floor held at the "
            f"entropy: {', '.join(ends)}."
        )
        lines.append(against_entropy(corpora, name))
    below = {c.name: int((c.losses["loss"] < c.entropy - 3 * c.entropy_se).sum()) for c in corpora}
    lines.append(
        f"Losses below the entropy: {sum(below.values())} of {sum(len(c.losses) for c in corpora)}."
    )
    held = [c for c in corpora if c.document["entropy"]["holds"]]
    missed = [c for c in corpora if c.document["entropy"]["holds"] is False]
    lines.append(
        f"The 95% of the floor of the law of N and D holds the entropy on "
        f"{', '.join(c.name for c in held) or 'no corpus'}, and not on "
        f"{', '.join(c.name for c in missed) or 'none'}."
    )
    return lines


# The report


def report(corpora: Sequence[Corpus], results: Path = RESULTS) -> str:
    """Everything, as Markdown."""
    parts = [
        "`python benchmarks/origins.py`, from benchmarks/results/origins-*. One seed a run, nats "
        "per token; params count the output head and no input embedding. Core minutes are those "
        "of one busy core, report and all.",
        "## Corpora",
        corpora_table(corpora),
        *speakers(results),
        "## In words",
        "\n".join(f"- {line}" for line in findings(corpora)),
        "## Losses and the entropy",
        "Floor: that of exp(a)/N^alpha + exp(b)/D^beta + E, fitted to all runs. Its distance from "
        "H is told as a share of the range of losses above H.",
        entropy_table(corpora),
    ]
    for name in NAMES:
        _, _, (least, most) = PAPER[name]
        times = f"{least} to {most}"
        parts += [
            f"## {LAWS[name]}",
            f"Power law against exponential, both with a floor. Ratios are the exponential's mean "
            f"square over the power law's, geometric means over all slices with 95% of Student's "
            f"t; the paper's in sample: {times}. Verdicts: slices that leave only the power law / "
            "only the exponential / neither / both. Held out: the last point, those before it "
            "fitted.",
            laws_table(corpora, name),
            f"The exponent {name}. Slices that do not bound it are in no mean. The last columns "
            "hold the floor of every slice at the entropy, as if nothing else were lacking: the "
            "slope of log(L - H) over all points, and between the last two.",
            exponents_table(corpora, name),
        ]
    parts += ["## Surfaces of N and D", surfaces_table(corpora)]
    parts.append("## Every run and slice")
    for c in corpora:
        parts += [f"### {c.name}", "Loss less entropy:", excess_table(c), slices_table(c)]
    return "\n\n".join(parts) + "\n"


def figure(corpora: Sequence[Corpus]) -> Figure:
    """Loss above the entropy: over N at the most tokens, and over D at the most params."""
    drawn = Figure(figsize=(10, 4), layout="constrained")
    axes = drawn.subplots(1, 2, sharey=True)
    panels = (("params", "tokens", "params N"), ("tokens", "params", "tokens D"))
    for axis, (along, held, label) in zip(axes, panels, strict=True):
        for number, c in enumerate(corpora):
            rows = c.losses[c.losses[held] == c.losses[held].max()].sort_values(along)
            over = rows["loss"] - c.entropy
            axis.plot(rows[along], over, "o-", color=f"C{number}", ms=3, lw=1, label=c.name)
        every = [float(v) for c in corpora for v in (c.losses[along].min(), c.losses[along].max())]
        log_axis(axis.xaxis, min(every) / 1.2, max(every) * 1.2)
        axis.set(title=f"at the most {held}", xlabel=label, yscale="log")
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("loss above the entropy, nats per token")
    axes[1].legend(fontsize=7)
    return drawn


# Training


def train(name: str, runs: Path, results: Path) -> None:
    """Run a config, one run after another, and keep its observations and exponents."""
    folder, before = runs / name, runs / f"{name}.seconds.json"
    told = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.monotonic()
    # Speakers are trained to speak, not to be fitted.
    verb = "train" if name == SPEAKERS else "run"
    command = [sys.executable, "-m", "ladder.cli", verb, name, "--workers", "1"]
    subprocess.run([*command, "--runs", str(folder)], check=True)
    now = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = now.ru_utime + now.ru_stime - told.ru_utime - told.ru_stime
    known = read_json(before) if before.is_file() else {"seconds": 0.0, "wall_seconds": 0.0}
    known = {
        "seconds": round(known["seconds"] + spent, 1),
        "wall_seconds": round(known["wall_seconds"] + time.monotonic() - began, 1),
    }
    write_json(before, known)
    keep(name, folder, known, results)


def keep(name: str, folder: Path, seconds: dict[str, float], results: Path) -> None:
    """Copy what the tables need of a runs folder."""
    results.mkdir(parents=True, exist_ok=True)
    if name == SPEAKERS:
        write_text(results / f"{name}.json", json.dumps(seconds, separators=(",", ":")) + "\n")
        return
    rows = read_observations(folder / "observations.parquet")
    rows.dropna(axis=1, how="all").to_parquet(results / f"{name}.parquet", compression="zstd")
    path = folder / "exponents.json"
    document = read_json(path) if path.is_file() else {}
    text = json.dumps({**seconds, **document}, separators=(",", ":"))
    write_text(results / f"{name}.json", text + "\n")


def main() -> None:
    """Train what is asked for, or print, or write, the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--train", nargs="*", default=[], metavar="CONFIG")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--figure", type=Path, help="where the figure goes, .svg")
    given = parser.parse_args()
    for name in given.train:
        train(name, given.runs, given.results)
    corpora = kept(given.results)
    if given.train or not corpora:
        return
    text = report(corpora, given.results)
    if given.out:
        write_text(given.out, text)
    if given.figure:
        write_text(given.figure, to_svg(figure(corpora)))
    print(text)


if __name__ == "__main__":
    main()
