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


def test_names_are_unique_and_unknown_ones_refused() -> None:
    with pytest.raises(InputError, match="7K-5xC: planned twice"):
        make_plan(load_config("quickstart", ("targets=[{size: 7K, multiple: 5}]",)))
    with pytest.raises(InputError, match="rung '7K-3xC': not trained by this config"):
        make_plan(load_config("quickstart")).run("7K-3xC")
