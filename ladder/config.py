"""The whole config of an experiment, read from YAML and written back."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, ValidationError, model_validator

from evaluation.files import InputError
from ladder.corpora.settings import SampledCorpus, TextCorpus, WalksCorpus
from ladder.section import Name, Section
from ladder.settings import (
    Checkpoints,
    Cluster,
    Evaluation,
    Execution,
    Ladder,
    Model,
    Predict,
    Recipe,
    TargetModel,
    Tracking,
)
from ladder.shapes import OLMO2_SHAPES, Shape, misfit

CONFIG_FOLDERS = (
    Path(__file__).parent / "configs",
    Path(__file__).parent.parent / "configs",
)
"""Where shipped configs lie: in an installed wheel, and in a checkout."""

CORPORA = {"walks": WalksCorpus, "text": TextCorpus, "sampled": SampledCorpus}
"""Sections of corpora by their kind."""

AnyCorpus = WalksCorpus | TextCorpus | SampledCorpus
"""Where tokens come from, told apart by `kind`."""


class Experiment(Section):
    """One experiment: corpus, models, ladder, targets, recipe, evaluation and prediction."""

    name: Name
    """Names the runs folder, runs/NAME."""
    seed: int = Field(0, ge=0)
    """Seed of initial weights and of the batches."""
    corpus: AnyCorpus = Field(discriminator="kind")
    model: Model
    ladder: Ladder
    targets: tuple[TargetModel, ...] = ()
    """Models to be predicted."""
    recipe: Recipe = Recipe()
    execution: Execution = Execution()
    evaluation: Evaluation
    checkpoints: Checkpoints = Checkpoints()
    predict: Predict = Predict()
    cluster: Cluster = Cluster()
    tracking: Tracking = Tracking()

    @model_validator(mode="after")
    def _sizes_known(self) -> Experiment:
        base = (self.recipe.mup_base,) if self.recipe.mup_base else ()
        for size in (*self._sizes, *self.cluster.sizes, *base):
            if size not in self.model.sizes and size not in OLMO2_SHAPES:
                known = ", ".join(OLMO2_SHAPES)
                raise ValueError(f"size {size!r} is not among model.sizes, nor one of {known}")
            if reason := misfit(self.model.shape(size), self.model.built_as):
                raise ValueError(f"size {size} of the published ladder: {reason}; give its shape")
        return self

    @model_validator(mode="after")
    def _heads_alike(self) -> Experiment:
        base = self.mup_base.summed_over if self.mup_base else {}
        for size in self._sizes if base else ():
            for kept, width in self.model.shape(size).summed_over.items():
                if width != base[kept]:
                    raise ValueError(
                        f"recipe.parametrisation mup: {kept} of size {size} is {width}, of the "
                        f"base {base[kept]}; make them equal, and let the number of heads grow"
                    )
        return self

    @property
    def _sizes(self) -> tuple[str, ...]:
        return (*self.ladder.sizes, *(target.size for target in self.targets))

    @property
    def mup_base(self) -> Shape | None:
        """The shape whose learning rate and initial weights others take; None without muP."""
        if self.recipe.parametrisation == "standard":
            return None
        if self.recipe.mup_base:
            return self.model.shape(self.recipe.mup_base)
        return min((self.model.shape(size) for size in self.ladder.sizes), key=lambda s: s.width)


MEANS: dict[str, Any] = {
    "cluster": True,
    "checkpoints": True,
    "tracking": True,
    "execution": {
        "parallel",
        "micro_batch",
        "activation_checkpointing",
        "peak_flops",
        "compile",
        "attention",
        "skip_non_finite",
    },
}
"""Settings that change no result, or its last digits only, so that a ladder may go on with others:
fewer GPUs, smaller micro-batches, another partition."""


def find_config(name: str) -> Path:
    """The file of that path, or of a shipped config of that name; InputError where neither is."""
    path = Path(name)
    if path.is_file():
        return path
    shipped = shipped_configs()
    if path.name == name and path.stem in shipped:
        return shipped[path.stem]
    raise InputError(f"{name}: no such file; shipped configs are {', '.join(shipped)}")


def shipped_configs() -> dict[str, Path]:
    """Files of the configs that come with task-ladder, by name."""
    folder = next(folder for folder in CONFIG_FOLDERS if folder.is_dir())
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


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
    """`key: old -> new` for every setting that differs and has a say in the results."""
    before, after = (_flat(config.model_dump(mode="json", exclude=MEANS)) for config in (old, new))
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
    kind, location = _without_kind(problem["loc"])
    where = ".".join(map(str, location)) or "the config"
    more = error.error_count() - 1
    rest = f" (and {more} more)" if more else ""
    if problem["type"] == "extra_forbidden":
        known = _known_keys(location[:-1], kind)
        near = difflib.get_close_matches(str(problem["loc"][-1]), known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
        return f"{where}: unknown key; {hint}{rest}"
    if problem["type"] == "missing":
        return f"{where}: is missing; add it{rest}"
    if problem["type"] in ("union_tag_invalid", "union_tag_not_found"):
        return f"{where}.kind: must be one of {', '.join(CORPORA)}{rest}"
    given = problem["input"]
    shown = "" if isinstance(given, (dict, list, Section)) else f" (given {given!r})"
    return f"{where}: {problem['msg'].removeprefix('Value error, ')}{shown}{rest}"


def _without_kind(location: tuple[int | str, ...]) -> tuple[str, tuple[int | str, ...]]:
    """The kind of corpus that pydantic puts into the path of a problem, and the path without it."""
    if location[:1] == ("corpus",) and len(location) > 1 and location[1] in CORPORA:
        return str(location[1]), (location[0], *location[2:])
    return "", location


def _known_keys(location: tuple[int | str, ...], kind: str) -> list[str]:
    section: Any = Experiment
    for part in location:
        if isinstance(part, int) or section is None:
            continue
        if section is Experiment and part == "corpus" and kind:
            section = CORPORA[kind]
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
