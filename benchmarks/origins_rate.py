"""Tunes the learning rate that the origins configs share, coarsely.

    python benchmarks/origins_rate.py --runs runs/origins_rate --out benchmarks/origins_rate.md

Two widths on two corpora, one of them at more tokens too; one seed, rates a factor of two apart.
What was trained is kept in --runs; `--print` reads it and trains nothing.
"""

from __future__ import annotations

import argparse
import math
import subprocess
import sys
from pathlib import Path

import yaml

from evaluation.files import write_text
from evaluation.records import read_observations
from ladder.config import find_config, load_config
from ladder.corpora import open_corpus
from ladder.plan import make_plan
from ladder.runs import RunsFolder

SHORT, LONG = 500_000, 2_000_000
PLACES = (
    ("origins-er", 8, SHORT),
    ("origins-er", 24, SHORT),
    ("origins-er", 24, LONG),
    ("origins-walks", 8, SHORT),
    ("origins-walks", 24, SHORT),
)
"""Config, width and tokens."""
RATES = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2)
"""recipe.learning_rate_base."""


def train(name: str, folder: Path) -> None:
    """Train every rate of a corpus that has not finished, one run after another."""
    document = yaml.safe_load(find_config(name).read_text(encoding="utf-8"))
    sizes = document["model"]["sizes"]
    document["ladder"] = {"sizes": list(sizes), "tokens": [SHORT, LONG]}
    document["recipes"] = {f"r{rate:g}": {"learning_rate_base": rate} for rate in RATES}
    document["evaluation"] = {"at": [1.0]}
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "rate.yaml"
    write_text(config, yaml.safe_dump(document, sort_keys=False))
    command = [sys.executable, "-m", "ladder.cli", "train", str(config), "--engine", "here"]
    for place, width, tokens in PLACES:
        if place == name:
            (size,) = (size for size, shape in sizes.items() if shape["width"] == width)
            command += ["--rung", f"{size}-{spoken(tokens)}-*"]
    # A rate that makes a run diverge fails that run alone.
    subprocess.run([*command, "--runs", str(folder / "runs")], check=False)


def spoken(tokens: int) -> str:
    """Tokens as names of rungs have them."""
    return f"{tokens // 1_000_000}Mt" if tokens >= 1_000_000 else f"{tokens // 1000}Kt"


def excess(name: str, folder: Path) -> dict[tuple[str, int, int, str], float]:
    """By place and recipe what the held-out loss is above the entropy, nats per token."""
    config, runs = load_config(str(folder / "rate.yaml")), RunsFolder(folder / "runs")
    corpus, found = open_corpus(config.corpus, runs.corpus), {}
    floor = corpus.floor(config.model.sequence_length)
    for rung in make_plan(config).rungs:
        place = (name, rung.shape.width, rung.tokens)
        if place not in PLACES:
            continue
        path, value = runs.rung(rung.name).path / "scores.parquet", math.inf
        if path.is_file():
            table = read_observations(path)
            last = table[table["final"] & (table["task"] == corpus.validation)]
            value = float(last["loss"].iloc[0])
        found[*place, str(rung.recipe)] = value - floor
    return found


def report(folder: Path) -> str:
    """The table as Markdown, and the rate that costs least in its worst column."""
    known = {}
    for name in dict.fromkeys(name for name, _, _ in PLACES):
        known |= excess(name, folder / name)
    columns = PLACES
    lines = [
        "`python benchmarks/origins_rate.py`: held-out loss less the entropy, nats per token, one "
        "seed. The peak learning rate is the base over the square root of "
        "the width. Bold: the least of a column.",
        "",
        "| learning_rate_base | "
        + " | ".join(f"{n}, width {w}, {spoken(d)}" for n, w, d in columns)
        + " |",
        "| --- |" + " --- |" * len(columns),
    ]
    recipes = [f"r{rate:g}" for rate in RATES]
    least = {c: min(recipes, key=lambda r: known[*c, r]) for c in columns}
    for rate, recipe in zip(RATES, recipes, strict=True):
        cells = []
        for c in columns:
            value = known[*c, recipe]
            text = f"{value:.4f}" if math.isfinite(value) else "diverged"
            cells.append(f"**{text}**" if least[c] == recipe else text)
        lines.append(f"| {rate:g} | " + " | ".join(cells) + " |")
    worst = {r: max(known[*c, r] / known[*c, least[c]] - 1 for c in columns) for r in recipes}
    chosen = min(recipes, key=lambda r: worst[r])
    base = float(load_config(PLACES[0][0]).recipe.learning_rate_base)
    above = [f"{worst[f'r{rate:g}']:.0%}" for rate in RATES if rate > base]
    lines += [
        "",
        "What a base loses in its worst column, of the column's least excess loss: "
        + ", ".join(f"{r[1:]} {worst[r]:.0%}" for r in recipes if math.isfinite(worst[r]))
        + f". The least of them is {chosen[1:]}'s. The configs take {base:g}; rates above it, a "
        f"factor of two apart, lose {' and '.join(above)} at worst.",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    """Train what has not finished, and print, or write, the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path, default=Path("runs/origins_rate"))
    parser.add_argument("--print", action="store_true", dest="only_print")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    for name in dict.fromkeys(name for name, _, _ in PLACES) if not given.only_print else ():
        train(name, given.runs / name)
    text = report(given.runs)
    if given.out:
        write_text(given.out, text)
    print(text)


if __name__ == "__main__":
    main()
