"""Which run next: within the budget, ever more certain, and one clear line for a bad question."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from conftest import synthetic

from evaluation.records import InputError, validate
from predict.next_result import Candidate, NextRuns
from predict.next_run import MOST, Problem, next_runs
from predict.task_fit import Target

TARGET = Target("7B-4T", 6.9e9, 4e12)


def candidate(name: str, params: float, tokens: float) -> Candidate:
    return Candidate(name, params, tokens, 6 * params * tokens)


GRID = [
    candidate(f"{n / 1e6:.0f}M-{m}xC", n, 20 * n * m)
    for n in (7.6e8, 1.28e9, 3e9)
    for m in (1, 2, 5, 10)
]
SMALL = synthetic(sizes=(1.9e8, 3.7e8), multiples=(1, 2, 5), tasks=("a", "b"))


def asked(table: pd.DataFrame | None = SMALL, **changed: object) -> NextRuns:
    settings: dict = {"target": TARGET, "candidates": GRID, "budget": 1e21} | changed
    return next_runs(None if table is None else validate(table), **settings)


@pytest.mark.parametrize("table", [SMALL, None], ids=["six rungs", "no observations"])
@pytest.mark.parametrize("budget", [1e20, 1e21, 2e22])
def test_runs_stay_within_the_budget_and_narrow_the_interval_one_by_one(
    table: pd.DataFrame | None, budget: float
) -> None:
    found = asked(table, budget=budget)
    stages = [found.now, *found.runs]
    assert found.runs
    assert found.runs[-1].cumulative_flops <= budget
    for before, after in pairwise(stages):
        assert after.run is not None
        assert after.cumulative_flops == pytest.approx(before.cumulative_flops + after.run.flops)
        assert after.loss_sd <= before.loss_sd
        assert (after.accuracy_sd or 0) < (before.accuracy_sd or 0)
        for one, other in zip(before.tasks, after.tasks, strict=True):
            assert (other.accuracy_sd or 0) <= (one.accuracy_sd or 0) * (1 + 1e-9)
    assert found.everything.cumulative_flops == pytest.approx(sum(c.flops for c in GRID))
    assert (found.everything.accuracy_sd or 0) <= (stages[-1].accuracy_sd or 0)


def test_a_great_enough_budget_buys_what_is_expected_of_all_candidates() -> None:
    found = asked(budget=1e24)
    assert found.runs[-1].accuracy_sd == pytest.approx(found.everything.accuracy_sd, rel=1e-3)


def test_a_rung_of_another_size_comes_before_more_of_the_only_one() -> None:
    table = synthetic(sizes=(1.9e8,), multiples=(1, 2, 5))
    same, other = candidate("190M-8xC", 1.9e8, 3e10), candidate("760M-2xC", 7.6e8, 3e10)
    found = asked(table, candidates=[same, other], budget=other.flops)
    assert found.runs[0].run == other
    assert "every rung has 1.9e+08 params: its exponent is the prior's" in found.notes


def test_the_same_question_has_the_same_answer() -> None:
    assert asked() == asked()


def test_every_expectation_is_in_the_document_and_the_document_is_json() -> None:
    found = asked()
    document = json.loads(json.dumps(found.document(), allow_nan=False))
    assert document["version"] == 1
    assert document["spent_flops"] == document["runs"][-1]["cumulative_flops"]
    assert [r["name"] for r in document["runs"]] == [s.run.name for s in found.runs if s.run]
    assert [t["task"] for t in document["now"]["tasks"]] == ["a", "b"]


def test_losses_alone_are_chosen_by_the_loss() -> None:
    table = SMALL.assign(accuracy=np.nan, chance=np.nan, loss_unit="nats/token")
    found = asked(table)
    assert found.runs
    assert found.now.accuracy_sd is None
    assert found.now.accuracy_width80 is None
    assert found.runs[-1].loss_sd < found.now.loss_sd


def test_a_set_without_accuracy_does_not_count_beside_tasks_and_is_named() -> None:
    web = SMALL[SMALL["task"] == "a"].assign(task="web", accuracy=np.nan, chance=np.nan)
    found = asked(pd.concat((SMALL, web), ignore_index=True))
    assert found.notes == ("without an accuracy, so not counted in the choice: web",)
    assert found.runs[0].tasks[2].accuracy_sd is None


def test_without_observations_the_notes_say_that_the_prior_speaks() -> None:
    (note,) = asked(None).notes
    assert note.startswith("no observations: the prior's centre stands for the laws")


def test_too_few_rungs_to_predict_from_are_said_so() -> None:
    found = asked(synthetic(sizes=(1.9e8,), multiples=(1, 2)))
    assert "2 of the 3 rungs that `ladder predict` needs" in found.notes[0]


def test_a_rerun_of_a_rung_adds_nothing_and_is_said_so() -> None:
    again = candidate("again", 1.9e8, 3.8e9)
    found = asked(candidates=[again, GRID[0]])
    assert [s.run for s in found.runs] == [GRID[0]]
    assert any(n.startswith("candidate again repeats run 190M-1xC") for n in found.notes)


def test_losses_and_accuracies_weigh_the_same_and_sets_without_accuracy_nothing() -> None:
    web = SMALL[SMALL["task"] == "a"].assign(task="web", accuracy=np.nan, chance=np.nan)
    both = validate(pd.concat((SMALL, web), ignore_index=True))
    problem = Problem(both, TARGET, GRID)
    sets = [(), (0,), (3, 5)]
    found = problem.expected(sets)
    stages = [problem.stage(None, s) for s in sets]
    assert found[0] == pytest.approx(1)
    loss = np.array([np.mean([t.loss_sd for t in s.tasks[:2]]) for s in stages])
    # The accuracy's own noise, of the items, does not depend on runs and is left out.
    accuracy = problem.designs[1].mean_error(sets)
    assert found == pytest.approx((loss / loss[0] + accuracy / accuracy[0]) / 2)


def test_the_climb_from_the_nearest_run_counts() -> None:
    problem = Problem(validate(SMALL), TARGET, GRID)
    near = [c.params * c.tokens for c in GRID].index(max(c.params * c.tokens for c in GRID))
    design = problem.loss
    assert (design.climb[near] <= design.climb_now).all()
    assert (design.climb[near] < 0.7 * design.climb_now).any()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"budget": 1e18}, "budget 1e.18 FLOPs: the cheapest candidate, 760M-1xC, costs 6.93e.19"),
        ({"budget": float("nan")}, "budget nan: is not a number of FLOPs"),
        ({"budget": float("inf")}, "budget inf: is not a number of FLOPs"),
        ({"candidates": []}, "no candidate run; name one with --candidate"),
        ({"candidates": [GRID[0], GRID[0]]}, "760M-1xC: is given twice"),
        (
            {"candidates": [candidate(str(i), 1e9 + i, 1e10) for i in range(MOST + 1)]},
            f"{MOST + 1} candidates: at most {MOST}",
        ),
        (
            {"candidates": [candidate("big", 6.9e9, 4e12)]},
            "candidate big: costs no less than the target 7B-4T",
        ),
        (
            {"candidates": [candidate("190M-1xC", 2e8, 1e9)]},
            "candidate 190M-1xC: is in the observations already",
        ),
        (
            {"target": Target("tiny", 1.9e8, 4e9), "candidates": [candidate("x", 1e8, 1e9)]},
            "target tiny: costs no more than run .*, which is trained",
        ),
    ],
)
def test_a_bad_question_gets_one_clear_line(changed: dict, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        asked(**changed)
    assert "\n" not in str(caught.value)


def test_a_trained_run_is_no_candidate_even_where_it_is_not_fitted() -> None:
    table = synthetic(sizes=(1.9e8, 3.7e8, 7.6e8))
    table.loc[table["run"] == "760M-1xC", "role"] = "extra"
    with pytest.raises(InputError, match="candidate 760M-1xC: is in the observations already"):
        asked(table, candidates=GRID[:1])


def test_one_size_in_rungs_and_candidates_is_refused() -> None:
    table = synthetic(sizes=(1.9e8,))
    with pytest.raises(InputError, match=r"every run and candidate has 1.9e.08 params"):
        asked(table, candidates=[candidate("190M-20xC", 1.9e8, 7.6e10)])


def test_one_ratio_of_tokens_in_rungs_and_candidates_is_refused() -> None:
    table = synthetic(multiples=(1,))
    with pytest.raises(InputError, match="every run and candidate has 20 tokens a parameter"):
        asked(table, candidates=[candidate("3B-1xC", 3e9, 6e10)], budget=1e22)
