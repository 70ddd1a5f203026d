"""Compute-optimal splits on curves whose law is known, and on the published ladder's logs.

    python benchmarks/allocate.py PATH/TO/OLMo-ladder/src/scripts/paper > benchmarks/allocate.md

Prints what each approach makes of curves made from laws; how often its 80% intervals hold the
truth; the splits of the published ladder, and what reading losses from unfinished runs does to
them; and back-tests of the laws on LM losses and of the methods made from them on accuracies.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from evaluation.records import InputError
from evaluation.sources import import_olmo_ladder
from predict import TwoStage, audit
from predict.allocate import allocate
from predict.allocation import Estimate, Question, Row
from predict.approaches import OBJECTIVE
from predict.backtest import backtest
from predict.constants import BESIROGLU, HOFFMANN
from predict.envelope import BETWEEN, LossTable, envelope, isoflop, power_through
from predict.fit import fit
from predict.flops import SIX_ND
from predict.laws import Array, get_law, law_inputs
from predict.optimum import chinchilla_params
from predict.points import RungPoint, task_points
from predict.run_curves import run_curves
from predict.splits import make_splits

PAPER = (
    *(f"{t}_test_rc_5shot" for t in ("mmlu", "arc_challenge", "arc_easy", "openbookqa")),
    *(f"{t}_val_rc_5shot" for t in ("hellaswag", "piqa", "csqa", "socialiqa")),
)
LAWS = {
    "Hoffmann's constants": HOFFMANN.theta(),
    "Besiroglu's": BESIROGLU.theta(),
    "alpha = beta = 0.3": np.array([-1.0, 0.3, -1.5, 0.3, 1.7]),
}
DESIGNS = {
    "16 sizes, 6 multiples": (np.geomspace(7e7, 1e10, 16), (0.25, 0.5, 1, 2, 4, 8)),
    "6 sizes, 6 multiples": (np.geomspace(1e8, 3e9, 6), (0.25, 0.5, 1, 2, 4, 8)),
    "4 sizes, 5 multiples": (np.geomspace(1.9e8, 1.3e9, 4), (0.5, 1, 2, 5, 10)),
}
RUNGS: dict[str, tuple[str, ...]] = {
    "16": (),
    "24": ("190M-*", "370M-*", "760M-*", "1B-*"),
    "30": ("190M-*", "370M-*", "760M-*", "1B-*", "3B-*"),
}
FITTED = ("chinchilla_scaled", "gadre", "kaplan", "compute", "kaplan_c")
METHODS = ("default", "published", "own", "direct", "kaplan", "gadre", "krajewski")
REPEATS = 40
"""Ladders made for each coverage."""

NOISE = 0.003
"""Relative SD of a made run's loss."""


def main(folder: Path) -> None:
    """Print everything."""
    print("`python benchmarks/allocate.py`\n")
    show_made()
    show_coverage()
    table = import_olmo_ladder(folder).observations
    show_logs(table)
    show_unfinished(table)
    show_losses(table)
    show_methods(table)


def made(
    theta: Array, sizes: Array, multiples: tuple[float, ...], seed: int | None
) -> pd.DataFrame:
    """Observations of runs whose every checkpoint has the law's loss, a run's own noise on it."""
    rng = np.random.default_rng(seed)
    law, rows = get_law("chinchilla_scaled"), []
    for params in sizes:
        for multiple in multiples:
            off = 1.0 if seed is None else math.exp(NOISE * rng.standard_normal())
            tokens = 20 * params * multiple * np.arange(1, 31) / 30
            losses = law.value(theta, np.full(30, params), tokens) * off
            rows += [
                (f"{params:.0f}-{multiple}", "ladder", params, d, i, i == 29, "lm", y, "nats/token")
                for i, (d, y) in enumerate(zip(tokens, losses, strict=True))
            ]
    names = ("run", "role", "params", "tokens", "step", "final", "task", "loss", "loss_unit")
    return pd.DataFrame(rows, columns=names)


def show_made() -> None:
    """Exponents from curves without noise."""
    print("## Exponent of N from curves made from a law, without noise\n")
    print("| law | design | true | envelope | isoFLOP | parametric |\n" + "| --- " * 6 + "|")
    for name, theta in LAWS.items():
        for design, (sizes, multiples) in DESIGNS.items():
            found = allocate(made(theta, sizes, multiples, None), Question(), replicates=0)
            shown = " | ".join(_exponent(row) for row in found.rows[:3])
            print(f"| {name} | {design} | {theta[3] / (theta[1] + theta[3]):.4f} | {shown} |")


def _exponent(row: Row) -> str:
    return "-" if row.exponent_params is None else f"{row.exponent_params.value:.4f}"


def show_coverage() -> None:
    """How often the 80% intervals of noisy curves hold the truth."""
    print(
        f"\n## 80% intervals over {REPEATS} made ladders, {NOISE:.1%} noise a run, 100 resamples\n"
    )
    print(
        "| design | approach | exponent: in 80% | half-width | N at 1e22 FLOPs: in 80% "
        "| no interval |\n" + "| --- " * 6 + "|"
    )
    theta = LAWS["Hoffmann's constants"]
    true = theta[3] / (theta[1] + theta[3])
    best = chinchilla_params(theta, 1e22)
    for design, (sizes, multiples) in DESIGNS.items():
        every: dict[str, list[tuple[Estimate, Estimate]]] = {}
        for seed in range(REPEATS):
            table = made(theta, sizes, multiples, seed)
            for row in allocate(table, Question(flops=1e22), replicates=100, seed=seed).rows[:3]:
                if row.exponent_params is not None and row.params is not None:
                    every.setdefault(row.approach, []).append((row.exponent_params, row.params))
        for approach, pairs in every.items():
            slopes = [(a.lower80, a.upper80) for a, _ in pairs if a.lower80 is not None]
            sizes80 = [(n.lower80, n.upper80) for _, n in pairs if n.lower80 is not None]
            if not slopes:
                print(f"| {design} | {approach} | | | | {REPEATS} |")
                continue
            inside = np.mean([low <= true <= high for low, high in slopes])
            half = np.mean([(high - low) / 2 for low, high in slopes])
            held = np.mean([low <= best <= high for low, high in sizes80])
            print(
                f"| {design} | {approach} | {inside:.2f} | {half:.3f} | {held:.2f} "
                f"| {REPEATS - len(slopes)} |"
            )


def show_logs(table: pd.DataFrame) -> None:
    """The published ladder's own splits."""
    print("\n## The published ladder: C4 loss, 1e22 FLOPs by 6ND, 200 resamples\n")
    print(
        "| rungs | approach | exponent of N | 80% | N | 80% | tokens a parameter |\n"
        + "| --- " * 7
        + "|"
    )
    for name, rungs in RUNGS.items():
        for row in allocate(table, Question(flops=1e22), rungs).rows:
            if row.exponent_params is None or row.params is None or row.tokens is None:
                print(f"| {name} | {row.approach} | {row.reason} | | | | |")
                continue
            print(
                f"| {name} | {row.approach} | {row.exponent_params.value:.2f} "
                f"| {_ends(row.exponent_params, 1, '.2f')} | {row.params.value / 1e9:.2f}B "
                f"| {_ends(row.params, 1e9, '.2f')} | {row.tokens.value / row.params.value:.3g} |"
            )


def _ends(estimate: Estimate, unit: float, form: str) -> str:
    if estimate.lower80 is None or estimate.upper80 is None:
        return "-"
    return f"{estimate.lower80 / unit:{form}}-{estimate.upper80 / unit:{form}}"


def show_unfinished(table: pd.DataFrame) -> None:
    """Both curve approaches with and without checkpoints whose schedule had not ended."""
    print("\n## The same two approaches on finished runs only, and on checkpoints as well\n")
    print(
        "| rungs | approach | losses of | exponent of N | N at 1e21 FLOPs |\n" + "| --- " * 5 + "|"
    )
    for name in ("24", "30"):
        rows = TwoStage("published", "loss", RUNGS[name], ("c4_en-validation",)).fitted_rows(table)
        runs = run_curves(rows)
        for approach in ("envelope", "isoflop"):
            for checkpoints in (False, True):
                losses = LossTable(
                    runs, SIX_ND, checkpoints, BETWEEN if approach != "envelope" else None
                )
                every = range(len(runs))
                optima = (
                    envelope(losses, every)
                    if approach == "envelope"
                    else isoflop(runs, SIX_ND, [], losses, every)
                )
                kind = "checkpoints too" if checkpoints else "finished runs"
                try:
                    line = power_through(optima)
                    shown = f"{line.slope:.2f} | {line.params(1e21) / 1e9:.2f}B"
                except InputError:
                    shown = "- | -"
                print(f"| {name} | {approach} | {kind} | {shown} |")


def show_losses(table: pd.DataFrame) -> None:
    """Laws of N and D, or of C, on the LM sets: back-tests inside the ladder, and the targets."""
    print("\n## Laws on 11 LM sets: mean |log(predicted / actual)|, %, Huber of logarithms\n")
    print("| law | back-tests inside the ladder | 7B-4T | 13B-5T |\n" + "| --- " * 4 + "|")
    language = sorted(table.loc[table["loss_unit"] == "nats/token", "task"].unique())
    model = TwoStage("published", tasks=language)
    fitted = {t: _points(model, part) for t, part in model.fitted_rows(table).groupby("task")}
    extra = table[(table["role"] == "extra") & table["run"].str.startswith("3B-")]
    beyond = {t: _points(model, p) for t, p in extra.groupby("task") if t in language}
    targets = table[table["role"] == "target"]
    ends = {t: _points(model, p) for t, p in targets.groupby("task") if t in language}
    for law in FITTED:
        errors, seven, thirteen = [], [], []
        for task, rungs in fitted.items():
            every = [*rungs, *beyond[task]]
            for split in make_splits(every, [r.run for r in beyond[task]]):
                part = [r for r in every if r.run in split.fitted]
                errors += _errors(law, part, [r for r in every if r.run in split.scored])
            by_run = dict(
                zip([r.run for r in ends[task]], _errors(law, rungs, ends[task]), strict=True)
            )
            seven.append(by_run["7B-4T"])
            thirteen.append(by_run["13B-5T"])
        print(
            f"| {law} | {100 * np.mean(errors):.2f} | {100 * np.mean(seven):.2f} "
            f"| {100 * np.mean(thirteen):.2f} |"
        )


def _points(model: TwoStage, rows: pd.DataFrame) -> list[RungPoint]:
    rows = rows.sort_values(["run", "step"], kind="stable")
    return list(task_points(rows, model.method, "loss").rungs)


def _errors(law_name: str, rungs: list[RungPoint], scored: list[RungPoint]) -> list[float]:
    law = get_law(law_name)

    def given(points: list[RungPoint]) -> list[Array]:
        named = {"params": [p.params for p in points], "tokens": [p.tokens for p in points]}
        return law_inputs(law, {k: np.array(v)[None] for k, v in named.items()})

    (found,) = fit(law, given(rungs), np.array([[r.loss for r in rungs]]), OBJECTIVE)
    values, _ = law.evaluate(found.theta[None], given(scored))
    return [abs(math.log(v / r.loss)) for v, r in zip(values[0], scored, strict=True)]


def show_methods(table: pd.DataFrame) -> None:
    """Methods made from these laws, on accuracies; scored where all of them predict."""
    print("\n## Methods made from these laws, points of accuracy\n")
    print(
        "| method | back-test, 16 rungs | back-test, 24 rungs | 7B-4T | 13B-5T |\n"
        + "| --- " * 5
        + "|"
    )
    columns = [
        {s.method: s for s in backtest(table, METHODS, RUNGS[n], ("3B-*",), PAPER).scores}
        for n in ("16", "24")
    ]
    for method in METHODS:
        audited = audit(TwoStage(method, tasks=PAPER).fit(table), table)
        ends = {p.target: p.mean_abs_error or math.nan for p in audited.pooled}
        tested = " | ".join(
            f"{100 * c[method].mean_abs_error:.2f} +- {100 * c[method].standard_error:.2f}"
            for c in columns
        )
        print(f"| {method} | {tested} | {100 * ends['7B-4T']:.2f} | {100 * ends['13B-5T']:.2f} |")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
