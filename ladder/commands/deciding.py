"""Commands that decide where the next FLOP goes: allocate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tyro import conf

from evaluation.files import InputError
from ladder.commands.options import Flag, Maps, Names, parse_count, read_table

if TYPE_CHECKING:
    from predict.allocation import Allocation, Estimate, Row


def allocate(
    observations: conf.Positional[Path | None] = None,
    flops: str | None = None,
    params: str | None = None,
    tokens: str | None = None,
    target_loss: float | None = None,
    served: str | None = None,
    unique_tokens: str | None = None,
    task: str | None = None,
    rungs: Names = (),
    recipe: str | None = None,
    map: Maps = (),
    feature: str = "loss",
    exact: Flag = False,
    replicates: int = 200,
    seed: int = 0,
    json: Flag = False,
    out: Path | None = None,
) -> None:
    """Compute-optimal params and tokens, by several approaches.

    Example: ladder allocate obs.parquet --flops 1e23

    Args:
        observations: A table of observations, .parquet or .csv. Without one, published constants
            answer.
        flops: Training FLOPs to split, such as 1e23. Of params, tokens and FLOPs any two give the
            third.
        params: Params of a model to look at, such as 7B.
        tokens: Its training tokens, such as 4T.
        target_loss: Find the cheapest model of this loss as well.
        served: Tokens that it will serve, such as 2T; by default none.
        unique_tokens: Distinct tokens there are, where a model must repeat them.
        task: The LM set or task whose loss counts; by default the first LM set.
        rungs: Patterns of runs to fit; by default those of role ladder.
        recipe: Only the runs of this recipe, or of those that match a pattern.
        map: OURS=THEIRS, such as params=n_params, where the table has names of its own.
        feature: Column of the loss.
        exact: Count FLOPs as the table's column does, not as 6ND.
        replicates: Resamples of the runs that intervals are made of.
        seed: Of the resamples.
        json: Print one JSON document.
        out: Write a .json or .csv file.
    """
    from ladder import tables
    from predict.allocate import allocate as split
    from predict.allocate import published_allocation
    from predict.allocation import Question

    tables.check_out(out, observations)
    question = Question(
        flops=parse_count(flops, "--flops"),
        params=parse_count(params, "--params"),
        tokens=parse_count(tokens, "--tokens"),
        target_loss=target_loss,
        served_tokens=parse_count(served, "--served") or 0.0,
        unique_tokens=parse_count(unique_tokens, "--unique-tokens"),
    )
    if served is not None and target_loss is None:
        raise InputError("--served: needs the loss to be reached; give --target-loss as well")
    if target_loss is not None and not 0 < target_loss < 1e6:
        raise InputError(f"--target-loss {target_loss}: must be above 0")
    if replicates < 0:
        raise InputError(f"--replicates {replicates}: must be 0 or more")
    if observations is None:
        _check_no_table(rungs, recipe, map, task, feature, exact)
        if question == Question():
            raise InputError("give a table of observations, or --flops 1e23 to ask published laws")
        found = published_allocation(question)
    else:
        table = read_table(observations, recipe, rungs, map)
        try:
            found = split(table, question, rungs, task, feature, exact, replicates, seed)
        except InputError as error:
            raise InputError(f"{observations}: {error}") from None
    tables.emit(found.document(), [_flat(row) for row in found.rows], json, out)
    if not json:
        _show(found, replicates)


def _check_no_table(
    rungs: Names,
    recipe: str | None,
    map: Names,
    task: str | None,
    feature: str,
    exact: bool,
) -> None:
    given = {
        "--rungs": rungs,
        "--recipe": recipe,
        "--map": map,
        "--task": task,
        "--feature": feature != "loss",
        "--exact": exact,
    }
    for option, value in given.items():
        if value:
            raise InputError(f"{option}: needs a table of observations")


def _flat(row: Row) -> dict[str, Any]:
    """A row for CSV, an estimate's ends in columns of their own."""
    flat: dict[str, Any] = {}
    for name, value in vars(row).items():
        if name in ("params", "tokens", "loss", "exponent_params", "exponent_tokens"):
            flat[name] = None if value is None else value.value
            flat[f"{name}_lower80"] = None if value is None else value.lower80
            flat[f"{name}_upper80"] = None if value is None else value.upper80
        else:
            flat[name] = value
    return flat


def _show(found: Allocation, replicates: int) -> None:
    """Print the allocation, a table for each question, and what was impossible."""
    from ladder import tables
    from predict.numbers import human

    if found.implied is not None:
        run = found.implied
        tables.say(
            f"{human(run.params)} params x {human(run.tokens)} tokens: {run.flops:.4g} FLOPs by "
            f"{found.counted_by.name}, {run.tokens / run.params:.3g} tokens a parameter"
        )
        for name, loss in run.losses.items():
            ends = tables.loss_span(loss.lower80, loss.upper80)
            tables.say(f"  loss by {name}: {_loss(loss)} {ends}".rstrip())
    budget = found.question.flops
    title = "exponents" if budget is None else f"the best split of {budget:.4g} FLOPs"
    _table(
        f"{title} by {found.counted_by.name}; {found.task or 'published'}, {found.loss_unit}",
        ("approach", "N~C^", "80%", "N", "80%", "D", "D/N", "loss"),
        [
            (
                row.approach,
                _share(row.exponent_params),
                _shares(row.exponent_params),
                _human(row.params) + "*" * (row.status == "extrapolated"),
                _human_ends(row.params),
                _human(row.tokens),
                _ratio(row.params, row.tokens),
                _loss(row.loss),
            )
            for row in found.rows
        ],
    )
    if found.served:
        _show_served(found)
    if found.ranges is not None:
        low, high = zip(found.ranges.params, found.ranges.tokens, found.ranges.flops, strict=True)
        tables.say(
            f"* outside the runs: {human(low[0])}-{human(high[0])} params, {human(low[1])}-"
            f"{human(high[1])} tokens, {low[2]:.3g}-{high[2]:.3g} FLOPs"
        )
    _show_overfitting(found)
    unable = [(e.approach, e.reason) for e in found.rows if e.status == "impossible"]
    unable += [(e.approach, e.reason) for e in found.served if e.status == "impossible"]
    for approach, reason in unable:
        tables.say(f"{approach}: {reason}")
    for approach, times in found.misfits().items():
        tables.say(
            f"{approach}: fits the runs {times:.2g} times worse (rms) than the best law here"
        )
    for row in found.rows:
        if row.status not in ("impossible", "published"):
            exponent = row.exponent_params
            if replicates and exponent is not None and exponent.lower80 is None:
                tables.say(
                    f"{row.approach}: no interval, {row.resampled:.0%} of resamples went through"
                )
            if "not certified" in row.certificate:
                tables.say(f"{row.approach}: {row.certificate.rpartition('; ')[2]}")


def _show_served(found: Allocation) -> None:
    from predict.numbers import human

    question = found.question
    _table(
        f"cheapest model of loss {question.target_loss:.4g} that serves "
        f"{human(question.served_tokens) if question.served_tokens else 'no'} tokens",
        ("approach", "N", "80%", "D", "D/N", "train", "serve", "saves"),
        [
            (
                row.approach,
                _human(row.params) + "*" * (row.status == "extrapolated"),
                _human_ends(row.params),
                _human(row.tokens),
                _ratio(row.params, row.tokens),
                _flops(row.training_flops),
                _flops(row.serving_flops),
                "" if row.saved is None else f"{abs(row.saved):.0%}",
            )
            for row in found.served
        ],
    )


def _table(title: str, columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    """A table without the columns that are empty throughout."""
    from ladder import tables

    kept = [i for i in range(len(columns)) if i == 0 or any(row[i] for row in rows)]
    tables.show(title, [columns[i] for i in kept], [[row[i] for i in kept] for row in rows])


def _show_overfitting(found: Allocation) -> None:
    from ladder import tables
    from predict.numbers import human

    sizes = [row.params.value for row in found.rows if row.params is not None]
    size = next(iter(sizes), None) if found.implied is None else found.implied.params
    for name, bound in found.needed.items():
        line = (
            f"tokens to come within {bound.excess:.0%} of endless data, Kaplan {name}: "
            f"{bound.factor:.0f} N^{bound.exponent:.2f}"
        )
        if size is not None:
            line += f", {human(bound.tokens(size))} for {human(size)} params"
        tables.say(line)


def _share(estimate: Estimate | None) -> str:
    """A number about a half to two places, without its leading 0."""
    return "" if estimate is None else f"{estimate.value:.2f}".replace("0.", ".")


def _shares(estimate: Estimate | None) -> str:
    if estimate is None or estimate.lower80 is None or estimate.upper80 is None:
        return ""
    return f"{estimate.lower80:.2f}-{estimate.upper80:.2f}".replace("0.", ".")


def _flops(count: float | None) -> str:
    return "" if count is None else f"{count:.1e}".replace("+", "")


def _human(estimate: Estimate | None) -> str:
    from predict.numbers import human

    return "" if estimate is None else human(estimate.value)


def _human_ends(estimate: Estimate | None) -> str:
    from predict.numbers import human

    if estimate is None or estimate.lower80 is None or estimate.upper80 is None:
        return ""
    return f"{human(estimate.lower80)}-{human(estimate.upper80)}"


def _ratio(params: Estimate | None, tokens: Estimate | None) -> str:
    if params is None or tokens is None:
        return ""
    ratio = tokens.value / params.value
    return f"{ratio:.0f}" if ratio >= 100 else f"{ratio:.2g}"


def _loss(estimate: Estimate | None) -> str:
    return "" if estimate is None else f"{estimate.value:.3f}"
