"""When the default method's priors are refuted, and what that changes away from language models.

    python benchmarks/priors.py [OLMO_LOGS] > benchmarks/priors.md

OLMO_LOGS are the logs of the published ladder, ../shared/olmo-ladder by default. The other ladders
are the grids of docs/origins.md and docs/recipes.md, whose observations lie in benchmarks/results:
four neighbouring sizes are fitted, and the loss of the next two predicted, at tokens from a third
of the largest fitted to 2.5 times.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pandas as pd
from methods import LADDERS, PAPER

from evaluation.records import read_observations
from evaluation.sources import import_olmo_ladder
from predict import Target, TwoStage, refuted
from predict.backtest import backtest
from predict.certificate import Fit

HERE = Path(__file__).parent
SIZES = 4
FEWEST, MOST = 1 / 3, 2.5
"""Tokens of a predicted run, over the largest of the fitted."""


def main() -> None:
    """Print both tables."""
    logs = sys.argv[1] if len(sys.argv) > 1 else str(HERE.parent.parent / "shared" / "olmo-ladder")
    print(f"`python benchmarks/priors.py`; refuted is below p = {refuted.REFUTED:g}.\n")
    print("Chains of the published ladder whose own points refute their priors:\n")
    print("| ladder | fits | asked | refuted |\n| --- | --- | --- | --- |")
    table = import_olmo_ladder(Path(logs)).observations
    for name, (rungs, score) in LADDERS.items():
        with Counted() as count:
            TwoStage(rungs=rungs).fit(table)
        print(f"| {name} | the ladder | {count.total()} | {count[True]} |")
        with Counted() as count:
            backtest(table, ("default",), rungs, score, PAPER)
        print(f"| {name} | back-tests | {count.total()} | {count[True]} |", flush=True)
    print(
        "\nAsked is of every fit with priors, also of the first look at a task that decides "
        "whether it is pooled.\n"
    )
    print("Mean absolute error of the loss of larger models, in %:\n")
    print("| ladder | predicted | published | default | with priors always | refuted, of fits |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, rows in grids():
        with Counted() as count:
            errors = [mean_error(rows, method) for method in ("published", "default")]
        with patch.object(refuted, "REFUTED", 0.0):
            errors.append(mean_error(rows, "default"))
        cells = " | ".join(f"{100 * e:.2f}" for e in errors)
        models = sum(len(aims) for _, aims in held_out(rows))
        print(f"| {name} | {models} | {cells} | {count[True]} of {count.total()} |", flush=True)


class Counted:
    """How often a chain was asked whether its points refute its priors, and what was the answer."""

    def __enter__(self) -> Counter[bool]:
        self.found: Counter[bool] = Counter()
        self.patch = patch("predict.chains.refutes", self.ask)
        self.patch.start()
        return self.found

    def __exit__(self, *error: object) -> None:
        self.patch.stop()

    def ask(self, free: Fit, held: Fit, believed: int, least: float) -> bool:
        """The same answer, noted."""
        answer = refuted.refutes(free, held, believed, least)
        self.found[answer] += 1
        return answer


def grids() -> Iterator[tuple[str, pd.DataFrame]]:
    """The committed ladders, a recipe at a time; targets are not among them."""
    for path in sorted((HERE / "results").glob("*.parquet")):
        table = read_observations(path)
        table = table[table["role"] != "target"]
        recipes = table["recipe"].unique() if "recipe" in table else [None]
        for recipe in recipes:
            own = table if recipe is None or len(recipes) == 1 else table[table["recipe"] == recipe]
            if own["params"].nunique() > SIZES:
                name = path.stem if len(recipes) == 1 else f"{path.stem}, {recipe}"
                yield name, own.reset_index(drop=True)


def held_out(table: pd.DataFrame) -> Iterator[tuple[pd.DataFrame, pd.DataFrame]]:
    """Rows of four neighbouring sizes, and the final ones of the next two sizes."""
    last = table[table["final"].fillna(False).astype(bool)]
    sizes = np.sort(last["params"].unique())
    for end in range(SIZES, len(sizes)):
        small = table[table["params"].isin(sizes[end - SIZES : end])]
        aims = last[last["params"].isin(sizes[end : end + 2])]
        most = small["tokens"].max()
        yield small, aims[aims["tokens"].between(FEWEST * most, MOST * most)]


def mean_error(table: pd.DataFrame, method: str) -> float:
    """Mean of |log(predicted / actual)| over all that was held out."""
    errors = []
    for small, aims in held_out(table):
        model = TwoStage(method).fit(small)
        for row in aims.itertuples():
            target = Target(str(row.run), float(row.params), float(row.tokens))
            said = model.predict_one(str(row.task), target)
            errors.append(abs(np.log(said.loss_predicted / row.loss)))
    return float(np.mean(errors))


if __name__ == "__main__":
    main()
