"""Log-likelihoods of choices as rows of about one length: for models that take no packed rows.

Padding stands on the right, where no causal model sees it from the positions that are scored, so
that it needs no mask.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from evaluation.encoding import Branch
from evaluation.rows import Found, kept_logits

if TYPE_CHECKING:
    from transformers import PreTrainedModel

PAD = 0
"""Any token will do."""


class PaddedRows:
    """Scores groups of branches, a row for every context with a choice."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model

    def cost(self, branch: Branch) -> int:
        """Tokens of the branch's rows, of which equal ones are one."""
        different = {tokens[:-1] for _, tokens in branch.choices}
        return sum(len(branch.context) + len(tokens) for tokens in different)

    def score(self, group: Sequence[Branch]) -> Found:
        """Log-likelihood of every choice of the branches."""
        rows = _rows(group)
        longest = max(map(len, rows))
        tokens = torch.tensor([[*row, *[PAD] * (longest - len(row))] for row in rows])  # (B, T)
        read = [
            (index, len(row) - len(choice) + offset, token, place)
            for index, (row, scored) in enumerate(rows.items())
            for place, choice in scored
            for offset, token in enumerate(choice)
        ]
        row, position, token, place = torch.tensor(read).T
        first = int(position.min())
        # The kept positions are the last ones of all rows, (K,).
        keep = longest - first
        device = self.model.device
        logits = kept_logits(self.model, keep, input_ids=tokens.to(device)).logits.float()
        row, position, token = row.to(device), (position - first).to(device), token.to(device)
        chosen = logits[row, position, token]  # (R,)
        log_p = chosen - logits.logsumexp(dim=-1)[row, position]
        return Found(place, log_p.cpu().double())


def by_length(branches: Sequence[Branch]) -> list[Branch]:
    """The branches in the order of their rows' lengths, so that little is padded.

    Branches whose choices differ in length are taken apart; those that share a row stay together.
    """
    parts: list[Branch] = []
    for branch in branches:
        own: dict[int, list[tuple[int, tuple[int, ...]]]] = {}
        for place, tokens in branch.choices:
            own.setdefault(len(tokens), []).append((place, tokens))
        parts += [Branch(branch.context, tuple(choices)) for choices in own.values()]
    return sorted(parts, key=lambda b: len(b.context) + len(b.choices[0][1]))


def _rows(
    group: Sequence[Branch],
) -> dict[tuple[int, ...], list[tuple[int, tuple[int, ...]]]]:
    """Rows of tokens and the choices that are read off each: equal ones, but for the last token."""
    rows: dict[tuple[int, ...], list[tuple[int, tuple[int, ...]]]] = {}
    for branch in group:
        for place, tokens in branch.choices:
            rows.setdefault((*branch.context, *tokens[:-1]), []).append((place, tokens))
    return rows
