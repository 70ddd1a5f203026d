"""Where fits start: a grid over a law's nonlinear parameters, the linear ones solved exactly."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from predict.laws import Array
from predict.problem import Problem


def grid_starts(problem: Problem, inputs: Sequence[Array], starts: int) -> Array:
    """Starts (P, S, p): the best grid cells that are no neighbours, and the law's own start."""
    law, count = problem.law, len(problem.values)
    axes = [p.grid(inputs) for p in law.parameters if p.grid is not None]
    shape = [axis.shape[1] for axis in axes]
    cells = np.array(list(itertools.product(*(range(n) for n in shape))))  # (G, axes)
    theta = np.zeros((count, len(cells), len(law.parameters)))
    nonlinear = [i for i, p in enumerate(law.parameters) if not p.linear]
    for axis, values, index in zip(nonlinear, axes, cells.T, strict=True):
        theta[..., axis] = values[:, index]
    cost = problem.cost(problem.residual_of(_solve_linear(problem, theta)), theta)
    near = (np.abs(cells[:, None] - cells[None]) <= 1).all(axis=-1)  # (G, G)
    chosen = []
    for _ in range(starts):
        best = cost.argmin(axis=-1)
        chosen.append(theta[np.arange(count), best])
        cost = np.where(near[best], np.inf, cost)
    if law.default_start is not None:
        chosen.append(np.broadcast_to(np.array(law.default_start), chosen[0].shape))
    return np.stack(chosen, axis=1)


def _solve_linear(problem: Problem, theta: Array) -> Array:
    """Fill in the linear parameters by bounded least squares, exactly, in place; returns the fit.

    Every choice of which of them sit on which bound is solved; the best feasible one wins.
    """
    law = problem.law
    linear = [i for i, p in enumerate(law.parameters) if p.linear]
    scale = np.array([np.exp(p.lower) if p.log else p.lower for p in law.parameters])[linear]
    top = np.array([np.exp(p.upper) if p.log else p.upper for p in law.parameters])[linear]
    theta[..., linear] = 0
    value, gradient = law.evaluate(theta, problem.inputs)
    basis = gradient[..., linear]  # (P, G, n, l)
    # What is left without the linear terms; a log parameter of 0 is a coefficient of 1.
    ones = basis[..., [law.parameters[i].log for i in linear]].sum(axis=-1)
    rest = value - ones
    wanted = problem.values - rest
    weight = problem.weights / (problem.values**2 if problem.objective.log else 1)
    turned = np.swapaxes(basis * weight[..., None], -1, -2)  # (P, G, l, n)
    gram = turned @ basis
    right = (turned @ wanted[..., None])[..., 0]
    unit = np.sqrt(np.maximum(np.einsum("pgii->pgi", gram), 1e-300))
    best_cost = np.full(theta.shape[:2], np.inf)
    pin = np.where(np.isfinite(scale), scale, top)
    best = np.broadcast_to(pin, (*theta.shape[:2], len(linear))).copy()
    places = [
        ("free", *(("low",) if np.isfinite(s) else ()), *(("high",) if np.isfinite(t) else ()))
        for s, t in zip(scale, top, strict=True)
    ]
    for choice in itertools.product(*places):
        free = np.array([place == "free" for place in choice])
        pinned = np.array(
            [h if c == "high" else s for c, s, h in zip(choice, scale, top, strict=True)]
        )
        solution = np.broadcast_to(np.where(free, 0.0, pinned), best.shape).copy()
        if free.any():
            system = gram[..., free, :][..., free] / (
                unit[..., free, None] * unit[..., None, free]
            ) + 1e-13 * np.eye(free.sum())
            target = (right - np.einsum("pgij,pgj->pgi", gram, solution))[..., free]
            part = np.linalg.solve(system, (target / unit[..., free])[..., None])[..., 0]
            solution[..., free] = part / unit[..., free]
        feasible = ((solution >= scale - 1e-12) & (solution <= top + 1e-12)).all(axis=-1)
        cost = np.einsum("pgi,pgij,pgj->pg", solution, gram, solution) - 2 * np.einsum(
            "pgi,pgi->pg", solution, right
        )
        better = feasible & (cost < best_cost)
        best_cost = np.where(better, cost, best_cost)
        best = np.where(better[..., None], solution, best)
    # What is feasible to rounding may lie beyond its bound, where a logarithm has no value.
    best = np.clip(best, scale, top)
    log = np.array([law.parameters[i].log for i in linear])
    theta[..., linear] = np.where(log, np.log(best), best)
    return np.asarray(rest + (basis @ best[..., None])[..., 0])
