"""A synthetic ladder whose checkpoints follow a known gap, and a bigger run in flight."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from conftest import true_accuracy, true_loss

from evaluation.records import validate

SHARES = np.round(np.arange(0.05, 1.0001, 0.05), 2)


def gap(share: float) -> float:
    """By how much, relatively, a checkpoint in the middle of a schedule is worse."""
    return 0.08 * (1 - share)


def in_flight(
    factor: float = 1.0,
    until: float = 1.0,
    noise: float = 0.0,
    end: float = 200,
    run: str = "big",
) -> pd.DataFrame:
    """A ladder whose checkpoints follow `gap`, and a bigger run that is `factor` off the law."""
    generator = np.random.default_rng(1)
    rows = []
    sizes = (1.9e8, 3.7e8, 7.6e8, 1.28e9)
    runs = [
        (f"{n:.2g}-{m}xC", "ladder", n, 20.0 * n * m, 1.0) for n in sizes for m in (1, 2, 5, 10)
    ]
    for name, role, params, tokens, off in [*runs, (run, "extra", 6.9e9, end * 6.9e9, factor)]:
        for step, share in enumerate(SHARES, 1):
            if name == run and share > until:
                continue
            clean = true_loss(params, share * tokens) * off * (1 + gap(share))
            loss = clean * math.exp(noise * generator.normal())
            rows.append(
                {
                    "run": name,
                    "role": role,
                    "params": params,
                    "tokens": share * tokens,
                    "step": step,
                    "final": share == 1.0,
                    "task": "quiz",
                    "loss": loss,
                    "loss_unit": "bits/byte",
                    "accuracy": true_accuracy(clean),
                    "chance": 0.25,
                    "instances": 1000,
                }
            )
    return validate(pd.DataFrame(rows))
