"""The command import: what others measured -> observations."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from tyro import conf

from evaluation.files import InputError
from ladder.commands.options import Flag, Maps, Names, parse_pairs, parse_run


def import_(
    source: conf.Positional[Literal["olmo-ladder", "lm-eval", "csv", "wandb"]],
    path: conf.Positional[Path],
    out: Path,
    map: Maps = (),
    value: conf.UseAppendAction[Names] = (),
    task: conf.UseAppendAction[Names] = (),
    target: conf.UseAppendAction[Names] = (),
    run: conf.UseAppendAction[Names] = (),
    percent: Flag = False,
) -> None:
    """Turn results that others wrote into an observations table.

    Example: ladder import csv theirs.csv --out from-csv.csv --map run=model --map params=N
    --percent --value loss_unit=bits/byte --task arc_easy=arc_bpb,arc_acc --target '7B-*'

    Args:
        source: olmo-ladder reads the repository allenai/OLMo-ladder, lm-eval the results of
            lm-evaluation-harness, csv any table, wandb an export of Weights & Biases.
        path: Where they lie: a clone's root, or a folder of its CSV files; the --output_path of
            lm-eval, run with --log_samples; a CSV file; or a folder of W&B chart exports.
        out: The table to write, .parquet or .csv.
        map: OURS=THEIRS, such as params=n_params: the CSV's column that holds one of ours.
        value: OURS=VALUE, such as loss_unit=bits/byte: one value for all rows.
        task: NAME=LOSS,ACCURACY, or NAME=LOSS: a task of a table that has a column a score.
        target: Pattern of runs of role target.
        run: NAME:PARAMS:TOKENS of a run whose rows do not say. For lm-eval NAME is
            a part of the model's path, such as 190M-1xC of ckpts/190M-1xC/step1000.
        percent: Accuracies are percentages.
    """
    from evaluation.lm_eval import import_lm_eval
    from evaluation.records import write_observations
    from evaluation.sources import Imported, import_olmo_ladder
    from evaluation.tabular import ColumnMap, TaskColumns, import_csv, import_wandb
    from ladder import tables

    if source == "olmo-ladder":
        if map or value or task or target or run or percent:
            raise InputError("import olmo-ladder: knows its columns; it takes PATH and --out only")
        imported = import_olmo_ladder(path)
    elif source == "lm-eval":
        if map or value or task or percent:
            raise InputError("import lm-eval: takes PATH, --out, --run and --target only")
        imported = import_lm_eval(path, _runs(run), target)
    else:
        wide = []
        for name, scores in parse_pairs(task, "--task").items():
            loss, comma, accuracy = scores.rpartition(",")
            columns = (loss.strip(), accuracy.strip()) if comma else (scores, None)
            wide.append(TaskColumns(name, *columns))
        mapping = ColumnMap(
            columns=parse_pairs(map, "--map"),
            values=parse_pairs(value, "--value"),
            tasks=tuple(wide),
            targets=target,
            runs=_runs(run),
            percent=percent,
        )
        read = import_csv if source == "csv" else import_wandb
        imported = Imported(read(path, mapping), ())
    write_observations(imported.observations, out)
    for line in imported.left_out:
        tables.note(f"left out: {line}")
    table = imported.observations
    roles = table.drop_duplicates("run")["role"].value_counts()
    counts = ", ".join(f"{count} {role}" for role, count in roles.items())
    tables.note(
        f"{out}: {len(table):,} rows, {table['task'].nunique()} tasks, "
        f"{table['run'].nunique()} runs ({counts})"
    )


def _runs(texts: Names) -> dict[str, tuple[float, float]]:
    """Params and tokens by the run's name."""
    parsed = [parse_run(text, "--run") for text in texts]
    return {name: (params, tokens) for name, params, tokens in parsed}
