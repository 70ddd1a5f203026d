"""A runs folder's rungs on tasks of theirs and of others; rows join what training measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from evaluation.files import InputError
from evaluation.records import write_observations
from evaluation.tasks import read_task
from ladder.config import Experiment
from ladder.corpora import open_corpus
from ladder.plan import Rung, make_plan
from ladder.results import rescore
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


@dataclass(frozen=True)
class Checkpoint:
    """One checkpoint of a rung."""

    folder: RunsFolder
    config: Experiment
    rung: Rung
    step: int


def find_runs(path: Path) -> Runs | None:
    """The rungs of a runs folder, or the one whose folder `path` is; None for anything else."""
    if (path / "config.json").is_file():
        return None
    if (path / "manifest.json").is_file():
        return _runs(path.parent, path.name)
    is_folder = (path / "config.yaml").is_file() or any(path.glob("*/manifest.json"))
    return _runs(path, None) if is_folder else None


def checkpoint_of(path: Path) -> Checkpoint | None:
    """The rung and step of `RUNS/RUNG/checkpoints/step-N`; None for anything else."""
    path = path.resolve()
    rung, step = path.parent.parent, path.name.removeprefix("step-")
    if path.parent.name != "checkpoints" or not (rung / "manifest.json").is_file():
        return None
    if not step.isdigit():
        return None
    folder = RunsFolder(rung.parent)
    config = folder.load_config()
    return Checkpoint(folder, config, make_plan(config).run(rung.name), int(step))


def known_rows(runs: Runs) -> list[dict[str, Any]]:
    """What training, and any scoring since, measured at the end of each rung."""
    rows = []
    for rung in runs.rungs:
        rows += _rows(_final(runs.folder.rung(rung.name)))
    return rows


def evaluate_checkpoint(checkpoint: Checkpoint, loaded: LoadedModel) -> list[dict[str, Any]]:
    """The rows that training writes after that step, from the saved model."""
    from ladder.score import score_rung

    config, rung = checkpoint.config, checkpoint.rung
    tasks = [loaded.encode(read_task(path)) for path in checkpoint.folder.task_files]
    base = rung.observed(checkpoint.step)
    corpus = open_corpus(config.corpus, checkpoint.folder.corpus)
    return score_rung(base, corpus, rung.sequence_length, loaded.model, tasks, None)


def rescore_runs(
    runs: Runs, selection: Selection, texts: Sequence[Path], dtype: str
) -> list[dict[str, Any]]:
    """Metrics of every rung from the scores of its choices; the rows join the rung's scores."""
    _check_names(runs, selection, texts)
    found = []
    for rung in runs.rungs:
        folder = runs.folder.rung(rung.name)
        results = rescore(selection, texts, folder.store(rung.steps, dtype))
        found += _join(folder, rung, results.rows())
    return found


def evaluate_runs(
    runs: Runs,
    selection: Selection,
    texts: Sequence[Path],
    dtype: str,
    load: Callable[[Path], LoadedModel],
    watch: Watch,
    ranks: Ranks,
) -> list[dict[str, Any]]:
    """Score every rung; the rows join the rung's scores. What was scored is not scored again."""
    from ladder.score import score_model

    _check_names(runs, selection, texts)
    found = []
    for rung in runs.rungs:
        folder = runs.folder.rung(rung.name)
        path = folder.path / "checkpoints" / f"step-{rung.steps}"
        store = folder.store(rung.steps, dtype)
        shown = _prefixed(watch, rung.name)
        results = score_model(_from(load, path), selection, texts, store, shown, ranks)
        if ranks.rank == 0:
            found += _join(folder, rung, results.rows())
    return found


def _check_names(runs: Runs, selection: Selection, texts: Sequence[Path]) -> None:
    """Raise InputError for a row that would take the place of the corpus's held-out loss."""
    name = open_corpus(runs.config.corpus, runs.folder.corpus).validation
    if name in {*selection.rows, *(path.stem for path in texts)}:
        raise InputError(f"--tasks {name}: is the held-out loss's name; rename yours")


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
    table = folder.read_scores()
    return table[table["final"]]


def _join(folder: RungFolder, rung: Rung, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Put rows into a rung's scores, in the place of those of the same tasks; returns them."""
    base = rung.observed(rung.steps)
    with folder.lock():
        table = folder.read_scores()
        whole = [{**base, **row} for row in rows]
        new = pd.DataFrame([{k: v for k, v in row.items() if v is not None} for row in whole])
        replaced = table["final"] & table["task"].isin(new["task"])
        write_observations(pd.concat([table[~replaced], new], ignore_index=True), folder.scores)
    final = _final(folder)
    return _rows(final[final["task"].isin(new["task"])])


def _rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [
        {str(key): None if pd.isna(value) else value for key, value in row.items()}
        for row in table.drop(columns="schema_version", errors="ignore").to_dict("records")
    ]


def _from(load: Callable[[Path], LoadedModel], path: Path) -> Callable[[], LoadedModel]:
    return lambda: load(path)


def _prefixed(watch: Watch, name: str) -> Watch:
    return lambda task: watch(f"{name} {task}")
