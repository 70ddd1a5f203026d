"""The files of lm-evaluation-harness: whose results they are, and what every choice was given."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, TypeVar

import numpy as np
from pydantic import BaseModel, Field, FiniteFloat, ValidationError

from evaluation.bounds import lines_of
from evaluation.choices import ItemScores, item_scores
from evaluation.files import LARGEST_JSON, InputError, check_size
from evaluation.records import LARGEST_COUNT

Count = Annotated[int, Field(ge=0, le=LARGEST_COUNT)]
Parsed = TypeVar("Parsed", bound=BaseModel)
Runs = Mapping[str, tuple[float, float]]

STEP = re.compile(
    r"(?:^|[-_.])(?:stage\d+[-_])?(?:global_?)?(?:step|checkpoint|ckpt|iter)[-_]?"
    r"(\d{1,15})(?=[-_]|$)",
    re.IGNORECASE,
)
"""A checkpoint's step in the name of a folder or a revision: step1000, checkpoint-1000."""


class LeftOutError(Exception):
    """Why a task is no row."""


class Config(BaseModel):
    """What a task says of itself."""

    output_type: str | None = None
    target_delimiter: str | None = None


class Documents(BaseModel):
    """How many a task has and how many were scored."""

    original: Count
    effective: Count


class Model(BaseModel):
    """How the model was loaded."""

    model_args: dict[str, Any] | str | None = None
    model_num_parameters: Annotated[int, Field(le=LARGEST_COUNT)] | None = None
    model_revision: str | None = None


class Results(BaseModel):
    """A `results_DATE.json`."""

    results: dict[Annotated[str, Field(pattern=r"\S")], dict[str, Any]]
    configs: dict[str, Config] = {}
    documents: dict[str, Documents] = Field(default={}, alias="n-samples")
    shots: dict[str, int | None] = Field(default={}, alias="n-shot")
    group_subtasks: dict[str, list[str]] = {}
    config: Model = Model()
    model_name: str | None = None


class Request(BaseModel):
    """A context and the continuation scored behind it."""

    arg_0: str
    arg_1: str


class Sample(BaseModel):
    """One line of a `samples_TASK_DATE.jsonl`: a document."""

    doc_id: int
    target: str | int | list[Any]
    arguments: dict[Annotated[str, Field(pattern=r"^gen_args_[0-9]{1,9}$")], Request]
    filtered_resps: list[tuple[Annotated[FiniteFloat, Field(le=0)], Any]]
    """Of every request its log-likelihood, nats, and whether greedy decoding would give it."""
    filter: str = "none"
    acc: Any = None
    acc_mutual_info: Any = None


@dataclass(frozen=True)
class Question:
    """A document's scores, with what may tell its right choice; `item.gold` does not yet."""

    item: ItemScores
    target: str
    choices: list[str]
    """As the task has them, without the delimiter."""
    acc: Any

    def fits(self, gold: int | None) -> bool:
        """Whether a choice, if right, gives the accuracy that was logged."""
        return gold is not None and (self.acc is None or self.acc == (gold == self.best()))

    def best(self) -> int:
        """The choice of the highest score, the first of equal ones."""
        return int(np.argmax(self.item.log_likelihoods))

    def by_index(self) -> int | None:
        """`target` as an index, alone or a list of one."""
        found = re.fullmatch(r"\[?([0-9]{1,9})\]?", self.target)
        return int(found[1]) if found and int(found[1]) < len(self.choices) else None

    def by_text(self) -> int | None:
        """`target` as the text of a choice."""
        known = self.target in self.choices and len(set(self.choices)) > 1
        return self.choices.index(self.target) if known else None

    def by_accuracy(self) -> int | None:
        """Of two contexts before one continuation, WinoGrande's form, `acc` alone tells."""
        if len(self.choices) != 2 or len(set(self.choices)) > 1 or self.acc not in (0, 1):
            return None
        return self.best() if self.acc else 1 - self.best()


def checkpoint_of(
    results: Results, file: Path, path: Path, runs: Runs
) -> tuple[str, int | None, str]:
    """The run and step that a file is of, and the model it names.

    A run is a name of `runs` in the model's path, or else in the folders', the deepest if several.
    """
    args = results.config.model_args or ""
    if isinstance(args, dict):
        args = ",".join(f"{name}={value}" for name, value in args.items())
    named: list[str] = re.findall(r"(?:^|,)(?:revision|subfolder)=([^,]+)", args)
    within = [n for n in (*named, results.config.model_revision) if n and n != "main"]
    top = path if path.is_dir() else path.parent
    folders = "/".join([top.resolve().name, *file.parent.relative_to(top).parts])
    model = results.model_name or folders
    depths = {name: _depth(name, model) for name in runs}
    if not any(depths.values()):
        depths = {name: _depth(name, folders) for name in runs}
    if not any(depths.values()):
        name = next(filter(None, map(_without_step, reversed(_parts(model)))), "NAME")
        raise InputError(f"{file}: no --run is its model {model!r}; add --run {name}:PARAMS:TOKENS")
    places = [*within, *reversed(_parts(model)), *reversed(_parts(folders))]
    steps = [int(found[1]) for place in places if (found := STEP.search(place))]
    run = max(runs, key=lambda name: (depths[name], len(name)))
    return run, steps[0] if steps else None, " ".join(dict.fromkeys([model, *within]))


def read_questions(file: Path, count: int | None, delimiter: str) -> list[Question]:
    """The documents of a file, `count` of them; of several filters, as the first left them."""
    applied = None
    found: dict[int, Question] = {}
    for number, line in enumerate(read_lines(file), 1):
        if not line.strip():
            continue
        where = f"{file}: line {number}"
        sample = parse(Sample, line, where)
        applied = applied or sample.filter
        if sample.filter != applied:
            continue
        if sample.doc_id in found:
            raise InputError(f"{where}: a second document {sample.doc_id}; keep one")
        found[sample.doc_id] = _question(sample, delimiter, where)
    if not found or len(found) != (count or len(found)):
        raise InputError(f"{file}: holds {len(found)} of {count or 'its'} documents; is it whole?")
    return list(found.values())


def told(questions: list[Question]) -> list[ItemScores]:
    """The items with their right choices, by the one reading of `target` that fits every `acc`.

    It may be an index or a text, and choices may be numbers; lm-eval logs no more than its string.
    """
    fitting = set()
    for read in (Question.by_index, Question.by_text, Question.by_accuracy):
        golds = [read(question) for question in questions]
        if all(q.fits(gold) for q, gold in zip(questions, golds, strict=True)):
            fitting.add(tuple(gold for gold in golds if gold is not None))
    if len(fitting) != 1:
        raise LeftOutError("neither target nor acc tells which one choice is right")
    return [replace(q.item, gold=g) for q, g in zip(questions, fitting.pop(), strict=True)]


def read_lines(file: Path, whole: bool = False) -> Iterator[bytes]:
    """A file's lines, or all of it as one."""
    try:
        if whole:
            check_size(file, LARGEST_JSON)
        with file.open("rb") as lines:
            yield from ([lines.read()] if whole else lines_of(lines, str(file)))
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror or error})") from error


def parse(kind: type[Parsed], text: bytes, where: str) -> Parsed:
    """JSON as a model; raises InputError with the first place that is wrong."""
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        problem = " ".join(f"{place}: {first['msg']}".removeprefix(": ").split())
        raise InputError(f"{where}: {problem}; is the file whole, and lm-eval's?") from None


def _question(sample: Sample, delimiter: str, where: str) -> Question:
    by_number = sorted(sample.arguments.items(), key=lambda pair: int(pair[0].split("_")[2]))
    requests = [request for _, request in by_number]
    scores = [score for score, _ in sample.filtered_resps]
    if not len(requests) == len(scores) > 0:
        raise InputError(
            f"{where}: {len(scores)} filtered_resps for {len(requests)} arguments; is it whole?"
        )
    unconditional = None
    if sample.acc_mutual_info is not None:
        count = len(scores) // 2
        if len(scores) % 2 or any(request.arg_0 for request in requests[count:]):
            raise InputError(f"{where}: acc_mutual_info, but no second half of empty contexts")
        requests, scores, unconditional = requests[:count], scores[:count], scores[count:]
    # lm-eval scores the white space that ends a context as the continuation's.
    texts = [r.arg_0[len(r.arg_0.rstrip()) :] + r.arg_1 for r in requests]
    item = item_scores(str(sample.doc_id), 0, texts, scores, [0] * len(texts), unconditional)
    if not all(item.bytes):
        raise LeftOutError("a choice is empty")
    choices = [request.arg_1.removeprefix(delimiter) for request in requests]
    return Question(item, str(sample.target), choices, sample.acc)


def _parts(place: str) -> list[str]:
    return [part for part in place.split("/") if part]


def _without_step(part: str) -> str:
    found = STEP.search(part)
    return part[: found.start()] if found else part


def _depth(name: str, place: str) -> int:
    """How many parts into a path a run's name ends, the deepest time; 0 where it is not there."""
    wanted, parts = _parts(name), _parts(place)
    for end in range(len(parts), len(wanted) - 1, -1):
        own = parts[end - len(wanted) : end]
        if own and wanted in (own, [*own[:-1], _without_step(own[-1])]):
            return end
    return 0
