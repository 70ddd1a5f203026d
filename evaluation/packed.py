"""Log-likelihoods of choices as a packed tree: the shared prefix runs once, nothing is padded.

A task's contexts mostly begin with the same few-shot examples. Their longest common prefix in
tokens is run once and its keys and values are kept; then the rest of many contexts, each with its
choices, goes into one row, where a mask lets every choice see its own context only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from evaluation.encoding import Branch
from evaluation.rows import Found, kept_logits

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class _Row:
    """Several branches behind one prefix, as one sequence of Q tokens."""

    tokens: torch.Tensor  # (1, Q)
    positions: torch.Tensor  # (1, Q)
    visible: torch.Tensor  # (Q, P + Q), True where a query sees a key
    keep: torch.Tensor  # (K,) positions whose logits are needed
    read: torch.Tensor  # (R, 3): place among the kept, token, place among the results


class PackedRows:
    """Scores groups of branches, one row of tokens each; the model must take a 4-D mask."""

    def __init__(self, model: PreTrainedModel, prefix: Sequence[int]) -> None:
        """Run the prefix once; every branch's context must begin with it and go on."""
        self.model = model
        self.prefix = len(prefix)
        self.cache: Any = None
        if prefix:
            ids = torch.tensor([prefix], device=model.device)
            self.cache = kept_logits(model, 1, input_ids=ids, use_cache=True).past_key_values

    def cost(self, branch: Branch) -> int:
        """Tokens that a branch adds to a row."""
        choices = sum(len(tokens) - 1 for _, tokens in branch.choices)
        return len(branch.context) - self.prefix + choices

    def score(self, group: Sequence[Branch]) -> Found:
        """Log-likelihood of every choice of the branches."""
        row = _row(group, self.prefix)
        try:
            logits = self._forward(row).float()  # (K, V)
        finally:
            if self.cache is not None and (more := self.cache.get_seq_length() - self.prefix):
                self.cache.crop(-more)
        place, token, choice = row.read.T.to(logits.device)
        log_p = logits[place, token] - logits.logsumexp(dim=-1)[place]
        return Found(choice.cpu(), log_p.double().cpu())

    def _forward(self, row: _Row) -> torch.Tensor:
        """Logits (K, V) of the kept positions."""
        device, dtype = self.model.device, self.model.dtype
        mask = torch.zeros(row.visible.shape, dtype=dtype, device=device)
        mask.masked_fill_(~row.visible.to(device), torch.finfo(dtype).min)
        output = kept_logits(
            self.model,
            row.keep.to(device),
            input_ids=row.tokens.to(device),
            position_ids=row.positions.to(device),
            attention_mask=mask[None, None],
            past_key_values=self.cache,
            use_cache=self.cache is not None,
        )
        logits: torch.Tensor = output.logits[0]
        return logits


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


def common_prefix(contexts: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """The longest prefix of all contexts that leaves at least one token of each."""
    first, last = min(contexts), max(contexts)
    least = min(len(context) for context in contexts) - 1
    length = 0
    while length < least and first[length] == last[length]:
        length += 1
    return tuple(first[:length])


def _row(group: Sequence[Branch], prefix: int) -> _Row:
    tokens: list[int] = []
    positions: list[int] = []
    spans: list[tuple[int, int, int, int]] = []  # start and stop, and of the context before it
    read: list[tuple[int, int, int]] = []
    keep: list[int] = []
    for branch in group:
        suffix = branch.context[prefix:]
        start = len(tokens)
        tokens += suffix
        positions += range(prefix, prefix + len(suffix))
        end = len(tokens)
        spans.append((start, end, start, start))
        root = len(keep)
        keep.append(end - 1)
        for place, choice in branch.choices:
            begin = len(tokens)
            tokens += choice[:-1]
            positions += range(prefix + len(suffix), prefix + len(suffix) + len(choice) - 1)
            spans.append((begin, len(tokens), start, end))
            read.append((root, choice[0], place))
            for offset, token in enumerate(choice[1:]):
                read.append((len(keep), token, place))
                keep.append(begin + offset)
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
