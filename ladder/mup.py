"""muP: what each parameter's initial weights, learning rate and decay are multiplied by; no torch.

A base model and the wider one are compared by the shapes of their parameters, both built without
weights, so that it holds for any architecture: a dimension that differs is one that grows with
width, `into` and `out` by how much a matrix's inputs and outputs grew. What is well tuned for the
base then is so for the wider model. It says nothing about depth.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evaluation.files import InputError

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel

    from ladder.config import Experiment
    from ladder.settings import Model, Muon, Recipe
    from ladder.shapes import Shape

KEPT = {"head_dim": "head width", "head_size": "head width", "ssm_state_size": "state size"}
"""Attributes of modules over which logits or states are summed, and which must not grow."""


@dataclass(frozen=True)
class Factors:
    """Of one parameter, relative to the recipe's own values; 1 leaves them as they are."""

    init: float = 1.0
    """Of the standard deviation of its initial weights."""
    learning_rate: float = 1.0
    weight_decay: float = 1.0


@dataclass(frozen=True)
class Growth:
    """A matrix (out, in) of a linear map, and the base's."""

    shape: tuple[int, int]
    base: tuple[int, int]

    @property
    def out(self) -> float:
        """Outputs as a multiple of the base's."""
        return self.shape[0] / self.base[0]

    @property
    def into(self) -> float:
        """Inputs as a multiple of the base's."""
        return self.shape[1] / self.base[1]


def factors(config: Experiment, shape: Shape, vocabulary: int) -> dict[str, Factors]:
    """Factors by parameter of a model of that shape; none under standard parametrisation.

    Raises InputError as `compare`.
    """
    base = config.mup_base
    if base is None:
        return {}
    small, wide = (_skeleton(config.model, own, vocabulary) for own in (base, shape))
    return compare(small, wide, config.recipe, config.model.init)


def compare(
    base: PreTrainedModel, model: PreTrainedModel, recipe: Recipe, init: str
) -> dict[str, Factors]:
    """Factors by parameter of `model`, tuned as `base`; `init` is that of the model's settings.

    Parameters are matched by name, those of blocks beyond the base's depth with the first block
    that has them. Raises InputError, naming the parameter, where they do not match: no counterpart,
    other dimensions, an unknown kind of matrix, other head widths, a head tied to the embedding.
    """
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    if head is None or head.weight is embedding.weight:
        raise InputError(
            "recipe.parametrisation mup: the output head is tied to the embedding, and the two "
            "scale differently; untie them"
        )
    _check_kept(base, model)
    known = _by_pattern({name: tuple(p.shape) for name, p in base.named_parameters()})
    modules = dict(model.named_modules())
    found: dict[str, Factors] = {}
    for name, weight in model.named_parameters():
        shape, module = tuple(weight.shape), modules[name.rpartition(".")[0]]
        before = known.get(name) or known.get(_pattern(name))
        if before is None or len(before) != len(shape):
            told = "the base has none such" if before is None else f"the base's is {list(before)}"
            raise InputError(
                f"recipe.parametrisation mup: {name} is {list(shape)}, {told}; take a base of the "
                "same architecture"
            )
        growth = _growth(name, module, shape, before)
        by_muon = recipe.optimizer == "muon" and weight.ndim == 2
        by_muon = by_muon and module is not head and module is not embedding
        found[name] = _factors(growth, recipe.muon if by_muon else None, init)
    return found


def initial_std(growth: Growth) -> float:
    """Standard deviation of initial weights, relative to the base's.

    1/sqrt(in) where the outputs grow too, 1/in where they do not, as in the output head
    (arXiv 2203.03466, Table 3, its multiplier of the output put into the weights).
    """
    return 1 / growth.into if growth.out == 1 else growth.into**-0.5


def adamw_learning_rate(growth: Growth) -> float:
    """1/in: every element moves by about the rate, and they add up (arXiv 2203.03466, Table 3)."""
    return 1 / growth.into


def muon_learning_rate(growth: Growth, muon: Muon) -> float:
    """What keeps the update's spectral norm at sqrt(out / in) (arXiv 2310.17813).

    Muon's is 1 before torch.optim.Muon adjusts the rate. original multiplies it by
    max(1, out/in)^1/2: nothing is left to do where both grow alike. match_rms_adamw multiplies it
    by .2 max(out, in)^1/2: there 1/sqrt(in) is.
    """

    def excess(out: int, into: int) -> float:
        adjusted = max(1, out / into) if muon.adjust_lr_fn == "original" else max(out, into)
        return float((adjusted * into / out) ** 0.5)

    return excess(*growth.base) / excess(*growth.shape)


def weight_decay(learning_rate: float) -> float:
    """What keeps rate times decay, the share that a step takes from the weights, as in the base.

    The equilibrium of noise and decay then is the base's too (arXiv 2601.04890, Table 1).
    """
    return 1 / learning_rate


def _factors(growth: Growth | None, muon: Muon | None, init: str) -> Factors:
    if growth is None:
        return Factors()
    rate = adamw_learning_rate(growth) if muon is None else muon_learning_rate(growth, muon)
    # Under fan_in the model starts at 1/sqrt(in) by itself.
    own = growth.into**-0.5 if init == "fan_in" else 1.0
    return Factors(initial_std(growth) / own, rate, weight_decay(rate))


def _growth(
    name: str, module: nn.Module, shape: tuple[int, ...], base: tuple[int, ...]
) -> Growth | None:
    """How a matrix grew; None for what acts on every element alone or looks rows up.

    Embeddings, norms, biases, convolutions along the sequence and what a state-space layer keeps
    by channel: they stay as they are (arXiv 2203.03466, Table 3: input weights and biases).
    """
    from torch import nn

    if isinstance(module, nn.Linear) and len(shape) == 2:
        return Growth((shape[0], shape[1]), (base[0], base[1]))
    if sum(a != b for a, b in zip(shape, base, strict=True)) > 1:
        raise InputError(
            f"recipe.parametrisation mup: {name} of {type(module).__name__} grows from "
            f"{list(base)} to {list(shape)}, and muP cannot tell its inputs from its outputs; take "
            "standard"
        )
    return None


def _check_kept(base: PreTrainedModel, model: PreTrainedModel) -> None:
    for name, label in KEPT.items():
        small, wide = (
            {getattr(module, name) for module in each.modules() if hasattr(module, name)}
            for each in (base, model)
        )
        if small and wide and small != wide:
            told = " and ".join(str(sorted(values)).strip("[]") for values in (wide, small))
            raise InputError(
                f"recipe.parametrisation mup: {label} of the model and of its base are {told}; "
                "make them equal, and let the number of heads grow"
            )


def _by_pattern(shapes: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """Shapes by name, and those of the first block that has them by the pattern of the name."""
    first = {_pattern(name): shape for name, shape in reversed(list(shapes.items()))}
    return {**first, **shapes}


def _pattern(name: str) -> str:
    return re.sub(r"\.\d+\.", ".*.", name)


def _skeleton(config: Model, shape: Shape, vocabulary: int) -> PreTrainedModel:
    """The model without weights."""
    import torch
    from transformers import AutoModelForCausalLM

    from ladder.model import hugging_face_config

    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(hugging_face_config(config, shape, vocabulary))
