"""The command evaluate: a model's scores on tasks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tyro import conf

from evaluation.files import InputError
from ladder.commands.options import Flag, Names

if TYPE_CHECKING:
    from evaluation.choices import ChoiceScores


def evaluate(
    model: conf.Positional[str],
    tasks: Names,
    keep: Path | None = None,
    rescore: Flag = False,
    dtype: str = "float32",
    device: str = "auto",
    trust_remote_code: Flag = False,
    json: Flag = False,
    out: Path | None = None,
) -> None:
    """Score a Hugging Face causal language model on multiple-choice tasks.

    Args:
        model: A folder with a model and its tokenizer, or a name on the hub.
        tasks: JSONL files, one item a line with id, context, choices and gold.
        keep: Folder for the score of every choice, a file a task, written after each; a task that
            is there already is not scored again.
        rescore: Compute the metrics from the folder of --keep, without the model.
        dtype: float32, bfloat16 or float16.
        device: auto, cpu, cuda, cuda:1, ...
        trust_remote_code: Run code that comes with the model.
        json: Print one JSON document.
        out: Write a .json or .csv file.
    """
    from evaluation.choices import read_choices, write_choices
    from evaluation.tasks import read_task
    from ladder import tables
    from ladder.progress import steps

    tables.check_out(out)
    wanted = [read_task(path) for path in tasks]
    names = [task.name for task in wanted]
    if doubled := next((n for n in names if names.count(n) > 1), None):
        raise InputError(f"--tasks: two files are named {doubled}.jsonl")
    if rescore and keep is None:
        raise InputError("--rescore: needs --keep FOLDER, where the scores are")
    if keep is not None:
        _claim(keep, model, dtype)
    scored: dict[str, ChoiceScores] = {}
    loaded = None
    for task in steps("evaluate")(wanted):
        path = keep / f"{task.name}.parquet" if keep is not None else None
        if path is not None and path.is_file():
            (scored[task.name],) = read_choices(path)
            _check_same(scored[task.name], task, path)
            continue
        if rescore:
            raise InputError(f"{path}: no such file; evaluate without --rescore first")
        from evaluation.models import load_model, score

        loaded = loaded or load_model(model, dtype, device, trust_remote_code)
        result = score(loaded, task)
        if result.cut:
            tables.note(f"{task.name}: {result.cut} contexts were cut to the model's window")
        scored[task.name] = result.scores
        if path is not None:
            write_choices([result.scores], path)
    rows = [_row(task, scored[task.name]) for task in wanted]
    tables.emit({"version": 1, "model": model, "rows": rows}, rows, json, out)
    if not json:
        tables.show_scores(model, rows)


def _row(task: Any, scores: ChoiceScores) -> dict[str, Any]:
    from evaluation.metrics import ACCURACY_METRIC, measure

    values = measure(scores)
    return {
        "task": task.name,
        "loss": values["bpb"].value,
        "loss_unit": "bits/byte",
        "loss_se": values["bpb"].se,
        "accuracy": values[ACCURACY_METRIC].value,
        "accuracy_metric": ACCURACY_METRIC,
        "accuracy_se": values[ACCURACY_METRIC].se,
        "chance": task.chance,
        "instances": len(scores.items),
        **{name: value.value for name, value in values.items()},
        **{f"{name}_se": value.se for name, value in values.items()},
    }


def _claim(folder: Path, model: str, dtype: str) -> None:
    """Make the folder this model's; raises InputError where it is another's."""
    from evaluation.files import read_json, write_json

    owner = {"model": model, "dtype": dtype}
    label = folder / "model.json"
    if label.is_file():
        if read_json(label) != owner:
            raise InputError(f"--keep {folder}: holds scores of {read_json(label)}, not of {owner}")
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--keep {folder}: cannot be made ({error.strerror})") from error
    if any(folder.iterdir()):
        raise InputError(f"--keep {folder}: is not empty and holds no scores; name another folder")
    write_json(label, owner)


def _check_same(scores: ChoiceScores, task: Any, path: Path) -> None:
    stored = [(item.id, item.gold, len(item.log_likelihoods)) for item in scores.items]
    if stored != [(item.id, item.gold, len(item.choices)) for item in task.items]:
        raise InputError(f"{path}: was scored on other items than {task.name} has now; remove it")
