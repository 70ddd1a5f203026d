"""Pairs of synthetic recipes whose true laws are known, drawn from a seed."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from predict.task_fit import Target

KINDS = ("same links", "other links", "kaplan", "bent", "joined")
"""Chinchilla's law with one step 2 or two; then laws that the fitted form is not."""
SIZES = (1.0e8, 1.9e8, 3.7e8, 7.6e8, 1.28e9, 3.2e9)
PROGRESS = np.array([0.2, 0.4, 0.6, 0.8, 0.92, 0.94, 0.96, 0.98, 1.0])
TASKS = 4


@dataclass(frozen=True)
class Truth:
    """One recipe's true laws on one task."""

    kind: str
    a: float
    alpha: float
    b: float
    beta: float
    floor: float
    bend: float
    chance: float
    middle: float
    slope: float

    def loss(self, params: float, tokens: float) -> float:
        """By the law of its kind."""
        n, d = math.log(params / 1e9), math.log(tokens / 1e11)
        size, data = self.a - self.alpha * n, self.b - self.beta * d
        if self.kind == "kaplan":
            both = math.exp(size / self.beta) + math.exp(data / self.beta)
            return both**self.beta + self.floor
        if self.kind == "bent":
            size, data = size + self.bend * n**2, data + self.bend * d**2
        reducible = math.exp(size) + math.exp(data)
        if self.kind == "joined":
            reducible = reducible ** (1 + 10 * self.bend)
        return reducible + self.floor

    def accuracy(self, loss: np.ndarray | float) -> np.ndarray | float:
        """A sigmoid from `chance` at a great loss to 1 at none."""
        gate = 1 / (1 + np.exp(-self.slope * (loss - self.middle)))
        least = 1 / (1 + np.exp(self.slope * self.middle))
        return 1 - (1 - self.chance) * (gate - least) / (1 - least)


@dataclass(frozen=True)
class Pair:
    """Two recipes' tables and their truths by task."""

    kind: str
    noise: float
    size: float
    tables: tuple[pd.DataFrame, pd.DataFrame]
    truths: tuple[dict[str, Truth], dict[str, Truth]]
    target: Target


def draw_pair(seed: int, tasks: int = TASKS) -> Pair:
    """A pair of recipes: the kind goes by the seed, everything else is drawn.

    3 to 5 sizes, 3 or 4 multiples, noise of a run 0.2% to 2%, a target 8 to 300 times the compute
    of the costliest rung; recipes differ by 0.3% to 10% in A and B, and in proportion in E, alpha
    and beta, each proportion drawn anew; half of a difference is common to all tasks.
    """
    rng = np.random.default_rng(seed)
    kind = KINDS[seed % len(KINDS)]
    sizes = np.sort(rng.choice(SIZES, rng.integers(3, 6), replace=False))
    multiples = np.sort(rng.choice((0.5, 1, 2, 5, 10), rng.integers(3, 5), replace=False))
    noise = _log_uniform(rng, 0.002, 0.02)
    cost = 20 * sizes[-1] ** 2 * multiples[-1] * _log_uniform(rng, 8, 300)
    ratio = 20 * _log_uniform(rng, multiples[0], 20)
    target = Target("T", math.sqrt(cost / ratio), math.sqrt(cost * ratio))
    size = float(rng.choice((0.003, 0.01, 0.03, 0.1)))
    scale = size * np.array([1, 1, 0.5, 0.25, 0.25]) * np.exp(rng.normal(0, 0.7, 5))
    common = rng.normal(size=5)
    centre = rng.normal(0.3, 0.05, 2)
    bend = float(rng.normal(0, 0.008))
    truths: tuple[dict[str, Truth], dict[str, Truth]] = ({}, {})
    frames: tuple[list[pd.DataFrame], list[pd.DataFrame]] = ([], [])
    runs = [(f"{n / 1e6:.0f}M-{m:g}xC", "ladder", n, 20 * n * m) for n in sizes for m in multiples]
    runs.append(("T", "target", target.params, target.tokens))
    for i in range(tasks):
        alpha, beta = np.clip(rng.normal(centre, 0.04), 0.12, 0.6)
        base = Truth(
            kind=kind,
            a=math.log(rng.uniform(0.08, 0.3)),
            alpha=float(alpha),
            b=math.log(rng.uniform(0.08, 0.3)),
            beta=float(beta),
            floor=float(rng.uniform(0.2, 0.7)),
            bend=bend,
            chance=float(rng.choice((0.2, 0.25, 0.5))),
            middle=0.0,
            slope=float(rng.uniform(4, 10)),
        )
        typical = base.loss(sizes[len(sizes) // 2], 60 * sizes[len(sizes) // 2])
        base = replace(base, middle=typical * float(rng.uniform(0.55, 1.0)))
        step = scale * (common + rng.normal(size=5)) / math.sqrt(2)
        other = replace(
            base,
            a=base.a + step[0],
            b=base.b + step[1],
            floor=base.floor * math.exp(step[2]),
            alpha=base.alpha + step[3],
            beta=base.beta + step[4],
        )
        if kind == "other links":
            other = replace(
                other,
                middle=other.middle + float(rng.normal(0, 0.02)),
                slope=other.slope * math.exp(rng.normal(0, 0.05)),
            )
        items, luck = int(rng.choice((500, 1000, 2000, 10000))), rng.normal()
        for side, truth in enumerate((base, other)):
            truths[side][f"t{i}"] = truth
            frames[side].extend(
                _run(rng, truth, f"t{i}", run, role, n, d, noise, items, luck)
                for run, role, n, d in runs
            )
    one, two = (pd.concat(f, ignore_index=True) for f in frames)
    return Pair(kind, noise, size, (one, two), truths, target)


def _run(
    rng: np.random.Generator,
    truth: Truth,
    task: str,
    run: str,
    role: str,
    params: float,
    tokens: float,
    noise: float,
    items: int,
    luck: float,
) -> pd.DataFrame:
    """A run's rows: noise of the run and of checkpoints; half of the items' luck is everyone's."""
    count = len(PROGRESS)
    end = truth.loss(params, tokens) * math.exp(rng.normal(0, noise))
    losses = end * (1 + 0.08 * (1 - PROGRESS) ** 1.5) * np.exp(rng.normal(0, noise / 2, count))
    accuracy = truth.accuracy(losses)
    deviation = np.sqrt(accuracy * (1 - accuracy) / items / 2)
    own = 0.7 * rng.normal() + 0.7 * rng.normal(size=count)
    return pd.DataFrame(
        {
            "run": run,
            "role": role,
            "params": float(params),
            "tokens": tokens * PROGRESS,
            "step": np.arange(1, count + 1),
            "final": PROGRESS == 1,
            "task": task,
            "loss": losses,
            "loss_unit": "bits/byte",
            "accuracy": np.clip(accuracy + deviation * (luck + own), 0, 1),
            "accuracy_metric": "acc",
            "chance": truth.chance,
            "instances": items,
        }
    )


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return math.exp(rng.uniform(math.log(low), math.log(high)))
