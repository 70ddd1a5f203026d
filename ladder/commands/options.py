"""What several commands take on the command line."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase as fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro import conf

from evaluation.files import InputError

if TYPE_CHECKING:
    import pandas as pd

    from predict.task_fit import Target
    from predict.two_stage import TwoStage

Maps = Annotated[
    conf.UseAppendAction[tuple[str, ...]],
    conf.arg(aliases=("--column",)),
]
"""`--map OURS=THEIRS`, the option of every command that reads a table; see `read_table`."""

Flag = conf.FlagCreatePairsOff[bool]
Names = tuple[str, ...]


@dataclass(frozen=True)
class Fitting:
    """What every command that fits takes."""

    method: str = "default"
    """`default`, `published` (arXiv 2412.04403) or another."""
    rungs: Names = ()
    """Patterns of runs to fit; by default those of role ladder."""
    tasks: Names = ()
    """Patterns of tasks; by default all."""
    feature: str = "loss"
    """Column that links both steps, lower for a better model."""
    law: str | None = None
    """Step 1 by chinchilla, chinchilla_scaled, compute, gadre, kaplan, kaplan_n, kaplan_d or
    kaplan_c, without priors."""
    link: str | None = None
    """Step 2 by sigmoid, log_sigmoid, log_logistic, weibull or gadre_error."""
    recipe: str | None = None
    """Only the runs of this recipe, or of those that match a pattern."""
    map: Maps = ()
    """OURS=THEIRS, such as params=n_params, where the table's column has a name of its own; or one
    of a column's words for all rows, such as loss_unit=bits/byte."""

    def model(self) -> TwoStage:
        """The predictor, yet to be fitted."""
        from predict.two_stage import TwoStage

        return TwoStage(self.method, self.feature, self.rungs, self.tasks, self.law, self.link)

    def read(self, path: Path) -> pd.DataFrame:
        """A table's rows of the recipe; see `read_table`."""
        return read_table(path, self.recipe, self.rungs, self.map)


Options = conf.OmitArgPrefixes[Fitting]
NO_OPTIONS = Fitting()


def read_mapped(path: Path, map: Names) -> pd.DataFrame:
    """A table of observations, its columns named by pairs OURS=THEIRS where they are not ours."""
    from evaluation import records, tabular

    if not map:
        return records.read_observations(path)
    return tabular.read_mapped(path, parse_pairs(map, "--map"))


def read_table(path: Path, recipe: str | None, rungs: Names = (), map: Names = ()) -> pd.DataFrame:
    """A table of observations, of the runs of one recipe; `map` as in `read_mapped`.

    Without a recipe's name or pattern the table is taken whole; InputError where the rungs to be
    fitted are then of several recipes, for these are not one ladder.
    """
    table = read_mapped(path, map)
    if recipe is not None:
        return of_recipe(table, recipe, path)
    if "recipe" not in table.columns:
        return table
    own = table[table["role"] != "target"] if rungs else table[table["role"] == "ladder"]
    runs = [run for run in own["run"].unique() if not rungs or any(fnmatch(run, p) for p in rungs)]
    names = sorted(own.loc[own["run"].isin(runs), "recipe"].unique())
    if len(names) > 1:
        shown = ", ".join(name or "(empty)" for name in names[:4]) + ", ..." * (len(names) > 4)
        raise InputError(
            f"{path}: its rungs are of {len(names)} recipes, {shown}; choose one with --recipe, or "
            f"compare them: ladder compare {path} --by recipe"
        )
    return table


def of_recipe(table: pd.DataFrame, pattern: str, path: Path) -> pd.DataFrame:
    """The rows of the recipes that match a pattern; InputError where there are none."""
    if "recipe" not in table.columns:
        raise InputError(f"--recipe {pattern}: {path} has no column recipe")
    kept = table["recipe"].map(lambda name: fnmatch(name, pattern)).astype(bool)
    if not kept.any():
        known = ", ".join(name or "(empty)" for name in sorted(table["recipe"].unique()))
        raise InputError(f"--recipe {pattern}: matches none of {path}; there are {known}")
    return table[kept].reset_index(drop=True)


def parse_target(text: str) -> Target:
    """NAME:PARAMS:TOKENS, counts as 6887575552, 6.89e9 or 6.89B; InputError otherwise."""
    from predict.task_fit import Target

    return Target(*parse_run(text, "--target"))


def parse_targets(texts: Names) -> list[Target]:
    """Targets that are named one by one; InputError where a name is given twice."""
    targets = [parse_target(text) for text in texts]
    names = [target.name for target in targets]
    if doubled := next((n for n in names if names.count(n) > 1), None):
        raise InputError(f"--target {doubled}: is given twice")
    return targets


def parse_run(text: str, option: str) -> tuple[str, float, float]:
    """The name, params and tokens of NAME:PARAMS:TOKENS; InputError otherwise."""
    parts = text.rsplit(":", 2)
    if len(parts) != 3 or not parts[0]:
        raise InputError(f"{option} {text}: must read NAME:PARAMS:TOKENS, such as 7B:6.9e9:4T")
    params, tokens = (_count(part, text, option) for part in parts[1:])
    if not 1e-100 < params * tokens < 1e100:
        raise InputError(f"{option} {text}: params x tokens is {params * tokens:.3g}")
    return parts[0], params, tokens


def parse_pairs(texts: Names, option: str) -> dict[str, str]:
    """KEY=VALUE, each key once; InputError otherwise."""
    pairs: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key or not value:
            raise InputError(f"{option} {text}: must read KEY=VALUE")
        if key in pairs:
            raise InputError(f"{option} {text}: {key} is given twice")
        pairs[key] = value
    return pairs


def fit_table(model: TwoStage, table: Any, path: Path) -> TwoStage:
    """Fit the model; an error names the file."""
    try:
        return model.fit(table)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def parse_count(text: str | None, option: str) -> float | None:
    """A count above 0, as 1e23, 7B or 4T; None for none; InputError otherwise."""
    return None if text is None else _count(text, text, option)


def _count(text: str, whole: str, option: str) -> float:
    from evaluation.tabular import count

    try:
        value = count(text)
    except ValueError:
        value = float("nan")
    if not 0 < value < float("inf"):
        raise InputError(f"{option} {whole}: {text!r} is not a count above 0, such as 6.9e9 or 4T")
    return value
