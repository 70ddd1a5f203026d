"""Compares methods of prediction by back-tests inside the published ladder, and fits the widths.

    python benchmarks/methods.py [FOLDER]

FOLDER holds the logs of allenai/OLMo-ladder (default ../shared/olmo-ladder). Every number that
chooses something comes from runs of the ladder up to 3.2B; the targets' errors are printed last and
choose nothing. Prints Markdown; benchmarks/methods.md holds a run.
"""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.optimize import minimize

from evaluation.sources import import_olmo_ladder
from predict import TwoStage, audit
from predict.backtest import Backtest, backtest
from predict.backtest_scores import compare, winkler
from predict.intervals import LEVEL80, LEVEL95
from predict.methods import METHODS, Method, Widths

PAPER = (
    *(f"{t}_test_rc_5shot" for t in ("mmlu", "arc_challenge", "arc_easy", "openbookqa")),
    *(f"{t}_val_rc_5shot" for t in ("hellaswag", "piqa", "csqa", "socialiqa")),
)
LADDERS = {
    "16 rungs": ((), ("3B-*",)),
    "24 rungs": (("190M-*", "370M-*", "760M-*", "1B-*"), ("3B-*",)),
    "30 rungs": (("*xC*",), ()),
}
EVERYWHERE = ("default", "published", "own", "shared", "direct")
"""Methods that six rungs are enough for: every split scores them."""

COMPARED = (*EVERYWHERE, "single_step")
"""The last one needs seven rungs, and is compared with the default where it can be."""

Results = dict[str, dict[str, Backtest]]
"""Of each ladder the back-test that each method is read from."""


def main(folder: Path) -> None:
    """Print everything."""
    table = import_olmo_ladder(folder).observations
    results = {
        name: {
            **dict.fromkeys(EVERYWHERE, backtest(table, EVERYWHERE, rungs, score, PAPER)),
            "single_step": backtest(table, ("default", "single_step"), rungs, score, PAPER),
        }
        for name, (rungs, score) in LADDERS.items()
    }
    print(f"`python benchmarks/methods.py`, {len(PAPER)} tasks, points of accuracy\n")
    show_scores(results)
    show_pairs(results)
    show_widths(results)
    show_variants(table)
    show_kinds(table)
    show_targets(table)


def show_scores(results: Results) -> None:
    """Each method on each ladder."""
    print("## Back-tests inside the ladder\n")
    print(
        "| ladder | method | splits | error | in 80% | in 95% | left-out 80% | left-out 95% "
        "| half-width | interval score | of a constant |\n" + "| --- " * 11 + "|"
    )
    for name, by_method in results.items():
        found = [s for method, own in by_method.items() for s in own.scores if s.method == method]
        for s in sorted(found, key=lambda s: s.mean_abs_error):
            rows = by_method[s.method].rows
            splits = {r.split for r in rows if r.method == s.method and r.error is not None}
            print(
                f"| {name} | {s.method} | {len(splits)} | {100 * s.mean_abs_error:.2f} "
                f"| {s.coverage80:.2f} | {s.coverage95:.2f} | {s.left_out80:.2f} "
                f"| {s.left_out95:.2f} | {100 * s.width80:.1f} | {100 * s.winkler80:.2f} "
                f"| {100 * s.winkler80_constant:.2f} |"
            )


def show_pairs(results: Results) -> None:
    """The default against each other method."""
    print("\n## Paired differences\n")
    print("| ladder | default against | difference | standard error |\n| --- | --- | --- | --- |")
    for name, by_method in results.items():
        for other in COMPARED[1:]:
            c = compare(by_method[other].rows, "default", other)
            print(
                f"| {name} | {other} | {100 * c.difference:+.2f} | {100 * c.standard_error:.2f} |"
            )


def show_widths(results: Results) -> None:
    """The weights that minimise the mean interval score at 80% and 95%, on 16 and 24 rungs."""
    print("\n## Widths: weights of climb, spread and parameters by the back-tests\n")
    print("| method | fitted | used | coverage as used, 16 / 24 rungs |\n| --- | --- | --- | --- |")
    for name in COMPARED:
        ladders = ("16 rungs", "24 rungs")
        rows = pd.concat([results[n][name].frame().assign(ladder=n) for n in ladders])
        rows = rows[(rows["method"] == name) & rows["error"].notna()]
        rows = rows[np.isfinite(rows["parameters"].astype(float))]
        fitted = fit_widths(rows)
        method = METHODS[name]
        votes = [c.kind for c in method.chains if c.votes]
        used = method.widths_of(votes)
        inside = [
            (
                f"{(np.abs(part['error']) <= LEVEL80 * errors(part, used)).mean():.2f}, "
                f"{(np.abs(part['error']) <= LEVEL95 * errors(part, used)).mean():.2f}"
            )
            for _, part in rows.groupby("ladder")
        ]
        print(f"| {name} | {words(fitted, votes)} | {words(used, votes)} | {' / '.join(inside)} |")


def fit_widths(rows: pd.DataFrame) -> Widths:
    """The weights of the smallest mean interval score."""
    size = np.abs(rows["error"].to_numpy())

    def score(logs: np.ndarray) -> float:
        error = errors(rows, Widths(*np.exp(logs)))
        return winkler(size, LEVEL80 * error, 0.8) + winkler(size, LEVEL95 * error, 0.95)

    begins = ([0.1, 0.3, 0.5], [0.2, 0.1, 0.2], [0.05, 0.5, 1])
    found = [minimize(score, np.log(b), method="Nelder-Mead") for b in begins]
    return Widths(*np.exp(min(found, key=lambda r: r.fun).x))


def errors(rows: pd.DataFrame, widths: Widths) -> np.ndarray:
    """Standard errors of back-test rows."""
    parts = (
        widths.climb * rows["climb"],
        widths.spread * rows["spread"],
        widths.parameters * rows["parameters"],
        rows["noise"],
    )
    return np.sqrt(sum(p.to_numpy(dtype=float) ** 2 for p in parts))


def words(widths: Widths, votes: list[str]) -> str:
    """Climb, spread and parameters."""
    spread = f"{widths.spread:.2f}" if len(votes) > 1 else "-"
    return f"{widths.climb:.2f}, {spread}, {widths.parameters:.2f}"


def show_variants(table: pd.DataFrame) -> None:
    """What was tried beside the default's parts: the same back-tests, one change each."""
    print("\n## Tried beside it, mean back-test error\n")
    print("| change | 16 rungs | 24 rungs |\n| --- | --- | --- |")
    ladders = [LADDERS[name] for name in ("16 rungs", "24 rungs")]
    for name, (method, feature) in variants().items():
        METHODS["variant"] = method
        cells = [
            backtest(table, ("variant",), rungs, score, PAPER, feature).scores[0].mean_abs_error
            for rungs, score in ladders
        ]
        del METHODS["variant"]
        print(f"| {name} | {' | '.join(f'{100 * c:.2f}' for c in cells)} |")


def variants() -> dict[str, tuple[Method, str]]:
    """One change each to the default or to its first chain alone."""
    default, own = METHODS["default"], METHODS["own"]
    direct = METHODS["direct"].chains

    def linked(method: Method, link: str) -> Method:
        chains = [replace(c, link=link) if c.link else c for c in method.chains]
        return replace(method, chains=tuple(chains))

    def wide(sd: float) -> Method:
        chain = own.chains[0]
        priors = tuple(replace(p, sd=sd) for p in chain.priors)
        return replace(own, chains=(replace(chain, priors=priors),))

    fast = replace(direct[1], priors=tuple(replace(p, mean=0.3) for p in direct[1].priors))
    return {
        "default": (default, "loss"),
        "default, prior means fixed at 0.3": (replace(default, centre_sd=1e-6), "loss"),
        "default, log-logistic link": (linked(default, "log_logistic"), "loss"),
        "default, Weibull link": (linked(default, "weibull"), "loss"),
        "own": (own, "loss"),
        "own, no ideal point": (replace(own, ideal_point=False), "loss"),
        "own, priors of SD 0.1": (wide(0.1), "loss"),
        "own, TaskCE as the feature": (own, "task_ce"),
        "direct, exponents about 0.3": (
            replace(METHODS["direct"], chains=(direct[0], fast)),
            "loss",
        ),
    }


def show_kinds(table: pd.DataFrame) -> None:
    """Tasks made from the real ones whose loss hardly moves, beside the real ones and alone."""
    print("\n## Tasks whose loss hardly moves, made from the real ones, two choices\n")
    print(
        "Back-test error; the loss is compressed about its mean and given noise (relative, a run "
        "and a checkpoint), accuracy is mapped to two choices and given noise.\n"
    )
    print("| kind | loss kept | run, checkpoint noise | default | published | default alone |")
    print("| --- " * 6 + "|")
    for kind, (kept, run, checkpoint) in KINDS.items():
        made = pd.concat([weaken(table, task, kind, i) for i, task in enumerate(PAPER)])
        names = tuple(made["task"].unique())
        both = pd.concat([table[table["task"].isin(PAPER)], made], ignore_index=True)
        beside = error_of(backtest(both, ("default", "published"), (), ("3B-*",)), names)
        alone = error_of(backtest(made, ("default", "published"), (), ("3B-*",)), names)
        print(
            f"| {kind} | {kept:g} | {run:.1%}, {checkpoint:.1%} | {beside['default']:.2f} "
            f"| {beside['published']:.2f} | {alone['default']:.2f} |"
        )


KINDS = {
    "flat": (0.0, 0.004, 0.006),
    "falls by a twentieth": (0.05, 0.003, 0.006),
    "falls by a seventh": (0.15, 0.003, 0.006),
    "rises by a twentieth": (-0.05, 0.003, 0.006),
}


def weaken(table: pd.DataFrame, task: str, kind: str, seed: int) -> pd.DataFrame:
    """A two-choice copy of a task whose loss keeps a share of its fall and gains noise."""
    kept, run_noise, checkpoint_noise = KINDS[kind]
    rng = np.random.default_rng(seed)
    rows = table[(table["task"] == task) & (table["role"] != "target")].copy()
    rows = rows[rows["run"].str.contains("xC")]
    mean = rows.loc[rows["final"], "loss"].mean()
    shift = {run: rng.normal(0, run_noise) for run in rows["run"].unique()}
    luck = {run: rng.normal(0, 0.004) for run in rows["run"].unique()}
    noise = rows["run"].map(shift) + rng.normal(0, checkpoint_noise, len(rows))
    rows["loss"] = mean + kept * (rows["loss"] - mean) + mean * noise
    lifted = 0.5 + 0.5 * (rows["accuracy"] - rows["chance"]) / (1 - rows["chance"])
    wobble = rows["run"].map(luck) + rng.normal(0, 0.006, len(rows))
    rows["accuracy"] = (lifted + wobble).clip(0, 1)
    return rows.assign(chance=0.5, task=f"{kind}: {task}")


def error_of(result: Backtest, tasks: tuple[str, ...]) -> dict[str, float]:
    """Mean absolute error a method on some tasks, in points."""
    frame = result.frame()
    chosen = frame[frame["task"].isin(tasks) & frame["error"].notna()]
    return (100 * chosen["error"].abs()).groupby(chosen["method"]).mean().to_dict()


def show_targets(table: pd.DataFrame) -> None:
    """The error of each method on the real targets."""
    print("\n## Targets, 7B-4T and 13B-5T: looked at last, chose nothing\n")
    print(
        "| ladder | method | error | in 80% | in 95% | of |\n| --- | --- | --- | --- | --- | --- |"
    )
    for name, (rungs, _) in LADDERS.items():
        for method in COMPARED:
            pooled = audit(TwoStage(method, rungs=rungs).fit(table), table)
            rows = [r for r in pooled.rows if r.prediction.task in PAPER and r.error is not None]
            mean = math.fsum(abs(r.error or 0) for r in rows) / len(rows)
            print(
                f"| {name} | {method} | {100 * mean:.2f} | {sum(bool(r.inside80) for r in rows)} "
                f"| {sum(bool(r.inside95) for r in rows)} | {len(rows)} |"
            )


if __name__ == "__main__":
    default = Path(__file__).parent.parent.parent / "shared" / "olmo-ladder"
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else default)
