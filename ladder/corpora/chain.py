"""A first-order Markov chain of sparse transitions, and what is exactly known of it; no torch.

Rows are compressed: the transitions of node i are entries starts[i] to starts[i + 1] of `nodes` and
`probabilities`. A chain of one row is one of independent tokens. Nodes that are never visited may
have no transitions. Entropies are in nats.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from evaluation.files import InputError

Ints = NDArray[np.int64]
Array = NDArray[np.float64]
Start = Literal["stationary", "uniform"]

SMALL = 512
"""Nodes up to which linear algebra is dense."""
STEPS = 10_000
"""Most steps of the power iteration for the stationary distribution."""
ALIKE = 1e-10
"""Most that stationary distributions from different starts may differ by, summed over nodes."""
GAP = 1e-2
"""Distance of the second eigenvalue from 1 below which it is computed more closely."""
EXACT = 1e-14
"""Change of the stationary distribution in a step, summed over nodes, at which it has settled."""


@dataclass(frozen=True, eq=False)
class Chain:
    """Transitions, (R + 1,), (E,) and (E,), of V nodes; R is V, or 1 for independent tokens."""

    starts: Ints
    nodes: Ints
    """Where each transition leads."""
    probabilities: Array
    """Of each transition, above 0; those of a node sum to 1."""
    size: int
    """V, nodes that have a number, visited or not."""
    weights: Array | None = None
    """The stationary distribution, (V,), up to a factor, where it is known in closed form."""
    reversible: bool = False
    """Whether the chain reads the same backwards, as a walk on an undirected graph does."""

    @property
    def independent(self) -> bool:
        """Whether the next token does not depend on the present one."""
        return len(self.starts) == 2

    @cached_property
    def degrees(self) -> Ints:
        """Transitions of every row, (R,)."""
        return np.diff(self.starts)

    @cached_property
    def rows(self) -> Ints:
        """The row of every transition, (E,)."""
        return np.repeat(np.arange(len(self.degrees)), self.degrees)

    @cached_property
    def visited(self) -> NDArray[np.bool_]:
        """Nodes that a walk comes to, (V,)."""
        found = np.zeros(self.size, dtype=bool)
        found[self.nodes] = True
        return found

    def row_of(self, nodes: Ints) -> Ints:
        """The row that holds the transitions of each node."""
        return np.zeros_like(nodes) if self.independent else nodes

    def advance(self, distribution: Array) -> Array:
        """The distribution (V,) one step later."""
        mass = np.array([distribution.sum()]) if self.independent else distribution
        flow = mass[self.rows] * self.probabilities
        return summed(self.nodes, flow, self.size)

    @cached_property
    def row_entropy(self) -> Array:
        """Entropy of the next node given the present one, (V,)."""
        surprise = -self.probabilities * np.log(self.probabilities)
        found = summed(self.rows, surprise, len(self.degrees))
        return np.full(self.size, found[0]) if self.independent else found

    @cached_property
    def stationary(self) -> Array:
        """The stationary distribution, (V,), of a periodic chain too.

        In closed form where it is known; on small chains by elimination; on others by power
        iteration from two starts. Raises InputError where they do not settle on the same.
        """
        if self.weights is not None:
            return np.asarray(self.weights / self.weights.sum())
        if self.independent:
            return self.advance(np.full(self.size, 1 / self.size))
        if self.visited.sum() <= SMALL:
            kept = np.flatnonzero(self.visited)
            found = np.zeros(self.size)
            found[kept] = eliminated(self.dense()[np.ix_(kept, kept)])
            return found
        uneven = np.random.default_rng(0).random(self.size) ** 20 * self.visited
        settled = self._settled(self.begin("uniform"))
        other = self._settled(uneven / uneven.sum())
        # Where parts hardly leak into each other, what settles is still that of the start.
        if settled is None or other is None or np.abs(settled - other).sum() > ALIKE:
            raise InputError(
                "corpus: the stationary distribution does not settle: parts of the graph are "
                "hardly joined; lower corpus.kappa, or choose another graph"
            )
        return settled

    def _settled(self, now: Array) -> Array | None:
        """A distribution after so many steps that it changes no longer; None if it never does."""
        for _ in range(STEPS):
            # Staying with probability 1/2 changes no stationary distribution, and ends any period.
            then = (now + self.advance(now)) / 2
            then /= then.sum()
            if np.abs(then - now).sum() < EXACT:
                return then
            now = then
        return None

    def begin(self, start: Start) -> Array:
        """Distribution of the first token, (V,)."""
        if start == "stationary":
            return self.stationary
        return np.asarray(self.visited / self.visited.sum())

    def positions(self, start: Start, length: int) -> Array:
        """Distribution of a token anywhere in sequences of `length` tokens, (V,)."""
        if start == "stationary":
            return self.stationary
        now = self.begin(start)
        total = now.copy()
        for _ in range(length - 1):
            now = self.advance(now)
            total += now
        return np.asarray(total / length)

    @cached_property
    def entropy_rate(self) -> float:
        """Entropy of the next node in the long run."""
        return float(self.stationary @ self.row_entropy)

    def floor(self, start: Start, length: int) -> float:
        """Loss that no model can fall below, mean over all tokens that follow one of `length`."""
        if start == "stationary":
            return self.entropy_rate
        return float(self.positions(start, length) @ self.row_entropy)

    @cached_property
    def period(self) -> int:
        """The number that divides the lengths of all ways back to a node; 2 if bipartite."""
        if self.independent:
            return 1
        from scipy.sparse.csgraph import shortest_path

        first = int(self.visited.argmax())
        depth = shortest_path(self.sparse(), unweighted=True, indices=first)
        back = depth[self.rows] + 1 - depth[self.nodes]
        return int(np.gcd.reduce(back.astype(np.int64)))

    @cached_property
    def second_eigenvalue(self) -> float:
        """Second largest modulus of the transition matrix's eigenvalues: 1 if it is periodic.

        On more than SMALL nodes by Lanczos' or Arnoldi's method, to a thousandth of itself, or of
        its distance from 1. Raises InputError where that does not settle.
        """
        if self.independent or self.visited.sum() == 1:
            return 0.0
        if self.period > 1:
            return 1.0
        kept = np.flatnonzero(self.visited)
        if len(kept) <= SMALL:
            values = np.linalg.eigvals(self.dense()[np.ix_(kept, kept)])
            return float(np.sort(np.abs(values))[-2])
        found = self._second_by_iteration(kept, 1e-3)
        return found if found < 1 - GAP else self._second_by_iteration(kept, 1e-10)

    @property
    def relaxation_time(self) -> float | None:
        """Steps in which what a walk knows of its start falls by e, in the long run.

        1 / (1 - second_eigenvalue); None where a period keeps it from falling. Raises InputError
        where it is too long to tell.
        """
        if self.period > 1:
            return None
        gap = 1 - self.second_eigenvalue
        if gap < 1e-9:
            raise InputError(
                "corpus: walks hardly mix, too slowly to tell how slowly; lower corpus.kappa, or "
                "choose another graph"
            )
        return 1 / gap

    def dense(self) -> Array:
        """The transition matrix, (V, V)."""
        matrix = np.zeros((len(self.degrees), self.size))
        matrix[self.rows, self.nodes] = self.probabilities
        return np.repeat(matrix, self.size, axis=0) if self.independent else matrix

    def sparse(self) -> Any:
        """The transition matrix as scipy has it, (V, V)."""
        from scipy.sparse import csr_array

        shape = (self.size, self.size)
        return csr_array((self.probabilities, self.nodes, self.starts), shape=shape)

    def _second_by_iteration(self, kept: Ints, tolerance: float) -> float:
        from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigs, eigsh

        matrix, pi = self.sparse()[kept][:, kept], self.stationary[kept]
        begin = np.random.default_rng(0).standard_normal(len(kept))
        try:
            # What takes the eigenvalue 1 away leaves all others as they are.
            if self.reversible:
                root = np.sqrt(pi)
                flat = LinearOperator(
                    matrix.shape,
                    lambda x: root * (matrix @ (x.ravel() / root)) - root * (root @ x.ravel()),
                    dtype=np.float64,
                )
                values = eigsh(flat, 1, tol=tolerance, v0=begin, return_eigenvectors=False)
            else:
                flat = LinearOperator(
                    matrix.shape,
                    lambda x: matrix @ x.ravel() - pi @ x.ravel(),
                    dtype=np.float64,
                )
                values = eigs(flat, 2, ncv=60, tol=tolerance, v0=begin, return_eigenvectors=False)
        except ArpackNoConvergence as error:
            raise InputError(
                "corpus: the second eigenvalue has not settled; take fewer nodes"
            ) from error
        return float(np.abs(values).max())


def eliminated(matrix: Array) -> Array:
    """The stationary distribution of a matrix (V, V) that leads from everywhere to everywhere.

    Node after node is left out, without a subtraction (Grassmann, Taksar and Heyman 1985): exact to
    rounding for every node, however slowly the chain mixes.
    """
    left = matrix.copy()
    for k in range(len(left) - 1, 0, -1):
        left[:k, k] /= left[k, :k].sum()
        left[:k, :k] += np.outer(left[:k, k], left[k, :k])
    weights = np.ones(len(left))
    for k in range(1, len(left)):
        weights[k] = weights[:k] @ left[:k, k]
    return np.asarray(weights / weights.sum())


def summed(index: Ints, values: Array, size: int) -> Array:
    """The sum of the values of each index, (size,)."""
    return np.asarray(np.bincount(index, values, minlength=size), dtype=np.float64)


def entropy(distribution: Array) -> float:
    """Entropy of a distribution."""
    kept = distribution[distribution > 0]
    return float(-(kept @ np.log(kept)))


def dense_chain(transition: Array, stationary: Array) -> Chain:
    """The chain of a matrix (V, V) whose stationary distribution is known."""
    rows, nodes = np.nonzero(transition)
    starts = np.r_[0, np.cumsum(np.bincount(rows, minlength=len(transition)))]
    return Chain(starts, nodes, transition[rows, nodes], len(transition), stationary)
