"""Typed configuration of an experiment, read from YAML; every field says its unit and source."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from evaluation.files import InputError

CONFIG_FOLDERS = (
    Path(__file__).parent / "configs",
    Path(__file__).parent.parent / "configs",
)
"""Where shipped configs lie: in an installed wheel, and in a checkout."""

WALKS_VALIDATION = "walks_validation"
"""Name of the walks' held-out loss in the observations table, nats per token."""

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=64)]
"""A name that is safe as a folder's or a file's."""


Share = Annotated[float, Field(ge=0, lt=1)]
"""At least 0 and below 1."""


class Section(BaseModel):
    """Base of every section: frozen, unknown keys refused, field docstrings kept."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False
    )


class WalkTask(Section):
    """A multiple-choice task on the walk: which node comes next."""

    name: Name
    """The task's name in the observations table."""
    choices: int = Field(ge=2, le=64)
    """Choices of an item, the right one included."""
    answer_rank: tuple[int, int]
    """The right answer is drawn from the next nodes of these ranks by likelihood, both included."""
    ratio: tuple[float, float]
    """A distractor is between so many times less likely than the answer."""
    items: int = Field(1000, ge=1)
    """Items of the task."""

    @model_validator(mode="after")
    def _ordered(self) -> WalkTask:
        if not 1 < self.ratio[0] < self.ratio[1]:
            raise ValueError("ratio must be [low, high] with 1 < low < high")
        if not 1 <= self.answer_rank[0] <= self.answer_rank[1]:
            raise ValueError("answer_rank must be [first, last] with 1 <= first <= last")
        return self


class WalksCorpus(Section):
    """Random walks on a complete weighted graph whose entropy rate is known exactly."""

    kind: Literal["walks"]
    nodes: int = Field(256, ge=8, le=65536)
    """Nodes of the graph, the vocabulary."""
    decay: float = Field(1.0, gt=0)
    """Power at which the singular values of the log-weights fall: the dial of complexity."""
    gain: float = Field(2.0, gt=0)
    """Scale of the log-weights, nats; larger makes walks more predictable."""
    seed: int = Field(0, ge=0)
    """Seed of the graph and of the tasks."""
    validation_walks: int = Field(256, ge=1)
    """Held-out walks on which the expected loss is taken."""
    context: int = Field(8, ge=1)
    """Nodes of a task item's context."""
    tasks: tuple[WalkTask, ...] = ()
    """Tasks that the corpus writes."""

    @model_validator(mode="after")
    def _names_differ(self) -> WalksCorpus:
        names = [task.name for task in self.tasks]
        if len(set(names)) < len(names):
            raise ValueError("two tasks have the same name")
        if WALKS_VALIDATION in names:
            raise ValueError(f"{WALKS_VALIDATION} is the held-out loss's name; choose another")
        if any(task.answer_rank[1] > self.nodes for task in self.tasks):
            raise ValueError("a task's answer_rank is beyond the graph's nodes")
        return self


class Shape(Section):
    """Shape of a model."""

    layers: int = Field(ge=1, le=10_000)
    """Transformer blocks."""
    width: int = Field(ge=2, le=1_000_000)
    """Width of the residual stream, d."""
    heads: int = Field(ge=1)
    """Attention heads; width / heads is a head's width, even for rotary embeddings."""
    hidden: int = Field(ge=1, le=10_000_000)
    """Width of the SwiGLU hidden layer."""

    @model_validator(mode="after")
    def _divisible(self) -> Shape:
        if self.width % (2 * self.heads):
            raise ValueError(f"width {self.width} must be an even multiple of heads {self.heads}")
        return self


class Model(Section):
    """Architecture and sizes."""

    architecture: Literal["olmo2"] = "olmo2"
    """Hugging Face architecture; olmo2 has RMSNorm after each block, QK-norm, RoPE, SwiGLU."""
    sequence_length: int = Field(ge=2)
    """Tokens of a training sequence, S."""
    sizes: dict[Name, Shape]
    """Shapes by name, `190M`; rungs are named SIZE-MULTIPLExC."""
    embedding_std: float = Field(1.0, gt=0)
    """Initial standard deviation of the input embedding; for the quick start's tiny models."""
    head_scale: float = Field(0.3, gt=0)
    """The output head starts at this times 1/sqrt(width), other matrices at 1/sqrt(fan-in)."""


class Ladder(Section):
    """Which rungs are trained."""

    sizes: tuple[Name, ...] = Field(min_length=1)
    """Names of the sizes to train."""
    multiples: tuple[Annotated[float, Field(gt=0, le=1e6)], ...] = Field(min_length=1)
    """Tokens as multiples of Chinchilla-optimal, 1xC = tokens_per_param x N."""
    tokens_per_param: float = Field(20, ge=1e-3, le=1e6)
    """Tokens per parameter at 1xC (arXiv 2412.04403, section 2)."""


class TargetModel(Section):
    """A model to be predicted; trained too, last, if `train` is set."""

    size: Name
    """One of the model's sizes."""
    multiple: float = Field(gt=0, le=1e6)
    """Tokens as a multiple of Chinchilla-optimal."""
    train: bool = False
    """Whether `ladder run` trains it, after the rungs, so that the audit has an actual."""


class Recipe(Section):
    """How a rung is trained."""

    batch_divisor: float = Field(60, ge=1e-3, le=1e9)
    """Batch in sequences = sqrt(tokens) / this, see ladder.recipe.batch_sequences."""
    learning_rate_base: float = Field(0.2, gt=0, le=1e9)
    """Peak learning rate = this / sqrt(width), see ladder.recipe.learning_rate."""
    warmup: float = Field(0.1, ge=0, lt=1)
    """Share of the steps in which the learning rate rises linearly from 0."""
    schedule: Literal["linear", "cosine"] = "linear"
    """How the learning rate falls after warm-up."""
    final_learning_rate: float = Field(0.0, ge=0, le=1)
    """Learning rate at the end, as a share of the peak."""
    betas: tuple[Share, Share] = (0.9, 0.95)
    """AdamW's betas (arXiv 2412.04403, code)."""
    eps: float = Field(1e-8, gt=0)
    """AdamW's epsilon."""
    weight_decay: float = Field(0.1, ge=0)
    """AdamW's decay, on matrices except embeddings."""
    gradient_clip: float = Field(1.0, gt=0)
    """Largest l2 norm of the gradient."""


class Evaluation(Section):
    """When a rung is scored while it trains."""

    at: tuple[float, ...] = Field(min_length=1)
    """Shares of the run after which it is scored; the end is added."""

    @model_validator(mode="after")
    def _shares(self) -> Evaluation:
        if not all(0 < share <= 1 for share in self.at):
            raise ValueError("at must hold shares of the run, above 0 and at most 1")
        return self


class Predict(Section):
    """How the ladder's prediction is made."""

    method: str = "default"
    """Name of a method in predict.methods."""


class Experiment(Section):
    """One experiment: corpus, models, ladder, targets, recipe, evaluation and prediction."""

    name: Name
    """Names the runs folder, runs/NAME."""
    seed: int = Field(0, ge=0)
    """Seed of initial weights and of the batches."""
    corpus: WalksCorpus
    model: Model
    ladder: Ladder
    targets: tuple[TargetModel, ...] = ()
    """Models to be predicted."""
    recipe: Recipe = Recipe()
    evaluation: Evaluation
    checkpoint_steps: int = Field(200, ge=1)
    """Steps between checkpoints; one more is saved wherever the run is scored."""
    predict: Predict = Predict()

    @model_validator(mode="after")
    def _sizes_known(self) -> Experiment:
        for size in (*self.ladder.sizes, *(target.size for target in self.targets)):
            if size not in self.model.sizes:
                raise ValueError(f"size {size!r} is not among model.sizes")
        return self


def find_config(name: str) -> Path:
    """The file of that path, or of a shipped config of that name; InputError where neither is."""
    path = Path(name)
    if path.is_file():
        return path
    folder = next(folder for folder in CONFIG_FOLDERS if folder.is_dir())
    shipped = {p.stem: p for p in sorted(folder.glob("*.yaml"))}
    if path.name == name and path.stem in shipped:
        return shipped[path.stem]
    raise InputError(f"{name}: no such file; shipped configs are {', '.join(shipped)}")


def load_config(name: str, overrides: tuple[str, ...] = ()) -> Experiment:
    """Read a config by path or shipped name, with `key.key=value` overrides on top.

    Raises InputError naming the file, the key and the nearest known key.
    """
    path = find_config(name)
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not readable as YAML ({_one_line(error)})") from error
    if not isinstance(document, dict):
        raise InputError(f"{path}: must hold keys and values, such as name: quickstart")
    for override in overrides:
        _override(document, override)
    return parse_config(document, str(path))


def parse_config(document: dict[str, Any], source: str) -> Experiment:
    """Check a document against the schema; raises InputError, one line for the first problem."""
    try:
        return Experiment.model_validate(document)
    except ValidationError as error:
        raise InputError(f"{source}: {_first_problem(error)}") from None


def differences(old: Experiment, new: Experiment) -> list[str]:
    """`key: old -> new` for every setting that differs."""
    before, after = _flat(old.model_dump(mode="json")), _flat(new.model_dump(mode="json"))
    keys = [*before, *(k for k in after if k not in before)]
    return [
        f"{k}: {before.get(k, 'absent')} -> {after.get(k, 'absent')}"
        for k in keys
        if before.get(k) != after.get(k)
    ]


def dump_config(config: Experiment) -> str:
    """The config as YAML, every default written out."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)


def _override(document: dict[str, Any], override: str) -> None:
    key, sign, value = override.partition("=")
    if not sign or not key:
        raise InputError(f"--set {override}: must read KEY=VALUE, such as corpus.seed=1")
    *parents, last = key.split(".")
    section = document
    for parent in parents:
        section = section.setdefault(parent, {})
        if not isinstance(section, dict):
            raise InputError(f"--set {override}: {parent!r} is no section")
    try:
        section[last] = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise InputError(f"--set {override}: {_one_line(error)}") from error


def _first_problem(error: ValidationError) -> str:
    problem = error.errors()[0]
    where = ".".join(map(str, problem["loc"])) or "the config"
    more = error.error_count() - 1
    rest = f" (and {more} more)" if more else ""
    if problem["type"] == "extra_forbidden":
        known = _known_keys(problem["loc"][:-1])
        near = difflib.get_close_matches(str(problem["loc"][-1]), known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
        return f"{where}: unknown key; {hint}{rest}"
    if problem["type"] == "missing":
        return f"{where}: is missing; add it{rest}"
    given = problem["input"]
    shown = "" if isinstance(given, (dict, list, Section)) else f" (given {given!r})"
    return f"{where}: {problem['msg'].removeprefix('Value error, ')}{shown}{rest}"


def _known_keys(location: tuple[int | str, ...]) -> list[str]:
    section: Any = Experiment
    for part in location:
        if isinstance(part, int) or section is None:
            continue
        field = section.model_fields.get(part)
        section = _section_of(field.annotation) if field is not None else section
    return list(section.model_fields)


def _section_of(annotation: Any) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    for inner in getattr(annotation, "__args__", ()):
        if (found := _section_of(inner)) is not None:
            return found
    return None


def _flat(document: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(document, dict) and document:
        return {
            k: v
            for name, value in document.items()
            for k, v in _flat(value, f"{prefix}.{name}" if prefix else str(name)).items()
        }
    if isinstance(document, list) and any(isinstance(x, dict) for x in document):
        return {
            k: v
            for i, value in enumerate(document)
            for k, v in _flat(value, f"{prefix}.{i}").items()
        }
    return {prefix: document}


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
