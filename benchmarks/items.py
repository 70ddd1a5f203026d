"""A step 2 from items beside the sigmoid's: on synthetic items, and on runs folders.

    python benchmarks/items.py [RUNS ...]

RUNS are folders of `ladder run` whose target was trained (configs/quickstart.yaml). Synthetic items
have known truths: rungs' margins whose mean and spread are lines in log compute, or in the loss; an
own line for every item, with noise that does not fall; and one item in ten labelled wrongly.
Prints Markdown; benchmarks/items.md holds a run.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from evaluation.records import read_observations, validate
from ladder.item_margins import read_margins
from predict.audit import targets_of
from predict.items import ItemRow, Margins, predict_items
from predict.task_fit import Target

SIZES, MULTIPLES = (1.9e8, 3.7e8, 7.6e8, 1.28e9), (1, 2, 5, 10)
TARGET = Target("T", 6.9e9, 4e12)
ITEMS, SEEDS = 1000, 10
METHODS = ("default", "published")
TRUTHS = (
    "lines in compute",
    "lines in the loss",
    "a line an item, in the loss",
    "lines in the loss, 10% mislabelled",
)


def main(folders: list[Path]) -> None:
    """Print both tables."""
    names = " ".join(map(str, folders))
    print(f"`python benchmarks/items.py {names}`, mean absolute errors in points\n")
    print("## Synthetic items\n")
    head("truth")
    for truth in TRUTHS:
        rows = {
            method: [
                row
                for seed in range(SEEDS)
                for row in predict_items(*synthetic(truth, seed), [TARGET], method)
            ]
            for method in METHODS
        }
        line(truth, rows)
    print("\n## Runs folders\n")
    head("folder")
    for folder in folders:
        table = read_observations(folder / "observations.parquet")
        margins = read_margins(folder, table, 5)
        targets = targets_of(table)
        line(folder.name, {m: predict_items(table, margins, targets, m) for m in METHODS})


def head(first: str) -> None:
    """The table's head."""
    print(
        f"| {first} | target: items by compute | items by loss | default | published "
        "| back-test: items by compute | items by loss | default | published "
        "| target: chosen against default |\n" + "| --- " * 10 + "|"
    )


def line(name: str, rows: dict[str, list[ItemRow]]) -> None:
    """Mean errors on the target and in back-tests; items by the default's step 1."""
    own, published = rows["default"], rows["published"]
    cells = [
        *(error(own, way) for way in ("by_compute", "by_loss", "by_method")),
        error(published, "by_method"),
        *(mean([getattr(r, e) for r in own]) for e in ("compute_error", "loss_error")),
        *(mean([r.method_error for r in found]) for found in (own, published)),
        error(own, "predicted"),
    ]
    print(f"| {name} | " + " | ".join(f"{100 * x:.2f}" for x in cells) + " |")


def error(rows: list[ItemRow], way: str) -> float:
    """Mean absolute error on the target."""
    return mean([abs(getattr(row, way) - row.actual) for row in rows])


def mean(values: list[float | None]) -> float:
    """Mean of what there is."""
    return float(np.mean([v for v in values if v is not None]))


def synthetic(truth: str, seed: int) -> tuple[pd.DataFrame, dict[str, Margins]]:
    """A ladder and a target whose items' margins follow the truth."""
    generator = np.random.default_rng(seed)
    runs = [(f"{n:.2g}-{m}xC", "ladder", n, 20 * n * m) for n in SIZES for m in MULTIPLES]
    runs.append((TARGET.name, "target", TARGET.params, TARGET.tokens))
    clean = [math.exp(5) * n**-0.3 + math.exp(6) * d**-0.3 + 0.5 for _, _, n, d in runs]
    loss = [value + 0.003 * generator.normal() for value in clean]
    scale = np.array([(math.log(n * d) - 42) / 2 for _, _, n, d in runs])
    if "in the loss" in truth:
        scale = 4 * (1.5 - np.array(clean))
    standing = generator.normal(size=(ITEMS, 1))
    luck = 0.5 * generator.normal(size=(ITEMS, len(runs)))
    if truth.startswith("a line an item"):
        slope = 0.3 + 0.15 * generator.normal(size=(ITEMS, 1))
        margins = -0.6 + 0.8 * standing + slope * scale + luck
    else:
        margins = -0.5 + 0.4 * scale + np.exp(0.2 - 0.15 * scale) * (standing + luck)
    if truth.endswith("mislabelled"):
        margins[: ITEMS // 10] *= -1
    rows = [
        {
            "run": run,
            "role": role,
            "params": n,
            "tokens": d,
            "step": 1,
            "final": True,
            "task": "quiz",
            "loss": loss[index],
            "loss_unit": "bits/byte",
            "accuracy": (margins[:, index] > 0).mean(),
            "chance": 0.25,
            "instances": ITEMS,
        }
        for index, (run, role, n, d) in enumerate(runs)
    ]
    names = tuple(run for run, role, _, _ in runs if role == "ladder")
    return validate(pd.DataFrame(rows)), {"quiz": Margins(names, margins[:, :-1])}


if __name__ == "__main__":
    main([Path(argument) for argument in sys.argv[1:]])
