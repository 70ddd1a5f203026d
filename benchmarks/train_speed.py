"""Times training on a CPU against the Hugging Face Trainer, and the quick start side by side.

    pip install accelerate==1.15.0
    python benchmarks/train_speed.py steps|ladder|machine|growth [CASE ...] [--turns N]

Each part prints a section; benchmarks/train_speed.md holds a run of all.

steps: the real `train_rung`, with its logging and progress, but without scoring and checkpoints,
against transformers.Trainer, without logging, on the same model, initial weights, batches (made
beforehand for both), optimizer and schedule, one thread, fp32; their losses are compared first.
Each side has a process of its own and they take turns. A run is timed from the start of one step to
the start of a later one, so that all that a step takes is counted and nothing that is done once.
ladder: `ladder train` with two workers against one. machine: the most that this can give here.
growth: a step's time from the start to the end of a long run.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

if __name__ == "__main__":
    # Before torch is loaded, which reads it then.
    os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")

import numpy as np
from train_sides import CLOSE, SIDES, WARM_UP, Clock, make_case, ours

STEPS = {
    "3K-1xC": 200,
    "3K-10xC": 120,
    "5K-2xC": 150,
    "7K-5xC": 80,
    "13K-10xC": 40,
    "29K-10xC": 25,
    "d256": 3,
}
"""Timed steps of a turn: rungs of the quick start as they are, and a model of d = 256."""

REQUIRED = {"d256": 1.0}
"""Ratio to the Trainer that is required, 1.1 where nothing is said."""

GROWTH_STEPS = 20_000


class Worker:
    """A process that trains a case whenever it is asked to."""

    def __init__(self, side: str, name: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, __file__, "work", side, name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **SIDES[side][1]},
        )

    def run(self) -> dict[str, Any]:
        """CPU and wall seconds of a step, and the losses."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return dict(json.loads(self.process.stdout.readline()))

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait()


def work(side: str, name: str) -> None:
    """Train once for every line of the input."""
    case = make_case(name, STEPS[name])
    for _ in sys.stdin:
        clock, losses = SIDES[side][0](case, Clock(timed=STEPS[name]))
        print(json.dumps({**clock.seconds, "losses": losses}), flush=True)


def steps(names: Sequence[str], turns: int) -> None:
    """Both sides in turns on every case."""
    print(f"## Steps\n\n`python benchmarks/train_speed.py steps`: medians of {turns} turns of one")
    print("thread; ratios are of CPU seconds, turn by turn, with the quartiles of the first.\n")
    others = [side for side in SIDES if side != "ours"]
    print("| model | batch, tokens | tokens/s, ours | tokens/s, Trainer | CPU ms a step | ", end="")
    print("".join(f"{side} / ours | " for side in others), "wall: Trainer / ours |", sep="")
    print("| --- " * (len(others) + 6) + "|")
    for name in names or STEPS:
        measure(name, others, turns)


def measure(name: str, others: list[str], turns: int) -> None:
    """One case's line of the table."""
    rung = make_case(name, 1).rung
    workers = {side: Worker(side, name) for side in SIDES}
    first = {side: worker.run() for side, worker in workers.items()}
    for side in others:
        pairs = zip(first["ours"]["losses"], first[side]["losses"], strict=True)
        if (off := max(abs(a - b) for a, b in [*pairs][:WARM_UP])) > CLOSE:
            raise SystemExit(f"{name}: the losses of {side} differ from ours by {off:.1e} nats")
    found: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
    for turn in range(turns):
        # Each side goes first in its turn: what runs before another does not favour one.
        order = [*SIDES][turn % len(SIDES) :] + [*SIDES][: turn % len(SIDES)]
        for side in order:
            found[side].append(workers[side].run())
    for worker in workers.values():
        worker.close()

    def ratios(side: str, key: str) -> list[float]:
        return [b[key] / a[key] for a, b in zip(found["ours"], found[side], strict=True)]

    cpu = {side: statistics.median(turn["cpu"] for turn in found[side]) for side in SIDES}
    best = ratios("Trainer", "cpu")
    low, middle, high = statistics.quantiles(best, n=4)
    cells = [f"**{middle:.2f}** ({low:.2f}-{high:.2f})"]
    cells += [f"{statistics.median(ratios(side, 'cpu')):.2f}" for side in others[1:]]
    cells += [f"{statistics.median(ratios('Trainer', 'wall')):.2f}"]
    speeds = " | ".join(f"{rung.batch_tokens / cpu[side]:,.0f}" for side in ("ours", "Trainer"))
    milliseconds = cpu["ours"] * 1e3
    print(
        f"| {name} | {rung.batch_tokens} | {speeds} | {milliseconds:.2f} | {' | '.join(cells)} |",
        flush=True,
    )
    if middle < REQUIRED.get(name, 1.1):
        print(f"{name}: less than {REQUIRED.get(name, 1.1):g}x the Trainer", file=sys.stderr)


def ladder(settings: Sequence[str], turns: int) -> None:
    """The quick start's rungs with two workers and with one, in turns."""
    found: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(turns):
        for workers in found:
            with tempfile.TemporaryDirectory() as folder:
                line = ["train", "quickstart", "--runs", f"{folder}/runs"]
                for setting in ("targets=[]", "evaluation.at=[1]", *settings):
                    line += ["--set", setting]
                begin = time.perf_counter()
                subprocess.run(
                    [sys.executable, "-m", "ladder.cli", *line, "--workers", str(workers)],
                    check=True,
                    stdout=subprocess.DEVNULL,
                )
                found[workers].append(time.perf_counter() - begin)
    one, two = found.values()
    ratios = [a / b for a, b in zip(one, two, strict=True)]
    command = " ".join(["python benchmarks/train_speed.py ladder", *settings])
    print(f"## Side by side\n\n`{command}`: the quick start's rungs,")
    print("each scored once, start of the processes included, wall seconds; medians of")
    print(f"{turns} turns on {os.cpu_count()} cores.\n")
    print("| one after another | two side by side | ratio | ratios |\n| --- | --- | --- | --- |")
    each = ", ".join(f"{ratio:.2f}" for ratio in ratios)
    middle = statistics.median
    print(f"| {middle(one):.1f} s | {middle(two):.1f} s | **{middle(ratios):.2f}** | {each} |")


def growth(_: Sequence[str], turns: int) -> None:
    """A step's time over the first and the last tenth of a long run."""
    clock, _ = ours(make_case("3K-1xC", GROWTH_STEPS), Clock(timed=GROWTH_STEPS))
    tenths = np.array_split(np.diff(clock.cpu[WARM_UP:]), 10)
    print(
        "## Growth\n\n`python benchmarks/train_speed.py growth`: a run of the 3K model, logging as"
    )
    print(f"always, {GROWTH_STEPS:,} steps; CPU milliseconds of a step in each tenth of the run.")
    print("A busy machine moves the medians; what grows would raise the quick steps as well.\n")
    print(f"| | {' | '.join(map(str, range(1, 11)))} | last / first |")
    print("| --- " * 12 + "|")
    for label, share in (("median", 50), ("quickest tenth", 10)):
        found = [float(np.percentile(part, share)) * 1e3 for part in tenths]
        cells = " | ".join(f"{value:.2f}" for value in found)
        print(f"| {label} | {cells} | **{found[-1] / found[0]:.3f}** |")


def machine(_: Sequence[str], turns: int) -> None:
    """What two processes that share nothing gain over one: all that side by side can."""
    workers = [Worker("ours", "13K-10xC") for _ in range(2)]
    for worker in workers:
        worker.run()

    def repeated(worker: Worker) -> float:
        return sum(worker.run()["wall"] for _ in range(10))

    ratios = []
    for _ in range(turns):
        alone = repeated(workers[0])
        with ThreadPoolExecutor(2) as pool:
            both = list(pool.map(repeated, workers))
        ratios.append(2 * alone / statistics.mean(both))
    for worker in workers:
        worker.close()
    each = ", ".join(f"{ratio:.2f}" for ratio in ratios)
    print("## The machine\n\n`python benchmarks/train_speed.py machine`: steps a second of two")
    print("processes that share nothing, against one alone;", end=" ")
    print(f"{turns} turns on {os.cpu_count()} cores.\n")
    print(f"| ratio | ratios |\n| --- | --- |\n| **{statistics.median(ratios):.2f}** | {each} |")


PARTS = {"steps": steps, "ladder": ladder, "machine": machine, "growth": growth}


def main() -> None:
    """Print the part that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=[*PARTS, "work"])
    parser.add_argument("rest", nargs="*", help="cases of steps; KEY=VALUE settings of ladder")
    parser.add_argument("--turns", type=int, default=9, help="of steps and ladder")
    given = parser.parse_args()
    if given.part == "work":
        work(*given.rest)
    else:
        PARTS[given.part](given.rest, given.turns)


if __name__ == "__main__":
    main()
