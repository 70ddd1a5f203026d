"""Two-variable fits side by side: a law, a network and a kernel, held-out errors and exponents."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluation.records import InputError
from predict.allocation import Estimate, Row
from predict.fit import Fit, Objective, fit, refit
from predict.kernel import Kernel, fit_kernel
from predict.laws import Array, get_law
from predict.numbers import levels
from predict.slices import TOLERANCE, Point
from predict.slices_bootstrap import bca
from predict.surrogate import (
    LEAST_RUNS,
    Network,
    choose_decay,
    fit_network,
    resampled_network,
)
from predict.surrogate_curve import Stretch, Surface, exponents, optimal_sizes, stretch
from predict.watch import each

OBJECTIVE = Objective(delta=1e-3, log=True)
"""Of the law's fit: Hoffmann et al. 2022, section 3.3."""

LAW = "chinchilla_scaled"

LEAST_SIZES = 3
"""Sizes, and sizes left when the largest is held out."""

MEMBERS = 8
"""Networks whose mean is the neural fit."""

LEVEL = 0.8

ENOUGH = 0.5
"""Share of resamples that must have an exponent for an interval."""

METHODS = ("parametric", "neural", "kernel")


@dataclass(frozen=True)
class Method:
    """One two-variable fit, with what it says of runs that it did not see."""

    name: str
    source: str
    status: str
    """`ok`, `no_exponent` (fits, but the valley is not inside the runs) or `impossible`."""
    reason: str
    exponent: Estimate | None = None
    """d log N / d log C of the compute-optimal curve inside the runs, C = 6 N D; 80%."""
    rms: float | None = None
    """Root mean square of log errors on the runs that were fitted."""
    held_out_run: float | None = None
    """The same on each run, the others fitted."""
    held_out_largest: float | None = None
    """The same on the runs of the largest size, the smaller ones fitted: an extrapolation."""
    floor: tuple[float, float | None, float | None] | None = None
    """The law's irreducible loss and the ends of its 95%; None for a method without a law."""
    optimal_params: tuple[float | None, ...] = ()
    """N of the lowest loss at each of the comparison's budgets; None outside the runs."""
    detail: str = ""
    """What vouches for the fit."""
    surface: Surface | None = field(default=None, repr=False, compare=False)
    """Losses (K, ...) at N and D, of which the mean in logarithms is the method's; in no JSON."""


@dataclass(frozen=True)
class TwoVariable:
    """Every two-variable method on the same points."""

    points: int
    sizes: int
    flops: tuple[float, ...]
    """Budgets at which the compute-optimal curves are read."""
    methods: tuple[Method, ...]

    def named(self, name: str) -> Method:
        """The method of that name."""
        return next(m for m in self.methods if m.name == name)

    def document(self) -> dict[str, Any]:
        """For JSON."""
        found = asdict(replace(self, methods=tuple(replace(m, surface=None) for m in self.methods)))
        for method in found["methods"]:
            del method["surface"]
        return found


@dataclass(frozen=True)
class _Runs:
    params: Array
    tokens: Array
    losses: Array
    size: NDArray[np.intp]
    """Which size each run is of, rising."""

    def of(self, kept: NDArray[np.bool_]) -> _Runs:
        return _Runs(self.params[kept], self.tokens[kept], self.losses[kept], self.size[kept])

    @property
    def folds(self) -> list[NDArray[np.bool_]]:
        """The runs of each size in turn."""
        return [self.size == k for k in np.unique(self.size)]


def compare_methods(
    points: Sequence[Point],
    replicates: int = 100,
    seed: int = 0,
    methods: Sequence[str] = METHODS,
    held_out: bool = True,
) -> TwoVariable:
    """Fit every method to points of several sizes and token counts.

    Intervals come from normal errors of the method's own residual size about its own surface. A
    compute-optimal size is told only where it lies inside the hull of the points. Raises
    InputError for fewer than LEAST_SIZES sizes or points on one line.
    """
    unknown = set(methods) - set(METHODS)
    if unknown:
        raise InputError(f"methods {', '.join(unknown)}: unknown; there are {', '.join(METHODS)}")
    named = {k: np.array([getattr(p, k) for p in points]) for k in ("params", "tokens", "loss")}
    sizes = levels(named["params"], TOLERANCE)
    if len(sizes) < LEAST_SIZES:
        raise InputError(
            f"{len(sizes)} size{'s' * (len(sizes) != 1)}: a fit of N and D needs {LEAST_SIZES}"
        )
    place = np.searchsorted(np.array(sizes), named["params"] * (1 - 1e-12))
    runs = _Runs(named["params"], named["tokens"], named["loss"], place)
    over = stretch(runs.params, runs.tokens)
    work = {"parametric": _parametric, "neural": _neural, "kernel": _kernel}
    found = []
    for name in each(methods, "surfaces"):
        try:
            found.append(work[name](runs, over, replicates, seed, held_out))
        except InputError as error:
            found.append(Method(name, SOURCES[name], "impossible", str(error)))
    return TwoVariable(
        len(runs.losses), len(sizes), tuple(float(c) for c in over.flops), tuple(found)
    )


SOURCES = {
    "parametric": "exp(a)/N^alpha + exp(b)/D^beta + E, Hoffmann et al. 2022",
    "neural": "an ensemble of networks of log N and log D",
    "kernel": "a Gaussian process of log N and log D",
}


def by_allocation(rows: Sequence[Row]) -> list[Method]:
    """Chinchilla's first two approaches from `ladder allocate`: exponents, no surface."""
    return [
        Method(
            row.approach,
            row.source,
            "impossible" if row.exponent_params is None else "ok",
            row.reason,
            row.exponent_params,
            detail=row.certificate,
        )
        for row in rows
        if row.approach in ("envelope", "isoflop")
    ]


def _method(
    name: str,
    surface: Surface,
    resampled: Surface | None,
    over: Stretch,
    runs: _Runs,
    held: tuple[float | None, float | None],
    detail: str,
) -> Method:
    """A method from its surface, of which the mean in logarithms counts, and resampled ones."""
    sizes, tokens = over.places()
    centre = optimal_sizes(np.log(surface(sizes, tokens)).mean(axis=0)[None], over)
    wanted = np.isfinite(centre[0])
    value = float(exponents(centre, over.flops, wanted)[0])
    off = np.log(surface(runs.params, runs.tokens)).mean(axis=0) - np.log(runs.losses)
    estimate, reason, status = None, "", "ok"
    if math.isfinite(value):
        low, high = _ends(value, resampled, over)
        estimate = Estimate(value, low, high)
    else:
        status = "no_exponent"
        reason = (
            f"{int(wanted.sum())} of {len(wanted)} budgets have their best size inside the runs, "
            "too few for an exponent; train smaller and larger models"
        )
    return Method(
        name,
        SOURCES[name],
        status,
        reason,
        estimate,
        float(np.sqrt((off**2).mean())),
        held[0],
        held[1],
        optimal_params=tuple(float(math.exp(v)) if math.isfinite(v) else None for v in centre[0]),
        detail=detail,
        surface=surface,
    )


def _ends(
    value: float, resampled: Surface | None, over: Stretch
) -> tuple[float | None, float | None]:
    """The bias-corrected central interval of resampled exponents; None where too few have one.

    A resample's exponent is that of its own curve, over the budgets where that is inside the runs.
    """
    if resampled is None:
        return None, None
    own = optimal_sizes(np.log(resampled(*over.places())), over)
    slopes = exponents(own, over.flops, np.ones(len(over.flops), dtype=bool))
    slopes = slopes[np.isfinite(slopes)]
    if len(slopes) < max(ENOUGH * len(own), 10):
        return None, None
    return bca(value, slopes, None, LEVEL)


def _errors(centre: Array, size: float, replicates: int, seed: int) -> Array:
    """Rows of losses (R, n) about a surface's own."""
    rng = np.random.default_rng((seed, 4))
    return np.asarray(centre * np.exp(size * rng.standard_normal((replicates, len(centre)))))


def _rms(off: Array) -> float:
    return float(np.sqrt((off**2).mean()))


def _largest(runs: _Runs, held_out: bool) -> _Runs | None:
    """The runs without the largest size, where enough sizes are left."""
    smaller = runs.of(runs.size < runs.size.max())
    return smaller if held_out and len(smaller.folds) >= LEAST_SIZES else None


def _held_largest(runs: _Runs, held_out: bool, fitted: Callable[[_Runs], Surface]) -> float | None:
    part = _largest(runs, held_out)
    if part is None:
        return None
    top = runs.of(runs.size == runs.size.max())
    try:
        surface = fitted(part)
    except InputError:
        return None
    return _rms(np.log(surface(top.params, top.tokens)).mean(axis=0) - np.log(top.losses))


def _law_surface(theta: Array) -> Surface:
    law = get_law(LAW)

    def surface(params: Array, tokens: Array) -> Array:
        flat = [np.ravel(params), np.ravel(tokens)]
        return np.asarray(law.evaluate(theta, flat)[0].reshape(len(theta), *np.shape(params)))

    return surface


def _law_fit(runs: _Runs) -> Fit:
    law = get_law(LAW)
    (found,) = fit(law, [runs.params[None], runs.tokens[None]], runs.losses[None], OBJECTIVE)
    if not found.determined:
        raise InputError(found.doubt)
    return found


def _parametric(runs: _Runs, over: Stretch, replicates: int, seed: int, held_out: bool) -> Method:
    law, found, n = get_law(LAW), _law_fit(runs), len(runs.losses)

    def again(losses: Array, weights: Array) -> Array:
        rows = (len(losses), n)
        given = [np.broadcast_to(x, rows) for x in (runs.params, runs.tokens)]
        begin = np.broadcast_to(found.theta, (len(losses), law.size))
        return refit(law, given, losses, OBJECTIVE, weights, begin, np.ones(len(losses)))

    surface = _law_surface(found.theta[None])
    centre = surface(runs.params, runs.tokens)[0]
    off = np.log(centre) - np.log(runs.losses)
    each = None
    if held_out and n > law.size:
        theta = again(np.broadcast_to(runs.losses, (n, n)), 1 - np.eye(n))
        predicted = _law_surface(theta)(runs.params, runs.tokens)
        each = _rms(np.log(np.diag(predicted)) - np.log(runs.losses))
    resampled = None
    floor: tuple[float, float | None, float | None] = (float(found.theta[-1]), None, None)
    if replicates and n > law.size:
        size = float(np.sqrt((off**2).sum() / (n - law.size)))
        rows = _errors(centre, size, replicates, seed)
        theta = again(rows, np.ones_like(rows))
        resampled = _law_surface(theta)
        floor = (floor[0], *bca(floor[0], theta[:, -1], None, 0.95))
    held = each, _held_largest(runs, held_out, lambda r: _law_surface(_law_fit(r).theta[None]))
    detail = "; ".join(filter(None, (found.values(), found.certificate(), found.doubt)))
    method = _method("parametric", surface, resampled, over, runs, held, detail)
    return replace(method, floor=floor)


def _neural(runs: _Runs, over: Stretch, replicates: int, seed: int, held_out: bool) -> Method:
    def fitted(part: _Runs) -> Network:
        return fit_network(
            part.params, part.tokens, part.losses, part.folds, members=MEMBERS, seed=seed
        )

    found = fitted(runs)
    each = None
    if held_out and len(runs.losses) > LEAST_RUNS:
        scores = choose_decay(
            found.shape,
            found.scaler,
            runs.params,
            runs.tokens,
            runs.losses,
            list(np.eye(len(runs.losses), dtype=bool)),
            seed=seed,
            decays=(found.decay,),
        )
        each = scores[found.decay]
    resampled = None
    if replicates:
        centre = np.exp(np.log(found.loss(runs.params, runs.tokens)).mean(axis=0))
        rows = _errors(centre, found.residual_sd, replicates, seed)
        resampled = resampled_network(found, runs.params, runs.tokens, rows, seed).loss
    held = each, _held_largest(runs, held_out, lambda part: fitted(part).loss)
    spread = np.log(found.loss(runs.params, runs.tokens)).std(axis=0).mean()
    detail = (
        f"{MEMBERS} networks of {found.shape.hidden} units, weight decay {found.decay:.0e}, "
        f"{found.settled:.0%} settled, {found.spared:.0f} degrees of freedom spared, spread of the "
        f"networks {spread:.2%}"
    )
    return _method("neural", found.loss, resampled, over, runs, held, detail)


def _kernel(runs: _Runs, over: Stretch, replicates: int, seed: int, held_out: bool) -> Method:
    def fitted(part: _Runs) -> Kernel:
        return fit_kernel(part.params, part.tokens, part.losses)

    found = fitted(runs)
    resampled = None
    if replicates:
        centre = found.loss(runs.params, runs.tokens)[0]
        rows = _errors(centre, found.residual_sd, replicates, seed)
        resampled = found.refitted(rows).loss
    each = _rms(found.left_out) if held_out else None
    held = each, _held_largest(runs, held_out, lambda part: fitted(part).loss)
    detail = (
        f"lengths {found.lengths[0]:.2g} and {found.lengths[1]:.2g} standard deviations, noise "
        f"{found.noise:.1e} of the variance"
    )
    return _method("kernel", found.loss, resampled, over, runs, held, detail)
