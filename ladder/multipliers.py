"""Learnable multipliers, kept by the optimizer: the model holds r_i W_ij c_j, or s W, throughout.

The model is a plain one at every moment, so that nothing around it need know of multipliers and
what is saved is merged already. Memory holds one more copy of the multiplied weights, W.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import distributed, nn
from torch.distributed.tensor import DTensor, Replicate

from ladder.placement import Placed, placements
from ladder.settings import Multipliers

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Multiplied:
    """One weight of the model, and what it is the product of."""

    merged: nn.Parameter
    """The model's own parameter, (rows, columns)."""
    latent: nn.Parameter
    """W, (rows, columns); held by ranks as the model's."""
    multipliers: Mapping[str, nn.Parameter]
    """By name: `scalar` (1), `row` (rows), `column` (columns)."""
    free: torch.Tensor | None
    """Which of this rank's rows scalar or row multipliers reach, bool; all where it is None."""

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def pull(self) -> dict[str, torch.Tensor]:
        """Make the latent's gradient of the merged weight's, which it takes over.

        Returns the gradients of the multipliers by name, as far as this rank's rows go.
        """
        gradient = self.merged.grad
        if gradient is None:
            return {}
        own, rows, columns = local(gradient), self._rows(), self._columns()
        products = local(self.latent) * own  # W_ij G_ij, once for every sum over it.
        found = {}
        if columns is not None:
            found["column"] = products.sum(0) if rows is None else rows @ products
        if rows is not None:
            sums = products.sum(1) if columns is None else products @ columns
            sums = sums if self.free is None else sums * self.free
            found |= {"row": sums} if "row" in self.multipliers else {"scalar": sums.sum(0, True)}
            own.mul_(rows[:, None])
        if columns is not None:
            own.mul_(columns)
        self.latent.grad, self.merged.grad = gradient, None
        return found

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def merge(self) -> None:
        """Set the model's weight to the product."""
        if "row" in self.multipliers and self.free is not None:
            # Rows without a multiplier have decayed with those that have one.
            local(self.multipliers["row"]).masked_fill_(~self.free, 1.0)
        own, latent, rows, columns = (
            local(self.merged),
            local(self.latent),
            self._rows(),
            self._columns(),
        )
        if rows is None:
            torch.mul(latent, columns, out=own)
            return
        torch.mul(latent, rows[:, None], out=own)
        if columns is not None:
            own.mul_(columns)

    def _rows(self) -> torch.Tensor | None:
        """What multiplies this rank's rows."""
        if "row" in self.multipliers:
            return local(self.multipliers["row"])
        if "scalar" not in self.multipliers:
            return None
        scalar = local(self.multipliers["scalar"])
        if self.free is None:
            return scalar.expand(len(local(self.latent)))
        return torch.where(self.free, scalar, 1.0)

    def _columns(self) -> torch.Tensor | None:
        return local(self.multipliers["column"]) if "column" in self.multipliers else None


class MultipliedWeights(Mapping[str, Multiplied]):
    """The multiplied weights of a model by the parameter's name, in the model's order."""

    def __init__(self, model: PreTrainedModel, settings: Multipliers) -> None:
        """Multipliers of 1 where the settings place them; InputError where they cannot."""
        placed = placements(model, settings)
        self.weights = {
            name: _multiplied(weight, placed[name])
            for name, weight in model.named_parameters()
            if name in placed
        }
        self.multipliers = {
            f"{name.rpartition('.')[0]}.{side}": one
            for name, weight in self.weights.items()
            for side, one in weight.multipliers.items()
        }
        """All multipliers by their module's name and side, `model.layers.0.mlp.up_proj.row`."""

    def __getitem__(self, name: str) -> Multiplied:
        return self.weights[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.weights)

    def __len__(self) -> int:
        return len(self.weights)

    def pull(self) -> None:
        """Once the model's gradients are whole: those of latents and multipliers instead."""
        found = [
            (weight.multipliers[side], side, gradient)
            for weight in self.weights.values()
            for side, gradient in weight.pull().items()
        ]
        # Rows of one weight lie on many ranks; what sums over them is summed in one message.
        shared = [gradient for one, side, gradient in found if _is_partial(one, side)]
        if shared:
            group = next(iter(self.multipliers.values())).device_mesh.get_group()
            together = torch.cat(shared)
            distributed.all_reduce(together, group=group)
            parts = together.split([len(gradient) for gradient in shared])
            for gradient, whole in zip(shared, parts, strict=True):
                gradient.copy_(whole)
        for one, _, gradient in found:
            one.grad = _held_alike(gradient, one)

    def merge(self) -> None:
        """After a step: the products into the model."""
        for weight in self.weights.values():
            weight.merge()

    def forget(self) -> None:
        """Drop the gradients of the model's multiplied weights."""
        for weight in self.weights.values():
            weight.merged.grad = None


def local(tensor: torch.Tensor) -> torch.Tensor:
    """What this rank holds of a tensor, the same memory."""
    plain = tensor.detach()
    return plain.to_local() if isinstance(plain, DTensor) else plain


def _multiplied(merged: nn.Parameter, placed: Placed) -> Multiplied:
    data = merged.detach()
    rows, columns = data.shape
    sizes = {
        side: size
        for side, size, is_placed in (
            ("scalar", 1, placed.scalar),
            ("row", rows, placed.row),
            ("column", columns, placed.column),
        )
        if is_placed
    }
    multipliers = {side: _ones(size, data, side == "row") for side, size in sizes.items()}
    free = None if placed.rows is None else _share(placed.rows.to(local(data).device), data, True)
    latent = nn.Parameter(data.clone())
    return Multiplied(merged, latent, multipliers, None if free is None else local(free))


def _ones(size: int, weight: torch.Tensor, by_row: bool) -> nn.Parameter:
    own = local(weight)
    ones = torch.ones(size, dtype=own.dtype, device=own.device)
    return nn.Parameter(_share(ones, weight, by_row))


def _share(whole: torch.Tensor, weight: torch.Tensor, by_row: bool) -> torch.Tensor:
    """A vector that every rank has whole, held as ranks hold a weight: by its rows, or whole."""
    if not isinstance(weight, DTensor):
        return whole
    everywhere = [Replicate()] * weight.device_mesh.ndim
    shared = DTensor.from_local(whole, weight.device_mesh, everywhere, run_check=False)
    return shared.redistribute(placements=weight.placements) if by_row else shared


def _is_partial(multiplier: torch.Tensor, side: str) -> bool:
    """Whether a rank's gradient of a multiplier is only its rows' part of a sum."""
    return isinstance(multiplier, DTensor) and side != "row"


def _held_alike(own: torch.Tensor, multiplier: torch.Tensor) -> torch.Tensor:
    """A rank's part of a gradient, as the multiplier is held."""
    if not isinstance(multiplier, DTensor):
        return own
    return DTensor.from_local(
        own,
        multiplier.device_mesh,
        multiplier.placements,
        run_check=False,
        shape=multiplier.shape,
        stride=multiplier.stride(),
    )
