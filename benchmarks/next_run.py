"""Compares ways to choose the next rung: the target's error against the FLOPs spent.

    python benchmarks/next_run.py [FOLDER]

FOLDER holds the logs of allenai/OLMo-ladder (default ../shared/olmo-ladder). Every repeat starts
with three cheap rungs; a way of choosing then trains one rung after the other, from a pool whose
results are known, until the budget, a share of the FLOPs of the whole pool, is spent. The default
method is fitted to what was trained and predicts the target. Choices were made on synthetic ladders
and on targets inside the ladder; 7B-4T and 13B-5T come last and choose nothing. Prints Markdown;
benchmarks/next_run.md holds a run.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from methods import PAPER

from evaluation.records import validate
from evaluation.sources import import_olmo_ladder
from predict import Target, TwoStage
from predict.audit import audit
from predict.design import choose
from predict.next_run import DRAWS, Candidate, Problem

SHARES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
STARTS = 8
SEEDS = 24


@dataclass
class Pool:
    """Rungs with known results, and a target to be predicted from some of them."""

    table: pd.DataFrame
    """Rows of the rungs, role ladder, and of the target, role target."""
    target: Target
    cheap: float = 0.011
    """Share of the pool's FLOPs that a rung of a start may cost."""
    errors: dict[frozenset[str], tuple[float, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        rungs = self.table[(self.table["role"] == "ladder") & self.table["final"]]
        first = rungs.groupby("run").first()
        self.runs = {
            str(name): Candidate(str(name), row["params"], row["tokens"], row["flops"])
            for name, row in first.iterrows()
        }
        self.total = sum(c.flops for c in self.runs.values())

    def cost(self, names: Sequence[str] | frozenset[str]) -> float:
        """FLOPs of some rungs."""
        return sum(self.runs[n].flops for n in names)

    def error(self, names: Sequence[str] | frozenset[str]) -> tuple[float, float]:
        """Mean absolute error over the tasks of these rungs' fit: accuracy, log loss."""
        key = frozenset(names)
        if key not in self.errors:
            kept = self.table[self.table["run"].isin([*key, self.target.name])]
            found = audit(TwoStage().fit(kept), kept).rows
            accuracy = [abs(r.error) for r in found if r.error is not None]
            loss = [abs(np.log(r.prediction.loss_predicted / r.loss_actual)) for r in found]
            self.errors[key] = float(np.mean(accuracy)), float(np.mean(loss))
        return self.errors[key]

    def starts(self, count: int) -> list[tuple[str, ...]]:
        """Sets of three cheap rungs of two sizes or more, drawn at random."""
        cheap = [n for n, c in self.runs.items() if c.flops <= self.cheap * self.total]
        generator, found = np.random.default_rng(0), []
        while len(found) < count:
            drawn = tuple(sorted(generator.choice(cheap, 3, replace=False)))
            sizes = {self.runs[n].params for n in drawn}
            if len(sizes) > 1 and drawn not in found:
                found.append(drawn)
        return found


Way = Callable[[Pool, tuple[str, ...], float, np.random.Generator], list[str]]
"""Pool, rungs trained, FLOPs left -> rungs to train, in order, or the first of them."""


def planned(criterion: str, draws: int = DRAWS, climb: bool = True, adaptive: bool = True) -> Way:
    """Ways that choose by a design; `adaptive` ones think again after every rung."""

    def way(pool: Pool, done: tuple[str, ...], left: float, _: np.random.Generator) -> list[str]:
        rest = [c for n, c in pool.runs.items() if n not in done]
        table = pool.table[pool.table["run"].isin(done)]
        problem = Problem(table, pool.target, rest, draws=draws)
        design = problem.loss if criterion == "loss" else problem.design
        if not climb:
            object.__setattr__(design, "climb_weight", 0.0)
        by = design.log_volume if criterion == "volume" else design.mean_error
        order = [rest[i].name for i in choose(by, [c.flops for c in rest], left)]
        return order[:1] if adaptive else order

    return way


def shuffled(
    pool: Pool, done: tuple[str, ...], left: float, generator: np.random.Generator
) -> list[str]:
    """Any order."""
    rest = [n for n in pool.runs if n not in done]
    return list(generator.permutation(rest))


def cheapest(pool: Pool, done: tuple[str, ...], left: float, _: np.random.Generator) -> list[str]:
    """The cheapest first."""
    return sorted((n for n in pool.runs if n not in done), key=lambda n: pool.runs[n].flops)


def dearest(pool: Pool, done: tuple[str, ...], left: float, _: np.random.Generator) -> list[str]:
    """The dearest that fits first."""
    return cheapest(pool, done, left, _)[::-1]


WAYS: dict[str, Way] = {
    "next": planned("variance"),
    "random": shuffled,
    "cheapest first": cheapest,
    "dearest first": dearest,
    "D-optimal": planned("volume"),
}
VARIANTS: dict[str, Way] = {
    "next": planned("variance"),
    "next, planned once": planned("variance", adaptive=False),
    "next, one draw": planned("variance", draws=1),
    "next, four draws": planned("variance", draws=4),
    "next, parameters alone": planned("variance", climb=False),
    "next, by the loss": planned("loss"),
}


def spend(
    pool: Pool, way: Way, start: tuple[str, ...], budget: float, generator: np.random.Generator
) -> tuple[str, ...]:
    """The rungs trained when the budget is spent, the start among them."""
    done = start
    while True:
        left = budget - pool.cost(done)
        if not any(c.flops <= left for n, c in pool.runs.items() if n not in done):
            return done
        for name in way(pool, done, left, generator):
            if pool.cost((*done, name)) <= budget:
                done = (*done, name)


def curves(
    pools: Sequence[tuple[Pool, tuple[str, ...]]], ways: dict[str, Way], shares: Sequence[float]
) -> dict[str, np.ndarray]:
    """Errors by way, (repeats, shares, 2), of pools each with a start."""
    found: dict[str, np.ndarray] = {}
    for name, way in ways.items():
        rows = []
        for repeat, (pool, start) in enumerate(pools):
            row = []
            for share in shares:
                generator = np.random.default_rng(repeat)
                budget = max(share * pool.total, pool.cost(start))
                row.append(pool.error(spend(pool, way, start, budget, generator)))
            rows.append(row)
        found[name] = np.array(rows)
    return found


def show(
    title: str,
    pools: Sequence[tuple[Pool, tuple[str, ...]]],
    ways: dict[str, Way],
    shares: Sequence[float] = SHARES,
) -> dict[str, np.ndarray]:
    """Print both errors of every way at every share, means and standard errors over repeats."""
    found = curves(pools, ways, shares)
    whole = np.array([pool.error(frozenset(pool.runs)) for pool, _ in pools])
    print(f"\n## {title}\n\n{len(pools)} repeats; mean +- standard error over them.")
    for index, name in enumerate(("accuracy, points", "loss, %")):
        print(f"\n| {name} | " + " | ".join(f"{s:.0%}" for s in shares) + " | all |")
        print("| --- " * (len(shares) + 2) + "|")
        for way, errors in found.items():
            cells = [_cell(errors[:, i, index]) for i in range(len(shares))]
            print(f"| {way} | " + " | ".join(cells) + f" | {_cell(whole[:, index])} |", flush=True)
    if 0.1 in shares:
        tenth = shares.index(0.1)
        print("\n| at a tenth, error over that with all rungs | accuracy | loss | within 20% |")
        print("| --- " * 4 + "|")
        for way, errors in found.items():
            ratio = errors[:, tenth].mean(axis=0) / whole.mean(axis=0)
            verdict = ["yes" if r <= 1.2 else "no" for r in ratio]
            print(f"| {way} | {ratio[0]:.2f} | {ratio[1]:.2f} | {', '.join(verdict)} |")
        print("\n| at a tenth, next less | accuracy, points | loss, % |\n" + "| --- " * 3 + "|")
        first = next(iter(found))
        for way, errors in found.items():
            if way != first:
                paired = found[first][:, tenth] - errors[:, tenth]
                print(f"| {way} | {_cell(paired[:, 0])} | {_cell(paired[:, 1])} |", flush=True)
    return found


def _cell(values: np.ndarray) -> str:
    error = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else 0.0
    return f"{100 * values.mean():.2f} +- {100 * error:.2f}"


def synthetic(seed: int, tasks: int = 4, noise: float = 0.01) -> Pool:
    """Thirty rungs up to 1.28e9 params that follow known laws, and a target of 6.9e9, 4e12."""
    generator = np.random.default_rng(seed)
    alpha, beta = np.clip(generator.normal(0.3, 0.08, 2), 0.1, None)
    laws = [
        (
            generator.uniform(0.1, 0.4),
            max(alpha + generator.normal(0, 0.04), 0.05),
            generator.uniform(0.1, 0.4),
            max(beta + generator.normal(0, 0.04), 0.05),
            generator.uniform(0.3, 0.8),
        )
        for _ in range(tasks)
    ]
    rungs = [
        (f"{n / 1e6:.0f}M-{m:g}xC", "ladder", n, 20 * n * m)
        for n in (5e7, 1e8, 1.9e8, 3.7e8, 7.6e8, 1.28e9)
        for m in (0.5, 1, 2, 5, 10)
    ]
    rows = []
    losses = np.array(
        [
            [a * (n / 1e9) ** -x + b * (d / 1e11) ** -y + e for a, x, b, y, e in laws]
            for _, _, n, d in rungs
        ]
    )
    # Half of the climb lies within the ladder's losses.
    links = [
        (losses[:, i].min() + generator.uniform(-0.05, 0.15), generator.uniform(4, 9))
        for i in range(tasks)
    ]
    for run, role, n, d in [*rungs, ("target", "target", 6.9e9, 4e12)]:
        for i, (a, x, b, y, e) in enumerate(laws):
            slip = np.exp(noise * generator.standard_normal()) if role == "ladder" else 1.0
            middle, slope = links[i]
            for step, share in enumerate((0.2, 0.4, 0.6, 0.8, 0.992, 0.994, 0.996, 0.998, 1.0)):
                loss = (a * (n / 1e9) ** -x + b * (share * d / 1e11) ** -y + e) * slip
                accuracy = 1 - 0.75 / (1 + np.exp(-slope * (loss - middle)))
                if role == "ladder":
                    accuracy = generator.binomial(2000, accuracy) / 2000
                rows.append(
                    (
                        run,
                        role,
                        n,
                        share * d,
                        6 * n * d,
                        step,
                        share == 1.0,
                        f"t{i}",
                        loss,
                        "bits/byte",
                        accuracy,
                        0.25,
                        2000,
                    )
                )
    columns = (
        "run",
        "role",
        "params",
        "tokens",
        "flops",
        "step",
        "final",
        "task",
        "loss",
        "loss_unit",
        "accuracy",
        "chance",
        "instances",
    )
    return Pool(validate(pd.DataFrame(rows, columns=columns)), Target("target", 6.9e9, 4e12))


def published(table: pd.DataFrame, target: str, sizes: Sequence[str], cheap: float = 0.011) -> Pool:
    """A target of the published logs, and the rungs of some sizes as its pool."""
    names = [f"{size}-{m}xC" for size in sizes for m in (1, 2, 5, 10)]
    rows = table[table["run"].isin([*names, target]) & table["task"].isin(PAPER)]
    rows = rows.assign(role=np.where(rows["run"] == target, "target", "ladder"))
    last = rows[rows["run"] == target].iloc[-1]
    end = Target(target, float(last["params"]), float(last["tokens"]))
    return Pool(rows.reset_index(drop=True), end, cheap)


def repeated(pool: Pool, count: int = STARTS) -> list[tuple[Pool, tuple[str, ...]]]:
    """The pool with each of its starts."""
    return [(pool, start) for start in pool.starts(count)]


def main(folder: Path) -> None:
    """Print everything."""
    print("`python benchmarks/next_run.py`")
    made = [synthetic(seed) for seed in range(SEEDS)]
    show("Synthetic ladders", [(p, p.starts(1)[0]) for p in made], WAYS)
    show("Variants, synthetic ladders", [(p, p.starts(1)[0]) for p in made], VARIANTS, (0.02, 0.1))
    table = import_olmo_ladder(folder).observations
    small, whole = ("190M", "370M", "760M"), ("190M", "370M", "760M", "1B")
    for target, sizes, cheap in (("1B-10xC", small, 0.03), ("3B-10xC", whole, 0.011)):
        pool = published(table, target, sizes, cheap)
        show(f"Inside the ladder, {target} from {', '.join(sizes)}", repeated(pool), WAYS)
    for target in ("7B-4T", "13B-5T"):
        show(f"{target} from the 16 rungs", repeated(published(table, target, whole)), WAYS)


if __name__ == "__main__":
    here = Path(__file__).resolve().parent
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else here.parent.parent / "shared/olmo-ladder")
