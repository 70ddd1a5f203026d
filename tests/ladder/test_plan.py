"""The plan: names, counts and costs of every run."""

from __future__ import annotations

import pytest

from evaluation.files import InputError
from ladder.config import load_config
from ladder.plan import PLAN_FIELDS, make_plan


def test_the_quick_start_is_a_ladder_of_four_by_four_and_a_far_target() -> None:
    plan = make_plan(load_config("quickstart"))
    assert len({r.size for r in plan.rungs}) >= 4
    assert len(plan.rungs) == 16
    (target,) = plan.targets
    assert target.train
    assert target.flops_6nd >= 3 * max(r.flops_6nd for r in plan.rungs)
    assert plan.runs[-1] is target


def test_a_rungs_numbers_follow_from_its_size_and_multiple() -> None:
    rung = make_plan(load_config("quickstart")).run("7K-5xC")
    assert rung.params == 7120
    assert rung.params_total == 7120 + 256 * 16
    assert rung.tokens == 20 * 7120 * 5
    assert rung.flops_6nd == 6 * rung.params * rung.tokens
    assert rung.flops == rung.flops_per_token * rung.tokens
    assert (rung.steps - 1) * rung.batch_tokens < rung.tokens <= rung.steps * rung.batch_tokens
    assert tuple(rung.describe()) == PLAN_FIELDS


def test_the_ladders_cost_is_a_share_of_each_targets_by_6nd() -> None:
    plan = make_plan(load_config("quickstart"))
    by_hand = sum(6 * r.params * r.tokens for r in plan.rungs)
    assert plan.share_of_target == {"29K-10xC": pytest.approx(by_hand / plan.targets[0].flops_6nd)}


PUBLISHED = {
    "190M": (190_354_176, 1_903_391_232, 9.7273e-4, 128, 363),
    "370M": (371_262_464, 3_443_922_944, 7.7855e-4, 192, 472),
    "600M": (597_382_464, 5_180_751_744, 6.6440e-4, 256, 570),
    "760M": (758_220_288, 6_373_843_968, 6.1364e-4, 320, 578),
    "1.3B": (1_279_395_840, 10_109_071_360, 5.1544e-4, 384, 813),
    "3B": (3_169_537_280, 22_970_355_200, 3.8093e-4, 768, 1008),
}
"""N, FLOPs a token, peak learning rate, batch and warm-up (allenai/OLMo-ladder)."""


@pytest.mark.parametrize("size", PUBLISHED)
def test_the_published_ladder_is_planned_to_the_last_digit(size: str) -> None:
    plan = make_plan(load_config("olmo2", (f"ladder.sizes=[{size}]",)))
    params, per_token, rate, batch, warmup = PUBLISHED[size]
    for rung, multiple in zip(plan.rungs, (1, 2, 5, 10), strict=True):
        assert rung.name == f"{size}-{multiple}xC"
        assert rung.params == params
        assert rung.flops_per_token == per_token
        assert f"{rung.learning_rate:.4e}" == f"{rate:.4e}"
        assert rung.batch_sequences == batch
        assert rung.warmup_steps == warmup
        assert rung.tokens == 20 * params * multiple
        assert rung.steps == -(-rung.tokens // (batch * 4096))
        assert rung.flops == float(rung.tokens * per_token)


def test_the_published_targets_bring_their_own_settings() -> None:
    plan = make_plan(load_config("olmo2"))
    assert [rung.name for rung in plan.rungs][:2] == ["190M-1xC", "190M-2xC"]
    assert len(plan.rungs) == 16
    seven, thirteen = plan.targets
    assert (seven.name, seven.params, seven.tokens) == ("7B-4T", 6_887_575_552, 3_945_065_873_408)
    assert (seven.batch_sequences, seven.learning_rate, seven.warmup_steps) == (1024, 3e-4, 2000)
    assert seven.flops_per_token == 49_412_071_424
    assert (thirteen.name, thirteen.params) == ("13B-5T", 13_202_396_160)
    assert (thirteen.batch_sequences, thirteen.learning_rate) == (2048, 9e-4)
    assert thirteen.flops_per_token == 91_335_915_520
    # The paper's 3.2% and 1.3%.
    assert plan.share_of_target == {
        "7B-4T": pytest.approx(0.0316, abs=5e-5),
        "13B-5T": pytest.approx(0.0130, abs=5e-5),
    }
    assert plan.ladder_flops == pytest.approx(6.99e21, rel=1e-3)


def test_names_are_unique_and_unknown_ones_refused() -> None:
    with pytest.raises(InputError, match="7K-5xC: planned twice"):
        make_plan(load_config("quickstart", ("targets=[{size: 7K, multiple: 5}]",)))
    with pytest.raises(InputError, match="rung '7K-3xC': not trained by this config"):
        make_plan(load_config("quickstart")).run("7K-3xC")


def test_one_trunk_a_size_saves_two_fifths_of_the_published_ladder() -> None:
    plan = make_plan(load_config("olmo2", ("recipe.schedule=wsd",)))
    assert [trunk.name for trunk in plan.trunks] == [f"{s}-trunk" for s in PUBLISHED_LADDER]
    assert plan.ladder_flops / plan.separate_flops == pytest.approx(0.6, abs=1e-4)
    separate = make_plan(load_config("olmo2"))
    assert plan.separate_flops == separate.ladder_flops
    assert [r.describe() for r in plan.rungs] == [r.describe() for r in separate.rungs]
    for rung in plan.rungs:
        assert rung.trunk is not None
        assert rung.branch_step in rung.trunk.branches
        assert rung.warmup_steps < rung.branch_step == rung.steps - round(rung.steps / 10)


PUBLISHED_LADDER = ("190M", "370M", "760M", "1.3B")


def test_rungs_of_a_trunk_share_batch_and_warm_up_whatever_the_rule() -> None:
    plan = make_plan(load_config("quickstart", ("recipe.schedule=wsd",)))
    for trunk in plan.trunks:
        rungs = [rung for rung in plan.rungs if rung.size == trunk.size]
        assert {rung.batch_sequences for rung in rungs} == {trunk.batch_sequences}
        assert {rung.warmup_steps for rung in rungs} == {trunk.warmup_steps}
        assert {rung.stream for rung in rungs} == {trunk.name}
        assert trunk.warmup_steps < min(trunk.branches)
    (target,) = plan.targets
    assert target.trunk is None


def test_a_size_of_one_multiple_and_a_rung_that_only_decays_have_no_trunk() -> None:
    one = make_plan(load_config("quickstart", ("recipe.schedule=wsd", "ladder.multiples=[5]")))
    assert one.trunks == ()
    assert all(rung.trunk is None for rung in one.rungs)
    sets = ("recipe.schedule=wsd", "recipe.decay=0.999", "recipe.warmup=0")
    short = make_plan(load_config("quickstart", sets))
    for rung in short.rungs:
        assert (rung.trunk is None) == (rung.branch_step == 0)
        assert rung.branch_step < rung.steps


GRID = ("ladder={sizes: [3K, 13K], tokens: [300000, 1500000, 10000000]}",)


def test_a_grid_trains_every_size_on_the_same_tokens() -> None:
    plan = make_plan(load_config("quickstart", GRID))
    assert [rung.name for rung in plan.rungs] == [
        f"{size}-{tokens}t" for size in ("3K", "13K") for tokens in ("300K", "1.5M", "10M")
    ]
    for tokens in (300_000, 1_500_000, 10_000_000):
        rungs = [rung for rung in plan.rungs if rung.tokens == tokens]
        assert len({rung.params for rung in rungs}) == 2
        # What is observed after the last step, too.
        assert len({rung.steps * rung.batch_tokens for rung in rungs}) == 1
    assert [target.name for target in plan.targets] == ["29K-10xC"]
    trunks = make_plan(load_config("quickstart", (*GRID, "recipe.schedule=wsd"))).trunks
    assert [trunk.name for trunk in trunks] == ["3K-trunk", "13K-trunk"]


@pytest.mark.parametrize(
    "ladder",
    [
        "{sizes: [3K]}",
        "{sizes: [3K], multiples: [1], tokens: [1000000]}",
        "{sizes: [3K], tokens: []}",
    ],
)
def test_a_ladder_has_either_multiples_or_tokens(ladder: str) -> None:
    with pytest.raises(InputError, match="ladder: give either multiples or tokens"):
        load_config("quickstart", (f"ladder={ladder}",))


def test_too_few_tokens_and_names_that_are_the_same_are_refused() -> None:
    with pytest.raises(InputError, match="3K-9t: 9 tokens are less than one sequence of 32; raise"):
        make_plan(load_config("quickstart", ("ladder={sizes: [3K], tokens: [9]}",)))
    with pytest.raises(InputError, match="3K-1Mt: planned twice"):
        make_plan(load_config("quickstart", ("ladder={sizes: [3K], tokens: [1000000, 1000000]}",)))


def test_one_batch_may_be_set_for_all_runs() -> None:
    plan = make_plan(load_config("quickstart", (*GRID, "recipe.batch_sequences=100")))
    assert {rung.batch_sequences for rung in (*plan.rungs, *plan.targets)} == {100}
