"""Log-likelihoods of choices as a packed tree: the shared prefix runs once, nothing is padded.

A task's contexts mostly begin with the same few-shot examples. Their longest common prefix in
tokens is run once and its keys and values are kept; then the rest of many contexts, each with its
choices, goes into one row, where a mask lets every choice see its own context only.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from evaluation.encoding import Branch
from evaluation.rows import Found, kept_logits

if TYPE_CHECKING:
    from transformers import PreTrainedModel


UNBOUNDED = 2**62


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
        from transformers import DynamicCache

        self.model = model
        self.prefix = len(prefix)
        self.cache: Any = None
        if prefix:
            ids = torch.tensor([list(prefix)], device=model.device)
            # A cache of no model's own: one that forgets beyond a window could not go back.
            output = kept_logits(
                model, 1, input_ids=ids, past_key_values=DynamicCache(), use_cache=True
            )
            self.cache = output.past_key_values

    def cost(self, branch: Branch) -> int:
        """Tokens that a branch adds to a row."""
        choices = sum(len(tokens) - 1 for _, tokens in branch.choices)
        return len(branch.context) - self.prefix + choices

    def score(self, group: Sequence[Branch]) -> Found:
        """Log-likelihood of every choice of the branches."""
        row = _row(group, self.prefix)
        # Put back as they were, not cropped: a pass that ends in the middle, for lack of memory,
        # has lengthened the first layers only.
        before = [(layer, layer.keys, layer.values) for layer in self._layers]
        try:
            logits = self._forward(row).float()  # (K, V)
        finally:
            for layer, keys, values in before:
                layer.keys, layer.values = keys, values
        place, token, choice = row.read.T.to(logits.device)
        log_p = logits[place, token] - logits.logsumexp(dim=-1)[place]
        return Found(choice.cpu(), log_p.cpu().double())

    @property
    def _layers(self) -> list[Any]:
        return [] if self.cache is None else list(self.cache.layers)

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


def packed_span(model: PreTrainedModel) -> int:
    """Most tokens that a prefix and a row may have together; 0 for a model that takes no mask.

    The mask has four dimensions: a row per token that asks, a column per token that is seen. Models
    with full attention by sdpa or eager take it, and those with a sliding window where everything
    lies inside. Without positions given, as with ALiBi, a choice would count its neighbours'.
    """
    config = model.config.get_text_config()
    parameters = inspect.signature(model.forward).parameters
    if getattr(config, "_attn_implementation", None) not in ("sdpa", "eager"):
        return 0
    if "position_ids" not in parameters or getattr(config, "alibi", False):
        return 0
    if not hasattr(config, "num_attention_heads") or hasattr(config, "attention_types"):
        return 0
    if varies_with_length(model):
        return 0
    kinds = set(getattr(config, "layer_types", None) or ())
    if not kinds <= {"full_attention", "sliding_attention"}:
        return 0
    window = getattr(config, "sliding_window", None)
    if window is None or not getattr(config, "use_sliding_window", True):
        return UNBOUNDED if "sliding_attention" not in kinds else 0
    return int(window) if kinds != {"full_attention"} else UNBOUNDED


def varies_with_length(model: PreTrainedModel) -> bool:
    """Whether the rotary embedding depends on the longest sequence of the pass."""
    config = model.config.get_text_config()
    rope = getattr(config, "rope_parameters", None) or {}
    kinds = {rope.get("rope_type"), *(r.get("rope_type") for r in _sections(rope))}
    return bool(kinds & {"longrope", "dynamic"})


def _sections(rope: dict[str, Any]) -> list[dict[str, Any]]:
    """Rotary embeddings of single kinds of layers, where a model has several."""
    return [part for part in rope.values() if isinstance(part, dict)]


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
