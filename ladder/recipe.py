"""Hyperparameters derived from a rung's size and tokens: one function a rule, with its source."""

from __future__ import annotations

import math


def chinchilla_tokens(params: int, multiple: float, tokens_per_param: float = 20) -> int:
    """Tokens of a rung: 1xC is 20 tokens per parameter (arXiv 2412.04403, section 2)."""
    return round(tokens_per_param * params * multiple)


def batch_sequences(tokens: int, divisor: float) -> int:
    """Batch in sequences, growing as the square root of the tokens, at least 2.

    Small runs then take enough steps and long ones fill the vector units. A rule of our own for
    tiny models; what it gives is in benchmarks/quickstart_seeds.md.
    """
    return max(2, round(math.sqrt(tokens) / divisor))


def learning_rate(width: int, base: float) -> float:
    """Peak learning rate, falling as one over the square root of the width.

    Between the constant of standard parametrisation and the 1/width of muP. A rule of our own for
    tiny models; what it gives is in benchmarks/quickstart_seeds.md.
    """
    return base / math.sqrt(width)


def steps(tokens: int, batch_tokens: int) -> int:
    """Optimizer steps: the first whole number of batches that holds all the tokens."""
    return math.ceil(tokens / batch_tokens)


def warmup_steps(total: int, share: float) -> int:
    """Steps in which the learning rate rises."""
    return round(total * share)


def scheduled(
    step: int, total: int, warmup: int, peak: float, schedule: str, final: float
) -> float:
    """Learning rate of optimizer step 1..total: linear rise, then linear or cosine fall.

    `final` is the last step's rate as a share of the peak.
    """
    if step <= warmup:
        return peak * step / warmup
    progress = (step - warmup) / max(1, total - warmup)
    left = 1 - progress if schedule == "linear" else 0.5 * (1 + math.cos(math.pi * progress))
    return peak * (final + (1 - final) * left)
