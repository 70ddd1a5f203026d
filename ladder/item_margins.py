"""The margins of single items of a runs folder's rungs, from the stored scores of choices."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from evaluation.choices import read_choices
from evaluation.files import InputError, is_file_name
from evaluation.margins import margins

if TYPE_CHECKING:
    from pandas import DataFrame

    from predict.items import Margins


def read_margins(folder: Path, observations: DataFrame, window: int) -> dict[str, Margins]:
    """Every task's margins by run, each the mean over a run's last `window` scored checkpoints.

    Read from RUNS/RUN/choices/step-N/TASK.parquet for the runs of role ladder in the table. Raises
    InputError where no run has any, or where runs were scored on different items.
    """
    from predict.items import Margins

    table = observations[(observations["role"] == "ladder") & observations["accuracy"].notna()]
    metrics = table.groupby("task")["accuracy_metric"].first()
    found: dict[str, dict[str, list[float]]] = {}
    digests: dict[str, tuple[str, str]] = {}
    # Names of a table need not be those of files, and must not lead out of the folder.
    for run in filter(is_file_name, table["run"].unique()):
        steps = sorted((folder / run / "choices").glob("step-*"), key=_step)
        for task in filter(is_file_name, metrics.index):
            files = [s / f"{task}.parquet" for s in steps if (s / f"{task}.parquet").is_file()]
            kept = []
            for file in files[-window:]:
                scores = read_choices(file)
                first, digest = digests.setdefault(task, (str(file), scores.digest))
                if scores.digest != digest:
                    raise InputError(f"{file}: was scored on other items than {first}; score anew")
                kept.append(margins(scores, str(metrics[task])))
            if kept:
                found.setdefault(task, {})[run] = np.mean(kept, axis=0)
    if not found:
        raise InputError(
            f"{folder}: no rung has stored scores of choices (RUN/choices/step-N/TASK.parquet); "
            "give a runs folder that `ladder run` or `ladder evaluate` scored"
        )
    return {
        task: Margins(tuple(runs), np.array(list(runs.values())).T) for task, runs in found.items()
    }


def _step(folder: Path) -> int:
    text = folder.name.removeprefix("step-")
    return int(text) if text.isdigit() else -1
