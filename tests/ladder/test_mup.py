"""muP: what every parameter's initial weights, rate and decay become, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from command_line import fails
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

from evaluation.files import InputError
from ladder import recipe
from ladder import train as training
from ladder.config import Experiment, load_config
from ladder.model import build_model
from ladder.mup import Factors, Growth, compare, factors, muon_learning_rate
from ladder.optim import build_optimizers
from ladder.plan import make_plan
from ladder.runs import RunsFolder
from ladder.settings import Muon, Recipe
from ladder.shapes import count_params

SIZES = (
    "model.sizes={base: {layers: 1, width: 8, heads: 2, hidden: 20}, "
    "wide: {layers: 2, width: 32, heads: 8, hidden: 80}, "
    "other: {layers: 1, width: 32, heads: 4, hidden: 80}}"
)
MUP = ("targets=[]", "recipe.parametrisation=mup", SIZES, "ladder.sizes=[wide, base]")


def config_of(*more: str) -> Experiment:
    return load_config("quickstart", (*MUP, *more))


def found(config: Experiment, size: str = "wide") -> dict[str, Factors]:
    return factors(config, config.model.shape(size), 50)


MIXERS = {
    "mamba2": "{{layers: 1, width: {width}, ssm: {{head_width: 4, state: {state}}}}}",
    "falcon_h1": "{{layers: 1, width: {width}, heads: {width}, head_width: 4, hidden: {width}, "
    "ssm: {{head_width: 4, state: {state}}}}}",
}
"""Shapes of what has a state space."""


def mixed(architecture: str, *more: str, state: int = 8) -> Experiment:
    base = MIXERS[architecture].format(width=8, state=8)
    wide = MIXERS[architecture].format(width=32, state=state)
    sizes = f"model.sizes={{base: {base}, wide: {wide}}}"
    return config_of(sizes, f"model.architecture={architecture}", *more)


def built(config: Experiment, size: str, seed: int = 0) -> dict[str, torch.Tensor]:
    shape = config.model.shape(size)
    scales = factors(config, shape, 50)
    return dict(build_model(config.model, shape, 50, seed, factors=scales).named_parameters())


def test_under_adamw_rates_of_what_reads_a_wider_input_fall_as_one_over_it() -> None:
    own = found(config_of())
    hidden = [name for name in own if "proj" in name]
    assert len(hidden) == 2 * 7
    for name in hidden:
        assert own[name] == Factors(init=1.0, learning_rate=1 / 4, weight_decay=4.0), name
    assert own["lm_head.weight"] == Factors(init=1 / 2, learning_rate=1 / 4, weight_decay=4.0)
    rest = [name for name in own if name not in hidden and name != "lm_head.weight"]
    assert "model.embed_tokens.weight" in rest
    assert all(own[name] == Factors() for name in rest)


def test_initial_weights_are_the_base_s_whatever_the_model_does_by_itself() -> None:
    normal = found(config_of("model.init=normal"))
    assert normal["model.layers.1.mlp.up_proj.weight"].init == 1 / 2
    assert normal["lm_head.weight"].init == 1 / 4
    for init in ("normal", "fan_in"):
        config = config_of(f"model.init={init}")
        base, wide = built(config, "base"), built(config, "wide")
        for name, share in (
            ("model.layers.0.mlp.up_proj.weight", 1 / 2),
            ("lm_head.weight", 1 / 4),
            ("model.embed_tokens.weight", 1),
        ):
            ratio = (wide[name].std() / base[name].std()).item()
            assert ratio == pytest.approx(share, rel=0.2), (init, name)


def test_a_matrix_whose_outputs_do_not_grow_starts_as_an_output_head_does() -> None:
    config = config_of()
    shape = config.model.shape("wide").model_copy(update={"kv_heads": 2})
    own = factors(config, shape, 50)
    assert own["model.layers.0.self_attn.k_proj.weight"] == Factors(1 / 2, 1 / 4, 4.0)
    assert own["model.layers.0.self_attn.q_proj.weight"] == Factors(1.0, 1 / 4, 4.0)


@pytest.mark.parametrize("init", ["fan_in", "normal"])
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_the_base_is_trained_as_without_mup(init: str, optimizer: str) -> None:
    config = config_of(f"model.init={init}", f"recipe.optimizer={optimizer}")
    assert set(found(config, "base").values()) == {Factors()}
    standard = config_of("recipe.parametrisation=standard", f"model.init={init}")
    assert found(standard) == {}
    one, other = built(config, "base"), built(standard, "base")
    assert all(torch.equal(one[name], other[name]) for name in other)


@pytest.mark.parametrize("adjust", ["original", "match_rms_adamw"])
def test_muon_s_update_has_the_spectral_norm_of_the_square_root_of_out_over_in(adjust: str) -> None:
    sizes = [(8, 8), (32, 32), (64, 16), (16, 64), (96, 32)]
    muon = Muon(adjust_lr_fn=adjust)
    lengths = []
    for shape in sizes:
        torch.manual_seed(0)
        weight = nn.Parameter(torch.randn(shape))
        before = weight.detach().clone()
        rate = muon_learning_rate(Growth(shape, sizes[0]), muon)
        step = torch.optim.Muon([weight], lr=rate, weight_decay=0.0, adjust_lr_fn=adjust)
        weight.grad = torch.randn(shape)
        step.step()
        # All singular values of Muon's update are about equal, so that their root mean square is
        # the spectral norm without the noise of five iterations.
        spectral = (weight.detach() - before).norm() / min(shape) ** 0.5
        lengths.append(spectral.item() / (shape[0] / shape[1]) ** 0.5)
    assert lengths == pytest.approx([lengths[0]] * len(sizes), rel=0.1)


def test_muon_s_rates_at_a_fixed_aspect_ratio() -> None:
    matched = found(config_of("recipe.optimizer=muon"))
    original = found(config_of("recipe.optimizer=muon", "recipe.muon={adjust_lr_fn: original}"))
    name = "model.layers.0.mlp.down_proj.weight"
    assert matched[name] == Factors(1.0, 1 / 2, 2.0)
    assert original[name] == Factors(1.0, 1.0, 1.0)
    for own in (matched, original):
        assert own["lm_head.weight"] == Factors(1 / 2, 1 / 4, 4.0)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_optimizers_take_the_factors_and_keep_rate_times_decay(optimizer: str) -> None:
    config = config_of(f"recipe.optimizer={optimizer}")
    shape, own = config.model.shape("wide"), found(config)
    model = build_model(config.model, shape, 50, 0, factors=own)
    names = {id(weight): name for name, weight in model.named_parameters()}
    for part in build_optimizers(model, config.recipe, own).parts:
        for group in part.param_groups:
            for weight in group["params"]:
                assert group["rate_scale"] == own[names[id(weight)]].learning_rate
            if group["weight_decay"]:
                assert group["rate_scale"] * group["weight_decay"] == pytest.approx(0.1)


@pytest.mark.parametrize("rule", ["width", "params"])
def test_every_size_is_planned_at_the_base_s_learning_rate(rule: str) -> None:
    config = config_of(f"recipe.learning_rate_rule={rule}")
    base = config.model.shape("base")
    expected = recipe.learning_rate(8, 0.2)
    if rule == "params":
        expected = recipe.learning_rate_by_params(count_params(base, 256), 32, 0.2)
    assert {rung.learning_rate for rung in make_plan(config).rungs} == {expected}
    standard = config_of(f"recipe.learning_rate_rule={rule}", "recipe.parametrisation=standard")
    assert len({rung.learning_rate for rung in make_plan(standard).rungs}) == 2


def test_the_base_is_the_narrowest_rung_or_the_size_that_is_named() -> None:
    assert config_of().mup_base == config_of().model.shape("base")
    named = config_of("recipe.mup_base=wide")
    assert named.mup_base == named.model.shape("wide")
    assert config_of("recipe.parametrisation=standard", "recipe.mup_base=wide").mup_base is None


def test_a_rung_wider_than_the_base_is_trained_with_its_factors(
    tiny_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = "{a: {layers: 1, width: 4, heads: 1, hidden: 8}, c: {layers: 1, width: 8, heads: 2, "
    sets = (
        "targets=[]",
        f"model.sizes={sizes}hidden: 16}}}}",
        "ladder.sizes=[a, c]",
        "recipe.parametrisation=mup",
    )
    config = load_config(str(tiny_config), sets)
    runs = RunsFolder(tmp_path / "runs")
    runs.prepare(config)
    rung = make_plan(config).run("c-1xC")
    seen, real = [], training.build_optimizers

    def spied(model: nn.Module, *given: object) -> object:
        seen.append((model, real(model, *given), model.lm_head.weight.std().item()))
        return seen[-1][1]

    monkeypatch.setattr(training, "build_optimizers", spied)
    training.train_rung(config, rung, runs)
    model, optimizers, first = seen[0]
    assert first == pytest.approx(0.3 / 8**0.5 * 2**-0.5, rel=0.2)
    scales = {
        id(weight): group["rate_scale"]
        for group in optimizers.parts[0].param_groups
        for weight in group["params"]
    }
    assert scales[id(model.lm_head.weight)] == 1 / 2
    assert scales[id(model.get_input_embeddings().weight)] == 1
    # Another base is another run: its checkpoints may not be gone on from.
    runs.rung(rung.name).manifest.unlink()
    other = config.recipe.model_copy(update={"mup_base": "c"})
    wider = config.model_copy(update={"recipe": other})
    with pytest.raises(InputError, match="mup_base is"):
        training.train_rung(wider, make_plan(wider).run("c-1xC"), runs)


def test_heads_of_another_width_are_refused_before_anything_is_built(
    capsys: pytest.CaptureFixture[str],
) -> None:
    sets = [word for each in MUP for word in ("--set", each)]
    line = fails(capsys, "plan", "quickstart", *sets, "--set", "ladder.sizes=[base, other]")
    assert "head width of size other is 8, of the base 4" in line
    line = fails(capsys, "plan", "quickstart", *sets, "--set", "recipe.mup_base=huge")
    assert "'huge' is not among model.sizes" in line


NO_WORDS = {"bos_token_id": None, "eos_token_id": None}


@pytest.mark.parametrize("architecture", MIXERS)
def test_states_that_grow_are_refused(architecture: str) -> None:
    with pytest.raises(InputError, match="ssm state of size wide is 16, of the base 8"):
        mixed(architecture, state=16)


def gpt2(width: int, heads: int, **more: object) -> GPT2LMHeadModel:
    own = GPT2Config(
        n_embd=width, n_layer=1, n_head=heads, vocab_size=50, n_positions=8, **NO_WORDS, **more
    )
    with torch.device("meta"):
        return GPT2LMHeadModel(own)


def test_what_cannot_be_matched_is_refused_with_its_name() -> None:
    untied = {"tie_word_embeddings": False}
    with pytest.raises(InputError, match="head is tied to the embedding"):
        compare(gpt2(8, 2), gpt2(16, 4), Recipe(), "normal")
    with pytest.raises(InputError, match="head width of the model and of its base are 8 and 4"):
        compare(gpt2(8, 2, **untied), gpt2(16, 2, **untied), Recipe(), "normal")
    with pytest.raises(InputError, match=r"c_attn\.weight of Conv1D grows from \[8, 24\] to"):
        compare(gpt2(8, 2, **untied), gpt2(16, 4, **untied), Recipe(), "normal")
    config = config_of()
    base = build_model(config.model, config.model.shape("base"), 50, 0)
    plain = config_of("model.architecture=qwen3")
    other = build_model(plain.model, config.model.shape("base"), 50, 0)
    with pytest.raises(
        InputError, match=r"k_norm\.weight is \[4\], the base's is \[8\]|the base has none such"
    ):
        compare(base, other, Recipe(), "normal")
    flat = build_model(config.model, config.model.shape("base"), 50, 0)
    norm = flat.model.norm
    norm.weight = nn.Parameter(torch.ones(8, 1))
    with pytest.raises(InputError, match=r"model\.norm\.weight is \[8, 1\], the base's is \[8\]"):
        compare(base, flat, Recipe(), "normal")


@pytest.mark.parametrize(
    "architecture", ["olmo2", "llama", "qwen3", "gpt_neox", "mamba2", "falcon_h1"]
)
def test_every_architecture_s_parameters_are_matched(architecture: str) -> None:
    muon = "recipe.optimizer=muon"
    if architecture in MIXERS:
        config = mixed(architecture, muon)
    else:
        config = config_of(f"model.architecture={architecture}", muon)
    own = found(config)
    wide = built(config, "wide")
    assert own.keys() == wide.keys()
    for name, weight in wide.items():
        reads = weight.ndim == 2 and "embed" not in name.replace("embed_out", "")
        assert (own[name] != Factors()) == reads, name
