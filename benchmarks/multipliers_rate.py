"""Trains a rung with multipliers at several learning rates of theirs; prints its final losses.

    python benchmarks/multipliers_rate.py [--small] > benchmarks/multipliers_rate.md

It is how the default of recipe.multipliers.learning_rate_scale was chosen. Row and column
multipliers of all matrices, the recipe's own rate and everything else as the quick start has them;
the loss is the exact cross-entropy under the walk's transition matrix, less its entropy rate.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

if __name__ == "__main__":
    os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")

import numpy as np

from evaluation.records import read_observations
from ladder import train
from ladder.config import load_config
from ladder.corpora import open_corpus
from ladder.plan import make_plan
from ladder.runs import RunsFolder

RUNG = "3K-2xC"
ARCHITECTURES = ("olmo2", "llama")
SCALES = (None, 0.1, 0.3, 1.0, 3.0)
"""Multiples of the recipe's learning rate; None is a model without multipliers."""

SEEDS = 2


def excess(architecture: str, scale: float | None, seed: int, rung: str) -> float:
    """Nats per token above the entropy rate at the end of a rung."""
    kind = "none" if scale is None else "both"
    sets = (
        f"seed={seed}",
        f"model.architecture={architecture}",
        "evaluation.at=[1]",
        "corpus.tasks=[]",
        f"recipe.multipliers={{kind: {kind}, learning_rate_scale: {scale or 1}}}",
    )
    with tempfile.TemporaryDirectory() as folder:
        config = load_config("quickstart", sets)
        runs = RunsFolder(Path(folder) / "runs")
        runs.prepare(config)
        corpus = open_corpus(config.corpus, runs.corpus)
        train.train_rung(config, make_plan(config).run(rung), runs)
        table = read_observations(runs.rung(rung).scores)
        loss = float(table.loc[table["final"], "loss"].iloc[0])
        return loss - (corpus.entropy_rate or 0.0)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="seconds, to see that it runs")
    small = parser.parse_args().small
    rung, seeds = ("3K-1xC", 1) if small else (RUNG, SEEDS)
    print("# The learning rate of multipliers\n")
    print(f"`python benchmarks/multipliers_rate.py`: the quick start's {rung}, loss above the")
    print(f"entropy rate, nats per token, mean of {seeds} seeds, and its difference to none with")
    print("the standard error of the paired differences.\n")
    print("| architecture | learning_rate_scale | loss | difference to none |")
    print("| --- | --- | --- | --- |")
    for architecture in ARCHITECTURES[: 1 if small else None]:
        plain = np.array([excess(architecture, None, seed, rung) for seed in range(seeds)])
        print(f"| {architecture} | none | {plain.mean():.4f} | |")
        for scale in SCALES[1:]:
            losses = np.array([excess(architecture, scale, seed, rung) for seed in range(seeds)])
            apart = losses - plain
            error = apart.std(ddof=1) / seeds**0.5 if seeds > 1 else float("nan")
            print(
                f"| {architecture} | {scale:g} | {losses.mean():.4f} | "
                f"{apart.mean():+.4f} +- {error:.4f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
