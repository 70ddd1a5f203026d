"""When a run is scored as it trains, and the rows of observations that it has so far."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from evaluation.encoding import EncodedTask
from evaluation.files import InputError, read_json
from evaluation.ranks import ONE, Ranks
from evaluation.records import read_observations, write_observations
from ladder import stopping
from ladder.config import Experiment
from ladder.corpora import Corpus
from ladder.parallel import Parallel
from ladder.plan import Rung
from ladder.runs import RungFolder
from ladder.saved import ROWS
from ladder.score import score_rung

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def steps_at(rung: Rung, shares: Sequence[float]) -> set[int]:
    """Steps at shares of a run's length; those before it left its trunk are the trunk's."""
    steps = {max(1, round(share * rung.steps)) for share in shares}
    return {step for step in steps if step > rung.branch_step}


def evaluation_steps(rung: Rung, shares: Sequence[float]) -> list[int]:
    """Steps after which a run is scored: the shares of its length, and its end."""
    return sorted(steps_at(rung, shares) | {rung.steps})


class Scores:
    """Rows of a run's evaluations, on the disk after each."""

    def __init__(
        self,
        config: Experiment,
        rung: Rung,
        folder: RungFolder,
        corpus: Corpus,
        model: PreTrainedModel,
        tasks: Sequence[EncodedTask],
        parallel: Parallel,
        start: int,
    ) -> None:
        """Rows up to the step `start`, from which the run goes on, are kept.

        Raises InputError where some are lost.
        """
        self.rung = rung
        self.folder = folder
        self.corpus = corpus
        self.model = model
        self.tasks = tasks
        self.parallel = parallel
        self.steps = evaluation_steps(rung, config.evaluation.at)
        # The table of the run has the rows of the step itself too, if it came so far.
        kept = folder.checkpoints / f"step-{start}" / ROWS
        for path in (folder.scores, kept):
            self.rows = _rows_until(path, start)
            lost = [step for step in self.steps if step < start and self.lack(step)]
            if not lost:
                return
        raise InputError(
            f"{folder.scores}: lacks step {lost[0]}; remove {folder.checkpoints} to train this run "
            "again"
        )

    def due(self, step: int) -> bool:
        """Whether the run is scored after this step."""
        return step in self.steps

    def lack(self, step: int) -> bool:
        """Whether the step's rows are still to be made."""
        return self.due(step) and not any(row["step"] == step for row in self.rows)

    def score(self, step: int) -> None:
        """Add the rows of a step; raises Stopped between two tasks where a signal asks to."""
        first, parallel = self.parallel.is_first, self.parallel
        # Sharded models need every rank in every pass; whole ones share the passes out.
        ranks = ONE if parallel.kind == "fsdp" else Ranks(parallel.rank, parallel.world)

        def watch() -> None:
            if parallel.any(stopping.asked()):
                raise stopping.Stopped(f"{self.rung.name}: saved after step {step}")

        self.rows += score_rung(
            self.rung.observed(step),
            self.corpus,
            self.rung.sequence_length,
            self.model.eval(),
            self.tasks,
            self.folder.store(step) if first else None,
            ranks,
            watch,
        )
        if first:
            write_observations(pd.DataFrame(self.rows), self.folder.scores)


def _rows_until(scores: Path, step: int) -> list[dict[str, Any]]:
    if step == 0 or not scores.is_file():
        return []
    if scores.name == ROWS:
        return list(read_json(scores))
    try:
        table = read_observations(scores)
    except InputError as error:
        print(f"{error}; made again from the checkpoint", file=sys.stderr)
        return []
    # A kill between the scores' and the checkpoint's write leaves rows that are made again.
    rows = table[table["step"] <= step].to_dict("records")
    return [{str(k): v for k, v in row.items() if not pd.isna(v)} for row in rows]
