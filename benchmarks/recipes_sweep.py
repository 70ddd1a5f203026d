"""Tunes the learning rate of every recipe of configs/recipes.yaml on one small rung.

    python benchmarks/recipes_sweep.py --runs runs/recipes_sweep --out benchmarks/recipes_sweep.md

All recipes have the same grid, powers of two, and other seeds than those that are compared. Where
the best rate of one lies on an end of the grid, the grid grows there for all. muP at its base size
is the standard parametrisation, so that a recipe and its muP twin share a rate: twins are trained
once. `--small` is the same on a rung of a second. What was trained is kept in --runs.
"""

from __future__ import annotations

import argparse
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from evaluation.files import write_text
from evaluation.records import read_observations
from ladder.config import find_config
from ladder.corpora.settings import WALKS_VALIDATION

RUNG = "7K-2xC"
"""The rung that rates are tuned on, of muP's base size."""

SMALL_RUNG = "3K-1xC"

RATES = tuple(0.2 * 2.0**k for k in (-1, 0, 1, 2, 3))
"""recipe.learning_rate_base, where the grid begins: a factor of 2 apart."""

SEEDS = (10, 11)

ROUNDS = 4
"""How often the grid may grow."""


def variants(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The recipes to tune, without their rates: those that are no muP twins."""
    found = {}
    for name, own in document["recipes"].items():
        own = dict(own or {})
        own.pop("learning_rate_base", None)
        if own.get("parametrisation", "standard") == "standard":
            found[name] = own
    return found


def train(
    document: dict[str, Any], rates: tuple[float, ...], rung: str, folder: Path, only: str
) -> dict[tuple[str, float], list[float]]:
    """Held-out losses by recipe and rate, one a seed; infinite where a run did not finish."""
    recipes = {
        f"{name}.{rate:g}": {**own, "learning_rate_base": rate}
        for name, own in variants(document).items()
        for rate in rates
        if only in name
    }
    changed = {
        **document,
        "name": "recipes_sweep",
        "corpus": {**document["corpus"], "tasks": []},
        "targets": [],
        "evaluation": {"at": [1.0]},
        "seeds": list(SEEDS),
        "recipes": recipes,
    }
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "sweep.yaml"
    write_text(config, yaml.safe_dump(changed, sort_keys=False))
    command = [sys.executable, "-m", "ladder.cli", "train", str(config), "--rung", f"{rung}-*"]
    # A rate that makes a run diverge fails that run alone.
    subprocess.run([*command, "--runs", str(folder / "runs")], check=False)
    return {
        _split(name): [
            _loss(folder / "runs" / f"{rung}-{name}-s{seed}" / "scores.parquet") for seed in SEEDS
        ]
        for name in recipes
    }


def _split(name: str) -> tuple[str, float]:
    recipe, _, rate = name.partition(".")
    return recipe, float(rate)


def _loss(path: Path) -> float:
    if not path.is_file():
        return math.inf
    table = read_observations(path)
    return float(table.loc[table["final"] & (table["task"] == WALKS_VALIDATION), "loss"].iloc[0])


def best(losses: dict[tuple[str, float], list[float]]) -> dict[str, float]:
    """The rate of the lowest mean loss of every recipe."""
    found: dict[str, float] = {}
    for (name, rate), values in losses.items():
        if name not in found or np.mean(values) < np.mean(losses[name, found[name]]):
            found[name] = rate
    return found


def main() -> None:
    """Train, grow the grid, and print, or write, the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", default="recipes")
    parser.add_argument("--runs", type=Path, default=Path("runs/recipes_sweep"))
    parser.add_argument("--only", default="", help="part of the recipes' names")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    document = yaml.safe_load(find_config(given.config).read_text(encoding="utf-8"))
    rung = SMALL_RUNG if given.small else RUNG
    losses: dict[tuple[str, float], list[float]] = {}
    rates, new = RATES, RATES
    for number in range(1 if given.small else ROUNDS):
        losses |= train(document, new, rung, given.runs / f"{rung}-{number}", given.only)
        ends = set(best(losses).values())
        new = (*[rates[0] / 2] * (rates[0] in ends), *[rates[-1] * 2] * (rates[-1] in ends))
        if not new:
            break
        rates = tuple(sorted({*rates, *new})) if number < ROUNDS - 1 else rates
    text = report(losses, rung, given.small)
    if given.out:
        write_text(given.out, text)
    print(text)


def report(losses: dict[tuple[str, float], list[float]], rung: str, small: bool) -> str:
    """The table, rates down and recipes across."""
    names = list(dict.fromkeys(name for name, _ in losses))
    rates = sorted({rate for _, rate in losses})
    chosen = best(losses)

    def cell(name: str, rate: float) -> str:
        values = losses.get((name, rate), [])
        if not values or not np.isfinite(values).all():
            return "diverged" if values else ""
        error = np.std(values, ddof=1) / math.sqrt(len(values))
        text = f"{np.mean(values):.4f} ± {error:.4f}"
        return f"**{text}**" if chosen[name] == rate else text

    lines = [f"| learning_rate_base | {' | '.join(names)} |", "| --- |" + " --- |" * len(names)]
    lines += [f"| {r:g} | {' | '.join(cell(n, r) for n in names)} |" for r in rates]
    ends = [n for n in names if chosen[n] in (rates[0], rates[-1])]
    return "\n".join(
        [
            f"`python benchmarks/recipes_sweep.py{' --small' if small else ''}`: held-out loss of "
            f"{rung}, nats per token, mean and standard error of {len(SEEDS)} seeds "
            f"({', '.join(map(str, SEEDS))}). The peak learning rate is the base over the square "
            "root of the width.",
            "",
            *lines,
            "",
            "Best: " + ", ".join(f"{name} {rate:g}" for name, rate in chosen.items()) + ".",
            *(["", f"On an end of the grid: {', '.join(ends)}."] if ends else []),
            "",
        ]
    )


if __name__ == "__main__":
    main()
