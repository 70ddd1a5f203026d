"""Multipliers in the optimizer are multipliers in the model: gradients, steps, what is saved."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.func import functional_call
from torch.nn import functional
from torch.nn.utils import parametrize
from transformers import (
    AutoModelForCausalLM,
    FalconH1Config,
    Mamba2Config,
)

from evaluation.files import InputError
from ladder.model import build_model
from ladder.multipliers import MultipliedWeights
from ladder.mup import Factors
from ladder.optim import Optimizers, build_optimizers, muon_takes
from ladder.parallel import Parallel
from ladder.placement import placements
from ladder.settings import Execution, Model, Multipliers, Recipe
from ladder.shapes import Shape
from ladder.step import LossModel, optimizer_step

ALONE = Parallel(0, 1, "none", torch.device("cpu"))
SHAPE = Shape(layers=2, width=16, heads=4, hidden=24)
GROUPED = Shape(layers=2, width=16, heads=4, hidden=24, kv_heads=2)
TOKENS = torch.randint(0, 50, (30, 4, 9), generator=torch.Generator().manual_seed(3)) // 7
MODELS = [("olmo2", SHAPE), ("llama", GROUPED)]
KINDS = ["scalar", "row", "column", "both"]
SMALL = {"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 2, "tie_word_embeddings": False}


def built(architecture: str = "olmo2", shape: Shape = SHAPE) -> Any:
    own = Model(architecture=architecture, sequence_length=8, sizes={"x": shape})
    return build_model(own, shape, 50, seed=0)


def mamba(**more: Any) -> Any:
    own = {"state_size": 4, "expand": 2, "head_dim": 8, "num_heads": 4, "n_groups": 1}
    return AutoModelForCausalLM.from_config(Mamba2Config(**{**SMALL, **own, **more}))


def falcon(**more: Any) -> Any:
    own = {
        "intermediate_size": 24,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "mamba_d_ssm": 32,
        "mamba_n_heads": 4,
        "mamba_d_head": 8,
        "mamba_d_state": 4,
        "mamba_n_groups": 1,
    }
    return AutoModelForCausalLM.from_config(FalconH1Config(**{**SMALL, **own, **more}))


def product(weight: torch.Tensor, sides: dict[str, torch.Tensor], free: Any) -> torch.Tensor:
    """The definition: r_i W_ij c_j, or s W, where rows without a multiplier have 1."""
    for side in ("scalar", "row"):
        if side in sides:
            factor = sides[side].expand(len(weight))
            rows = factor if free is None else torch.where(free, factor, 1.0)
            weight = rows[:, None] * weight
    return weight * sides["column"] if "column" in sides else weight


def loss_of(model: Any, weights: dict[str, torch.Tensor] | None, rows: torch.Tensor) -> Any:
    logits = functional_call(model, weights or {}, (), {"input_ids": rows[:, :-1]}).logits
    return functional.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten())


def shaken(weights: MultipliedWeights) -> None:
    """Multipliers away from 1, some of them negative or 0."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for one in weights.multipliers.values():
            one.normal_(0.5, 1, generator=generator)
            one[0] = 0.0 if len(one) > 1 else -0.7
    weights.merge()


@pytest.mark.parametrize(("architecture", "shape"), MODELS)
@pytest.mark.parametrize("placement", ["all", "non_redundant"])
@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_those_of_a_forward_pass_with_the_multipliers_in_it(
    architecture: str, shape: Shape, placement: str, kind: str
) -> None:
    model = built(architecture, shape).double()
    weights = MultipliedWeights(model, Multipliers(kind=kind, placement=placement))
    shaken(weights)
    leaves = {
        name: (
            one.latent.detach().clone().requires_grad_(),
            {s: m.detach().clone().requires_grad_() for s, m in one.multipliers.items()},
        )
        for name, one in weights.items()
    }
    explicit = {n: product(w, sides, weights[n].free) for n, (w, sides) in leaves.items()}
    loss_of(model, explicit, TOKENS[0]).backward()
    loss_of(model, None, TOKENS[0]).backward()
    weights.pull()
    assert weights
    for name, (latent, sides) in leaves.items():
        one = weights[name]
        torch.testing.assert_close(one.latent.grad, latent.grad, rtol=1e-9, atol=1e-14)
        assert one.merged.grad is None
        assert sides.keys() == one.multipliers.keys()
        for side, expected in sides.items():
            found = one.multipliers[side].grad
            torch.testing.assert_close(found, expected.grad, rtol=1e-9, atol=1e-14)
            assert found.abs().max() > 1e-9


class Product(torch.nn.Module):  # type: ignore[misc]
    """The multipliers as a parametrisation of PyTorch's, in the model's forward pass."""

    def __init__(self, sides: dict[str, torch.Tensor], free: torch.Tensor | None) -> None:
        super().__init__()
        self.sides = torch.nn.ParameterDict(
            {side: one.detach().clone() for side, one in sides.items()}
        )
        self.free = free

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return product(weight, dict(self.sides), self.free)


def reference(
    model: Any, recipe: Recipe, rows: torch.Tensor, rate: float, decays: Callable[[str], float]
) -> tuple[Any, list[float]]:
    """The model trained with its multipliers as modules, by AdamW and clipping spelt out."""
    placed = placements(model, recipe.multipliers)
    multipliers, weights = [], []
    for name, one in placed.items():
        module, _, own = name.rpartition(".")
        layer = model.get_submodule(module)
        long, wide = layer.weight.shape
        sizes = {"scalar": 1, "row": long, "column": wide}
        sides = {s: torch.ones(n).double() for s, n in sizes.items() if getattr(one, s)}
        parametrize.register_parametrization(layer, own, Product(sides, one.rows), unsafe=True)
    for name, weight in model.named_parameters():
        if ".sides." in name:
            multipliers.append(weight)
        else:
            weights.append((name.replace(".parametrizations.weight.original", ".weight"), weight))
    own = recipe.multipliers
    groups = [{"params": [w], "weight_decay": decays(n), "lr": rate} for n, w in weights]
    scaled = rate * own.learning_rate_scale
    groups.append({"params": multipliers, "weight_decay": own.weight_decay, "lr": scaled})
    adamw = torch.optim.AdamW(groups, betas=recipe.betas, eps=recipe.eps)
    norms = []
    for batch in rows:
        adamw.zero_grad()
        loss_of(model, None, batch).backward()
        norm = torch.cat([w.grad.flatten() for _, w in weights]).norm()
        norms.append(norm.item())
        factor = min(1.0, recipe.gradient_clip / (norm.item() + 1e-6))
        for weight in model.parameters():
            weight.grad.mul_(factor)
        adamw.step()
        with torch.no_grad():
            for module in model.modules():
                if (
                    isinstance(module, Product)
                    and module.free is not None
                    and "row" in module.sides
                ):
                    module.sides["row"].masked_fill_(~module.free, 1.0)
    return model, norms


def steps(
    model: Any, recipe: Recipe, rows: torch.Tensor, rate: float
) -> tuple[Optimizers, list[float]]:
    """A model trained by the ladder's own step; the norms that it clipped."""
    optimizers = build_optimizers(model, recipe)
    optimizers.set_learning_rate(rate)
    loss_model = LossModel(model, 0.0)
    execution = Execution(device="cpu", micro_batch=2)
    norms = [
        optimizer_step(loss_model, optimizers, r, recipe, execution, ALONE, 4).gradient_norm
        for r in rows
    ]
    return optimizers, norms


@pytest.mark.parametrize(
    ("make", "settings"),
    [
        (built, {"kind": "both"}),
        # Not OLMo-2: its norms leave a scalar no gradient but rounding.
        (lambda: built("llama", GROUPED), {"kind": "scalar", "placement": "non_redundant"}),
        (lambda: built("llama", GROUPED), {"kind": "both", "learning_rate_scale": 3.0}),
        (lambda: built("gpt_neox"), {"kind": "row", "placement": "non_redundant"}),
        (lambda: built("gpt_neox"), {"kind": "scalar", "placement": "non_redundant"}),
    ],
    ids=["olmo2", "scalar", "grouped", "fused", "fused-scalar"],
)
@pytest.mark.parametrize("clip", [1.0, 0.05])
def test_steps_are_those_of_multipliers_in_the_model(
    make: Callable[[], Any], settings: dict[str, Any], clip: float
) -> None:
    recipe = Recipe(multipliers=Multipliers(**settings), gradient_clip=clip)
    model, other = make().double(), make().double()

    def decay(name: str) -> float:
        return recipe.weight_decay if "embed" not in name and _is_matrix(other, name) else 0.0

    optimizers, norms = steps(model, recipe, TOKENS[:8], 0.02)
    expected, expected_norms = reference(other, recipe, TOKENS[:8], 0.02, decay)
    assert norms == pytest.approx(expected_norms, rel=1e-6)
    assert min(norms) > clip or clip == 1.0
    state = model.state_dict()
    for name, weight in _merged(expected).items():
        # The ladder's loss is computed in fp32.
        torch.testing.assert_close(state[name], weight, rtol=1e-6, atol=1e-6)
    moved = [(one - 1).abs().max().item() for one in optimizers.multiplied.multipliers.values()]
    assert min(moved) > 1e-5


def _is_matrix(model: Any, name: str) -> bool:
    module, _, own = name.rpartition(".")
    return getattr(model.get_submodule(module), own).ndim > 1


def _merged(model: Any) -> dict[str, torch.Tensor]:
    """The weights of a parametrised model under their plain names."""
    return {
        f"{path}.{own}".lstrip("."): getattr(module, own).detach()
        for path, module in model.named_modules()
        if "parametrizations" not in path
        for own in ("weight", "bias")
        if isinstance(getattr(module, own, None), torch.Tensor)
    }


def test_a_multiplied_model_starts_as_the_one_without() -> None:
    model, plain = built(), built()
    optimizers = build_optimizers(model, Recipe(multipliers=Multipliers(kind="both")))
    optimizers.multiplied.merge()
    assert all(
        torch.equal(a, b) for a, b in zip(model.parameters(), plain.parameters(), strict=True)
    )


def test_without_multipliers_nothing_is_kept_beside_the_model() -> None:
    model = built()
    optimizers = build_optimizers(model, Recipe())
    assert optimizers.names is model
    assert not optimizers.multiplied
    assert [id(w) for w in optimizers.weights] == [id(w) for w in model.parameters()]


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_latents_stand_in_their_weights_place_and_adamw_steps_the_multipliers(
    optimizer: str,
) -> None:
    """A parametrisation's factors are the weights', not the multipliers'."""
    model = built()
    recipe = Recipe(
        optimizer=optimizer, multipliers=Multipliers(kind="both", learning_rate_scale=0.5)
    )
    narrow = dict.fromkeys(dict(model.named_parameters()), Factors(1.0, 0.25, 2.0))
    optimizers = build_optimizers(model, recipe, narrow)
    names = {id(weight): name for name, weight in optimizers.names.named_parameters()}
    found = {
        names.pop(id(weight)): (type(part).__name__, group["rate_scale"], group["weight_decay"])
        for part in optimizers.parts
        for group in part.param_groups
        for weight in group["params"]
    }
    assert not names
    by_muon = "Muon" if optimizer == "muon" else "AdamW"
    assert found["model.layers.0.mlp.up_proj.weight"] == (by_muon, 0.25, 0.2)
    assert found["model.layers.0.mlp.up_proj.row"] == ("AdamW", 0.5, 0.002)
    assert found["model.embed_tokens.column"] == ("AdamW", 0.5, 0.002)
    assert found["model.embed_tokens.weight"] == ("AdamW", 0.25, 0.0)
    assert found["lm_head.weight"] == ("AdamW", 0.25, 0.2)
    assert "lm_head.row" not in found
    assert "model.norm.row" not in found


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_multipliers_learn_and_the_loss_falls(optimizer: str) -> None:
    recipe = Recipe(optimizer=optimizer, multipliers=Multipliers(kind="both"))
    model = built()
    before = loss_of(model, None, TOKENS[0]).item()
    optimizers, _ = steps(model, recipe, TOKENS, 0.01)
    assert loss_of(model, None, TOKENS[0]).item() < before - 0.5
    for name, one in optimizers.multiplied.multipliers.items():
        assert one.std() > 1e-3, name


@pytest.mark.parametrize("make", [mamba, falcon])
def test_state_space_layers_train_with_multipliers(make: Callable[[], Any]) -> None:
    model = make()
    recipe = Recipe(multipliers=Multipliers(kind="both", placement="non_redundant"))
    optimizers, _ = steps(model, recipe, TOKENS[:3], 0.01)
    for name, one in optimizers.multiplied.items():
        if one.free is not None:
            row = one.multipliers["row"]
            assert torch.equal(row[~one.free], torch.ones(40)), name
            assert (row[one.free] != 1).all(), name
            assert torch.equal(one.merged[~one.free], one.latent[~one.free])


@pytest.mark.parametrize("shape", [(), (5,), (3, 1, 4)])
def test_muon_on_a_vector_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"norm\.weight: Muon on a vector or tensor, of") as told:
        muon_takes("norm.weight", torch.nn.Parameter(torch.ones(shape)))
    assert "\n" not in str(told.value)
    matrix = torch.nn.Parameter(torch.ones(2, 2))
    assert muon_takes("up_proj.weight", matrix) is matrix
