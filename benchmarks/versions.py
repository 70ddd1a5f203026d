"""Compares fits and predictions between two environments: the oldest and newest packages.

    python benchmarks/versions.py OLD/bin/python NEW/bin/python [FOLDER] [--out FILE.json]

Both environments hold the core dependencies of pyproject.toml, the first its lower bounds, made by
`python -m venv OLD && OLD/bin/pip install numpy==2.0.0 ...` (the versions are in the table). FOLDER
holds the logs of allenai/OLMo-ladder (default ../shared/olmo-ladder). Runs `ladder import`, and
predict, audit, backtest and noise on what it gives and on synthetic tables (seed 0) in both, and
compares every number of every JSON document. Prints benchmarks/versions.md.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
PACKAGES = (
    "numpy",
    "scipy",
    "pandas",
    "pyarrow",
    "pydantic",
    "PyYAML",
    "rich",
    "tyro",
    "jinja2",
    "matplotlib",
)
PAPER = ("mmlu_test_rc_5shot", "[!m]*_rc_5shot")
TARGET = "70B-10T:7e10:1e13"
COMMANDS = {
    "predict": ["predict", "{table}", "--target", TARGET],
    "predict, published": ["predict", "{table}", "--target", TARGET, "--method", "published"],
    "audit": ["audit", "{table}"],
    "audit, published": ["audit", "{table}", "--method", "published"],
    "backtest": ["backtest", "{table}", "{tasks}"],
    "noise": ["noise", "{table}"],
}
SYNTHETIC = """
import sys
import numpy as np, pandas as pd
rng = np.random.default_rng(0)
rows = []
runs = [(f"{n/1e6:.0f}M-{m}xC", "ladder", n, 20*n*m) for n in (1.9e8, 3.7e8, 7.6e8, 1.3e9, 3.2e9)
        for m in (1, 2, 5, 10)] + [("7B-4T", "target", 6.9e9, 4e12)]
for task in range(40):
    a, b, e = rng.uniform(.1, .4, 2).tolist() + [rng.uniform(.2, .9)]
    alpha, beta = rng.uniform(.1, .6, 2)
    noise = 10 ** rng.uniform(-4, -1.5)
    for run, role, n, d in runs:
        for step in range(6):
            loss = a*(n/1e9)**-alpha + b*(d*(step+1)/6e11)**-beta + e
            loss *= float(np.exp(noise * rng.standard_normal()))
            score = .9 - .65/(1 + np.exp(-3*(loss - a - b - e))) + noise * rng.standard_normal()
            rows.append((run, role, n, d*(step+1)/6, step, step == 5, f"t{task:02}", loss,
                         "bits/byte", min(max(score, 0), 1), .25, 1000))
names = "run role params tokens step final task loss loss_unit accuracy chance instances".split()
pd.DataFrame(rows, columns=names).to_csv(sys.argv[1], index=False)
"""


def main() -> None:
    """Run everything in both environments and print what differs."""
    parser = argparse.ArgumentParser()
    parser.add_argument("old")
    parser.add_argument("new")
    parser.add_argument("folder", nargs="?", default=str(ROOT.parent / "shared" / "olmo-ladder"))
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        subprocess.run([given.new, "-c", SYNTHETIC, str(work / "made.csv")], check=True)
        told = {python: documents(python, given.folder, work) for python in (given.old, given.new)}
    old, new = told[given.old], told[given.new]
    rows = [compared(label, old[label], new[label]) for label in old]
    versions = {"old": installed(given.old), "new": installed(given.new)}
    print("| package | oldest | newest |\n| --- | --- | --- |")
    for package in PACKAGES:
        print(f"| {package} | {versions['old'][package]} | {versions['new'][package]} |")
    print(
        "\n| command | numbers | differ | accuracies, largest | losses, largest relative "
        "| others, largest relative | texts that differ |\n|" + " --- |" * 7
    )
    for row in rows:
        print(
            f"| {row['what']} | {row['numbers']:,} | {row['differ']:,} | {row['accuracy']:.1e} "
            f"| {row['loss']:.1e} | {row['other']:.1e} | {row['texts']} |"
        )
    if given.out is not None:
        given.out.write_text(json.dumps({"versions": versions, "rows": rows}, indent=2) + "\n")


def documents(python: str, folder: str, work: Path) -> dict[str, Any]:
    """Every command's JSON document, on the real logs and on the synthetic table."""
    table = work / f"{len(list(work.iterdir()))}.csv"
    ladder(python, "import", "olmo-ladder", folder, "--out", str(table))
    found = {}
    for data, path in (("real", table), ("synthetic", work / "made.csv")):
        tasks = ["--tasks", *PAPER] if data == "real" else ["--tasks", "t0*"]
        for label, command in COMMANDS.items():
            words = [w.format(table=path) for w in command if w != "{tasks}"]
            more = tasks if "{tasks}" in command else []
            found[f"{label}, {data}"] = json.loads(ladder(python, *words, *more, "--json"))
    return found


def ladder(python: str, *words: str) -> str:
    """Standard output of a command."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [python, "-m", "ladder.cli", *words], env=environment, capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(f"{python} {' '.join(words)}: {done.stderr}")
    return done.stdout


def installed(python: str) -> dict[str, str]:
    """Versions of PACKAGES."""
    code = (
        "import sys, json; from importlib.metadata import version; "
        "print(json.dumps({p: version(p) for p in sys.argv[1:]}))"
    )
    done = subprocess.run([python, "-c", code, *PACKAGES], capture_output=True, check=True)
    return dict(json.loads(done.stdout))


def compared(label: str, old: Any, new: Any) -> dict[str, Any]:
    """How far two documents differ, by kind of number."""
    row = {
        "what": label,
        "numbers": 0,
        "differ": 0,
        "accuracy": 0.0,
        "loss": 0.0,
        "other": 0.0,
        "texts": 0,
    }
    for path, one, two in leaves(old, new, ""):
        if isinstance(one, bool | str) or one is None or two is None:
            row["texts"] += one != two
            continue
        row["numbers"] += 1
        row["differ"] += one != two
        key = path.rpartition("/")[2]
        away = abs(one - two)
        if "loss" in key:
            kind, away = "loss", away / max(abs(one), abs(two), 1e-300) if away else 0.0
        elif key in ("predicted", "accuracy", "lower80", "upper80", "lower95", "upper95", "actual"):
            kind = "accuracy"
        else:
            kind, away = "other", away / max(abs(one), abs(two), 1e-9)
        row[kind] = max(row[kind], away)
    return row


def leaves(old: Any, new: Any, path: str) -> Iterator[tuple[str, Any, Any]]:
    """Every value of two documents of one shape, by its path."""
    if isinstance(old, dict) and isinstance(new, dict) and set(old) == set(new):
        for key in old:
            yield from leaves(old[key], new[key], f"{path}/{key}")
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for i, (one, two) in enumerate(zip(old, new, strict=True)):
            yield from leaves(one, two, f"{path}/{i}")
    elif isinstance(old, dict | list) or isinstance(new, dict | list):
        raise SystemExit(f"{path}: the documents have different shapes")
    else:
        yield path, old, new


if __name__ == "__main__":
    main()
