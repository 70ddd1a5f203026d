"""Names of tasks, patterns and suites -> the tasks to score and the means to report; no torch."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from evaluation.choices import ChoiceScores
from evaluation.files import InputError
from evaluation.metrics import Value, measure, values_row, weighted
from evaluation.olmes import MMLU, MMLU_SPLITS, olmes_names, read_olmes
from evaluation.tasks import METRIC, Task, read_task

MMLU_WEIGHTS = {"stem": 0.215, "humanities": 0.335, "social_sciences": 0.219, "other": 0.231}
"""Weights of MMLU's categories (arXiv 2412.04403, code)."""

PAPER8 = (
    "mmlu_test_rc_5shot",
    "hellaswag_val_rc_5shot",
    "arc_challenge_test_rc_5shot",
    "arc_easy_test_rc_5shot",
    "piqa_val_rc_5shot",
    "csqa_val_rc_5shot",
    "socialiqa_val_rc_5shot",
    "openbookqa_test_rc_5shot",
)
"""The tasks of arXiv 2412.04403, on the splits of its main results."""

OLMES_METRICS = {
    "arc_challenge_test_rc_5shot": "acc_pmi",
    "csqa_val_rc_5shot": "acc_pmi",
    "openbookqa_test_rc_5shot": "acc_pmi",
    "boolq_val_rc_5shot": "acc",
    "winogrande_val_rc_5shot": "acc",
}
"""Tasks of OLMES in the cloze form that do not pick an answer per character (arXiv 2406.08446)."""

OLMES = (*PAPER8, "boolq_val_rc_5shot", "winogrande_val_rc_5shot")
"""The ten tasks of OLMES; their average gives each one tenth."""

SUITES: Mapping[str, tuple[str, ...]] = {
    "paper8": PAPER8,
    "olmes": OLMES,
    "mmlu": ("mmlu_test_rc_5shot", *(f"mmlu_{c}_test_rc_5shot" for c in MMLU)),
}
"""Suites by name, and the tasks of each."""


@dataclass(frozen=True)
class Mean:
    """A row that several tasks give together."""

    name: str
    members: tuple[str, ...]
    weights: tuple[float, ...] | None
    """Weights of the members' values, summing to 1; None where their items are pooled."""
    metric: str = METRIC
    """The accuracy that is reported first."""
    own: Mapping[str, str] = field(default_factory=dict)
    """The accuracy of a member, where it is another one."""

    def members_by(self, metric: str) -> list[str]:
        """Members whose answers are picked by that metric."""
        return [name for name in self.members if self.own.get(name, self.metric) == metric]


AVERAGES = {
    "paper8": Mean("paper8", PAPER8, (1 / len(PAPER8),) * len(PAPER8)),
    "olmes": Mean("olmes", OLMES, (1 / len(OLMES),) * len(OLMES), own=OLMES_METRICS),
}
"""Suites whose tasks have an average, each with its own way to pick answers."""


@dataclass(frozen=True)
class Selection:
    """What a user asked for."""

    tasks: tuple[Task, ...]
    """To be scored, each once."""
    rows: tuple[str, ...]
    """Names to report, in order: tasks and means."""
    means: Mapping[str, Mean]
    """Means by name, those that other means are made of included."""
    pmi: frozenset[str] = frozenset()
    """Tasks to be scored behind their unconditional context too."""


def select(wanted: Sequence[str], pmi: bool = False) -> Selection:
    """Resolve file names, task names, patterns of them and suites.

    `pmi` asks for unconditional scores wherever a task has the context for them. Raises
    InputError for what is neither.
    """
    rows: list[str] = []
    means: dict[str, Mean] = {}
    files: dict[str, Task] = {}
    for name in wanted:
        if name in SUITES:
            rows += SUITES[name]
            if name in AVERAGES:
                means[name] = AVERAGES[name]
                rows.append(name)
        elif _is_file(name):
            task = _read_file(Path(name))
            if task.name in files:
                raise InputError(f"--tasks {name}: there is another task {task.name}")
            files[task.name] = task
            rows.append(task.name)
        else:
            rows += _matching(name)
    rows = list(dict.fromkeys(rows))
    tasks = dict(files)
    for name in rows:
        if name not in files:
            _add(name, tasks, means, files)
    if clash := next((name for name in files if name in means or name in SUITES), None):
        raise InputError(f"--tasks: your own task {clash} is named as a suite; name it otherwise")
    if "olmes" in wanted and "paper8" not in wanted:
        for name, metric in OLMES_METRICS.items():
            tasks[name] = replace(tasks[name], metric=metric)
    picked = {name for mean in means.values() for name in mean.members_by("acc_pmi")}
    unconditional = {
        task.name
        for task in tasks.values()
        if task.unconditional and (pmi or task.metric == "acc_pmi" or task.name in picked)
    }
    return Selection(tuple(tasks.values()), tuple(rows), means, frozenset(unconditional))


@dataclass(frozen=True)
class _Result:
    values: Mapping[str, Value]
    accuracy: Value | None
    metric: str
    chance: float | None


def result_rows(selection: Selection, scores: Mapping[str, ChoiceScores]) -> list[dict[str, Any]]:
    """A row of results for every name that was asked for, in that order."""
    results: dict[str, _Result] = {}
    for task in selection.tasks:
        values = measure(scores[task.name])
        results[task.name] = _Result(values, values.get(task.metric), task.metric, task.chance)

    def result(name: str) -> _Result:
        if name not in results:
            mean = selection.means[name]
            parts = [result(member) for member in mean.members]
            own = [scores[m] for m in mean.members] if mean.weights is None else []
            results[name] = _joined(mean, parts, own)
        return results[name]

    return [
        values_row(name, found.values, found.accuracy, found.metric, found.chance)
        for name, found in ((name, result(name)) for name in selection.rows)
    ]


def _joined(mean: Mean, parts: Sequence[_Result], scores: Sequence[ChoiceScores]) -> _Result:
    """The result of a mean from its members', or from their scores where items are pooled."""
    if mean.weights is None:
        values = measure(ChoiceScores(mean.name, tuple(i for own in scores for i in own.items)))
        sizes = [len(own.items) for own in scores]
        weights = [size / sum(sizes) for size in sizes]
    else:
        values = weighted([part.values for part in parts], mean.weights)
        weights = list(mean.weights)
    accuracy, metric = values.get(mean.metric), mean.metric
    if mean.own:
        names = [mean.own.get(name, mean.metric) for name in mean.members]
        picked = [
            {"accuracy": part.values[name]}
            for part, name in zip(parts, names, strict=True)
            if name in part.values
        ]
        metric = "each task's"
        accuracy = None
        if len(picked) == len(parts):
            accuracy = weighted(picked, weights)["accuracy"]
    chances = [part.chance for part in parts if part.chance is not None]
    chance = None
    if len(chances) == len(parts):
        chance = sum(w * c for w, c in zip(weights, chances, strict=True))
    return _Result(values, accuracy, metric, chance)


def known_means() -> dict[str, Mean]:
    """MMLU's categories and the whole, by split and form."""
    found = {}
    for split in MMLU_SPLITS:
        for form in ("rc", "mc"):
            rest = f"{split}_{form}_5shot"
            metric = "acc" if form == "mc" else METRIC
            categories = tuple(f"mmlu_{category}_{rest}" for category in MMLU)
            for category, subjects in MMLU.items():
                members = tuple(f"mmlu_{subject}_{rest}" for subject in subjects.split())
                name = f"mmlu_{category}_{rest}"
                found[name] = Mean(name, members, None, metric)
            weights = tuple(MMLU_WEIGHTS[category] for category in MMLU)
            found[f"mmlu_{rest}"] = Mean(f"mmlu_{rest}", categories, weights, metric)
    return found


def forms(names: Sequence[str]) -> dict[str, list[str]]:
    """Forms of tasks by their kind, `test_rc_5shot` of `arc_easy`; MMLU's subjects as one."""
    found: dict[str, list[str]] = {}
    subjects = {f"mmlu_{subject}" for group in MMLU.values() for subject in group.split()}
    for name in names:
        # A form begins with its split or with the way it asks.
        if match := re.fullmatch(r"(.+?)_((?:val|test|gold|rc|mc|bpb|xl|\d+way)(?:_.*)?)", name):
            kind = "mmlu_SUBJECT" if match[1] in subjects else match[1]
            if match[2] not in found.setdefault(kind, []):
                found[kind].append(match[2])
    return found


def _add(
    name: str, tasks: dict[str, Task], means: dict[str, Mean], files: Mapping[str, Task]
) -> None:
    """Read the task of that name, or those that the mean of that name needs."""
    if name in files:
        raise InputError(f"--tasks: your own task {name} is named as OLMES's; name it otherwise")
    if name in tasks:
        return
    mean = means.get(name) or known_means().get(name)
    if mean is None:
        tasks[name] = read_olmes(name)
        return
    means[name] = mean
    for member in mean.members:
        _add(member, tasks, means, files)


def _matching(pattern: str) -> list[str]:
    names = [*olmes_names(), *known_means()]
    if pattern in names:
        return [pattern]
    found = [name for name in names if fnmatchcase(name, pattern)]
    if not found:
        raise InputError(
            f"--tasks {pattern}: is no file, no suite ({', '.join(SUITES)}) and no OLMES task; "
            "`ladder tasks` lists them"
        )
    return found


def _is_file(name: str) -> bool:
    return "/" in name or Path(name).suffix in (".jsonl", ".yaml", ".yml", ".csv")


def _read_file(path: Path) -> Task:
    if path.suffix in (".yaml", ".yml"):
        from evaluation.prompts import read_prompted

        return read_prompted(path)
    if path.suffix == ".jsonl":
        return read_task(path)
    hint = "; say in a .yaml file how its rows are asked" if path.suffix == ".csv" else ""
    raise InputError(f"--tasks {path}: must be .jsonl, .yaml, .txt, .npy or .bin{hint}")
