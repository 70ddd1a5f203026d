"""Log-likelihoods of choices as a packed tree: the shared prefix runs once, no position is padded.

A task's contexts mostly begin with the same few-shot examples. Their longest common prefix in
tokens is run once and its keys and values are kept; then the rest of many contexts, each with its
choices, goes into one row, where a mask lets every choice see its own context only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from transformers import PreTrainedModel

ROW_TOKENS = 192
"""Tokens of a packed row: enough to fill a matrix product, few enough that little of the mask's
square is wasted."""


@dataclass(frozen=True)
class EncodedItem:
    """One item's tokens."""

    context: tuple[int, ...]
    choices: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class _Row:
    """Several items behind one prefix, as one sequence of Q tokens."""

    tokens: torch.Tensor  # (1, Q)
    positions: torch.Tensor  # (1, Q)
    visible: torch.Tensor  # (Q, P + Q), True where a query sees a key
    keep: torch.Tensor  # (K,) positions whose logits are needed
    read: torch.Tensor  # (R, 3): place among the kept, token, choice counted over the task


def packed_log_likelihoods(
    model: PreTrainedModel, items: Sequence[EncodedItem], row_tokens: int = ROW_TOKENS
) -> list[list[float]]:
    """Summed log-probability, nats, of every choice of every item, in fp32.

    The model must take a mask of four dimensions, see `takes_packed_rows`.
    """
    prefix = common_prefix([item.context for item in items])
    total = torch.zeros(sum(len(item.choices) for item in items), dtype=torch.float64)
    device = model.device
    with torch.inference_mode():
        cache = None
        if prefix:
            ids = torch.tensor([prefix], device=device)
            cache = model(input_ids=ids, use_cache=True, logits_to_keep=1).past_key_values
        for row in _rows(items, len(prefix), row_tokens):
            logits = _forward(model, row, cache).float()  # (K, V)
            place, token, choice = row.read.T.to(device)
            chosen = logits[place, token] - logits.logsumexp(dim=-1)[place]
            total.index_add_(0, choice.cpu(), chosen.double().cpu())
            if cache is not None:
                cache.crop(-row.tokens.shape[1])
    return _nested(total.tolist(), items)


def takes_packed_rows(model: PreTrainedModel) -> bool:
    """Whether the model takes a mask of four dimensions: full attention, by sdpa or eager."""
    config = model.config
    if getattr(config, "_attn_implementation", None) not in ("sdpa", "eager"):
        return False
    kinds = getattr(config, "layer_types", None)
    if kinds is not None:
        return set(kinds) == {"full_attention"}
    if getattr(config, "sliding_window", None) is not None:
        return not getattr(config, "use_sliding_window", True)
    return not getattr(config, "alibi", False) and hasattr(config, "num_attention_heads")


def common_prefix(contexts: Sequence[Sequence[int]]) -> list[int]:
    """The longest prefix of all contexts that leaves at least one token of each."""
    least = min(len(context) for context in contexts) - 1
    first = contexts[0]
    length = 0
    while length < least and all(context[length] == first[length] for context in contexts):
        length += 1
    return list(first[:length])


def _rows(items: Sequence[EncodedItem], prefix: int, row_tokens: int) -> list[_Row]:
    rows: list[_Row] = []
    group: list[EncodedItem] = []
    used = count = begun = 0
    for item in items:
        size = len(item.context) - prefix + sum(len(c) - 1 for c in item.choices)
        if group and used + size > row_tokens:
            rows.append(_row(group, prefix, begun))
            group, used, begun = [], 0, count
        group.append(item)
        used += size
        count += len(item.choices)
    rows.append(_row(group, prefix, begun))
    return rows


def _row(group: Sequence[EncodedItem], prefix: int, first_choice: int) -> _Row:
    tokens: list[int] = []
    positions: list[int] = []
    spans: list[tuple[int, int, int, int]] = []  # start and stop, and of the context before it
    read: list[tuple[int, int, int]] = []
    keep: list[int] = []
    choice_index = first_choice
    for item in group:
        suffix = item.context[prefix:]
        start = len(tokens)
        tokens += suffix
        positions += range(prefix, prefix + len(suffix))
        end = len(tokens)
        spans.append((start, end, start, start))
        root = len(keep)
        keep.append(end - 1)
        for choice in item.choices:
            begin = len(tokens)
            tokens += choice[:-1]
            positions += range(prefix + len(suffix), prefix + len(suffix) + len(choice) - 1)
            spans.append((begin, len(tokens), start, end))
            read.append((root, choice[0], choice_index))
            for offset, token in enumerate(choice[1:]):
                read.append((len(keep), token, choice_index))
                keep.append(begin + offset)
            choice_index += 1
    width = len(tokens)
    visible = torch.zeros(width, prefix + width, dtype=torch.bool)
    visible[:, :prefix] = True
    for begin, stop, context_begin, context_stop in spans:
        size = stop - begin
        own = torch.ones(size, size, dtype=torch.bool).tril()
        visible[begin:stop, prefix + begin : prefix + stop] = own
        visible[begin:stop, prefix + context_begin : prefix + context_stop] = True
    return _Row(
        tokens=torch.tensor([tokens]),
        positions=torch.tensor([positions]),
        visible=visible,
        keep=torch.tensor(keep),
        read=torch.tensor(read),
    )


def _forward(model: PreTrainedModel, row: _Row, cache: object) -> torch.Tensor:
    """Logits (K, V) of the kept positions."""
    device = model.device
    mask = torch.zeros(row.visible.shape, dtype=model.dtype, device=device)
    mask.masked_fill_(~row.visible.to(device), torch.finfo(model.dtype).min)
    output = model(
        input_ids=row.tokens.to(device),
        position_ids=row.positions.to(device),
        attention_mask=mask[None, None],
        past_key_values=cache,
        use_cache=cache is not None,
        logits_to_keep=row.keep.to(device),
    )
    logits: torch.Tensor = output.logits[0]
    return logits


def _nested(flat: list[float], items: Sequence[EncodedItem]) -> list[list[float]]:
    nested, begin = [], 0
    for item in items:
        nested.append(flat[begin : begin + len(item.choices)])
        begin += len(item.choices)
    return nested
