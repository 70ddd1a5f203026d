"""What both ways to score rows share: logits where they are needed, groups sized to memory."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import torch

from evaluation.encoding import Branch
from evaluation.files import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

SHARE = 1 / 16
"""Most of the device's memory that the logits of one pass may take."""

LOGIT_BYTES = 12
"""Bytes a kept logit costs: itself, in fp32, and in the sum over the vocabulary."""


@dataclass(frozen=True)
class Found:
    """Log-probabilities to be added up by the choice that they belong to."""

    place: torch.Tensor  # (R,) place of the choice among the results
    log_p: torch.Tensor  # (R,) nats, float64


class Rows(Protocol):
    """A way to score a group of branches in one pass of the model."""

    def cost(self, branch: Branch) -> int:
        """Tokens that a branch adds to a pass."""

    def score(self, group: Sequence[Branch]) -> Found:
        """Log-likelihood of every choice of the branches."""


def groups(rows: Rows, branches: Sequence[Branch], limit: int) -> list[list[Branch]]:
    """Branches, in their order, in groups of at most `limit` tokens; a long one stands alone."""
    found: list[list[Branch]] = []
    used = limit
    for branch in branches:
        cost = rows.cost(branch)
        if not found or used + cost > limit:
            found.append([])
            used = 0
        found[-1].append(branch)
        used += cost
    return found


def score_groups(
    rows: Rows, waiting: Sequence[Sequence[Branch]], done: Callable[[int], None]
) -> Iterator[Found]:
    """Score groups one after another; one that does not fit into memory is halved, for good.

    `done` is told the tokens of each group that was scored. Raises InputError where one choice
    alone does not fit.
    """
    stack = [list(group) for group in reversed(waiting)]
    limit: int | None = None
    while stack:
        group = stack.pop()
        cost = sum(map(rows.cost, group))
        halves = _halves(group)
        if limit is not None and cost > limit and halves:
            stack += halves[::-1]
            continue
        try:
            found = rows.score(group)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            if not halves:
                raise InputError(
                    f"not enough memory for one choice of {cost} tokens; use a smaller model, "
                    "--dtype bfloat16 or another --device"
                ) from error
            limit = cost // 2
            stack += halves[::-1]
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            continue
        done(cost)
        yield found


def kept_logits(model: PreTrainedModel, keep: int | torch.Tensor, **inputs: Any) -> Any:
    """The model's output with logits (B, K, V) of the kept positions only."""
    parameters = inspect.signature(model.forward).parameters
    if "use_cache" in parameters:
        inputs.setdefault("use_cache", False)
    if "logits_to_keep" in parameters:
        return model(**inputs, logits_to_keep=keep)
    output = model(**inputs)
    output.logits = output.logits[:, -keep:] if isinstance(keep, int) else output.logits[:, keep]
    return output


def most_logits(model: PreTrainedModel) -> int:
    """Positions whose logits one pass may keep, by the memory of the model's device."""
    if model.device.type == "cuda":
        memory = torch.cuda.get_device_properties(model.device).total_memory
    elif hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    else:
        memory = 8 * 2**30
    vocabulary = int(model.get_input_embeddings().weight.shape[0])
    return max(64, int(memory * SHARE / (LOGIT_BYTES * vocabulary)))


def _halves(group: Sequence[Branch]) -> list[list[Branch]]:
    """The group in two, between branches or else between choices; empty where neither goes."""
    if len(group) > 1:
        middle = len(group) // 2
        return [list(group[:middle]), list(group[middle:])]
    (branch,) = group
    middle = len(branch.choices) // 2
    if not middle:
        return []
    parts = (branch.choices[:middle], branch.choices[middle:])
    return [[Branch(branch.context, part)] for part in parts]


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error says that memory ran out, on a GPU or a CPU."""
    text = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError) or (
        "out of memory" in text or "can't allocate memory" in text or "not enough memory" in text
    )
