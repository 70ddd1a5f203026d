"""Result folders of EleutherAI/lm-evaluation-harness -> observations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from evaluation.choices import ChoiceScores, ItemScores
from evaluation.files import InputError
from evaluation.lm_eval_files import (
    Config,
    LeftOutError,
    Question,
    Results,
    Runs,
    checkpoint_of,
    parse,
    read_lines,
    read_questions,
    told,
)
from evaluation.metrics import Value, measure, values_row
from evaluation.records import validate
from evaluation.sources import Imported

METRICS = {
    "acc_norm": "acc_per_char",
    "acc_bytes": "acc_per_byte",
    "acc_mutual_info": "acc_pmi",
    "acc": "acc",
}
"""lm-eval's accuracies and ours; the first that a task reports is its row's accuracy."""

Row = dict[str, Any]


class Key(NamedTuple):
    """What tells one row from another."""

    run: str
    step: int | None
    task: str
    shots: str


@dataclass
class Table:
    """Rows, and which tasks of which checkpoints are none, by the reason."""

    rows: dict[Key, Row] = field(default_factory=dict)
    left_out: dict[str, list[tuple[str, str]]] = field(default_factory=dict)

    def leave_out(self, task: str, checkpoint: str, reason: str) -> None:
        """Note a task of a checkpoint."""
        self.left_out.setdefault(reason, []).append((task, checkpoint))

    def lines(self) -> tuple[str, ...]:
        """What was left out, a line a reason."""
        found = []
        for reason, places in self.left_out.items():
            tasks, of = (", ".join(dict.fromkeys(names)) for names in zip(*places, strict=True))
            found.append(f"{tasks} ({of}): {reason}")
        return tuple(found)


def import_lm_eval(path: Path, runs: Runs, targets: Sequence[str] = ()) -> Imported:
    """Read every `results_*.json` below a folder, with the samples beside it.

    A run is a name of `runs`, params and final tokens, found in the model's name or else in the
    folders'. A step named there or in the revision makes it a checkpoint: the run's last has the
    final tokens, others their share. Of several results of a task the newest counts.

    The loss is bits per byte of the right answer over the text that was scored, its leading space
    apart; of a corpus lm-eval's `bits_per_byte`. Accuracies are computed from samples, see METRICS;
    lm-eval's acc_norm differs where a choice brings a leading space of its own, which it counts.
    A group is the documents of all its tasks. Samples do not tell tokens, which count as 0.
    """
    files = [f for f in path.glob("**/results_*.json") if f.is_file()] if path.is_dir() else [path]
    if not files:
        raise InputError(f"{path}: holds no results_*.json; give the --output_path of lm-eval")
    table = Table()
    models: dict[tuple[str, int | None], str] = {}
    for file in sorted(files, key=lambda file: (_date(file), str(file)), reverse=True):
        results = parse(Results, next(read_lines(file, whole=True)), str(file))
        run, step, model = checkpoint_of(results, file, path, runs)
        if models.setdefault((run, step), model) != model:
            raise InputError(
                f"{file}: {model!r} and {models[run, step]!r} would be one checkpoint of {run!r}; "
                "give each a --run, or import them apart"
            )
        _add_rows(table, results, run, step, file)
    if not table.rows:
        raise InputError(f"{path}: no task has a loss; {next(iter(table.lines()), 'no results')}")
    scored = {key.run for key in table.rows}
    unused = (f"--run {name}: no row is of it" for name in runs if name not in scored)
    observations = validate(_placed(table.rows, runs, targets, path), str(path))
    return Imported(observations, (*table.lines(), *unused))


def _date(file: Path) -> str:
    return file.stem.rpartition("_")[2]


def _add_rows(table: Table, results: Results, run: str, step: int | None, file: Path) -> None:
    samples = {other.name: other for other in file.parent.glob("samples_*.jsonl")}
    # Older versions list every task as a group of none.
    groups = {name: parts for name, parts in results.group_subtasks.items() if parts}
    known: dict[str, list[ItemScores]] = {}
    checkpoint = run if step is None else f"{run} step {step}"
    # Groups come last: their tasks must be known.
    for task in sorted(results.results, key=lambda task: task in groups):
        leaves = _leaves(task, groups)
        shots = "+".join(sorted({str(results.shots.get(leaf)) for leaf in leaves}))
        key = Key(run, step, task, shots)
        if key in table.rows:
            table.leave_out(task, checkpoint, "scored again since, and the newest result counts")
            continue
        beside = samples.get(f"samples_{task}_{_date(file)}.jsonl")
        config, documents = results.configs.get(task, Config()), results.documents.get(task)
        count = documents.effective if documents else None
        try:
            if task in groups:
                row = _group_row(task, leaves, known, results)
            elif beside and config.output_type == "multiple_choice":
                known[task] = told(read_questions(beside, count, config.target_delimiter or ""))
                row = _question_row(task, known[task], [task], results)
            elif beside and config.output_type == "loglikelihood":
                row = _continuation_row(task, read_questions(beside, count, ""))
            else:
                row = _reported_row(task, results, f"{file}: {task!r}")
        except LeftOutError as reason:
            table.leave_out(task, checkpoint, str(reason))
            continue
        if documents and documents.effective < documents.original:
            table.leave_out(task, checkpoint, "documents beyond the --limit of lm-eval")
        total = results.config.model_num_parameters or 0
        table.rows[key] = {**row, "params_total": total if total > 0 else None}


def _leaves(task: str, groups: Mapping[str, list[str]]) -> list[str]:
    """The tasks of a group and of the groups in it; a task is its own."""
    found, waiting = dict[str, None](), [task]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found[name] = None
            waiting += groups.get(name, [])
    return [name for name in found if name not in groups]


def _question_row(task: str, items: list[ItemScores], leaves: list[str], results: Results) -> Row:
    values = measure(ChoiceScores(task, tuple(items)))
    reported = {name.split(",")[0] for leaf in leaves for name in results.results[leaf]}
    metric = next((ours for theirs, ours in METRICS.items() if theirs in reported), "acc_per_char")
    chance = float(np.mean([1 / len(item.log_likelihoods) for item in items]))
    return values_row(task, values, values.get(metric), metric, chance)


def _group_row(
    task: str, leaves: list[str], known: Mapping[str, list[ItemScores]], results: Results
) -> Row:
    if not leaves or not all(leaf in known for leaf in leaves):
        raise LeftOutError("a group whose tasks are not all questions with samples beside it")
    items = [item for leaf in leaves for item in known[leaf]]
    sizes = [len(known[leaf]) for leaf in leaves]
    for metric in METRICS:
        whole = _number(results.results[task], metric, task)
        found = [_number(results.results[leaf], metric, leaf) for leaf in leaves]
        parts = [part for part in found if part is not None]
        # All lm-eval's own, for its acc_norm may be another than ours.
        if whole is None or len(parts) < len(leaves):
            continue
        if not abs(whole - np.average(parts, weights=sizes)) < 1e-6:
            raise LeftOutError("a group that is not the mean over its documents")
    return _question_row(task, items, leaves, results)


def _continuation_row(task: str, questions: list[Question]) -> Row:
    """A row of texts without choices; its accuracy is how often greedy decoding gives the text."""
    if any(len(question.choices) > 1 for question in questions):
        raise LeftOutError("log-likelihoods of several continuations a document")
    values = measure(ChoiceScores(task, tuple(question.item for question in questions)))
    right = [float(question.acc) for question in questions if question.acc in (0, 1)]
    if len(right) < len(questions):
        return values_row(task, values, None, "greedy", None)
    se = float(np.std(right, ddof=1)) / len(right) ** 0.5 if len(right) > 1 else None
    return values_row(task, values, Value(float(np.mean(right)), se, len(right)), "greedy", 0.0)


def _reported_row(task: str, results: Results, where: str) -> Row:
    """A row of lm-eval's own means; accuracies keep lm-eval's names."""
    reported, output = results.results[task], results.configs.get(task, Config()).output_type
    loss = _number(reported, "bits_per_byte", where, 1e300)
    if loss is None and output == "generate_until":
        raise LeftOutError("generate_until gives no log-likelihoods, so no loss")
    if loss is None:
        raise LeftOutError("neither samples nor bits_per_byte; run lm-eval with --log_samples")
    metric = next((m for m in ("acc_norm", "acc") if _number(reported, m, where) is not None), None)
    documents = results.documents.get(task)
    return {
        "task": task,
        "loss": loss,
        "loss_unit": "bits/byte",
        "loss_se": _number(reported, "bits_per_byte_stderr", where, 1e300),
        "accuracy": metric and _number(reported, metric, where),
        "accuracy_metric": metric,
        "accuracy_se": metric and _number(reported, f"{metric}_stderr", where),
        "instances": documents.effective if documents else None,
    }


def _number(reported: Mapping[str, Any], name: str, where: str, high: float = 1) -> float | None:
    """A mean by its name, whatever the filter; None where it is not reported."""
    keys = [f"{name},none", *(key for key in reported if key.startswith(f"{name},"))]
    value = next((reported[key] for key in keys if key in reported), "N/A")
    if value == "N/A":
        return None
    if not isinstance(value, int | float) or not 0 <= value <= high:
        raise InputError(f"{where}: {name} is {value!r}, not a number from 0 to {high:g}")
    return float(value)


def _placed(
    rows: Mapping[Key, Row], runs: Runs, targets: Sequence[str], path: Path
) -> pd.DataFrame:
    """Rows with their run's size and role, and their step's share of its tokens."""
    for pattern in targets:
        if not any(fnmatch(key.run, pattern) for key in rows):
            raise InputError(f"--target {pattern}: matches no run of {path}")
    steps: dict[str, set[int | None]] = {}
    shots: dict[str, set[str]] = {}
    for key in rows:
        steps.setdefault(key.run, set()).add(key.step)
        shots.setdefault(key.task, set()).add(key.shots)
    if mixed := next((run for run, own in steps.items() if None in own and len(own) > 1), None):
        raise InputError(
            f"{path}: run {mixed!r} has results with a step and without; import them apart"
        )
    placed = []
    for key, row in rows.items():
        params, tokens = runs[key.run]
        step, last = key.step or 0, max(step or 0 for step in steps[key.run])
        own = {
            "run": key.run,
            "role": "target" if any(fnmatch(key.run, t) for t in targets) else "ladder",
            "params": params,
            "tokens": tokens * step / last if last else tokens,
            "step": step,
            "final": step == last,
        }
        # Zero-shot and five-shot are two tasks.
        name = key.task if len(shots[key.task]) == 1 else f"{key.task}_{key.shots}shot"
        placed.append(own | row | {"task": name})
    return pd.DataFrame(placed)
