"""A runs folder's rungs on tasks of theirs and of others; rows join what training measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from evaluation.files import InputError
from evaluation.records import read_observations, write_observations
from evaluation.tasks import read_task
from ladder.config import Experiment
from ladder.corpora import open_corpus
from ladder.plan import Rung, make_plan
from ladder.runs import RungFolder, RunsFolder

if TYPE_CHECKING:
    from evaluation.models import LoadedModel
    from evaluation.ranks import Ranks
    from evaluation.suites import Selection
    from ladder.score import Watch


@dataclass(frozen=True)
class Runs:
    """Rungs of one runs folder that can be scored."""

    folder: RunsFolder
    config: Experiment
    rungs: tuple[Rung, ...]
    """Those that have finished, in the plan's order."""
    unfinished: tuple[str, ...]

    @property
    def task_files(self) -> tuple[str, ...]:
        """The folder's own tasks."""
        return tuple(map(str, sorted(self.folder.tasks.glob("*.jsonl"))))


@dataclass(frozen=True)
class Checkpoint:
    """One checkpoint of a rung."""

    runs: Runs
    rung: Rung
    step: int


def find_runs(path: Path) -> Runs | None:
    """The rungs of a runs folder, or the one whose folder `path` is; None for anything else."""
    if (path / "manifest.json").is_file():
        return _runs(path.parent, path.name)
    if (path / "config.yaml").is_file() and not (path / "config.json").is_file():
        return _runs(path, None)
    return None


def checkpoint_of(path: Path) -> Checkpoint | None:
    """The rung and step of `RUNS/RUNG/checkpoints/step-N`; None for anything else."""
    path = path.resolve()
    rung, step = path.parent.parent, path.name.removeprefix("step-")
    if path.parent.name != "checkpoints" or not (rung / "manifest.json").is_file():
        return None
    if not step.isdigit():
        return None
    runs = _runs(rung.parent, None)
    return Checkpoint(runs, make_plan(runs.config).run(rung.name), int(step))


def known_rows(runs: Runs) -> list[dict[str, Any]]:
    """What training, and any scoring since, measured at the end of each rung."""
    rows = []
    for rung in runs.rungs:
        rows += _rows(_final(runs.folder.rung(rung.name)))
    return rows


def evaluate_checkpoint(checkpoint: Checkpoint, loaded: LoadedModel) -> list[dict[str, Any]]:
    """The rows that training writes after that step, from the saved model."""
    from ladder.score import score_rung

    config, rung = checkpoint.runs.config, checkpoint.rung
    tasks = [loaded.encode(read_task(path)) for path in checkpoint.runs.task_files]
    base = rung.observed(checkpoint.step, config.seed)
    corpus = open_corpus(config.corpus, checkpoint.runs.folder.corpus)
    return score_rung(base, corpus, rung.sequence_length, loaded.model, tasks, None)


def evaluate_runs(
    runs: Runs,
    selection: Selection,
    texts: Sequence[Path],
    rescore: bool,
    load: Callable[[Path], LoadedModel],
    watch: Watch,
    ranks: Ranks,
) -> list[dict[str, Any]]:
    """Score every rung, or recompute its metrics; the rows join the rung's scores.

    A rung whose scores hold all that is selected is left as it is.
    """
    from ladder.score import rescore as recompute
    from ladder.score import score_model

    found = []
    names = {*selection.rows, *(path.stem for path in texts)}
    for rung in runs.rungs:
        folder = runs.folder.rung(rung.name)
        store = folder.store(rung.steps)
        known = _rows(_final(folder))
        if rescore:
            rows, _ = recompute(selection, texts, store)
        elif names <= {row["task"] for row in known}:
            found += [row for row in known if row["task"] in names]
            continue
        else:
            path = folder.path / "checkpoints" / f"step-{rung.steps}"
            rows, _ = score_model(
                _from(load, path), selection, texts, store, _prefixed(watch, rung.name), ranks
            )
        if ranks.rank == 0:
            base = rung.observed(rung.steps, runs.config.seed)
            _join(folder, [{**base, **row} for row in rows])
            found += [row for row in _rows(_final(folder)) if row["task"] in names]
    return found


def _runs(path: Path, name: str | None) -> Runs:
    folder = RunsFolder(path)
    config = folder.load_config()
    plan = make_plan(config)
    wanted = plan.runs if name is None else (plan.run(name),)
    finished = {rung.name: folder.rung(rung.name).finished for rung in wanted}
    if not any(finished.values()):
        raise InputError(f"{path}: no run has finished; `ladder train` goes on")
    return Runs(
        folder,
        config,
        tuple(rung for rung in wanted if finished[rung.name]),
        tuple(name for name, is_done in finished.items() if not is_done),
    )


def _final(folder: RungFolder) -> pd.DataFrame:
    table = read_observations(folder.scores)
    return table[table["final"]]


def _join(folder: RungFolder, rows: Sequence[dict[str, Any]]) -> None:
    """Put rows into a rung's scores, in the place of those of the same tasks."""
    with folder.lock():
        table = read_observations(folder.scores)
        new = pd.DataFrame([{k: v for k, v in row.items() if v is not None} for row in rows])
        replaced = table["final"] & table["task"].isin(new["task"])
        write_observations(pd.concat([table[~replaced], new], ignore_index=True), folder.scores)


def _rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [
        {str(key): None if pd.isna(value) else value for key, value in row.items()}
        for row in table.drop(columns="schema_version", errors="ignore").to_dict("records")
    ]


def _from(load: Callable[[Path], LoadedModel], path: Path) -> Callable[[], LoadedModel]:
    return lambda: load(path)


def _prefixed(watch: Watch, name: str) -> Watch:
    return lambda task: watch(f"{name} {task}")
