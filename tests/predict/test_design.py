"""Choosing runs: known designs, the budget, and that no run makes anything less certain."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from predict.design import Design, choose, exchange, greedy


def linear(rows: np.ndarray, target: np.ndarray, noise: float = 1.0, prior: float = 1e-6) -> Design:
    """One problem, y = x'theta + noise: `rows` (R, p) are what each candidate run measures."""
    size = rows.shape[1]
    none = np.zeros(1)
    return Design(
        base=prior * np.eye(size)[None],
        added=np.einsum("ri,rj->rij", rows, rows)[:, None] / noise**2,
        target=np.asarray(target, dtype=float)[None],
        climb_now=none,
        climb=np.zeros((len(rows), 1)),
    )


def random_design(seed: int, runs: int = 8, problems: int = 3, size: int = 3) -> Design:
    generator = np.random.default_rng(seed)
    rows = generator.normal(size=(runs, problems, size))
    return Design(
        base=np.tile(0.1 * np.eye(size), (problems, 1, 1)),
        added=np.einsum("rki,rkj->rkij", rows, rows),
        target=generator.normal(size=(problems, size)),
        climb_now=np.full(problems, 2.0),
        climb=generator.uniform(0, 3, (runs, problems)),
        climb_weight=0.3,
    )


def test_the_variance_of_one_parameter_is_the_textbooks() -> None:
    design = linear(np.array([[2.0], [3.0]]), [5.0], noise=0.5, prior=4.0)
    expected = [25 / 4, 25 / (4 + 4 / 0.25), 25 / (4 + 13 / 0.25)]
    assert design.variance([(), (0,), (0, 1)])[:, 0] == pytest.approx(expected)


def test_of_one_parameter_the_run_with_the_most_information_a_flop_comes_first() -> None:
    # Information is x^2 and costs x^3: the smaller the run, the more of it a FLOP buys.
    x = np.array([4.0, 1.0, 2.0])
    design = linear(x[:, None], [1.0], prior=100.0)
    assert choose(design.mean_error, x**3, 1000.0) == (1, 2, 0)
    # Of equal cost the largest run is worth most.
    assert choose(design.mean_error, [1.0, 1.0, 1.0], 2.0) == (0, 2)


def test_two_runs_beat_the_one_that_gives_most_a_flop() -> None:
    # Greedy takes the third and has nothing left for another: 5.5 of information instead of 6.
    design = linear(np.sqrt([[3.0], [3.0], [5.5]]), [1.0], prior=100.0)
    costs = np.array([3.0, 3.0, 5.0])
    assert greedy(design.mean_error, costs, 6.0, per_cost=True) == (2,)
    assert set(choose(design.mean_error, costs, 6.0)) == {0, 1}


def test_the_d_optimal_design_of_a_straight_line_is_its_two_ends() -> None:
    x = np.array([-1, -0.5, 0, 0.5, 1])
    design = linear(np.stack((np.ones(5), x), axis=1), [1.0, 3.0])
    assert set(choose(design.log_volume, [1.0] * 5, 2.0)) == {0, 4}


def test_a_straight_line_is_extrapolated_from_runs_at_its_ends_in_the_known_proportion() -> None:
    # Hoel and Levine 1964: to read y = a + b x at x = 3, runs at -1 and 1 in the ratio 1 : 2.
    x = np.repeat([-1.0, -0.5, 0.0, 0.5, 1.0], 6)
    design = linear(np.stack((np.ones(30), x), axis=1), [1.0, 3.0])
    chosen = x[list(choose(design.mean_error, [1.0] * 30, 6.0))]
    assert sorted(chosen) == [-1, -1, 1, 1, 1, 1]


def test_what_is_chosen_is_the_best_of_all_sets_but_for_a_few_percent() -> None:
    losses = []
    for seed in range(30):
        design = random_design(seed)
        costs = np.random.default_rng(seed).uniform(1, 5, 8)
        budget = 0.4 * costs.sum()
        sets = [
            s
            for size in range(9)
            for s in itertools.combinations(range(8), size)
            if costs[list(s)].sum() <= budget
        ]
        best = design.mean_error(sets).min()
        losses.append(design.mean_error([choose(design.mean_error, costs, budget)])[0] / best)
    assert max(losses) < 1.05
    assert np.mean(np.array(losses) < 1 + 1e-9) > 0.8


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.floats(0, 1.2), st.booleans())
def test_the_budget_is_never_exceeded(seed: int, share: float, per_cost: bool) -> None:
    design = random_design(seed)
    costs = np.random.default_rng(seed).lognormal(0, 2, 8)
    budget = share * costs.sum()
    for chosen in (
        greedy(design.mean_error, costs, budget, per_cost),
        exchange(design.log_volume, costs, budget, ()),
        choose(design.mean_error, costs, budget),
    ):
        assert costs[list(chosen)].sum() <= budget
        assert len(set(chosen)) == len(chosen)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.permutations(range(8)))
def test_no_run_ever_raises_the_expected_variance(seed: int, order: list[int]) -> None:
    design = random_design(seed)
    steps = design.variance([tuple(order[:i]) for i in range(9)])
    assert (np.diff(steps, axis=0) <= 1e-12 * steps[:-1]).all()


def test_a_run_that_adds_nothing_is_not_bought() -> None:
    design = linear(np.array([[1.0, 0.0], [0.0, 1.0]]), [1.0, 0.0])
    assert choose(design.mean_error, [1.0, 1.0], 10.0) == (0,)


def test_nothing_is_chosen_where_nothing_fits() -> None:
    assert choose(random_design(0).mean_error, [2.0] * 8, 1.0) == ()
