"""The commands evaluate and tasks: a model's scores, and what can be scored."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tyro import conf

from evaluation.files import InputError
from ladder.commands.options import Flag, Names
from ladder.machine import check_installed

if TYPE_CHECKING:
    from evaluation.models import LoadedModel
    from evaluation.ranks import Ranks
    from evaluation.suites import Selection
    from ladder.score import Watch
    from ladder.scored_runs import Runs


@dataclass(frozen=True)
class Loading:
    """How a model is loaded."""

    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Type of the weights."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, ...; under torchrun each process takes a GPU of its own."""
    trust_remote_code: Flag = False
    """Run code that comes with the model."""


NO_LOADING = Loading()


def evaluate(
    model: conf.Positional[str],
    tasks: Names = (),
    keep: Path | None = None,
    rescore: Flag = False,
    limit: int | None = None,
    pmi: Flag = False,
    loading: conf.OmitArgPrefixes[Loading] = NO_LOADING,
    json: Flag = False,
    out: Path | None = None,
) -> None:
    """Score a model, a checkpoint or a runs folder on tasks.

    Example: ladder evaluate MODEL --tasks paper8 --keep scores

    Args:
        model: A folder with a model and its tokenizer, a name on the hub, a runs folder, one
            rung's folder in it, or a rung's checkpoint.
        tasks: OLMES tasks or patterns of them, suites (paper8, olmes, mmlu), files (.jsonl, .yaml)
            and texts (.txt, .npy, .bin); see `ladder tasks`. By default those of the runs folder.
        keep: Folder for the score of every choice, a file a task, written after each; a task that
            is there already is not scored again. Runs folders keep them anyway.
        rescore: Compute the metrics from what was kept, without the model.
        limit: Score the first items of each task only.
        pmi: Score choices behind the unconditional context too, for acc_pmi.
        loading: How the model is loaded.
        json: Print one JSON document.
        out: Write a .json or .csv file.
    """
    from ladder import tables
    from ladder.progress import is_first_rank
    from ladder.scored_runs import find_runs

    tables.check_out(out)
    if limit is not None and limit < 1:
        raise InputError(f"--limit {limit}: must be at least 1")
    runs = find_runs(Path(model))
    if runs is not None:
        if keep is not None or limit is not None:
            raise InputError(f"{model}: runs keep their own scores; leave --keep and --limit out")
        rows = _evaluate_runs(runs, tasks, rescore, pmi, loading)
    elif tasks:
        rows = _evaluate_model(model, tasks, keep, rescore, limit, pmi, loading)
    else:
        if keep is not None or limit is not None or rescore or pmi:
            raise InputError("--tasks: name what to score, such as paper8 or FILE.jsonl")
        rows = _checkpoint_rows(model, loading)
    # Of the processes that torchrun starts one speaks.
    if not is_first_rank():
        return
    tables.emit({"version": 1, "model": model, "rows": rows}, rows, json, out)
    if not json:
        tables.show_scores(model, rows)


def tasks(
    action: conf.Positional[Literal["list", "fetch"]] = "list",
    wheel: Path | None = None,
    json: Flag = False,
    out: Path | None = None,
) -> None:
    """What can be scored; `ladder tasks fetch` brings OLMES requests.

    Example: ladder tasks fetch

    Args:
        action: list shows suites and tasks; fetch downloads the requests once, by pip at your own
            index, and checks them.
        wheel: The file to fetch from instead, where there is no network.
        json: Print one JSON document.
        out: Write a .json or .csv file.
    """
    from evaluation import olmes, suites
    from ladder import tables

    tables.check_out(out)
    if wheel is not None and action != "fetch":
        raise InputError("--wheel: goes with `ladder tasks fetch`")
    if action == "fetch":
        tables.note(f"OLMES requests: {olmes.fetch(wheel)}")
    there = olmes.fetched()
    means = list(suites.known_means())
    names = sorted([*olmes.olmes_names(), *means]) if there else []
    document = {
        "version": 1,
        "fetched": there,
        "suites": {name: list(members) for name, members in suites.SUITES.items()},
        "tasks": names,
    }
    tables.emit(document, [{"task": name} for name in names], json, out)
    if not json:
        tables.show_tasks(suites.SUITES, suites.forms(names))


def _evaluate_model(
    model: str,
    wanted: Names,
    keep: Path | None,
    rescore: bool,
    limit: int | None,
    pmi: bool,
    loading: Loading,
) -> list[dict[str, Any]]:
    from evaluation.store import Store
    from ladder import results

    if rescore and keep is None:
        raise InputError("--rescore: needs --keep FOLDER, where the scores are")
    selection, texts = _select(wanted, pmi, limit)
    if rescore and keep is not None:
        store = Store(keep, _identity(model))
        found = results.rescore(selection, texts, store)
    else:
        check_installed("scoring")
        from ladder.score import score_model

        kept = None
        if keep is not None:
            owner = {"dtype": loading.dtype, **_identity(model)}
            kept = Store(keep, owner, {"model": os.path.normpath(model)})
        with _ranks(loading.device) as (ranks, device), _watch(ranks) as watch:
            load = _loader(model, loading, device)
            found = score_model(load, selection, texts, kept, watch, ranks)
    _note(found.remarks())
    return found.rows()


def _checkpoint_rows(model: str, loading: Loading) -> list[dict[str, Any]]:
    """Rows of a rung's checkpoint on its own tasks, as training writes them."""
    from ladder.scored_runs import checkpoint_of, evaluate_checkpoint

    if (found := checkpoint_of(Path(model))) is None:
        raise InputError("--tasks: name what to score, such as paper8 or FILE.jsonl")
    check_installed("scoring")
    with _ranks(loading.device) as (_, device):
        return evaluate_checkpoint(found, _loader(model, loading, device)())


def _evaluate_runs(
    runs: Runs, wanted: Names, rescore: bool, pmi: bool, loading: Loading
) -> list[dict[str, Any]]:
    from ladder import scored_runs

    _note([f"{name}: has not finished; left out" for name in runs.unfinished])
    if not wanted and not rescore:
        return scored_runs.known_rows(runs)
    selection, texts = _select(wanted or tuple(map(str, runs.folder.task_files)), pmi, None)
    if rescore:
        return scored_runs.rescore_runs(runs, selection, texts, loading.dtype)
    check_installed("scoring")
    with _ranks(loading.device) as (ranks, device), _watch(ranks) as watch:

        def load(path: Path) -> LoadedModel:
            return _loader(str(path), loading, device)()

        return scored_runs.evaluate_runs(runs, selection, texts, loading.dtype, load, watch, ranks)


def _select(wanted: Names, pmi: bool, limit: int | None) -> tuple[Selection, list[Path]]:
    from evaluation.suites import select
    from evaluation.text_scores import SUFFIXES

    texts = [Path(name) for name in wanted if Path(name).suffix in SUFFIXES]
    selection = select([name for name in wanted if Path(name).suffix not in SUFFIXES], pmi)
    names = [*(task.name for task in selection.tasks), *(path.stem for path in texts)]
    if doubled := next((name for name in names if names.count(name) > 1), None):
        raise InputError(f"--tasks: two files are named {doubled}")
    for path in texts:
        if not path.is_file():
            raise InputError(f"{path}: no such file")
    if limit is not None:
        cut = tuple(replace(task, items=task.items[:limit]) for task in selection.tasks)
        selection = replace(selection, tasks=cut)
    return selection, texts


def _identity(model: str) -> dict[str, Any]:
    """What tells a model from others: a folder's weights, wherever it lies; else its name."""
    folder = Path(model)
    if not folder.is_dir():
        return {"model": os.path.normpath(model)}
    from evaluation.fingerprints import fingerprint

    return {"weights": fingerprint(folder)}


def _loader(model: str, loading: Loading, device: str) -> Callable[[], LoadedModel]:
    from evaluation.models import load_model

    return lambda: load_model(model, loading.dtype, device, loading.trust_remote_code)


def _note(lines: list[str]) -> None:
    from ladder import tables
    from ladder.progress import is_first_rank

    for line in lines if is_first_rank() else ():
        tables.note(line)


@contextmanager
def _ranks(device: str) -> Iterator[tuple[Ranks, str]]:
    from evaluation.ranks import joined_ranks

    with joined_ranks(device) as joined:
        yield joined


@contextmanager
def _watch(ranks: Ranks) -> Iterator[Watch]:
    from ladder.progress import scoring

    with scoring(ranks.rank == 0) as watch:
        yield watch
