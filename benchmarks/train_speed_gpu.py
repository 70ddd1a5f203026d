"""Times training on a GPU against the Hugging Face Trainer: tokens/s, MFU and peak memory.

    pip install accelerate==1.15.0
    python benchmarks/train_speed_gpu.py [--micro-batch N] [--device cpu --tiny]

The 190M shape of configs/olmo2.yaml on random tokens, sequences of 4096, bf16, compiled; the real
`train_rung` and transformers.Trainer as in benchmarks/train_speed.py, at the same micro-batch and
in turns, each turn in a process of its own. Writes benchmarks/results/train_gpu.json and prints it
as a table. --tiny is a small shape, to see on any machine that it runs; it writes nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    # One GPU: the Trainer would take all there are. Before torch is loaded, which reads it then.
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")

import numpy as np
import torch
from train_sides import BATCHES, CLOSE, NO_CHECKPOINTS, WARM_UP, Case, Clock, ours, trainer

from evaluation.files import write_json
from ladder.config import load_config
from ladder.meter import PEAK_FLOPS
from ladder.plan import make_plan
from ladder.shapes import Shape, model_flops_per_token

RESULTS = Path(__file__).parent / "results" / "train_gpu.json"
SIDES = ("ours", "Trainer")
PASSES = 4
"""Micro-batches of a step."""

TURNS = 3
TINY = Shape(layers=2, width=32, heads=2, hidden=64)

FIRST = 5
"""Steps whose losses are compared; rounding in bf16 makes the later ones drift apart."""

CLOSE_BF16 = 20 * CLOSE
"""Nats by which they may differ."""


def make_case(given: argparse.Namespace) -> Case:
    """What both sides train."""
    config = load_config(
        "olmo2",
        (
            NO_CHECKPOINTS,
            "execution.compile=true",
            "execution.precision=bf16",
            f"execution.device={given.device}",
            f"execution.micro_batch={given.micro_batch}",
            f"model.sequence_length={128 if given.tiny else 4096}",
            "recipe.z_loss=0",  # The Trainer has none.
        ),
    )
    rung = make_plan(config).run("190M-1xC")
    rung = replace(
        rung,
        batch_sequences=given.micro_batch * PASSES,
        steps=WARM_UP + given.steps + 1,
        warmup_steps=10,
    )
    vocabulary = config.corpus.vocabulary_size
    if given.tiny:
        rung, vocabulary = replace(rung, shape=TINY), 512
    size = (BATCHES, rung.batch_sequences, rung.sequence_length + 1)
    return Case(config, rung, vocabulary, np.random.default_rng(0).integers(vocabulary, size=size))


def work(given: argparse.Namespace) -> dict[str, Any]:
    """One side's run: seconds of a step, peak memory and losses."""
    case, clock = make_case(given), Clock(given.device, given.steps)
    if given.work == "ours":
        _, losses = ours(case, clock)
    else:
        _, losses = trainer(
            case,
            clock,
            per_device_train_batch_size=given.micro_batch,
            gradient_accumulation_steps=PASSES,
            bf16=True,
            torch_compile=True,
        )
    cuda = given.device == "cuda"
    memory = torch.cuda.max_memory_allocated() / 2**30 if cuda else None
    return {"seconds": clock.seconds["wall"], "memory_gib": memory, "losses": losses[:FIRST]}


def compare(given: argparse.Namespace, line: Sequence[str]) -> dict[str, Any]:
    """Both sides in turns, each run in its own process."""
    found: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
    for _ in range(TURNS):
        for side in SIDES:
            answer = subprocess.run(
                [sys.executable, __file__, *line, "--work", side],
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            ).stdout
            found[side].append(json.loads(answer.splitlines()[-1]))
    pairs = zip(*(found[side][0]["losses"] for side in SIDES), strict=True)
    if (off := max(abs(a - b) for a, b in pairs)) > CLOSE_BF16:
        raise SystemExit(f"the losses differ by {off:.1e} nats")
    rung = make_case(given).rung
    name = torch.cuda.get_device_name() if given.device == "cuda" else platform.machine()
    peak = next((flops for known, flops in PEAK_FLOPS.items() if known in name), None)
    per_token = model_flops_per_token(rung.params, rung.shape, rung.sequence_length)
    sides = {}
    for side, runs in found.items():
        speed = statistics.median(rung.batch_tokens / run["seconds"] for run in runs)
        sides[side] = {
            "tokens_per_second": round(speed, 1),
            "mfu": round(speed * per_token / peak, 4) if peak else None,
            "memory_gib": runs[0]["memory_gib"] and round(runs[0]["memory_gib"], 2),
        }
    ratios = [b["seconds"] / a["seconds"] for a, b in zip(*found.values(), strict=True)]
    return {
        "machine": name,
        "torch": torch.__version__,
        "shape": rung.shape.model_dump(),
        "sequence_length": rung.sequence_length,
        "micro_batch": given.micro_batch,
        "passes": PASSES,
        "steps": given.steps,
        "turns": TURNS,
        "sides": sides,
        "speed_over_trainer": [round(ratio, 3) for ratio in ratios],
    }


def main() -> None:
    """Compare, or do one side's work."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--micro-batch", type=int, default=8, help="sequences")
    parser.add_argument("--steps", type=int, default=30, help="steps that are timed")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--work", choices=SIDES, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work:
        print(json.dumps(work(given)))
        return
    found = compare(given, sys.argv[1:])
    if not given.tiny:
        write_json(RESULTS, found)
    print("| | tokens/s | MFU | peak memory, GiB |\n| --- | --- | --- | --- |")
    for side, own in found["sides"].items():
        print(f"| {side} | {own['tokens_per_second']:,} | {own['mfu']} | {own['memory_gib']} |")
    ratios = found["speed_over_trainer"]
    print(f"\n{found['machine']}: {statistics.median(ratios)}x the Trainer, turn by turn {ratios}.")


if __name__ == "__main__":
    main()
