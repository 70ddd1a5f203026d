"""Compares ways to choose the next rungs: the target's error against the FLOPs spent.

    python benchmarks/next_run.py [FOLDER] [SECTION ...]

FOLDER holds the logs of allenai/OLMo-ladder (default ../shared/olmo-ladder); the sections are
synthetic, variants, beliefs, inside and targets, by default all. Every repeat starts with three
cheap rungs; a way of choosing then trains others, from a pool whose results are known, until the
budget, a share of the FLOPs of the whole pool, is spent. The default method is fitted to what was
trained and predicts the target. Everything was chosen on synthetic ladders of other seeds (100 to
107, 200 to 216) and on the targets inside the ladder; 7B-4T and 13B-5T choose nothing. Prints
Markdown; benchmarks/next_run.md holds a run.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd
from methods import PAPER

from evaluation.records import validate
from evaluation.sources import import_olmo_ladder
from predict import Target, TwoStage
from predict.audit import audit
from predict.beliefs import LAW, LINK
from predict.design import choose, greedy
from predict.next_result import Candidate
from predict.next_run import DRAWS, Problem

SHARES = (0.03, 0.1, 0.2, 0.3, 0.5)
STARTS = 6
SEEDS = range(300, 332)
CLOSE = 1.2
"""Error over that of all rungs up to which a choice is said to be within 20%."""

START = ("50M-1xC", "50M-2xC", "100M-1xC")
"""Of the synthetic ladders."""

Set = frozenset[str]
Errors = tuple[float, float]
"""Of the accuracy and of the log loss, means over tasks."""


@dataclass
class Pool:
    """Rungs with known results, and a target to be predicted from some of them."""

    table: pd.DataFrame
    """Rows of the rungs, role ladder, and of one target or more, role target."""
    target: Target
    cheap: float = 0.011
    """Share of the pool's FLOPs that a rung of a start may cost."""
    errors: dict[tuple[str, Set], Errors] = field(default_factory=dict)
    """By target and rungs, as each is fitted once."""
    expected: dict[Set, Errors] = field(default_factory=dict)
    """Mean absolute errors that `ladder next` expected before it trained them, by rungs."""

    def __post_init__(self) -> None:
        rungs = self.table[(self.table["role"] == "ladder") & self.table["final"]]
        first = rungs.groupby("run").first()
        self.runs = {
            str(name): Candidate(str(name), row["params"], row["tokens"], row["flops"])
            for name, row in first.iterrows()
        }
        self.total = sum(c.flops for c in self.runs.values())

    def cost(self, names: Sequence[str] | Set) -> float:
        """FLOPs of some rungs."""
        return sum(self.runs[n].flops for n in names)

    def error(self, names: Sequence[str] | Set) -> Errors:
        """Mean absolute errors of the target by these rungs' fit."""
        key = (self.target.name, frozenset(names))
        if key not in self.errors:
            table = self.table
            kept = table[table["run"].isin(list(names)) | (table["role"] == "target")]
            found = audit(TwoStage().fit(kept), kept).rows
            for target in kept.loc[kept["role"] == "target", "run"].unique():
                own = [r for r in found if r.prediction.target == target]
                self.errors[target, key[1]] = (
                    float(np.mean([abs(r.error) for r in own if r.error is not None])),
                    float(
                        np.mean(
                            [
                                abs(math.log(r.prediction.loss_predicted / r.loss_actual))
                                for r in own
                            ]
                        )
                    ),
                )
        return self.errors[key]

    def starts(self, count: int) -> list[tuple[str, ...]]:
        """Sets of three cheap rungs of two sizes or more, drawn at random."""
        cheap = [n for n, c in self.runs.items() if c.flops <= self.cheap * self.total]
        generator, found = np.random.default_rng(0), []
        while len(found) < count:
            drawn = tuple(sorted(map(str, generator.choice(cheap, 3, replace=False))))
            sizes = {self.runs[n].params for n in drawn}
            if len(sizes) > 1 and drawn not in found:
                found.append(drawn)
        return found


Way = Callable[[Pool, tuple[str, ...], float, np.random.Generator], list[str]]
"""Pool, rungs trained, FLOPs left -> rungs to train, in order."""


def planned(
    criterion: str = "both",
    draws: int = DRAWS,
    climb: bool = True,
    search: str = "exchange",
    adaptive: bool = False,
) -> Way:
    """Ways that choose by a design; an adaptive one thinks again after every rung."""

    def way(pool: Pool, done: tuple[str, ...], left: float, _: np.random.Generator) -> list[str]:
        rest = [c for n, c in pool.runs.items() if n not in done]
        problem = Problem(pool.table[pool.table["run"].isin(done)], pool.target, rest, draws=draws)
        designs = (
            problem.designs if climb else [replace(d, climb_weight=0.0) for d in problem.designs]
        )
        if criterion in ("loss", "accuracy"):
            designs = [designs[criterion == "accuracy"]]

        def by(sets: Sequence[Sequence[int]]) -> np.ndarray:
            if criterion == "volume":
                return problem.designs[0].log_volume(sets)
            parts = [d.mean_error(sets) / d.mean_error([()]) for d in designs]
            return np.mean(parts, axis=0)

        costs = [c.flops for c in rest]
        if search == "exchange":
            order = choose(by, costs, left)
        else:
            order = greedy(by, np.array(costs), left, per_cost=True)
        stage = problem.stage(None, order)
        trained = frozenset((*done, *(rest[i].name for i in order)))
        # The mean of a normal error's size is .8 of its standard deviation.
        share = math.sqrt(2 / math.pi)
        about = share * (stage.accuracy_sd or 0), share * stage.loss_sd
        pool.expected.setdefault(trained, about)
        names = [rest[i].name for i in order]
        return names[:1] if adaptive else names

    return way


def shuffled(
    pool: Pool, done: tuple[str, ...], left: float, generator: np.random.Generator
) -> list[str]:
    """Any order."""
    return [str(n) for n in generator.permutation([n for n in pool.runs if n not in done])]


def cheapest(pool: Pool, done: tuple[str, ...], left: float, _: np.random.Generator) -> list[str]:
    """The cheapest first."""
    return sorted((n for n in pool.runs if n not in done), key=lambda n: pool.runs[n].flops)


def dearest(pool: Pool, done: tuple[str, ...], left: float, _: np.random.Generator) -> list[str]:
    """The dearest that fits first."""
    return cheapest(pool, done, left, _)[::-1]


WAYS: dict[str, Way] = {
    "next": planned(),
    "random": shuffled,
    "cheapest first": cheapest,
    "dearest first": dearest,
    "D-optimal": planned("volume"),
}
VARIANTS: dict[str, Way] = {
    "next": planned(),
    "thinking again after every rung": planned(adaptive=True),
    "greedy by gain per FLOP alone": planned(search="greedy"),
    "one draw": planned(draws=1),
    "without the climb": planned(climb=False),
    "by the loss alone": planned("loss"),
    "by the accuracy alone": planned("accuracy"),
}


def spend(
    pool: Pool, way: Way, start: tuple[str, ...], budget: float, generator: np.random.Generator
) -> Set:
    """The rungs trained when the budget is spent, the start among them."""
    done = start
    while True:
        left = budget - pool.cost(done)
        rest = [c for n, c in pool.runs.items() if n not in done]
        before = done
        if any(c.flops <= left for c in rest):
            for name in way(pool, done, left, generator):
                if pool.cost((*done, name)) <= budget:
                    done = (*done, name)
        if done == before:
            return frozenset(done)


Repeats = Sequence[tuple[Pool, tuple[str, ...]]]


def show(title: str, repeats: Repeats, ways: dict[str, Way], shares: Sequence[float]) -> None:
    """Print both errors of every way at every share, means and standard errors over repeats."""
    found = {name: np.zeros((len(repeats), len(shares), 2)) for name in ways}
    expected = np.full((len(repeats), len(shares), 2), np.nan)
    for i, (pool, start) in enumerate(repeats):
        for name, way in ways.items():
            for j, share in enumerate(shares):
                budget = max(share * pool.total, pool.cost(start))
                chosen = spend(pool, way, start, budget, np.random.default_rng(i))
                found[name][i, j] = pool.error(chosen)
                if name == "next":
                    expected[i, j] = pool.expected.get(chosen, (np.nan, np.nan))
    whole = np.array([pool.error(frozenset(pool.runs)) for pool, _ in repeats])
    print(f"\n## {title}\n\n{len(repeats)} repeats; mean +- standard error over them.")
    rows = {**found, "what next expected": expected}
    for index, name in enumerate(("accuracy, points", "loss, %")):
        print(f"\n| {name} | " + " | ".join(f"{s:.0%}" for s in shares) + " | all rungs |")
        print("| --- " * (len(shares) + 2) + "|")
        for way, errors in rows.items():
            cells = [_cell(errors[:, j, index]) for j in range(len(shares))]
            last = "" if way == "what next expected" else _cell(whole[:, index])
            print(f"| {way} | " + " | ".join(cells) + f" | {last} |")
    tenth = shares.index(0.1)
    print(
        "\n| at a tenth | accuracy over that of all rungs | loss | within 20% | next less it, "
        "points | least share within 20%: accuracy | loss |"
    )
    print("| --- " * 7 + "|")
    for way, errors in found.items():
        ratios = errors.mean(axis=0) / whole.mean(axis=0)
        verdict = ", ".join("yes" if r <= CLOSE else "no" for r in ratios[tenth])
        paired = "" if way == "next" else _cell((found["next"] - errors)[:, tenth, 0])
        least = [
            next((f"{s:.0%}" for s, r in zip(shares, column, strict=True) if r <= CLOSE), "none")
            for column in ratios.T
        ]
        cells = [way, *(f"{r:.2f}" for r in ratios[tenth]), verdict, paired, *least]
        print("| " + " | ".join(cells) + " |", flush=True)


def _cell(values: np.ndarray) -> str:
    values = values[np.isfinite(values)]
    if not len(values):
        return ""
    error = values.std(ddof=1) / math.sqrt(len(values)) if len(values) > 1 else 0.0
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


def published(
    table: pd.DataFrame, targets: Sequence[str], sizes: Sequence[str], cheap: float
) -> list[Pool]:
    """Targets of the published logs, each with the rungs of some sizes as its pool."""
    names = [f"{size}-{m}xC" for size in sizes for m in (1, 2, 5, 10)]
    rows = table[table["run"].isin([*names, *targets]) & table["task"].isin(PAPER)]
    rows = rows.assign(role=np.where(rows["run"].isin(targets), "target", "ladder"))
    rows = rows.reset_index(drop=True)
    errors: dict[tuple[str, Set], Errors] = {}
    pools = []
    for name in targets:
        last = rows[rows["run"] == name].iloc[-1]
        target = Target(name, float(last["params"]), float(last["tokens"]))
        pools.append(Pool(rows, target, cheap, errors))
    return pools


def show_beliefs(pool: Pool) -> None:
    """Print what priors and noises are measured against: the eight tasks, fitted to every rung."""
    found = Problem(pool.table, pool.target, [Candidate("any", 3.2e9, 1e11, 1e21)], draws=1).beliefs
    theta = np.stack([b.draws[0] for b in found])
    names = [*(f"step 1, {n}" for n in LAW.names), *(f"step 2, {n}" for n in LINK.names)]
    columns = dict(zip(names, theta.T, strict=True))
    columns["noise of a rung's loss"] = np.array([b.noise for b in found])
    columns["noise of a checkpoint's accuracy"] = np.array([b.accuracy_noise[0] for b in found])
    columns["noise common to a run's checkpoints"] = np.array([b.accuracy_noise[1] for b in found])
    print(
        "\n## What the priors stand for\n\nOver the eight tasks, all 16 rungs, in units of each "
        "task's and the ladder's geometric means.\n\n| | least | median | greatest |"
    )
    print("| --- " * 4 + "|")
    for name, values in columns.items():
        row = (values.min(), np.median(values), values.max())
        print(f"| {name} | " + " | ".join(f"{v:.3f}" for v in row) + " |")


def main(folder: Path, sections: Sequence[str]) -> None:
    """Print the sections."""
    print("`python benchmarks/next_run.py`", flush=True)
    if "synthetic" in sections:
        show("Synthetic ladders", [(synthetic(s), START) for s in SEEDS], WAYS, SHARES)
    if "variants" in sections:
        made = [(synthetic(s), START) for s in SEEDS[:16]]
        show("Variants, on half of the synthetic ladders", made, VARIANTS, (0.1,))
    if not {"beliefs", "inside", "targets"} & set(sections):
        return
    table = import_olmo_ladder(folder).observations
    small, whole = ("190M", "370M", "760M"), ("190M", "370M", "760M", "1B")
    if "beliefs" in sections:
        show_beliefs(published(table, ["3B-10xC"], whole, 0.011)[0])
    if "inside" in sections:
        for target, sizes, cheap in (("1B-10xC", small, 0.03), ("3B-10xC", whole, 0.011)):
            for pool in published(table, [target], sizes, cheap):
                repeats = [(pool, start) for start in pool.starts(STARTS)]
                show(f"Inside the ladder: {target} from {', '.join(sizes)}", repeats, WAYS, SHARES)
    if "targets" in sections:
        for pool in published(table, ["7B-4T", "13B-5T"], whole, 0.011):
            repeats = [(pool, start) for start in pool.starts(STARTS)]
            show(f"{pool.target.name} from the 16 rungs", repeats, WAYS, SHARES)


SECTIONS = ("synthetic", "variants", "beliefs", "inside", "targets")

if __name__ == "__main__":
    here = Path(__file__).resolve().parent
    given = [a for a in sys.argv[1:] if a in SECTIONS]
    folders = [a for a in sys.argv[1:] if a not in SECTIONS]
    default = here.parent.parent / "shared/olmo-ladder"
    main(Path(folders[0]) if folders else default, given or SECTIONS)
