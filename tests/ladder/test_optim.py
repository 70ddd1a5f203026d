"""Which parameter is changed by what, and how much it decays."""

from __future__ import annotations

import pytest
import torch

from ladder.model import build_model, freeze_norms
from ladder.optim import build_optimizers
from ladder.settings import Model, Recipe
from ladder.shapes import Shape

SHAPE = Shape(layers=2, width=16, heads=2, hidden=24)


HYBRID = Shape(layers=2, width=16, heads=2, hidden=24, ssm={"state": 4})


def groups(
    recipe: Recipe, architecture: str = "olmo2", shape: Shape = SHAPE
) -> dict[str, tuple[str, float]]:
    """Optimizer and decay of every parameter by name."""
    config = Model(architecture=architecture, sequence_length=8, sizes={"x": shape})
    model = build_model(config, shape, 50, seed=0)
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


def test_muon_leaves_convolutions_and_the_vectors_of_a_state_space_to_adamw() -> None:
    found = groups(Recipe(optimizer="muon"), "falcon_h1", HYBRID)
    by_muon = {name for name, (kind, _) in found.items() if kind == "Muon"}
    assert by_muon == {name for name in found if "proj" in name}
    for name, (_, decay) in found.items():
        if name.endswith("conv1d.weight"):
            assert decay == 0.1


def test_the_vectors_of_a_state_space_never_decay() -> None:
    found = groups(Recipe(decay_vectors=True), "falcon_h1", HYBRID)
    own = {name for name, (_, decay) in found.items() if decay == 0}
    mixer = {name for name in found if name.endswith((".A_log", ".D", ".dt_bias"))}
    assert len(mixer) == 6
    assert own == mixer | {"model.embed_tokens.weight"}


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_frozen_norms_are_in_no_group_and_stay(optimizer: str) -> None:
    model = build_model(Model(sequence_length=8, sizes={"x": SHAPE}), SHAPE, 50, seed=0)
    freeze_norms(model)
    optimizers = build_optimizers(model, Recipe(optimizer=optimizer))
    held = {id(w) for p in optimizers.parts for g in p.param_groups for w in g["params"]}
    assert held == set(map(id, optimizers.weights))
    model(input_ids=torch.tensor([[1, 2, 3]])).logits.logsumexp(-1).sum().backward()
    optimizers.set_learning_rate(0.01)
    optimizers.step()
    for name, weight in model.named_parameters():
        assert (id(weight) in held) is ("norm" not in name)
        assert "norm" not in name or (weight == 1).all()


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
