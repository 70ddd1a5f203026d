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
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from origins_tables import (
    RESULTS,
    SPEAKERS,
    Corpus,
    corpora_table,
    entropy_table,
    excess_table,
    exponents_table,
    held_out,
    in_sample,
    kept,
    laws_table,
    mean_slope,
    slices_table,
    speakers,
    spread,
    surfaces_table,
)
from scipy import stats

from evaluation.files import read_json, write_json, write_text
from evaluation.records import read_observations
from ladder.grid_exponents import NAMES, ratio
from ladder.report_exponents import LAWS, PAPER
from predict.drawing import log_axis, to_svg


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
