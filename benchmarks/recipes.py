"""Which recipe wins, from `ladder run recipes`: losses, paired differences, predictions.

    ladder run recipes && python benchmarks/recipes.py runs/recipes --out benchmarks/recipes.md

AdamW and Muon, with and without learnable multipliers, in the standard parametrisation and in muP.
Differences are paired by seed, which all recipes share; their standard errors are over seeds.
"""

from __future__ import annotations

import argparse
import itertools
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from evaluation.files import read_json, write_text
from evaluation.records import read_observations
from ladder.corpora.settings import WALKS_VALIDATION
from ladder.plan import make_plan
from ladder.runs import RunsFolder

EFFECTS = (
    ("multipliers, under AdamW", "adamw-lrm", "adamw"),
    ("multipliers, under Muon", "muon-lrm", "muon"),
    ("Muon, without multipliers", "muon", "adamw"),
    ("Muon, with multipliers", "muon-lrm", "adamw-lrm"),
)
"""What changes, and the recipes with and without it; of muP with -mup behind."""

SURE = 0.05
"""A difference is called clear where its two-sided t test over seeds has less."""


def losses(runs: Path) -> pd.DataFrame:
    """Held-out loss at the end of every run: rows (place, seed), a column a recipe."""
    folder = RunsFolder(runs)
    plan = make_plan(folder.load_config())
    table = read_observations(folder.observations)
    last = table[table["final"] & (table["task"] == WALKS_VALIDATION)].set_index("run")["loss"]
    rows = [(r.place, r.seed, r.recipe, last[r.name]) for r in plan.runs if r.name in last.index]
    frame = pd.DataFrame(rows, columns=["place", "seed", "recipe", "loss"])
    wide = frame.pivot_table(index=["place", "seed"], columns="recipe", values="loss", sort=False)
    return wide[[name for name in plan.recipes if name in wide.columns]]


def mean_and_error(values: Sequence[float] | np.ndarray) -> tuple[float, float]:
    """Mean and standard error of the mean."""
    values = np.asarray(values, dtype=float)
    return float(values.mean()), float(values.std(ddof=1) / math.sqrt(len(values)))


def paired(wide: pd.DataFrame, one: str, two: str) -> pd.Series:
    """First recipe minus second, by place and seed, in thousandths of a nat."""
    return 1000 * (wide[one] - wide[two])


def verdict(difference: pd.Series, places: Sequence[str], what: str) -> tuple[str, str]:
    """A row of the table of effects, and the sentence: the mean over places, a value a seed."""
    own = difference[difference.index.get_level_values("place").isin(places)]
    seeds = own.groupby("seed").mean()
    mean, error = mean_and_error(seeds)
    p = float(stats.ttest_1samp(seeds, 0.0).pvalue)
    lower = int((own.groupby("place").mean() < 0).sum())
    row = f"{mean:+.2f} ± {error:.2f} | {p:.2g} | {lower} of {len(places)}"
    clear = "no clear difference" if p >= SURE else "lower loss" if mean < 0 else "higher loss"
    return row, f"{what}: {clear} ({mean:+.2f} ± {error:.2f} thousandths of a nat, p {p:.2g})"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown."""
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def effects(names: Sequence[str]) -> list[tuple[str, str, str]]:
    """What changes, with and without it, in every parametrisation that was trained."""
    found = []
    for ending, said in (("", "standard"), ("-mup", "muP")):
        found += [(f"{what}, {said}", a + ending, b + ending) for what, a, b in EFFECTS]
    found += [
        (f"muP, {name}", f"{name}-mup", name) for name in ("adamw", "adamw-lrm", "muon", "muon-lrm")
    ]
    return [row for row in found if row[1] in names and row[2] in names]


def report(runs: Path) -> str:
    """Everything, as Markdown."""
    wide = losses(runs)
    names, places = list(wide.columns), list(dict.fromkeys(wide.index.get_level_values("place")))
    plan = make_plan(RunsFolder(runs).load_config())
    planned = dict.fromkeys(t.place for t in plan.of_recipe(names[0]).targets)
    targets = [place for place in planned if place in places]
    rungs = [place for place in dict.fromkeys(places) if place not in targets]
    seeds = wide.index.get_level_values("seed").nunique()
    told = f" and the target {', '.join(targets)}" if targets else "; no target was trained"
    parts = [
        f"`ladder run recipes`, then `python benchmarks/recipes.py runs/recipes`. {len(names)} "
        f"recipes, {len(rungs)} rungs{told}, {seeds} seeds each; "
        "rates tuned in [recipes_sweep.md](recipes_sweep.md).",
        "## Held-out loss",
        "Nats per token, mean ± standard error over seeds.",
        table(
            ["rung", *names],
            [[p, *(_cell(wide.loc[p, name]) for name in names)] for p in (*rungs, *targets)],
        ),
        "## Differences",
        "Paired by seed, in thousandths of a nat per token; below 0 is better. A value a seed is "
        f"the mean over the {len(rungs)} rungs; p is of a two-sided t test over {seeds} seeds. "
        f"With {len(effects(names))} tests, one in twenty is below 0.05 by chance alone.",
    ]
    rows, sentences = [], []
    for what, one, two in effects(names):
        difference = paired(wide, one, two)
        row, sentence = verdict(difference, rungs, what)
        at = [_cell(difference.loc[t], signed=True) for t in targets]
        rows.append([what, *row.split(" | "), *at])
        sentences.append(f"- {sentence}")
    head = ["what changes", "mean over rungs", "p", "rungs where lower"]
    parts += [
        table([*head, *(f"at {t}" for t in targets)], rows),
        "In words:\n",
        *["\n".join(sentences)],
    ]
    parts += ["The same at every rung:", _by_rung(wide, names, rungs)]
    parts += _interactions(wide, names, rungs)
    parts += _predictions(runs)
    return "\n\n".join(parts) + "\n"


def _cell(values: pd.Series, signed: bool = False) -> str:
    mean, error = mean_and_error(values)
    return f"{mean:+.1f} ± {error:.1f}" if signed else f"{mean:.4f} ± {error:.4f}"


def _by_rung(wide: pd.DataFrame, names: Sequence[str], rungs: Sequence[str]) -> str:
    shown = effects(names)
    rows = [
        [place, *(_cell(paired(wide, a, b).loc[place], signed=True) for _, a, b in shown)]
        for place in rungs
    ]
    return table(["rung", *(what for what, _, _ in shown)], rows)


def _interactions(wide: pd.DataFrame, names: Sequence[str], rungs: Sequence[str]) -> list[str]:
    """Whether multipliers do more under one optimizer than under the other."""
    lines = []
    for ending, said in (("", "standard"), ("-mup", "muP")):
        four = [f"{name}{ending}" for name in ("muon-lrm", "muon", "adamw-lrm", "adamw")]
        if all(name in names for name in four):
            apart = paired(wide, four[0], four[1]) - paired(wide, four[2], four[3])
            lines.append(f"- {verdict(apart, rungs, f'multipliers and Muon together, {said}')[1]}")
    intro = "What multipliers change under Muon less what they change under AdamW:"
    return [intro, "\n".join(lines)] if lines else []


def _predictions(runs: Path) -> list[str]:
    """The ladders' predictions at the target beside what came, pairs and laws."""
    comparison = read_json(runs / "comparison.json")
    parts = [
        "## Predicted against actual",
        "By the method "
        f"{comparison['method']}, with its 80% interval, and the mean of the target's seeds, each "
        "the mean of its last evaluations; accuracies in %.",
    ]
    rows = []
    for s in comparison["scores"]:
        points = ["" if s[k] is None else f"{100 * s[k]:.1f}" for k in _ACCURACY]
        inside = "" if s["loss_actual"] is None else _inside(s)
        rows.append(
            [
                s["task"],
                s["recipe"],
                f"{s['loss']:.4f}",
                f"{s['loss_lower80']:.4f} to {s['loss_upper80']:.4f}",
                "" if s["loss_actual"] is None else f"{s['loss_actual']:.4f}",
                inside,
                points[0],
                f"{points[1]} to {points[2]}" if points[1] else "",
                points[3],
            ]
        )
    head = ["task", "recipe", "loss", "80%", "actual", "inside", "accuracy", "80%", "actual"]
    parts.append(table(head, rows))
    own = [p for p in comparison["pairs"] if p["task"] == WALKS_VALIDATION]
    parts += [
        "Pairs, by the held-out loss: A - B in thousandths of a nat, the probability that a run of "
        "A beats one of B, and the compute that B needs to reach A's loss.",
        table(
            ["A", "B", "predicted", "80%", "A wins", "gain", "80%", "actual"],
            [_pair(p) for p in own],
        ),
        "\n".join(
            f"- {d['measure']}: the called winner won {d['right']} of {d['cases']} measured cases, "
            f"{d['expected']:.1f} were expected; Brier score {d['brier']:.3f}, a coin's is 0.25."
            for d in comparison["decisions"]
        ),
        "Differences of the fitted laws of the held-out loss, A - B with 80% intervals, N in 1e9 "
        "and D in 1e11:",
        _laws(comparison),
    ]
    return parts


_ACCURACY = ("accuracy", "lower80", "upper80", "accuracy_actual")


def _inside(score: dict[str, float]) -> str:
    return "yes" if score["loss_lower80"] <= score["loss_actual"] <= score["loss_upper80"] else "no"


def _pair(p: dict[str, float | str | None]) -> list[str]:
    def thousandths(key: str) -> str:
        value = p[key]
        return "" if value is None else f"{1000 * float(value):+.2f}"

    gains = [
        f"{float(p[key]):.2f}" if p[key] is not None else "none"
        for key in ("gain", "gain_lower80", "gain_upper80")
    ]
    return [
        str(p["first"]),
        str(p["second"]),
        thousandths("loss_difference"),
        f"{thousandths('loss_lower80')} to {thousandths('loss_upper80')}",
        f"{100 * float(p['loss_probability'] or 0):.0f}%",
        gains[0],
        f"{gains[1]} to {gains[2]}",
        thousandths("loss_actual"),
    ]


def _laws(comparison: dict[str, list[dict[str, float | str]]]) -> str:
    own = [p for p in comparison["parameters"] if p["task"] == WALKS_VALIDATION]
    named = [str(p["parameter"]) for p in own[:5]]
    rows = []
    for pair, group in itertools.groupby(own, key=lambda p: (p["first"], p["second"])):
        cells = [
            f"{p['difference']:+.3g} ({p['lower80']:+.2g} to {p['upper80']:+.2g})" for p in group
        ]
        rows.append([*map(str, pair), *cells])
    return table(["A", "B", *named], rows)


def main() -> None:
    """Print, or write, the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    text = report(given.runs)
    if given.out:
        write_text(given.out, text)
    print(text)


if __name__ == "__main__":
    main()
