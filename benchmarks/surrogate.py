"""Fits of scaling exponents on losses whose law is known: slices, networks, kernels.

    python benchmarks/surrogate.py [--small] [PART ...] > benchmarks/surrogate.md

Prints, for all parts or those named, how the compute-optimal curve of each method compares with the
truth where the parametric law is right and where it is wrong, how often intervals hold the truth,
which law wins on data of each kind, and which networks were chosen and why. `--small` takes a tenth
of the seeds.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable

import numpy as np
from scipy.optimize import minimize

from predict.laws import Array
from predict.slices import Point
from predict.slices_bootstrap import SCHEMES, bca, draw, resampled
from predict.slices_compare import fit_slice
from predict.slices_fit import POWER, floor_interval, rate_interval
from predict.surrogate import DECAYS, Shape, fit_network, forward, initial, standardise, train
from predict.surrogate_curve import exponents, optimal_sizes, stretch
from predict.surrogate_methods import METHODS, compare_methods

SMALL = "--small" in sys.argv
SEEDS = 3 if SMALL else 20
SLICES = 20 if SMALL else 100
SIZES, TOKENS = np.geomspace(1e4, 1e6, 7), np.geomspace(1e6, 1e8, 7)
N, D = (a.ravel() for a in np.meshgrid(SIZES, TOKENS, indexing="ij"))
NOISES = (0.001, 0.005)

Law = Callable[[Array, Array], Array]


def _sum(alpha: float, beta: float, a: float = 0.5, b: float = 0.5) -> Law:
    return lambda n, d: 1.7 + a * n**-alpha + b * d**-beta


RIGHT: dict[str, Law] = {
    "alpha .34, beta .28": _sum(0.34, 0.28),
    "alpha .5, beta .5": _sum(0.5, 0.5),
    "alpha 1, beta .75": _sum(1.0, 0.75, 0.3, 0.3),
}
WRONG: dict[str, Law] = {
    "broken in N, .2 to .8": lambda n, d: 1.7 + 0.5 * n**-0.2 * (1 + n**2) ** -0.3 + 0.5 * d**-0.5,
    "N D term": lambda n, d: 1.7 + 0.3 * n**-0.5 + 0.3 * d**-0.5 + 0.4 * n**-0.6 * d**-0.15,
    "bottleneck": lambda n, d: 1.7 + np.sqrt(0.3 * n**-1.4 + 0.3 * d**-0.8),
}
"""N in 1e5, D in 1e7; the last is Kaplan's form with a floor."""


def main() -> None:
    """Print everything."""
    print(f"`{' '.join(['python benchmarks/surrogate.py', *sys.argv[1:]])}`")
    began = time.process_time()
    parts = {
        "curves": show_curves,
        "floors": show_floors,
        "coverage": show_coverage,
        "verdicts": show_verdicts,
        "shapes": show_shapes,
        "training": show_training,
    }
    for name in [a for a in sys.argv[1:] if a != "--small"] or parts:
        parts[name]()
    print(f"\n{(time.process_time() - began) / 60:.1f} minutes of one core.")


def table(title: str, columns: tuple[str, ...]) -> None:
    """The head of a table."""
    print(f"\n## {title}\n\n| {' | '.join(columns)} |")
    print("| --- " * len(columns) + "|", flush=True)


def show_floors() -> None:
    """Coverage of the parametric law's own intervals, where it is right."""
    table(
        f"The parametric law where it is right: how often its intervals hold the truth, {SLICES} "
        "seeds",
        ("law", "noise", "exponent in 80%", "floor in 95%"),
    )
    for name, law in list(RIGHT.items())[1:]:
        true = {"alpha .5, beta .5": 0.5, "alpha 1, beta .75": 0.75 / 1.75}[name]
        hits = []
        for seed in range(SLICES):
            losses = noisy(law, NOISES[1], seed)
            points = [Point(*row, 1) for row in zip(N, D, losses, strict=True)]
            found = compare_methods(points, 60, seed, ("parametric",), held_out=False)
            method = found.named("parametric")
            exponent, floor = method.exponent, method.floor
            if exponent is None or exponent.lower80 is None or floor is None:
                continue
            hits.append((exponent.lower80 <= true <= exponent.upper80, floor[1] <= 1.7 <= floor[2]))
        shares = " | ".join(f"{share:.2f}" for share in np.mean(hits, axis=0))
        print(f"| {name} | {NOISES[1]:.1%} | {shares} |", flush=True)


def show_coverage() -> None:
    """Coverage of 95% intervals of the exponent and the floor of a slice."""
    table(
        f"Slices: how often 95% intervals hold the truth, {SLICES} seeds, 2 + .8 x^-.7 over two "
        "decades, errors of .15% of the loss",
        ("points", "of", "profile", "residual: BCa", "BC", "percentile", "normal: BCa",
         "pairs: BCa", "bias / SD", "debiased"),
    )  # fmt: skip
    for n in (5, 6, 8, 12):
        x = np.geomspace(1, 100, n)
        hits: dict[tuple[str, str], list[bool]] = {}
        off: dict[str, list[tuple[float, float]]] = {"rate": [], "floor": []}
        for seed in range(SLICES):
            rng = np.random.default_rng(seed)
            y = 2 + 0.8 * x**-0.7 + 0.003 * rng.standard_normal(n)
            profiles = {"rate": rate_interval(POWER, x, y), "floor": floor_interval(POWER, x, y)}
            for scheme in SCHEMES:
                draws = draw(POWER, x, y, 200, seed, scheme)
                for name, true in (("rate", 0.7), ("floor", 2.0)):
                    found = resampled(draws, name)
                    ends = {"BCa": (found.lower, found.upper)}
                    if scheme == "residual":
                        low, high = profiles[name]
                        ends["profile"] = (low or 0.0, math.inf if high is None else high)
                        ends["BC"] = bca(found.value, getattr(draws.replicates, name))
                        ends["percentile"] = found.percentile
                        twice = found.value if found.debiased is None else found.debiased
                        off[name].append((found.value - true, twice - true))
                    for kind, (low, high) in ends.items():
                        hits.setdefault((name, f"{scheme} {kind}"), []).append(low <= true <= high)
        for name, shown in (("rate", "exponent"), ("floor", "floor")):
            cells = [
                f"{np.mean(hits[name, k]):.2f}"
                for k in ("residual profile", "residual BCa", "residual BC", "residual percentile",
                          "normal BCa", "pairs BCa")
            ]  # fmt: skip
            plain, twice = np.array(off[name]).T
            print(
                f"| {n} | {shown} | {' | '.join(cells)} | {plain.mean() / plain.std():+.2f} "
                f"| {twice.mean() / twice.std():+.2f} |",
                flush=True,
            )


def show_verdicts() -> None:
    """Which law wins on data made from each."""
    count = SLICES // 5
    table(
        f"Power law against exponential: medians and shares of {count} seeds",
        ("data", "points", "noise", "MSE ratio", "power", "exponential", "undecided", "neither",
         "held out: power better", "held-out ratio"),
    )  # fmt: skip
    for kind in ("power", "exponential"):
        for n in (5, 7):
            for noise in (0.0005, 0.005, 0.02):
                x = np.geomspace(1, 30, n)
                shape = x**-0.7 if kind == "power" else np.exp(-x / 6)
                found = []
                for seed in range(count):
                    rng = np.random.default_rng(seed)
                    y = (2 + 0.8 * shape) * (1 + noise * rng.standard_normal(n))
                    found.append(fit_slice(x, y, 200, seed, drop=0).lead)
                said = [f.verdict for f in found]
                held = [f.held_out_ratio for f in found if f.held_out_ratio is not None]
                shares = " | ".join(
                    f"{said.count(v) / count:.2f}"
                    for v in ("power", "exponential", "undecided", "neither")
                )
                print(
                    f"| {kind} | {n} | {noise:.2%} | {np.median([f.mse_ratio for f in found]):.3g} "
                    f"| {shares} | {np.mean(np.array(held) > 1):.2f} | {np.median(held):.3g} |",
                    flush=True,
                )


def show_shapes() -> None:
    """Which network: its target, its signs, its width."""
    seeds = 1 if SMALL else 2
    table(
        f"Networks: rms log error against the law over the runs' rectangle, %, mean of {seeds} "
        "seeds, .2% noise, 49 runs",
        ("signs", "target", "units", *RIGHT, *WRONG),
    )
    at = [a.ravel() for a in np.meshgrid(np.geomspace(1e4, 1e6, 15), np.geomspace(1e6, 1e8, 15))]
    for monotone in (False, True):
        for log in (True, False):
            for hidden in (6, 12):
                cells = []
                for law in (RIGHT | WRONG).values():
                    errors = []
                    for seed in range(seeds):
                        losses = noisy(law, 0.002, seed)
                        net = fit_network(
                            N, D, losses, folds(), Shape(hidden, monotone, log), 4, seed
                        )
                        with np.errstate(invalid="ignore"):
                            found = np.log(net.loss(*at)).mean(axis=0)
                        true = np.log(law(at[0] / 1e5, at[1] / 1e7))
                        errors.append(float(np.sqrt(((found - true) ** 2).mean())))
                    cells.append(f"{100 * np.mean(errors):.2f}")
                print(
                    f"| {'held' if monotone else 'free'} | {'log loss' if log else 'loss'} "
                    f"| {hidden} | {' | '.join(cells)} |",
                    flush=True,
                )


def show_training() -> None:
    """Levenberg-Marquardt against L-BFGS from the same starts."""
    table(
        "Training: 8 networks from the same starts, objective over the least of both, median",
        ("law", "weight decay", "LM", "LM, ms a network", "L-BFGS", "L-BFGS, ms a network"),
    )
    shape = Shape()
    for name, law in list(RIGHT.items())[1:]:
        losses = noisy(law, 0.002, 0)
        scaler = standardise(N, D, losses)
        z, y = scaler.inputs(N, D), scaler.targets(losses)
        begin = initial(shape, 8, np.random.default_rng(0))
        for decay in (DECAYS[-2], DECAYS[-4]):
            rows = np.broadcast_to(y, (8, len(y)))
            clock = time.process_time()
            _, ours, _ = train(shape, z, rows, np.ones_like(rows), np.full(8, decay), begin)
            own = (time.process_time() - clock) / 8
            clock = time.process_time()
            theirs = np.array([rival(shape, z, y, decay, b) for b in begin])
            other = (time.process_time() - clock) / 8
            best = np.minimum(ours, theirs)
            print(
                f"| {name} | {decay:.0e} | {np.median(ours / best):.3f} | {1e3 * own:.0f} "
                f"| {np.median(theirs / best):.3f} | {1e3 * other:.0f} |",
                flush=True,
            )


def rival(shape: Shape, z: Array, y: Array, decay: float, begin: Array) -> float:
    """The objective that scipy's L-BFGS-B reaches in 3000 steps."""
    weights = np.arange(shape.size) < 3 * shape.hidden

    def cost(theta: Array) -> tuple[float, Array]:
        value, gradient = forward(shape, theta[None], z)
        off = value[0] - y
        pull = decay * weights * theta
        return float(off @ off + pull @ theta), 2 * (off @ gradient[0] + pull)

    options = {"maxiter": 3000, "maxfun": 4000}
    return float(minimize(cost, begin, jac=True, method="L-BFGS-B", options=options).fun)


def show_curves() -> None:
    """Compute-optimal curves inside the runs, against the truth."""
    table(
        f"Compute-optimal curves: medians over {SEEDS} seeds, 49 runs, N 1e4-1e6, D 1e6-1e8",
        ("law", "noise", "true exponent", "method", "exponent", "error of it", "in 80%",
         "meets parametric's 80%", "error of log N*, rms", "error of log loss, rms, %"),
    )  # fmt: skip
    over = stretch(N, D)
    sizes, tokens = over.places()
    at = [a.ravel() for a in np.meshgrid(np.geomspace(1e4, 1e6, 15), np.geomspace(1e6, 1e8, 15))]
    for name, law in (RIGHT | WRONG).items():
        best = optimal_sizes(law(sizes / 1e5, tokens / 1e7)[None], over)
        true = float(exponents(best, over.flops, np.ones(len(over.flops), dtype=bool))[0])
        for noise in NOISES:
            found: dict[str, list[tuple[float, ...]]] = {m: [] for m in METHODS}
            for seed in range(SEEDS):
                losses = noisy(law, noise, seed)
                points = [Point(*row, 1) for row in zip(N, D, losses, strict=True)]
                two = compare_methods(points, 40, seed, held_out=False)
                parametric = two.named("parametric").exponent
                for method in two.methods:
                    if method.exponent is None or method.surface is None:
                        found[method.name].append((math.nan,) * 5)
                        continue
                    own = np.array([v or math.nan for v in method.optimal_params])
                    low, high = method.exponent.lower80, method.exponent.upper80
                    inside = low is not None and low <= true <= high
                    meets = (
                        parametric is not None
                        and low is not None
                        and parametric.lower80 is not None
                        and low <= parametric.upper80
                        and high >= parametric.lower80
                    )
                    off = np.log(method.surface(*at)).mean(axis=0)
                    off = off - np.log(law(at[0] / 1e5, at[1] / 1e7))
                    found[method.name].append(
                        (
                            method.exponent.value,
                            inside,
                            meets,
                            float(np.sqrt(np.nanmean((np.log(own) - best[0]) ** 2))),
                            float(np.sqrt((off**2).mean())),
                        )
                    )
            for method, rows in found.items():
                value, inside, meets, sizes_off, losses_off = np.array(rows, dtype=float).T
                print(
                    f"| {name} | {noise:.1%} | {true:.3f} | {method} | {np.nanmedian(value):.3f} "
                    f"| {np.nanmedian(np.abs(value - true)):.3f} | {np.nanmean(inside):.2f} "
                    f"| {np.nanmean(meets):.2f} | {np.nanmedian(sizes_off):.3f} "
                    f"| {100 * np.nanmedian(losses_off):.3f} |",
                    flush=True,
                )


def noisy(law: Law, noise: float, seed: int) -> Array:
    """Losses of the runs, each with a relative error of its own."""
    errors = np.exp(noise * np.random.default_rng(seed).standard_normal(len(N)))
    return np.asarray(law(N / 1e5, D / 1e7) * errors)


def folds() -> list[Array]:
    """The runs of each size in turn."""
    return [size == N for size in SIZES]


if __name__ == "__main__":
    main()
