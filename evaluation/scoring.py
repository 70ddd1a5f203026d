"""Log-likelihood of every choice of a task under a causal language model."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch

from evaluation.choices import ChoiceScores, choice_scores
from evaluation.encoding import Branch, EncodedTask
from evaluation.files import InputError
from evaluation.packed import PackedRows, common_prefix, packed_span, varies_with_length
from evaluation.padded import PaddedRows, by_length
from evaluation.ranks import ONE, Ranks
from evaluation.rows import Rows, groups, is_out_of_memory, most_logits, score_groups

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

ALIKE = 32
"""Tokens in which contexts must agree to be taken for ones with a common prefix."""

WORTH = 512
"""Tokens that a common prefix must save to be run by itself."""

TOLERANCE = 1e-3
"""Nats by which packed and padded rows may differ in the trial: adding up in another order is
rounded otherwise."""

HALF_TOLERANCE = {torch.bfloat16: 0.2, torch.float16: 0.05}
"""The same in half precision."""

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
        _make_equal(encoded.branches, found)
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
    parts = [_passes(model, own) for own in _by_prefix(branches)]
    whole = sum(rows.cost(b) for rows, passes in parts for group in passes for b in group)
    count = 0

    def done(tokens: int) -> None:
        nonlocal count
        count += tokens
        progress(min(1.0, count * ranks.world / whole))

    total = torch.zeros(places, dtype=torch.float64)
    for number, (rows, passes) in enumerate(parts):
        own = passes[(ranks.rank + number) % ranks.world :: ranks.world]
        for found in score_groups(rows, own, done):
            total.index_add_(0, found.place, found.log_p)
    sums: list[float] = ranks.add(total).tolist()
    return sums


def _make_equal(branches: Sequence[Branch], found: list[float]) -> None:
    """Give choices of the same tokens behind the same context one score.

    Where they stand in a pass they are rounded otherwise, and the last digit would pick of them.
    """
    for branch in branches:
        first: dict[tuple[int, ...], int] = {}
        for place, tokens in branch.choices:
            found[place] = found[first.setdefault(tokens, place)]


def _by_prefix(branches: Sequence[Branch]) -> list[list[Branch]]:
    """Branches that begin alike together, so that they share a prefix; the others by themselves.

    A context that was cut, or another subject's examples, would leave nothing to share.
    """
    alike: dict[tuple[int, ...], list[Branch]] = {}
    for branch in branches:
        alike.setdefault(branch.context[:ALIKE], []).append(branch)
    shared, others = [], []
    for own in alike.values():
        saved = (len(own) - 1) * len(common_prefix([branch.context for branch in own]))
        if saved >= WORTH:
            shared.append(own)
        else:
            others += own
    return [*shared, others] if others else shared


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
    costs = [
        len(branch.context) - len(prefix) + sum(len(tokens) - 1 for _, tokens in branch.choices)
        for branch in branches
    ]
    room = packed_span(model) - len(prefix)
    is_cheaper = len(prefix) + sum(costs) < SAVING * sum(map(padded.cost, branches))
    if is_cheaper and max(costs) <= room and is_packable(model):
        try:
            packed = PackedRows(model, prefix)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            raise InputError(
                f"not enough memory for the {len(prefix)} tokens that all contexts share; use a "
                "smaller model, --dtype bfloat16 or another --device"
            ) from error
        limit = PACKED_TOKENS.get(model.device.type, GPU_PACKED_TOKENS)
        return packed, groups(packed, branches, min(limit, most_logits(model), room))
    limit = 1 if varies_with_length(model) else min(PADDED_TOKENS, 4 * most_logits(model))
    return padded, groups(padded, by_length(branches), limit)


def is_packable(model: PreTrainedModel) -> bool:
    """Whether packed rows give this model what padded ones do: its kind says so, and a trial."""
    if not packed_span(model):
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
    tolerance = HALF_TOLERANCE.get(model.dtype, TOLERANCE)
    return bool(torch.allclose(one, other, rtol=0, atol=tolerance))
