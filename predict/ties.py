"""Which of equally good parameters a fit takes where its points do not determine them.

Where a law has more freedom than its points can tell apart, such as an exponent of N from two
sizes, the least objective is a valley and not a point, and where on it an optimiser stops is
rounding noise, other on another machine.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from predict.laws import Array
from predict.polish import polish
from predict.problem import Prior, Problem

PULLS = (1e-2, 1e-4, 1e-6, 1e-8, 1e-10, 1e-12)
"""Precision of the pull to the reference, over that of all points together: weaker and weaker, the
last too weak to be felt where the points say anything. With 1e-8 for the last, fits of two sizes to
.01% were still off their minimum by more than `predict.certificate.AGREEMENT`."""


def nearest(problem: Problem, inputs: list[Array], theta: Array) -> Array:
    """For each problem the minimum nearest to the reference, (P, p), from the fits at (P, p).

    The reference is the law's own start, or, where it has none, the middle of the grids of its
    nonlinear parameters and 0 for the others; distances are in units of the grids' ranges, of 1 for
    a logarithm, and of the largest value for what is in the values' unit.
    """
    centre, scale = _reference(problem, inputs)
    size = problem.weights.sum(axis=-1) / problem.noise[..., 0] ** 2
    if not problem.objective.log:
        size = size * (problem.values**2).max(axis=-1)
    own = problem.prior.sd**-2.0
    place = theta[:, None]
    for pull in PULLS:
        added = pull * size[..., None] / scale**2
        precision = own + added
        prior = Prior((own * problem.prior.mean + added * centre) / precision, precision**-0.5)
        place, _ = polish(replace(problem, prior=prior), place)
    return np.asarray(place[:, 0])


def _reference(problem: Problem, inputs: list[Array]) -> tuple[Array, Array]:
    """Where the reference is, and the unit of each parameter, both (P, 1, p)."""
    law, count = problem.law, len(problem.values)
    centre = np.zeros((count, 1, law.size))
    scale = np.ones_like(centre)
    for i, parameter in enumerate(law.parameters):
        if parameter.grid is not None:
            grid = parameter.grid(inputs)
            centre[:, 0, i] = (grid.min(axis=1) + grid.max(axis=1)) / 2
            scale[:, 0, i] = np.ptp(grid, axis=1)
        elif not parameter.log:
            scale[:, 0, i] = np.abs(problem.values).max(axis=-1)[:, 0]
    if law.default_start is not None:
        centre[:] = law.default_start
    return centre, np.maximum(scale, 1e-300)
