"""`ladder run text` from an empty folder: how long it takes, and what it predicts of real text.

    python benchmarks/text_ladder.py [--workers 2] > benchmarks/text_ladder.md

The text is the standard library of the Python that runs, so numbers differ between Pythons.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd

from evaluation.records import read_observations
from ladder.runs import RunsFolder, machine_name

CONFIG = "text"


def train(runs: Path, workers: int) -> tuple[float, float]:
    """Run the ladder as a user would; seconds of wall and of CPU time."""
    command = [sys.executable, "-m", "ladder.cli", "run", CONFIG, "--runs", str(runs)]
    start = time.monotonic()
    subprocess.run(
        [*command, "--workers", str(workers)],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.monotonic() - start, used.ru_utime + used.ru_stime


def print_rungs(table: pd.DataFrame) -> None:
    """The last scores of every run: held-out loss, and accuracy of its task."""
    last = table[table["final"]]
    losses = last[last["accuracy"].isna()].set_index("run")
    scored = last[last["accuracy"].notna()].set_index("run")
    print("| run | role | held-out loss, nats per byte | accuracy, % |\n| --- | --- | --- | --- |")
    for run, row in losses.iterrows():
        accuracy = 100 * float(scored.loc[str(run), "accuracy"])
        print(f"| {run} | {row['role']} | {row['loss']:.3f} | {accuracy:.1f} |")


def print_audit(rows: pd.DataFrame) -> None:
    """Predicted against actual at the target, from the run's own audit.csv."""
    print(
        "\n| task | what | predicted | 80% | actual | with the true loss |\n"
        "| --- | --- | --- | --- | --- | --- |"
    )
    for row in rows.to_dict("records"):
        low, high = row["loss_lower80"], row["loss_upper80"]
        print(
            f"| {row['task']} | loss | {row['loss_predicted']:.3f} | {low:.3f} to {high:.3f} | "
            f"{row['loss_actual']:.3f} | |"
        )
        if pd.notna(row["predicted"]):
            found = [f"{100 * row[key]:.1f}" for key in ("predicted", "lower80", "upper80")]
            actual = row["actual"]
            step2 = f"{100 * (actual + row['step2_error']):.1f}"
            print(
                f"| {row['task']} | accuracy, % | {found[0]} | {found[1]} to {found[2]} | "
                f"{100 * actual:.1f} | {step2} |"
            )


def main() -> None:
    """Train in a folder of its own, then print Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=2)
    workers = parser.parse_args().workers
    with tempfile.TemporaryDirectory() as folder:
        runs = RunsFolder(Path(folder) / "runs")
        wall, cpu = train(runs.path, workers)
        load = os.getloadavg()[1]
        print(
            f"# A ladder on real text\n\n`python benchmarks/text_ladder.py --workers {workers}`, "
            f"Python {platform.python_version()}, {machine_name()}; five-minute load {load:.1f} at "
            f"its end: {cpu / 60:.1f} minutes of CPU time, {wall / 60:.1f} of wall time.\n"
        )
        print_rungs(read_observations(runs.observations))
        print_audit(pd.read_csv(runs.audit))


if __name__ == "__main__":
    main()
