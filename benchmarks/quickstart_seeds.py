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

from ladder.config import load_config
from ladder.corpora.walks import VALIDATION, Walks


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
    table = pd.read_csv(folder / "audit.csv").set_index("task")
    scores = pd.read_parquet(folder / "observations.parquet")
    last = scores[scores["final"] & (scores["role"] == "ladder")]
    entropy = Walks(load_config(str(folder / "config.yaml")).corpus).entropy_rate
    rows = []
    for task, row in table.iterrows():
        own = last[last["task"] == task]
        if task == VALIDATION:
            fits = _fits(folder)
            spread = fits["loss_high"] - fits["loss_low"]
            rows.append(
                {
                    "seed": seed,
                    "seconds": round(seconds),
                    "task": task,
                    "floor error, % of range": 100 * (fits["E"] - entropy) / spread,
                    "excess error, % of predicted": 100
                    * row["loss_error"]
                    / (row["loss_predicted"] - entropy),
                }
            )
        else:
            rows.append(
                {
                    "seed": seed,
                    "task": task,
                    "climb": 100 * (own["accuracy"].max() - own["accuracy"].min()),
                    "target over top rung": 100 * (row["actual"] - row["top_rung"]),
                    "error": 100 * row["error"],
                }
            )
    return rows


def _fits(folder: Path) -> dict[str, float]:
    from predict import TwoStage, read_observations

    model = TwoStage("published").fit(read_observations(folder / "observations.parquet"))
    fitted = model.fits_[VALIDATION]
    losses = [rung.loss for rung in fitted.rungs]
    return {
        "E": fitted.step1.parameters["E"],
        "loss_low": min(losses),
        "loss_high": max(losses),
    }


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
    losses = table[table["task"] == VALIDATION].dropna(axis=1)
    tasks = table[table["task"] != VALIDATION].dropna(axis=1)
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
