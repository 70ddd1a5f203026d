"""Times the fits against plain scipy, in one process on one core, and the whole audit.

    OMP_NUM_THREADS=1 python benchmarks/fit_speed.py [FOLDER]

FOLDER holds the logs of allenai/OLMo-ladder (default ../shared/olmo-ladder). The rivals are in this
file: the published method in plain scipy (one L-BFGS-B start and one curve_fit a task, which
certifies nothing), its objective point by point in Python without and with a gradient, and in numpy
with one; the same in numpy from as many starts as ours; and Hoffmann's grid of 3125 starts
with BFGS and log-sum-exp, as Besiroglu et al. 2024 fit it. Prints medians and ratios;
benchmarks/fit_speed.md holds a run.
"""

from __future__ import annotations

import itertools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.optimize import curve_fit, minimize
from scipy.special import logsumexp

from evaluation.records import write_observations
from evaluation.sources import import_olmo_ladder
from predict import Target, TwoStage
from predict.bootstrap import bootstrap
from predict.fit import Objective, fit
from predict.laws import get_law

PAPER = (
    *(f"{t}_test_rc_5shot" for t in ("mmlu", "arc_challenge", "arc_easy", "openbookqa")),
    *(f"{t}_val_rc_5shot" for t in ("hellaswag", "piqa", "csqa", "socialiqa")),
)
DELTA = 1e-3
STARTS = 11
Objective1 = Callable[..., tuple[float, np.ndarray]]


def main(folder: Path) -> None:
    """Print everything."""
    table = import_olmo_ladder(folder).observations
    rungs = table[(table["role"] == "ladder") & table["task"].isin(PAPER)]
    print("`OMP_NUM_THREADS=1 python benchmarks/fit_speed.py`, medians\n")
    print("| what | task-ladder | rival | rival's | ratio |\n| --- | --- | --- | --- | --- |")
    rivals = {
        "plain scipy, no gradient given": median(3, lambda: plain_published(rungs, value_only)),
        "scipy, gradient by hand": median(3, lambda: plain_published(rungs, point_by_point)),
        "scipy, in numpy": median(3, lambda: plain_published(rungs, in_numpy)),
        f"scipy, in numpy, {STARTS} starts": median(
            1, lambda: plain_published(rungs, in_numpy, STARTS)
        ),
    }
    for method in ("published", "default"):
        ours = median(5, lambda m=method: TwoStage(m).fit(rungs))
        for rival, theirs in rivals.items():
            show(f"method {method}, 8 tasks, both steps", ours, rival, theirs)
    params, tokens, loss = chinchilla_points()
    law, objective = get_law("chinchilla"), Objective(delta=DELTA, log=True)
    ours = median(9, lambda: fit(law, [params[None], tokens[None]], loss[None], objective))
    found = fit(law, [params[None], tokens[None]], loss[None], objective)[0]
    begin = time.perf_counter()
    best = brute_force(params, tokens, loss)
    show("certified fit of 240 points", ours, "3125 starts of BFGS", time.perf_counter() - begin)
    model = TwoStage("default").fit(rungs)
    target = [Target("7B-4T", 6_887_575_552, 3_945_065_873_408)]
    seconds = median(3, lambda: bootstrap(model, target, 1000))
    print(f"| 1000 bootstrap refits of 8 tasks, default method | {seconds:.2f} s | | | |")
    seconds = median(5, lambda: audit_process(folder, table))
    print(f"| `ladder audit` on the logs, 35 tasks, whole process | {seconds:.2f} s | | | |")
    print(
        f"\nObjective of the 240 points: {found.objective:.9g} certified "
        f"({found.agreeing} of {found.starts} starts agree), {best:.9g} by brute force."
    )


def median(runs: int, call: Callable[[], object]) -> float:
    """Median wall seconds of a call."""
    times = []
    for _ in range(runs):
        begin = time.perf_counter()
        call()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def show(what: str, ours: float, rival: str, theirs: float) -> None:
    """One line of the table."""
    print(
        f"| {what} | {ours:.3f} s | {rival} | {theirs:.2f} s | {theirs / ours:,.1f}x |", flush=True
    )


def plain_published(
    rows: pd.DataFrame, objective: Objective1, starts: int = 1
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The published method with scipy alone: arXiv 2412.04403, its settings, task by task."""
    fits = {}
    for task, part in rows.groupby("task"):
        points, losses, accuracies = [], [], []
        for _, run in part.sort_values("step").groupby("run"):
            last = run.iloc[-1]
            points.append((last["params"], last["tokens"], run["loss"].tail(5).mean()))
            kept = run.iloc[int(np.ceil(0.1 * len(run))) :]
            smooth = kept[["loss", "accuracy"]].rolling(5, min_periods=1).mean()
            losses += smooth["loss"].tolist()
            accuracies += smooth["accuracy"].tolist()
        params, tokens, loss = np.array(points, dtype=float).T
        rng = np.random.default_rng(0)
        begins = [np.array([3, 6, 0.1, 0.2, 1.0])]
        begins += [rng.uniform([0, 0, 0, 0, 0], [15, 10, 1, 1, 1]) for _ in range(starts - 1)]
        found = [one_start(objective, params, tokens, loss, b) for b in begins]
        chance = part["chance"].iloc[0]
        tops = [chance - 1, 0.9, 3.0, 1.0]
        links = []
        for i in range(starts):
            begin = tops if i == 0 else rng.uniform([-1, 0, 0, 0], [0, 2, 20, 1])
            links.append(
                curve_fit(
                    lambda x, a, x0, k, b: a / (1 + np.exp(-k * (x - x0))) + b,
                    np.array([*losses, 0.0]),
                    np.array([*accuracies, 1.0]),
                    p0=begin,
                    bounds=([-1, 0, 0, 0], [0, np.inf, np.inf, 1]),
                    maxfev=100_000,
                )[0]
            )
        fits[str(task)] = (min(found, key=lambda f: f.fun).x, links[0])
    return fits


def one_start(objective, params, tokens, loss, begin):  # type: ignore[no-untyped-def]
    """L-BFGS-B with the analytic gradient, to the authors' tolerances."""
    return minimize(
        objective,
        begin,
        args=(params, tokens, loss),
        jac=objective is not value_only,
        method="L-BFGS-B",
        bounds=[(0, None)] * 5,
        options={"ftol": 0, "gtol": 1e-10, "maxiter": 10_000, "maxfun": 100_000},
    )


def point_by_point(theta, params, tokens, loss):  # type: ignore[no-untyped-def]
    """Sum of Huber losses of log residuals and its gradient, a loop over the rungs."""
    a, b, alpha, beta, floor = theta
    total, gradient = 0.0, np.zeros(5)
    for n, d, y in zip(params, tokens, loss, strict=True):
        size, data = np.exp(a) / n**alpha, np.exp(b) / d**beta
        value = size + data + floor
        residual = np.log(value) - np.log(y)
        if abs(residual) <= DELTA:
            total += residual**2 / 2
            slope = residual
        else:
            total += DELTA * (abs(residual) - DELTA / 2)
            slope = DELTA * np.sign(residual)
        parts = [size, data, -size * np.log(n), -data * np.log(d), 1.0]
        gradient += slope / value * np.array(parts)
    return total, gradient


def value_only(theta, params, tokens, loss):  # type: ignore[no-untyped-def]
    """The loop without the gradient, which scipy then takes by differences."""
    a, b, alpha, beta, floor = theta
    total = 0.0
    for n, d, y in zip(params, tokens, loss, strict=True):
        value = np.exp(a) / n**alpha + np.exp(b) / d**beta + floor
        size = abs(np.log(value) - np.log(y))
        total += size**2 / 2 if size <= DELTA else DELTA * (size - DELTA / 2)
    return total


def in_numpy(theta, params, tokens, loss):  # type: ignore[no-untyped-def]
    """The same, all rungs at once."""
    a, b, alpha, beta, floor = theta
    log_n, log_d = np.log(params), np.log(tokens)
    size, data = np.exp(a - alpha * log_n), np.exp(b - beta * log_d)
    value = size + data + floor
    residual = np.log(value) - np.log(loss)
    small = np.abs(residual) <= DELTA
    rho = np.where(small, residual**2 / 2, DELTA * (np.abs(residual) - DELTA / 2))
    slope = np.clip(residual, -DELTA, DELTA) / value
    parts = (size, data, -size * log_n, -data * log_d, np.ones_like(value))
    return float(rho.sum()), np.array([(slope * part).sum() for part in parts])


def chinchilla_points() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """240 points of Hoffmann et al.'s corrected law (Besiroglu et al. 2024), 1% noise, seed 0."""
    rng = np.random.default_rng(0)
    params = np.exp(rng.uniform(np.log(5e7), np.log(1.6e10), 240))
    tokens = np.exp(rng.uniform(np.log(1e9), np.log(4e11), 240))
    loss = 482.01 / params**0.3478 + 2085.43 / tokens**0.3658 + 1.8169
    return params, tokens, loss * np.exp(0.01 * rng.standard_normal(240))


def brute_force(params: np.ndarray, tokens: np.ndarray, loss: np.ndarray) -> float:
    """The best objective of Hoffmann et al.'s grid, every combination a start of BFGS."""
    log_n, log_d, log_y = np.log(params), np.log(tokens), np.log(loss)

    def objective(theta: np.ndarray) -> tuple[float, np.ndarray]:
        a, b, e, alpha, beta = theta
        terms = np.stack([a - alpha * log_n, b - beta * log_d, np.full_like(log_n, e)])
        value = logsumexp(terms, axis=0)
        residual = value - log_y
        small = np.abs(residual) <= DELTA
        rho = np.where(small, residual**2 / 2, DELTA * (np.abs(residual) - DELTA / 2))
        shares = np.exp(terms - value) * np.clip(residual, -DELTA, DELTA)
        sums = shares.sum(axis=1)
        slopes = [-(shares[0] * log_n).sum(), -(shares[1] * log_d).sum()]
        return float(rho.sum()), np.array([*sums, *slopes])

    axes = (
        np.linspace(0, 25, 5),
        np.linspace(0, 25, 5),
        np.linspace(-1, 1, 5),
        np.linspace(0, 2, 5),
        np.linspace(0, 2, 5),
    )
    begins = itertools.product(*axes)
    return min(float(minimize(objective, np.array(b), jac=True, method="BFGS").fun) for b in begins)


def audit_process(folder: Path, table: pd.DataFrame) -> None:
    """`ladder audit` in a process of its own on the whole table."""
    path = Path(tempfile.gettempdir()) / f"fit_speed-{os.getpid()}.parquet"
    if not path.exists():
        write_observations(table, path)
    command = [sys.executable, "-m", "ladder.cli", "audit", str(path)]
    subprocess.run(command, check=True, capture_output=True)


if __name__ == "__main__":
    default = Path(__file__).parent.parent.parent / "shared" / "olmo-ladder"
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else default)
