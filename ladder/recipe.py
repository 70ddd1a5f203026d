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


def batch_sequences_by_params(params: int, sequence_length: int, divisor: float) -> int:
    """Batch in sequences, 160 (N / 108M)^(2/3) of 2048 tokens, rounded to multiples of `divisor`.

    The rule of the published ladder (allenai/OLMo-ladder, after arXiv 2406.19146); its tokens do
    not depend on the sequence length.
    """
    sequences = 160 * (params / 108e6) ** (2 / 3) * 2048 / sequence_length
    return max(1, int(round(sequences / divisor) * divisor))


def learning_rate_by_params(params: int, sequence_length: int, base: float = 0.0047) -> float:
    """Peak learning rate, `base` (N / 108M)^(-1/3) at 2048 tokens a sequence, a quarter at 4096.

    The rule of the published ladder (allenai/OLMo-ladder, after arXiv 2406.19146). It knows these
    two lengths: shorter sequences take the rate at 2048, longer ones than that the quarter.
    """
    rate: float = base * (params / 108e6) ** (-1 / 3)
    return rate if sequence_length <= 2048 else rate / 4


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


def warmup_steps_by_params(params: int, batch_tokens: int) -> int:
    """Steps in which as many tokens are read as there are parameters (allenai/OLMo-ladder)."""
    return round(params / batch_tokens)


def decay_begin(total: int, warmup: int, share: float) -> int:
    """The last step at the peak rate under wsd: in the last `share` of the steps the rate falls.

    It falls in one step at least, and not before warm-up has ended, where that leaves one.
    """
    return min(total - 1, max(warmup, total - max(1, round(total * share))))


def trunk_tokens(shortest: int, longest: int) -> int:
    """Tokens whose batch all multiples of a size share under wsd: the geometric mean of both ends.

    A choice of our own, for batch rules that follow the tokens: one batch must serve all.
    """
    return round(math.sqrt(shortest * longest))


def scheduled(
    step: int,
    total: int,
    warmup: int,
    peak: float,
    schedule: str,
    final: float,
    decay: float = 1.0,
) -> float:
    """Learning rate of optimizer step 1..total: linear rise, then linear or cosine fall, or none.

    `final` is the last step's rate as a share of the peak. Under wsd the rate stays at the peak
    until the last `decay` of the steps, in which it falls linearly; under constant for ever.
    """
    if step <= warmup:
        return peak * step / warmup
    if schedule == "constant":
        return peak
    if schedule == "wsd":
        begin = decay_begin(total, warmup, decay)
        progress = max(0, step - begin) / max(1, total - begin)
        return peak * (final + (1 - final) * (1 - progress))
    progress = (step - warmup) / max(1, total - warmup)
    left = 1 - progress if schedule == "linear" else 0.5 * (1 + math.cos(math.pi * progress))
    return peak * (final + (1 - final) * left)
