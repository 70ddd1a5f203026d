"""Observations made from a law of N and D: known compute-optimal splits to be found again."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from evaluation.records import validate
from predict.constants import HOFFMANN
from predict.laws import Array, get_law

EQUAL = np.array([-1.0, 0.3, -1.5, 0.3, 1.7])
"""alpha = beta: N and D grow alike, at 19 tokens a parameter."""

HOFFMANN_LAW = HOFFMANN.theta()
SIZES = tuple(np.geomspace(7e7, 1e10, 16))
MULTIPLES = (0.25, 0.5, 1, 2, 4, 8)


def loss_of(theta: Array, params: float, tokens: float) -> float:
    return float(get_law("chinchilla_scaled").value(theta, params, tokens)[0])


def made(
    theta: Array = HOFFMANN_LAW,
    sizes: Sequence[float] = SIZES,
    multiples: Sequence[float] = MULTIPLES,
    checkpoints: int = 30,
    noise: float = 0.0,
    seed: int = 0,
    unit: str = "nats/token",
) -> pd.DataFrame:
    """Runs of every size at every multiple of 20 tokens a parameter, each as a whole curve.

    Every checkpoint has the law's own loss, as if its schedule had ended there. `noise` is the
    relative standard deviation of a run's loss, one draw for all of its checkpoints.
    """
    runs = [(f"{n / 1e6:.0f}M-{m:g}xC", n, 20 * n * m) for n in sizes for m in multiples]
    return table(theta, runs, checkpoints, noise, seed, unit)


def isoflop_runs(
    theta: Array, budgets: Sequence[float], sizes: int = 7, noise: float = 0.0, seed: int = 0
) -> pd.DataFrame:
    """Finished runs alone: at every budget so many sizes, a factor of 8 about its best one."""
    from predict.optimum import chinchilla_params

    runs = []
    for budget in budgets:
        best = chinchilla_params(theta, budget)
        for size in best * np.geomspace(8**-0.5, 8**0.5, sizes):
            runs.append((f"{budget:.0e}-{size / 1e6:.0f}M", size, budget / 6 / size))
    return table(theta, runs, 1, noise, seed, "nats/token")


def table(
    theta: Array,
    runs: Sequence[tuple[str, float, float]],
    checkpoints: int,
    noise: float,
    seed: int,
    unit: str,
) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    rows = []
    for run, params, tokens in runs:
        off = np.exp(noise * rng.standard_normal())
        for step in range(1, checkpoints + 1):
            seen = tokens * step / checkpoints
            rows.append(
                {
                    "run": run,
                    "role": "ladder",
                    "params": params,
                    "tokens": seen,
                    "flops": 7 * params * seen,
                    "step": step * 100,
                    "final": step == checkpoints,
                    "task": "held-out",
                    "loss": loss_of(theta, params, seen) * off,
                    "loss_unit": unit,
                    "batch_tokens": tokens / checkpoints / 100,
                }
            )
    return validate(pd.DataFrame(rows))
