"""Which weights of a Hugging Face model take learnable multipliers, and on which sides."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import nn

from evaluation.files import InputError
from ladder.parallel import blocks
from ladder.settings import Multipliers

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Reach = Literal["all", "queries", "gate and step"]

NON_REDUNDANT: dict[str, tuple[bool, bool, Reach]] = {
    "q_proj": (True, False, "all"),
    "k_proj": (False, False, "all"),
    "v_proj": (False, False, "all"),
    "o_proj": (True, True, "all"),
    "query_key_value": (True, False, "queries"),
    "dense": (True, True, "all"),
    "gate_proj": (True, False, "all"),
    "up_proj": (False, False, "all"),
    "down_proj": (True, True, "all"),
    "dense_h_to_4h": (True, False, "all"),
    "dense_4h_to_h": (True, True, "all"),
    "in_proj": (True, False, "gate and step"),
    "out_proj": (True, True, "all"),
}
"""Row and column multipliers of a linear layer by its name, and which rows have them: those that no
neighbour could take over (arXiv 2601.04890, appendix C). Without a gate the layer before the
nonlinearity stands in the gate's place. Columns after a norm are that norm's weights."""


@dataclass(frozen=True)
class Placed:
    """The multipliers of one weight."""

    scalar: bool
    row: bool
    column: bool
    rows: torch.Tensor | None = None
    """Which rows scalar or row multipliers reach, bool (rows); all where it is None."""


def placements(model: PreTrainedModel, settings: Multipliers) -> dict[str, Placed]:
    """The multipliers of a model's weights, by the parameter's name; weights without are left out.

    Raises InputError for a tied embedding, and for matrices whose part in the model is not known.
    """
    if settings.kind == "none":
        return {}
    found = {}
    for name, module in _linear(model):
        row, column, rows = True, True, None
        if settings.placement == "non_redundant":
            row, column, rows = _non_redundant(model, name, module)
        found[f"{name}.weight"] = _of_kind(settings.kind, row, column, rows)
    if settings.embedding:
        embedding = model.get_input_embeddings().weight
        if embedding is model.get_output_embeddings().weight:
            raise InputError(
                "recipe.multipliers: multipliers on a tied embedding would change the output head "
                "too; untie it, or set recipe.multipliers.embedding to false"
            )
        name = next(name for name, weight in model.named_parameters() if weight is embedding)
        found[name] = _of_kind(settings.kind, True, True, None)
    return {name: one for name, one in found.items() if one.scalar or one.row or one.column}


def _of_kind(kind: str, row: bool, column: bool, rows: torch.Tensor | None) -> Placed:
    """What of a weight's possible multipliers the kind asks for."""
    if kind == "scalar":
        return Placed(row or column, False, False, rows)
    return Placed(False, row and kind != "column", column and kind != "row", rows)


def _linear(model: PreTrainedModel) -> Iterator[tuple[str, nn.Linear]]:
    """The linear layers of the blocks by name."""
    inside = {id(part) for block in blocks(model) for part in block.modules()}
    for name, module in model.named_modules():
        if id(module) not in inside:
            continue
        if isinstance(module, nn.Linear):
            yield name, module
            continue
        # A short convolution acts on every channel alone, and A_log is no linear map.
        known = isinstance(module, nn.Conv1d)
        for part, weight in module.named_parameters(recurse=False):
            if weight.ndim > 1 and not known and part != "A_log":
                raise InputError(
                    f"recipe.multipliers: {name}.{part} of {type(model).__name__} is no linear "
                    "layer; train it with kind none"
                )


def _non_redundant(
    model: PreTrainedModel, name: str, module: nn.Linear
) -> tuple[bool, bool, torch.Tensor | None]:
    """Row and column multipliers of a linear layer, and the rows that have them."""
    above, _, own = name.rpartition(".")
    mixer = model.get_submodule(above)
    if own not in NON_REDUNDANT:
        raise _unknown(model, name)
    row, column, reach = NON_REDUNDANT[own]
    # Behind a norm's weights column multipliers are one thing twice.
    if own == "out_proj" and not isinstance(getattr(mixer, "norm", nn.Identity()), nn.Identity):
        column = False
    rows = None
    if reach == "queries":
        heads = model.config.num_attention_heads
        # Each head's query, key and value follow one another.
        parts = torch.zeros(heads, 3, len(module.weight) // (3 * heads), dtype=torch.bool)
        parts[:, 0] = True
        rows = parts.flatten()
    elif reach == "gate and step":
        # Gate, channels of the convolution (x, B, C) and steps follow one another.
        names = ("intermediate_size", "conv_dim", "num_heads")
        gate, channels, steps = (int(getattr(mixer, size, 0)) for size in names)
        if not gate or gate + channels + steps != len(module.weight):
            raise _unknown(model, name)
        rows = torch.ones(len(module.weight), dtype=torch.bool)
        rows[gate : gate + channels] = False
    return row, column, rows


def _unknown(model: PreTrainedModel, name: str) -> InputError:
    return InputError(
        f"recipe.multipliers: {name} of {type(model).__name__} has no place in non_redundant; "
        "take placement all"
    )
