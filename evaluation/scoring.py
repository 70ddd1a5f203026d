"""Log-likelihood of every choice of a task under a causal language model."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch

from evaluation.choices import ChoiceScores, choice_scores
from evaluation.encoding import Branch, EncodedTask
from evaluation.files import InputError
from evaluation.packed import PackedRows, common_prefix, takes_packed_rows
from evaluation.padded import PaddedRows, by_length
from evaluation.ranks import ONE, Ranks
from evaluation.rows import Rows, groups, most_logits, score_groups

if TYPE_CHECKING:
    from transformers import PreTrainedModel

PACKED_TOKENS = {"cpu": 384}
"""Tokens of a packed row: enough to fill a matrix product, few enough that little of the mask's
square is wasted (CPU: measured in benchmarks/evaluate_speed)."""

GPU_PACKED_TOKENS = 2048
"""The same on a GPU, not yet measured."""

PADDED_TOKENS = 8192
"""Tokens of a pass of padded rows; on a CPU more brings nothing."""

SAVING = 0.8
"""Packed rows are taken where they have less than so much of the padded rows' tokens: each of
their passes costs more."""

PROBE = (
    Branch((0, 1, 2, 3), ((0, (1, 2, 0)), (1, (3, 1)))),
    Branch((0, 1, 3, 1, 2), ((2, (2, 0)), (3, (1, 3, 2)))),
)
"""Branches on which packed and padded rows must agree before a model's packed rows are trusted."""


def score_task(
    model: PreTrainedModel,
    encoded: EncodedTask,
    progress: Callable[[float], None] = lambda share: None,
    ranks: Ranks = ONE,
) -> ChoiceScores:
    """The record of a task; `progress` is told the share that is done.

    With several ranks each scores its part of the passes and all return the whole: the numbers
    do not depend on how many there are.
    """
    with torch.inference_mode():
        places = len(encoded.tokens)
        found = _log_likelihoods(model, encoded.branches, places, progress, ranks)
        bare = None
        if encoded.unconditional:
            count = len(encoded.unconditional)
            own = _log_likelihoods(model, encoded.unconditional, count, lambda share: None, ranks)
            bare = [own[place] for place in encoded.unconditional_place]
    _check_finite(encoded, found, bare or [])
    return choice_scores(
        encoded.task, found, encoded.tokens, bare, cut=encoded.cut, differ=encoded.differ
    )


def log_likelihoods(model: PreTrainedModel, branches: Sequence[Branch]) -> list[float]:
    """Summed log-probability, nats, of every choice, by its place; fp32 behind the model's head."""
    with torch.inference_mode():
        places = sum(len(branch.choices) for branch in branches)
        return _log_likelihoods(model, branches, places, lambda share: None, ONE)


def _log_likelihoods(
    model: PreTrainedModel,
    branches: Sequence[Branch],
    places: int,
    progress: Callable[[float], None],
    ranks: Ranks,
) -> list[float]:
    rows, passes = _passes(model, branches)
    whole = sum(rows.cost(branch) for group in passes for branch in group)
    count = 0

    def done(tokens: int) -> None:
        nonlocal count
        count += tokens
        progress(min(1.0, count * ranks.world / whole))

    total = torch.zeros(places, dtype=torch.float64)
    for found in score_groups(rows, passes[ranks.rank :: ranks.world], done):
        total.index_add_(0, found.place, found.log_p)
    sums: list[float] = ranks.add(total).tolist()
    return sums


def _check_finite(encoded: EncodedTask, found: Sequence[float], bare: Sequence[float]) -> None:
    if all(map(math.isfinite, (*found, *bare))):
        return
    owners = [item.id for item in encoded.task.items for _ in item.choices]
    broken = (owners[n] for n, value in enumerate(found) if not math.isfinite(value))
    item = next(broken, owners[0])
    raise InputError(
        f"task {encoded.task.name}, item {item}: the model gives no finite probability; its "
        "weights are broken, or --dtype float32 is needed"
    )


def _passes(model: PreTrainedModel, branches: Sequence[Branch]) -> tuple[Rows, list[list[Branch]]]:
    """The cheaper way that the model takes, and the branches of each pass."""
    padded = PaddedRows(model)
    prefix = common_prefix([branch.context for branch in branches])
    packed_cost = len(prefix) + sum(
        len(branch.context) - len(prefix) + sum(len(tokens) - 1 for _, tokens in branch.choices)
        for branch in branches
    )
    if packed_cost < SAVING * sum(map(padded.cost, branches)) and is_packable(model):
        packed = PackedRows(model, prefix)
        limit = PACKED_TOKENS.get(model.device.type, GPU_PACKED_TOKENS)
        return packed, groups(packed, branches, min(limit, most_logits(model)))
    limit = min(PADDED_TOKENS, 4 * most_logits(model))
    return padded, groups(padded, by_length(branches), limit)


def is_packable(model: PreTrainedModel) -> bool:
    """Whether packed rows give this model what padded ones do: its kind says so, and a trial."""
    if not takes_packed_rows(model):
        return False
    try:
        packed = PackedRows(model, common_prefix([branch.context for branch in PROBE]))
        found = packed.score(PROBE)
    except (AttributeError, IndexError, NotImplementedError, RuntimeError, TypeError, ValueError):
        return False
    expected = PaddedRows(model).score(PROBE)
    one, other = (
        torch.zeros(4).double().index_add_(0, f.place, f.log_p) for f in (found, expected)
    )
    # Half precision rounds each way of adding differently.
    tolerance = 1e-3 if model.dtype == torch.float32 else 0.5
    return bool(torch.allclose(one, other, rtol=0, atol=tolerance))
