"""SP against muP on one graph: how many params each needs for the same loss at the same tokens.

    python benchmarks/origins.py --train origins-mup --runs runs
    python benchmarks/origins_mup.py --out benchmarks/origins_mup.md

The second reads what the first keeps in benchmarks/results. Both parametrisations had the same grid
of learning rates, of which every size takes its best, as in arXiv 2601.10684; they share initial
weights and batches, seed by seed.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from evaluation.files import read_json, write_text
from evaluation.records import read_observations
from predict.numbers import human

RESULTS = Path(__file__).parent / "results"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown."""
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def read(results: Path = RESULTS) -> pd.DataFrame:
    """What every run lost above the entropy: columns kind, rate, params, tokens, seed, excess."""
    rows = read_observations(results / "origins-mup.parquet")
    # The same graph: its entropy is that of origins-er.
    known = read_json(results / "origins-er.json")
    rows = rows[rows["final"] & (rows["task"] == known["task"])].copy()
    rows["excess"] = rows["loss"] - known["entropy_rate"]
    rows[["kind", "rate"]] = rows["recipe"].str.split("-", expand=True)
    rows["tokens"] = rows["run"].str.split("-").str[1]
    return rows[["kind", "rate", "params", "tokens", "seed", "excess"]]


def best_rate(rows: pd.DataFrame) -> pd.DataFrame:
    """Of every parametrisation, size and tokens the rate of the least mean over seeds; a row each.

    Columns kind, params, tokens, rate, and excess of every seed at that rate.
    """
    found = []
    for (kind, params, tokens), part in rows.groupby(["kind", "params", "tokens"], sort=False):
        means = part.groupby("rate")["excess"].mean()
        rate = str(means.idxmin())
        own = part[part["rate"] == rate].sort_values("seed")["excess"].tolist()
        found.append((kind, params, tokens, rate, own))
    return pd.DataFrame(found, columns=["kind", "params", "tokens", "rate", "excess"])


def needed(curve: pd.DataFrame, seed: int, level: float) -> float | None:
    """Params at which a seed's curve comes down to a level, read between sizes in logarithms."""
    x = np.log(curve["params"].to_numpy(dtype=float))
    y = np.log([own[seed] for own in curve["excess"]])
    for i in range(len(x) - 1):
        if y[i] >= math.log(level) >= y[i + 1]:
            part = (y[i] - math.log(level)) / (y[i] - y[i + 1])
            return float(np.exp(x[i] + part * (x[i + 1] - x[i])))
    return None


def mup_report(rows: pd.DataFrame) -> list[str]:
    """Tables of the comparison, and in words which needs fewer params."""
    chosen = best_rate(rows)
    seeds, tokens = sorted(set(rows["seed"])), list(dict.fromkeys(chosen["tokens"]))
    sizes = sorted(set(chosen["params"]))
    parts, body = [], []
    curves = {key: part.sort_values("params") for key, part in chosen.groupby(["kind", "tokens"])}
    for count in tokens:
        for size in sizes:
            row = [count, human(size)]
            for kind in ("sp", "mup"):
                own = curves[kind, count]
                cell = own[own["params"] == size].iloc[0]
                row += [f"{np.mean(cell['excess']):.4f} ({cell['rate']})"]
            gaps = [
                math.log(a / b)
                for a, b in zip(
                    *(
                        curves[k, count][curves[k, count]["params"] == size].iloc[0]["excess"]
                        for k in ("mup", "sp")
                    ),
                    strict=True,
                )
            ]
            row.append(", ".join(f"{100 * math.expm1(g):+.1f}%" for g in gaps))
            body.append(row)
    head = ["tokens", "params", "standard (base)", "muP (base)", "muP less standard, by seed"]
    parts.append(table(head, body))
    body, logs = [], list[np.ndarray]()
    for count in tokens:
        for size in sizes[1:]:
            # The worst of both and of all seeds at a size: a level that every curve comes down to,
            # so that none is left out for never reaching it.
            own = [curves[kind, count].set_index("params")["excess"] for kind in ("sp", "mup")]
            level = max(value for excess in own for value in excess[size])
            pairs = [
                (needed(curves["mup", count], s, level), needed(curves["sp", count], s, level))
                for s in range(len(seeds))
            ]
            ratios = [a / b for a, b in pairs if a and b]
            if len(ratios) < len(seeds):
                continue
            logs.append(np.log(ratios))
            body.append(
                [count, f"{level:.4f}", human(size), ", ".join(f"{value:.3f}" for value in ratios)]
            )
    head = ["tokens", "excess loss", "the worst at params", "muP's over standard's, by seed"]
    parts.append(table(head, body))
    if logs:
        every = np.array(logs)
        mean, seeded = math.exp(every.mean()), np.exp(every.mean(axis=0))
        word = "fewer" if mean < 1 else "more"
        one_sided = bool((every < 0).all() or (every > 0).all())
        parts.append(
            f"For the same excess loss at the same tokens muP needs {abs(100 * (mean - 1)):.1f}% "
            f"{word} params, geometric mean over {len(logs)} levels; by seed "
            f"{' and '.join(f'{value:.3f}' for value in seeded)} times, over levels and seeds "
            f"{math.exp(every.min()):.3f} to {math.exp(every.max()):.3f}"
            + (
                ", all on one side."
                if one_sided
                else ": no clear difference, for levels and seeds go either way."
            )
        )
    return parts


def report(rows: pd.DataFrame, seconds: float) -> str:
    """Everything, as Markdown."""
    rates = sorted(set(rows["rate"]), key=float)
    parts = [
        "`python benchmarks/origins_mup.py`, from benchmarks/results/origins-mup.parquet "
        f"(`ladder run origins-mup`, {seconds / 60:.0f} minutes of one core). Loss above the exact "
        f"entropy on origins-er's graph, nats per token, {rows['seed'].nunique()} seeds. Of bases "
        f"{', '.join(rates)} every size takes the one of the least mean, in brackets.",
        *mup_report(rows),
    ]
    return "\n\n".join(parts) + "\n"


def main() -> None:
    """Print, or write, the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    seconds = read_json(given.results / "origins-mup.json")["seconds"]
    text = report(read(given.results), seconds)
    if given.out:
        write_text(given.out, text)
    print(text)


if __name__ == "__main__":
    main()
