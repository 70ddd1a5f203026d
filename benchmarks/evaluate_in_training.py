"""What scoring in training costs: the quick start's rungs with many evaluations against one.

    python benchmarks/evaluate_in_training.py > benchmarks/evaluate_in_training.md

Each run is timed whole and its optimizer steps, its scoring and its checkpoints one by one, so that
what scoring costs beyond itself shows: slower steps, or time that nothing accounts for.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ladder import scores, train
from ladder.config import load_config
from ladder.plan import make_plan
from ladder.runs import RunsFolder

RUNG = "5K-2xC"
REPEATS = 5
SCHEDULES = {"at the end": "[1]", "20 times": str([n / 20 for n in range(1, 21)])}


def timed(function: Callable[..., Any], spent: list[float]) -> Callable[..., Any]:
    """The function, noting the seconds of every call."""

    def run(*arguments: Any, **named: Any) -> Any:
        start = time.process_time()
        result = function(*arguments, **named)
        spent.append(time.process_time() - start)
        return result

    return run


def measure(at: str) -> dict[str, float]:
    """Seconds of one rung trained anew."""
    steps: list[float] = []
    scoring: list[float] = []
    saving: list[float] = []
    real = train.optimizer_step, scores.score_rung, train.Saver.save
    train.optimizer_step, scores.score_rung = timed(real[0], steps), timed(real[1], scoring)
    train.Saver.save = timed(real[2], saving)
    try:
        with tempfile.TemporaryDirectory() as folder:
            # In the background the time of saving would be counted among the steps'.
            sets = (f"evaluation.at={at}", "checkpoints.background=false")
            config = load_config("quickstart", sets)
            runs = RunsFolder(Path(folder) / "runs")
            runs.prepare(config)
            start = time.process_time()
            train.train_rung(config, make_plan(config).run(RUNG), runs)
            whole = time.process_time() - start
    finally:
        train.optimizer_step, scores.score_rung, train.Saver.save = real
    return {
        "step": statistics.median(steps) * 1e3,
        "steps": sum(steps),
        "scoring": sum(scoring),
        "saving": sum(saving),
        "rest": whole - sum(steps) - sum(scoring) - sum(saving),
        "whole": whole,
    }


def main() -> None:
    """Alternate both schedules and print medians."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in SCHEDULES}
    measure(SCHEDULES["at the end"])
    for _ in range(REPEATS):
        for name, at in SCHEDULES.items():
            found[name].append(measure(at))
    print("# Scoring in training\n")
    print(f"The quick start's {RUNG} on one CPU thread, medians of {REPEATS} runs in turn, CPU")
    print("seconds (`python benchmarks/evaluate_in_training.py`).\n")
    print("| scored | median step, ms | steps | scoring | checkpoints | rest | whole |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name, runs in found.items():
        middle = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
        print(
            f"| {name} | {middle['step']:.3f} | {middle['steps']:.2f} | {middle['scoring']:.2f} | "
            f"{middle['saving']:.2f} | {middle['rest']:.2f} | {middle['whole']:.2f} |"
        )
    one, many = found.values()
    ratio = statistics.median(b["step"] / a["step"] for a, b in zip(one, many, strict=True))
    print(f"\nA step takes {ratio:.3f} of its time where nothing is scored on the way.")


if __name__ == "__main__":
    main()
