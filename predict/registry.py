"""What a law is, the registry of all laws, and the inputs that they take.

A law maps inputs, arrays of shape (..., n), and parameters, shape (..., p), to values (..., n) and
their gradient (..., n, p); leading dimensions broadcast, so one call evaluates many fits at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluation.records import InputError

Array = NDArray[np.float64]
Grid = Callable[[Sequence[Array]], Array]
"""Inputs, each of shape (P, n) -> starting values for one parameter, shape (P, G)."""


INPUTS = {
    "params": "N, as in the observations table",
    "tokens": "D, tokens trained on, repeats counted",
    "flops": "C, training FLOPs; 6 N D where nothing else is given",
    "steps": "S, optimizer steps",
    "unique_tokens": "U, distinct tokens among D",
    "loss": "the feature that links both steps",
}
"""What laws take, by the name in `Law.inputs`."""


@dataclass(frozen=True)
class Parameter:
    """One parameter of a law.

    A `linear` one enters the law linearly (by its exponential if `log`), so that starts solve for
    it; any other brings a `grid` of starting values, which may depend on the inputs.
    """

    name: str
    lower: float
    upper: float
    meaning: str
    linear: bool = False
    log: bool = False
    grid: Grid | None = None


@dataclass(frozen=True)
class Law:
    """A functional form, ready to be fitted: `evaluate(theta, inputs)` -> (value, gradient)."""

    name: str
    formula: str
    source: str
    inputs: tuple[str, ...]
    parameters: tuple[Parameter, ...]
    evaluate: Callable[[Array, Sequence[Array]], tuple[Array, Array]]
    output: str = "loss"
    """What its values are: a `loss`, which falls with scale; an `accuracy`; or a `log_quality`,
    -log Q of the accuracy rescaled to Q = (accuracy - chance) / (1 - chance)."""
    default_start: tuple[float, ...] | None = None
    """A start to be tried beside the grid's, in the units of the parameters."""

    @property
    def names(self) -> tuple[str, ...]:
        """The parameters' names, in order."""
        return tuple(p.name for p in self.parameters)

    @property
    def size(self) -> int:
        """How many parameters it has."""
        return len(self.parameters)

    def cells(self, inputs: Sequence[Array]) -> int:
        """How many starts its grid has."""
        first = [x[:1] for x in inputs]
        return math.prod(p.grid(first).shape[1] for p in self.parameters if p.grid is not None)

    def value(self, theta: Sequence[float] | Array, *inputs: float | Array) -> Array:
        """The law at `inputs` (scalars or arrays of one shape) for one parameter vector."""
        arrays = [np.atleast_1d(np.asarray(x, dtype=float)) for x in inputs]
        result, _ = self.evaluate(np.asarray(theta, dtype=float), arrays)
        return result


LAWS: dict[str, Law] = {}
"""Every registered law by name."""


def register(law: Law) -> Law:
    """Add a law to the registry; a second one of the same name is a programming error."""
    if law.name in LAWS:
        raise ValueError(f"law {law.name!r} is registered twice")
    LAWS[law.name] = law
    return law


def get_law(name: str) -> Law:
    """The law of that name; raises InputError with the names there are."""
    if name not in LAWS:
        raise InputError(f"law {name!r}: unknown; there are {', '.join(LAWS)}")
    return LAWS[name]


def law_inputs(law: Law, given: Mapping[str, Array]) -> list[Array]:
    """The arrays that a law takes, in its order, from those given by name.

    FLOPs that are not given are 6 N D. Raises InputError for an input that is not given.
    """
    found = []
    for name in law.inputs:
        if name in given:
            found.append(given[name])
        elif name == "flops" and {"params", "tokens"} <= set(given):
            found.append(6 * given["params"] * given["tokens"])
        else:
            raise InputError(f"law {law.name}: takes {name} ({INPUTS[name]}), which is not given")
    return found


def fixed(low: float, high: float, count: int) -> Grid:
    """A grid that does not depend on the inputs."""
    values = np.linspace(low, high, count)
    return lambda inputs: np.broadcast_to(values, (len(inputs[0]), count))
