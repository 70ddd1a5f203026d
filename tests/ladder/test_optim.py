"""Which parameter is changed by what, and how much it decays."""

from __future__ import annotations

import pytest
import torch

from ladder.model import build_model
from ladder.optim import build_optimizers
from ladder.settings import Model, Recipe
from ladder.shapes import Shape

SHAPE = Shape(layers=2, width=16, heads=2, hidden=24)


def groups(recipe: Recipe) -> dict[str, tuple[str, float]]:
    """Optimizer and decay of every parameter by name."""
    model = build_model(Model(sequence_length=8, sizes={"x": SHAPE}), SHAPE, 50, seed=0)
    names = {id(weight): name for name, weight in model.named_parameters()}
    found = {
        names[id(weight)]: (type(part).__name__, group["weight_decay"])
        for part in build_optimizers(model, recipe).parts
        for group in part.param_groups
        for weight in group["params"]
    }
    assert set(found) == set(names.values())
    return found


def test_matrices_decay_and_embeddings_and_norms_do_not() -> None:
    found = groups(Recipe(weight_decay=0.1))
    assert found["model.embed_tokens.weight"] == ("AdamW", 0.0)
    assert found["model.norm.weight"] == ("AdamW", 0.0)
    assert found["lm_head.weight"] == ("AdamW", 0.1)
    assert found["model.layers.0.mlp.up_proj.weight"] == ("AdamW", 0.1)
    assert groups(Recipe(decay_vectors=True))["model.norm.weight"] == ("AdamW", 0.1)


def test_muon_takes_the_matrices_of_the_blocks() -> None:
    found = groups(Recipe(optimizer="muon"))
    by_muon = {name for name, (kind, _) in found.items() if kind == "Muon"}
    assert by_muon == {name for name in found if "proj" in name}
    assert found["lm_head.weight"][0] == found["model.embed_tokens.weight"][0] == "AdamW"


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_every_optimizer_follows_the_schedule(optimizer: str) -> None:
    model = build_model(Model(sequence_length=8, sizes={"x": SHAPE}), SHAPE, 50, seed=0)
    optimizers = build_optimizers(model, Recipe(optimizer=optimizer))
    before = [weight.clone() for weight in model.parameters()]
    model(input_ids=torch.tensor([[1, 2, 3]])).logits.logsumexp(-1).sum().backward()
    optimizers.set_learning_rate(0.0)
    optimizers.step()
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    optimizers.set_learning_rate(0.01)
    optimizers.step()
    changed = [not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True)]
    assert all(changed)
    optimizers.zero_grad()
    assert all(weight.grad is None for weight in model.parameters())
