"""Times the commands on a big runs folder and a wide table: seconds and peak memory a process.

    OMP_NUM_THREADS=1 python benchmarks/load.py [--out benchmarks/results/load.json] [--only WORD]
                                                [--data FOLDER]

Made in a temporary folder, or in FOLDER and kept there: a runs folder of 1000 finished runs (25
sizes by 40 multiples, 20 tasks, 50 checkpoints: 10^6 rows of observations), and a table of 10^4
tasks by 30 rungs and a target. The data follow one law and one sigmoid a task with noise (seed 0).
The rival is what reads such a table in plain pandas: read_parquet and one groupby mean. Prints
benchmarks/load.md.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from evaluation.records import write_observations
from ladder.config import load_config
from ladder.plan import Plan, Rung, make_plan
from ladder.runs import Progress, RunsFolder

SIZES, MULTIPLES, TASKS, CHECKPOINTS = 25, 40, 20, 50
WIDE_TASKS, WIDE_SIZES, WIDE_MULTIPLES = 10_000, 5, 6
RIVAL = (
    "import sys, pandas; t = pandas.read_parquet(sys.argv[1]); "
    "print(t.groupby(['run', 'task'])[['loss', 'accuracy']].mean().shape)"
)


def main() -> None:
    """Make the data, run every command in a process of its own, print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path)
    parser.add_argument("--only", default="")
    parser.add_argument("--data", type=Path)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = chosen.data or Path(name)
        runs, wide = folder / "runs", folder / "wide.parquet"
        if not wide.exists():
            begin = time.perf_counter()
            rows = make_runs(runs)
            make_wide(wide)
            print(f"made {rows:,} rows in {time.perf_counter() - begin:.0f} s", file=sys.stderr)
        found = [
            measure(label, command)
            for label, command in commands(runs, wide).items()
            if chosen.only in label
        ]
    show(found)
    if chosen.out is not None:
        chosen.out.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


def commands(runs: Path, wide: Path) -> dict[str, list[str]]:
    """What is timed, by what the table calls it."""
    big = str(runs / "observations.parquet")
    ladder = [sys.executable, "-m", "ladder.cli"]
    return {
        "start: ladder version": [*ladder, "version"],
        "rival: pandas reads 10^6 rows, one groupby": [sys.executable, "-c", RIVAL, big],
        "ladder status RUNS": [*ladder, "status", str(runs)],
        "ladder predict OBS": [*ladder, "predict", big],
        "ladder predict OBS --method published": [*ladder, "predict", big, "--method", "published"],
        "ladder audit OBS": [*ladder, "audit", big],
        "ladder noise OBS": [*ladder, "noise", big],
        "ladder backtest OBS": [*ladder, "backtest", big],
        "ladder report RUNS": [*ladder, "report", str(runs)],
        "rival: pandas reads the wide table, one groupby": [
            sys.executable,
            "-c",
            RIVAL,
            str(wide),
        ],
        "ladder predict WIDE --method published": [
            *ladder,
            "predict",
            str(wide),
            "--method",
            "published",
        ],
        "ladder predict WIDE": [*ladder, "predict", str(wide)],
        "ladder audit WIDE": [*ladder, "audit", str(wide)],
    }


def make_runs(path: Path) -> int:
    """A runs folder whose runs have all finished, with its observations; returns their rows."""
    document = {
        "name": "load",
        "corpus": {
            "kind": "walks",
            "nodes": 32,
            "validation_walks": 16,
            "tasks": [
                {
                    "name": "next",
                    "choices": 4,
                    "answer_rank": [1, 4],
                    "ratio": [2, 50],
                    "items": 10,
                }
            ],
        },
        "model": {
            "sequence_length": 32,
            "sizes": {f"s{i:02}": shape(i) for i in range(SIZES + 1)},
        },
        "ladder": {
            "sizes": [f"s{i:02}" for i in range(SIZES)],
            "multiples": [round(1 + 0.25 * i, 2) for i in range(MULTIPLES)],
        },
        "targets": [{"size": f"s{SIZES}", "multiple": 10, "train": True}],
        "recipe": {"batch_divisor": 20},
        "evaluation": {"at": [round(0.02 * i, 2) for i in range(1, CHECKPOINTS)]},
        "predict": {"method": "default"},
    }
    config = path.parent / "load.yaml"
    config.write_text(yaml.safe_dump(document), encoding="utf-8")
    experiment = load_config(str(config))
    plan = make_plan(experiment)
    folder = RunsFolder(path)
    folder.prepare(experiment)
    rng = np.random.default_rng(0)
    laws = task_laws(TASKS, plan, rng)
    for rung in plan.runs:
        own = folder.rung(rung.name)
        own.path.mkdir()
        own.write_manifest(rung, "finished")
        own.write_progress(Progress(rung.steps, rung.steps, 2.0, 1e5, 0.0))
        write_observations(scores(rung, laws, rng), own.scores)
    table = folder.gather(plan)
    write_observations(table, folder.observations)
    return len(table)


def shape(index: int) -> dict[str, int]:
    """A size that is about a tenth bigger than the one before."""
    width = 8 * (4 + index)
    return {"layers": 2, "heads": 2, "width": width, "hidden": 2 * width}


def task_laws(count: int, plan: Plan | None, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Parameters of one law and one sigmoid a task, in units of the middle of the ladder."""
    return {
        "size": rng.uniform(0.1, 0.3, count),
        "alpha": rng.uniform(0.2, 0.5, count),
        "data": rng.uniform(0.1, 0.3, count),
        "beta": rng.uniform(0.2, 0.5, count),
        "floor": rng.uniform(0.3, 0.8, count),
        "ceiling": rng.uniform(0.8, 1.0, count),
        "slope": rng.uniform(1.5, 4, count),
    }


def law_loss(laws: dict[str, np.ndarray], size: np.ndarray, data: np.ndarray) -> np.ndarray:
    """The loss of each task at params and tokens in units of the ladder's middle."""
    return (
        laws["size"] * size ** -laws["alpha"] + laws["data"] * data ** -laws["beta"] + laws["floor"]
    )


def law_accuracy(laws: dict[str, np.ndarray], loss: np.ndarray) -> np.ndarray:
    """The accuracy of each task at a loss; guessing gives a quarter."""
    middle = laws["floor"] + laws["size"] + laws["data"]
    drop = laws["ceiling"] - 0.25
    return laws["ceiling"] - drop / (1 + np.exp(-laws["slope"] * (loss - middle)))


def scores(rung: Rung, laws: dict[str, np.ndarray], rng: np.random.Generator) -> pd.DataFrame:
    """A run's checkpoints on every task; the loss falls to its end as training goes on."""
    steps = np.unique(np.linspace(rung.steps / 4, rung.steps, CHECKPOINTS).astype(int))
    parts = []
    for step in steps:
        share = step / rung.steps
        size = np.full(TASKS, rung.params / 2e5)
        loss = law_loss(laws, size, np.full(TASKS, rung.tokens * share / 1e8))
        loss = loss * np.exp(0.003 * rng.standard_normal(TASKS))
        accuracy = law_accuracy(laws, loss) + 0.003 * rng.standard_normal(TASKS)
        observed = rung.observed(int(step))
        parts.append(
            pd.DataFrame(
                {
                    **{key: value for key, value in observed.items() if value is not None},
                    "task": [f"task-{i:02}" for i in range(TASKS)],
                    "loss": loss,
                    "loss_unit": "bits/byte",
                    "accuracy": np.clip(accuracy, 0, 1),
                    "accuracy_metric": "acc_raw",
                    "chance": 0.25,
                    "instances": 1000,
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def make_wide(path: Path) -> None:
    """A table of many tasks: one final row a run and task, and a target that measured them."""
    rng = np.random.default_rng(0)
    laws = task_laws(WIDE_TASKS, None, rng)
    names = [f"task-{i:05}" for i in range(WIDE_TASKS)]
    sizes = np.geomspace(1.9e8, 3e9, WIDE_SIZES)
    runs = [
        (f"{n / 1e6:.0f}M-{m}xC", "ladder", n, 20 * n * m)
        for n in sizes
        for m in (1, 2, 3, 5, 7, 10)[:WIDE_MULTIPLES]
    ]
    runs.append(("7B-4T", "target", 6.9e9, 4e12))
    parts = []
    for run, role, params, tokens in runs:
        loss = law_loss(laws, np.full(WIDE_TASKS, params / 1e9), np.full(WIDE_TASKS, tokens / 1e11))
        loss = loss * np.exp(0.003 * rng.standard_normal(WIDE_TASKS))
        accuracy = law_accuracy(laws, loss) + 0.01 * rng.standard_normal(WIDE_TASKS)
        parts.append(
            pd.DataFrame(
                {
                    "run": run,
                    "role": role,
                    "params": params,
                    "tokens": tokens,
                    "step": 1000,
                    "final": True,
                    "task": names,
                    "loss": loss,
                    "loss_unit": "bits/byte",
                    "accuracy": np.clip(accuracy, 0, 1),
                    "chance": 0.25,
                    "instances": 1000,
                }
            )
        )
    write_observations(pd.concat(parts, ignore_index=True), path)


def measure(label: str, command: list[str]) -> dict[str, object]:
    """Wall seconds, CPU seconds and peak memory of one process."""
    begin = time.perf_counter()
    child = os.fork()
    if child == 0:
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        errors = os.open(os.environ.get("LOAD_ERRORS", os.devnull), os.O_WRONLY | os.O_CREAT)
        os.dup2(errors, 2)
        os.execvp(command[0], command)
    _, status, usage = os.wait4(child, 0)
    found = {
        "what": label,
        "seconds": round(time.perf_counter() - begin, 2),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 2),
        "peak_mib": round(usage.ru_maxrss / 1024),
        "status": os.waitstatus_to_exitcode(status),
    }
    print(found, file=sys.stderr, flush=True)
    return found


def show(found: list[dict[str, object]]) -> None:
    """The table of benchmarks/load.md."""
    print("| what | wall, s | CPU, s | peak memory, MiB |\n| --- | --- | --- | --- |")
    for row in found:
        print(
            f"| {row['what']} | {row['seconds']:.1f} | {row['cpu_seconds']:.1f} "
            f"| {row['peak_mib']:,} |"
        )


if __name__ == "__main__":
    main()
