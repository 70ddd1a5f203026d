"""Is `ladder compare` calibrated: pairs of synthetic recipes, and the real ladder against itself.

    OMP_NUM_THREADS=1 python benchmarks/compare.py synthetic [PAIRS] [FIRST_SEED]
    OMP_NUM_THREADS=1 python benchmarks/compare.py real [FOLDER]

FOLDER holds the logs of allenai/OLMo-ladder (default ../shared/olmo-ladder). Prints Markdown;
benchmarks/compare.md holds a run. The constants of predict/gaps.py were tuned on other seeds.
"""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from compare_pairs import TASKS, Pair, draw_pair

from evaluation.sources import import_olmo_ladder
from predict.compare import compare
from predict.comparison import MEAN, Comparison, Difference, PairRow
from predict.task_fit import Target

BINS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0)
PAIRS = 120
FIRST_SEED = 10_000
PAPER = (
    *(f"{t}_test_rc_5shot" for t in ("mmlu", "arc_challenge", "arc_easy", "openbookqa")),
    *(f"{t}_val_rc_5shot" for t in ("hellaswag", "piqa", "csqa", "socialiqa")),
)


def outcomes(pair: Pair) -> list[dict[str, object]]:
    """One row a task (and the mean) and measure: what was called, what came, what rivals call."""
    one, two = pair.tables
    found = compare({"A": one, "B": two}, [pair.target])
    return [
        row | {"kind": pair.kind, "noise": pair.noise, "size": pair.size}
        for pair_row in found.pairs
        for row in _outcome(pair, found, pair_row)
    ]


def _outcome(pair: Pair, found: Comparison, row: PairRow) -> Iterable[dict[str, object]]:
    target = pair.target
    tasks = list(pair.truths[0]) if row.task == MEAN else [row.task]
    for measure, sign in (("loss", -1), ("accuracy", 1)):
        difference = getattr(row, measure)
        expected, alone = [0.0, 0.0], [0.0, 0.0]
        for side in (0, 1):
            for task in tasks:
                truth = pair.truths[side][task]
                loss = truth.loss(target.params, target.tokens)
                expected[side] += (loss if measure == "loss" else truth.accuracy(loss)) / len(tasks)
            own = [s for s in found.scores if s.task in tasks and s.recipe == "AB"[side]]
            alone[side] = float(np.mean([getattr(s, f"{measure}_alone") for s in own]))
        top = [_top_rung(table, tasks, measure) for table in pair.tables]
        result = {
            "measure": measure,
            "mean": row.task == MEAN,
            "probability": difference.probability,
            "of_recipe": difference.probability_of_recipe,
            "won": sign * difference.actual > 0,
            "better": sign * (expected[0] - expected[1]) > 0,
            "error": difference.value - (expected[0] - expected[1]),
            "error_apart": alone[0] - alone[1] - (expected[0] - expected[1]),
            "apart": sign * (alone[0] - alone[1]) > 0,
            "top": sign * (top[0] - top[1]) > 0,
            "in80": difference.bounds.lower80 <= difference.actual <= difference.bounds.upper80,
            "in95": difference.bounds.lower95 <= difference.actual <= difference.bounds.upper95,
        }
        if row.task != MEAN and measure == "loss":
            low = row.gain_lower80.factor or (0.0 if row.gain_lower80.why else math.nan)
            high = row.gain_upper80.factor or math.inf
            gain = _true_gain(pair, row.task)
            result["gain_in80"] = low <= gain <= high
            result["gain_open"] = row.gain_upper80.factor is None
            result |= _parameter_cover(pair, found, row.task)
        yield result


def _top_rung(table: pd.DataFrame, tasks: Sequence[str], measure: str) -> float:
    own = table[(table["role"] == "ladder") & table["task"].isin(tasks) & (table["step"] > 4)]
    return float(own[own["tokens"] * own["params"] > 0].pipe(_costliest)[measure].mean())


def _costliest(rows: pd.DataFrame) -> pd.DataFrame:
    cost = rows.groupby("run")[["params", "tokens"]].max().prod(axis=1)
    return rows[rows["run"] == cost.idxmax()]


def _true_gain(pair: Pair, task: str) -> float:
    """The factor of compute that B needs by its true law, infinity where there is none."""
    one, two = (t[task] for t in pair.truths)
    wanted = one.loss(pair.target.params, pair.target.tokens)
    low, high = -30.0, 30.0
    for _ in range(80):
        middle = (low + high) / 2
        factor = math.exp(middle / 2)
        reached = two.loss(pair.target.params * factor, pair.target.tokens * factor)
        low, high = (middle, high) if reached > wanted else (low, middle)
    return math.inf if high > 29.9 else math.exp(high)


def _parameter_cover(pair: Pair, found: Comparison, task: str) -> dict[str, bool]:
    """Whether each law parameter's 80% interval holds the true difference, of Chinchilla's law."""
    if pair.kind not in ("same links", "other links"):
        return {}
    one, two = (t[task] for t in pair.truths)
    names = {"E": "floor"}
    return {
        f"parameter {p.parameter}": p.lower80
        <= getattr(one, names.get(p.parameter, p.parameter))
        - getattr(two, names.get(p.parameter, p.parameter))
        <= p.upper80
        for p in found.parameters
        if p.task == task
    }


def reliability(
    called: Sequence[float], right: Sequence[bool]
) -> list[tuple[str, int, float, float]]:
    """By bin of the called winner's probability: label, cases, mean called, share right."""
    p, won = np.asarray(called, dtype=float), np.asarray(right, dtype=bool)
    sure, hit = np.maximum(p, 1 - p), np.where(p > 0.5, won, ~won)
    rows = []
    for low, high in itertools.pairwise(BINS):
        own = (sure >= low) & ((sure < high) | (high == 1))
        if own.any():
            label = f"{100 * low:.0f}-{100 * high:.0f}%"
            rows.append((label, int(own.sum()), float(sure[own].mean()), float(hit[own].mean())))
    return rows


def wilson(share: float, count: int) -> tuple[float, float]:
    """The 95% interval of a share."""
    z = 1.96
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count**2)) / (1 + z * z / count)
    return middle - half, middle + half


def print_reliability(title: str, called: Sequence[float], right: Sequence[bool]) -> None:
    """A table of the bins."""
    print(f"\n{title}\n\n| called | cases | mean called | right | 95% |\n|{' --- |' * 5}")
    for label, count, mean, share in reliability(called, right):
        low, high = wilson(share, count)
        print(f"| {label} | {count} | {mean:.1%} | {share:.1%} | {low:.0%}-{high:.0%} |")


def synthetic(pairs: int, first: int) -> None:
    """Print the tables of synthetic pairs."""
    rows: list[dict[str, object]] = []
    for seed in range(first, first + pairs):
        rows += outcomes(draw_pair(seed))
        if seed % 20 == 0:
            print(f"{seed - first} of {pairs}", file=sys.stderr, flush=True)
    table = pd.DataFrame(rows)
    print(f"{pairs} pairs, seeds from {first}; {TASKS} tasks a pair")
    for measure in ("loss", "accuracy"):
        own = table[(table["measure"] == measure) & ~table["mean"]]
        print_reliability(
            f"{measure}, one run of each at the target", own["probability"], own["won"]
        )
        print_reliability(f"{measure}, the recipes' true scores", own["of_recipe"], own["better"])
    for measure in ("loss", "accuracy"):
        own = table[(table["measure"] == measure) & table["mean"]]
        print_reliability(
            f"{measure}, mean over tasks, one run of each", own["probability"], own["won"]
        )
    print(
        "\n| measure | kind | winner right | fits apart | top rung | error, rms | fits apart | "
        "in 80% | in 95% |\n|" + " --- |" * 9
    )
    for mean in (False, True):
        for measure in ("loss", "accuracy"):
            own = table[(table["measure"] == measure) & (table["mean"] == mean)]
            groups = [("all", own)] if mean else [("all", own), *own.groupby("kind")]
            for kind, part in groups:
                call = part["of_recipe"] > 0.5
                right = [
                    f"{(x == part['better']).mean():.1%}"
                    for x in (call, part["apart"], part["top"])
                ]
                rms = [f"{math.sqrt((part[c] ** 2).mean()):.4f}" for c in ("error", "error_apart")]
                inside = [f"{part[c].mean():.1%}" for c in ("in80", "in95")]
                name = f"{measure}{', mean' if mean else ''}"
                print("| " + " | ".join([name, str(kind), *right, *rms, *inside]) + " |")
    own = table[(table["measure"] == "loss") & ~table["mean"]]
    print(
        f"\ncompute gain inside its 80% interval: {own['gain_in80'].astype(float).mean():.1%}; "
        f"upper end open in {own['gain_open'].astype(float).mean():.1%}"
    )
    cover = own[[c for c in own if str(c).startswith("parameter ")]].dropna()
    print(
        "differences of parameters inside their 80% interval: "
        + ", ".join(f"{c.split()[1]} {cover[c].astype(float).mean():.0%}" for c in cover)
    )


def real(folder: Path) -> None:
    """Print what the one real recipe says of itself, and of its tasks as if they were recipes."""
    table = import_olmo_ladder(folder).observations
    measured = table[table["run"].isin(("7B-4T", "13B-5T"))]
    _null(table[table["task"].isin(PAPER)])
    _tasks_as_recipes(table, set(measured["task"]))


def _null(table: pd.DataFrame) -> None:
    """Random halves of the same recipe's runs: nothing is to be found."""
    rng = np.random.default_rng(0)
    runs = table.loc[(table["role"] != "target") & table["run"].str.contains("xC"), "run"].unique()
    found: list[tuple[str, float, bool, bool]] = []
    halves = 20
    for _ in range(halves):
        order = rng.permutation(runs)
        parts = [
            table[table["run"].isin(order[i::2])].assign(role="ladder").reset_index(drop=True)
            for i in (0, 1)
        ]
        result = compare({"A": parts[0], "B": parts[1]}, [Target("7B", 6.9e9, 3.945e12)])
        for row in result.pairs:
            for measure in ("loss", "accuracy"):
                d = getattr(row, measure)
                name = f"{measure}{', mean' if row.task == MEAN else ''}"
                inside = [b[0] <= 0 <= b[1] for b in _bounds(d)]
                found.append((name, d.called, *inside))
    print(f"{halves} random halves of {len(runs)} runs of one recipe, target 7B, 8 tasks\n")
    print("| measure | cases | called above 80% | above 95% | 0 in 80% | 0 in 95% |")
    print("|" + " --- |" * 6)
    frame = pd.DataFrame(found, columns=["measure", "called", "in80", "in95"])
    for name, part in frame.groupby("measure"):
        shares = (part["called"] > 0.8, part["called"] > 0.95, part["in80"], part["in95"])
        print(f"| {name} | {len(part)} | " + " | ".join(f"{s.mean():.1%}" for s in shares) + " |")


def _bounds(difference: Difference) -> list[tuple[float, float]]:
    b = difference.bounds
    return [(b.lower80, b.upper80), (b.lower95, b.upper95)]


def _tasks_as_recipes(table: pd.DataFrame, measured: set[str]) -> None:
    """Two tasks' losses, brought to the same mean over the ladder: which one wins."""
    ladder = table[(table["role"] == "ladder") & table["final"]]
    level = np.log(ladder["loss"]).groupby(ladder["task"]).mean()
    tasks = sorted(t for t in measured if t in level.index and not t.endswith("mc_5shot"))
    targets = [Target("3B-10xC", 3.169537e9, 6.339397e11)]
    targets += [
        Target("7B-4T", 6.887576e9, 3.945066e12),
        Target("13B-5T", 1.320240e10, 5.000089e12),
    ]
    kept = table["run"].isin([t.name for t in targets]) | (table["role"] == "ladder")
    rows = []
    for one, two in itertools.combinations(tasks, 2):
        parts = {}
        for name in (one, two):
            own = table[kept & (table["task"] == name)].assign(task="x", loss_unit="bits/byte")
            own["loss"] = own["loss"] / math.exp(level[name])
            own["accuracy"] = np.nan
            parts[name] = own.reset_index(drop=True)
        for row in compare(parts, targets).pairs:
            d = row.loss
            if d.actual:
                gap = level[one] - level[two]
                rows.append(
                    (
                        row.target,
                        d.probability,
                        d.actual < 0,
                        abs(gap),
                        *(b[0] <= d.actual <= b[1] for b in _bounds(d)),
                    )
                )
    frame = pd.DataFrame(rows, columns=["target", "p", "won", "gap", "in80", "in95"])
    print(
        f"\n{len(tasks)} tasks as if recipes, losses brought to one mean over the ladder; loss only"
    )
    for target, part in frame.groupby("target", sort=False):
        print_reliability(
            f"{target}: in 80% {part['in80'].mean():.1%}, in 95% {part['in95'].mean():.1%}",
            part["p"],
            part["won"],
        )


if __name__ == "__main__":
    if sys.argv[1:2] == ["synthetic"]:
        pairs, first = (*map(int, sys.argv[2:4]), *(PAIRS, FIRST_SEED)[len(sys.argv) - 2 :])
        synthetic(pairs, first)
    elif sys.argv[1:2] == ["real"]:
        real(Path(sys.argv[2] if len(sys.argv) > 2 else "../shared/olmo-ladder"))
    else:
        raise SystemExit(__doc__)
