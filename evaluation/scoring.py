"""Log-likelihood of every choice of a task under a causal language model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from evaluation.files import InputError
from evaluation.tasks import Task

if TYPE_CHECKING:
    from transformers import PreTrainedModel

BATCH_TOKENS = 8192
"""Tokens of one forward pass; on a CPU more brings nothing."""


@dataclass(frozen=True)
class _Batch:
    """Rows of one length, and which choices are read off them."""

    tokens: torch.Tensor  # (B, T)
    keep: int
    """Last positions whose logits are needed."""
    row: torch.Tensor  # (K,) row of each scored token
    position: torch.Tensor  # (K,) its position among the kept
    token: torch.Tensor  # (K,)
    choice: torch.Tensor  # (K,) the choice that it belongs to, counted over the task


@dataclass(frozen=True)
class EncodedTask:
    """A task's tokens, ready to be scored by any number of checkpoints."""

    task: Task
    batches: tuple[_Batch, ...]
    choices: int


def encode_task(task: Task, encode: Callable[[str], list[int]]) -> EncodedTask:
    """Tokenise a task once; context and choice are encoded apart.

    Raises InputError naming the item where nothing is left to score.
    """
    encoded = []
    for item in task.items:
        context, choices = encode(item.context), [encode(choice) for choice in item.choices]
        if not context:
            raise InputError(f"task {task.name}, item {item.id}: the context has no tokens")
        for choice, tokens in zip(item.choices, choices, strict=True):
            if not tokens:
                raise InputError(f"task {task.name}, item {item.id}: {choice!r} has no tokens")
        encoded.append((context, choices))
    return batched(task, encoded)


def batched(
    task: Task, encoded: Sequence[tuple[Sequence[int], Sequence[Sequence[int]]]]
) -> EncodedTask:
    """A task from the tokens of each item's context and choices.

    Choices that differ only in their last token share one row, and rows are batched by length, so
    that none is padded.
    """
    rows: dict[tuple[int, ...], list[tuple[int, Sequence[int]]]] = {}
    count = 0
    for context, choices in encoded:
        for tokens in choices:
            rows.setdefault((*context, *tokens[:-1]), []).append((count, tokens))
            count += 1
    by_length: dict[int, list[tuple[int, ...]]] = {}
    for row in rows:
        by_length.setdefault(len(row), []).append(row)
    batches = []
    for length, group in sorted(by_length.items()):
        size = max(1, BATCH_TOKENS // length)
        for start in range(0, len(group), size):
            batches.append(_batch(group[start : start + size], rows))
    return EncodedTask(task, tuple(batches), count)


def log_likelihoods(model: PreTrainedModel, encoded: EncodedTask) -> list[list[float]]:
    """Summed log-probability, nats, of every choice of every item, in fp32."""
    total = torch.zeros(encoded.choices, dtype=torch.float64)
    with torch.inference_mode():
        for batch in encoded.batches:
            tokens = batch.tokens.to(model.device)
            logits = model(input_ids=tokens, logits_to_keep=batch.keep).logits
            logits = logits.float()  # (B, keep, V)
            chosen = logits[batch.row, batch.position, batch.token]  # (K,)
            log_p = chosen - logits.logsumexp(dim=-1)[batch.row, batch.position]
            total.index_add_(0, batch.choice, log_p.double().cpu())
    flat = total.tolist()
    ends = np.cumsum([len(item.choices) for item in encoded.task.items])
    return [
        flat[end - len(item.choices) : end]
        for end, item in zip(ends, encoded.task.items, strict=True)
    ]


def _batch(
    group: list[tuple[int, ...]], rows: dict[tuple[int, ...], list[tuple[int, Sequence[int]]]]
) -> _Batch:
    keep = max(len(tokens) for row in group for _, tokens in rows[row])
    where = [
        (index, keep - len(tokens) + offset, token, choice)
        for index, row in enumerate(group)
        for choice, tokens in rows[row]
        for offset, token in enumerate(tokens)
    ]
    row, position, token, choice = torch.tensor(where).T
    return _Batch(torch.tensor(group), keep, row, position, token, choice)
