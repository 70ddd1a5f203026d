"""Trains two rungs of the text ladder with other recipes and prints their held-out losses.

    python benchmarks/text_sweep.py --out benchmarks/text_sweep.md

It is how the batch and the learning rate of configs/text.yaml were chosen.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from evaluation.records import read_observations

RUNGS = ("32K-2xC", "95K-1xC")
SETTINGS: dict[str, tuple[float, int, str]] = {
    f"{rate}/sqrt(width), sqrt(tokens)/{divisor}, {init}": (rate, divisor, init)
    for rate, divisor, init in (
        (0.1, 60, "fan_in"),
        (0.2, 60, "fan_in"),
        (0.2, 60, "normal"),
        (0.4, 60, "fan_in"),
        (0.2, 120, "fan_in"),
        (0.4, 120, "fan_in"),
        (0.1, 200, "fan_in"),
        (0.2, 200, "fan_in"),
    )
}
"""Peak learning rate over 1 / sqrt(width), divisor of the batch, initial weights; by name."""


def losses(setting: tuple[float, int, str], rungs: tuple[str, ...], folder: Path) -> list[float]:
    """Held-out loss, nats per byte, at the end of each rung."""
    rate, divisor, init = setting
    changes = (
        "ladder.sizes=[32K, 95K]",
        "ladder.multiples=[1, 2]",
        "targets=[]",
        "corpus.continuations=[]",
        f"recipe.learning_rate_base={rate}",
        f"recipe.batch_divisor={divisor}",
        f"model.init={init}",
    )
    command = [sys.executable, "-m", "ladder.cli", "train", "text", "--engine", "here"]
    command += ["--runs", str(folder)]
    command += [word for change in changes for word in ("--set", change)]
    command += [word for rung in rungs for word in ("--rung", rung)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    tables = (read_observations(folder / rung / "scores.parquet") for rung in rungs)
    return [float(table.loc[table["final"], "loss"].iloc[0]) for table in tables]


def main() -> None:
    """Train every setting and print, or write, the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", help="part of the settings' names")
    parser.add_argument("--rung", nargs="+", default=RUNGS)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    lines = [f"| recipe | {' | '.join(given.rung)} |", "| --- |" + " --- |" * len(given.rung)]
    with tempfile.TemporaryDirectory() as folder:
        for number, (name, setting) in enumerate(SETTINGS.items()):
            if given.only and given.only not in name:
                continue
            found = losses(setting, tuple(given.rung), Path(folder) / str(number))
            lines.append(f"| {name} | {' | '.join(f'{loss:.4f}' for loss in found)} |")
            print(lines[-1], file=sys.stderr)
    head = "`python benchmarks/text_sweep.py`, held-out loss, nats per byte, one seed\n"
    text = "\n".join([head, *lines, ""])
    if given.out:
        given.out.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
