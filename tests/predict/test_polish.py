"""Starts that are alike are polished once, and every start gets its own problem's result."""

from __future__ import annotations

import numpy as np

from predict.laws import LAWS
from predict.polish import polish
from predict.problem import Objective, Prior, Problem


def test_a_start_alike_to_another_by_way_of_a_third_is_not_given_another_problems_result() -> None:
    law = LAWS["chinchilla_scaled"]
    params = np.repeat([1.9e8, 3.7e8, 7.6e8, 1.28e9], 4)
    tokens = params * 20 * np.tile([1, 2, 5, 10], 4)
    easy, hard = [-1.0, 0.3, -1.0, 0.3, 0.5], [-2.0, 0.2, -1.5, 0.4, 0.9]
    values = np.stack([law.value(easy, params, tokens), law.value(hard, params, tokens)])
    values[1] *= 1 + 0.05 * np.cos(np.arange(16))
    problem = Problem(
        law,
        Objective(delta=2.0, log=True),
        [np.broadcast_to(x, (2, 1, 16)) for x in (params, tokens)],
        values[:, None],
        np.ones((2, 1, 16)),
        np.full((2, 1, 1), 0.01),
        Prior(np.zeros(5), np.full(5, np.inf)),
    )
    # Each start is alike to the one before, the third no longer to the first.
    chain = np.array(hard) + 0.9e-6 * (1 + np.abs(hard)) * np.arange(3)[:, None]
    starts = np.stack([np.broadcast_to(easy, (3, 5)), chain])
    theta, cost = polish(problem, starts)
    residual, _ = problem.residuals(theta)
    assert np.allclose(problem.cost(residual, theta), cost)
    assert cost[0].max() < 1e-9 < cost[1].min()
