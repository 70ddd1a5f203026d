"""Runs the quick start on several graphs and prints what it promises beside what came.

    python benchmarks/quickstart_seeds.py 0 1 2 --out benchmarks/quickstart_seeds.md

Each seed is another graph (corpus.seed) trained from scratch by the command line, as a user would.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd

from evaluation.records import read_observations
from ladder.config import load_config
from ladder.corpora.walks import Walks
from ladder.truth import check_truth
from predict import TwoStage, audit


def run_seed(seed: int, overrides: list[str], folder: Path) -> list[dict[str, object]]:
    """Train and audit one graph; one row a task and one for the held-out loss."""
    changes = [f"corpus.seed={seed}", *overrides]
    sets = [word for change in changes for word in ("--set", change)]
    start = time.monotonic()
    subprocess.run(
        [sys.executable, "-m", "ladder.cli", "run", "quickstart", "--runs", str(folder), *sets],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    seconds = time.monotonic() - start
    scores = read_observations(folder / "observations.parquet")
    model = TwoStage("published").fit(scores)
    audited = audit(model, scores)
    corpus = Walks(load_config(str(folder / "config.yaml")).corpus)
    truth = check_truth(model, audited, corpus.validation, corpus.entropy_rate)
    assert truth is not None
    assert truth.excess_error is not None
    rows: list[dict[str, object]] = [
        {
            "seed": seed,
            "seconds": round(seconds),
            "floor error, % of range": 100 * truth.floor_error,
            "excess error, % of predicted": 100 * truth.excess_error,
        }
    ]
    last = scores[scores["final"] & (scores["role"] == "ladder")]
    for row in audited.rows:
        if row.actual is None or row.error is None or row.top_rung is None:
            continue
        own = last.loc[last["task"] == row.prediction.task, "accuracy"]
        rows.append(
            {
                "seed": seed,
                "task": row.prediction.task,
                "climb": 100 * (own.max() - own.min()),
                "target over top rung": 100 * (row.actual - row.top_rung),
                "error": 100 * row.error,
            }
        )
    return rows


def main() -> None:
    """Run the seeds and print, or write, the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("seeds", type=int, nargs="+")
    parser.add_argument("--set", action="append", default=[], help="KEY=VALUE, as ladder run takes")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in given.seeds:
            rows += run_seed(seed, given.set, Path(folder) / str(seed))
            print(json.dumps(rows[-4:]), file=sys.stderr)
    table = pd.DataFrame(rows)
    losses = table[table["seconds"].notna()].dropna(axis=1)
    tasks = table[table["seconds"].isna()].dropna(axis=1)
    command = " ".join(["python benchmarks/quickstart_seeds.py", *map(str, given.seeds)])
    command += "".join(f" --set {change}" for change in given.set)
    text = "\n".join(
        [f"`{command}`, 2 cores\n", _markdown(losses), "", "In points:\n", _markdown(tasks), ""]
    )
    if given.out:
        given.out.write_text(text)
    print(text)


def _markdown(table: pd.DataFrame) -> str:
    def cell(value: object) -> str:
        return f"{value:.1f}" if isinstance(value, float) else str(value)

    whole = table.astype({c: int for c in ("seconds",) if c in table})
    lines = ["| " + " | ".join(whole.columns) + " |", "|" + " --- |" * len(whole.columns)]
    lines += ["| " + " | ".join(map(cell, row)) + " |" for row in whole.itertuples(index=False)]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
