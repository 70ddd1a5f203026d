"""The whole config of an experiment, read from YAML and written back."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_origin

import yaml
from pydantic import Field, ValidationError, model_validator

from evaluation.bounds import parse_yaml, read_yaml
from evaluation.files import InputError
from ladder.corpora.chain_settings import GraphCorpus, NgramCorpus
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

if TYPE_CHECKING:
    from ladder.plan import Rung

CONFIG_FOLDERS = (
    Path(__file__).parent / "configs",
    Path(__file__).parent.parent / "configs",
)
"""Where shipped configs lie: in an installed wheel, and in a checkout."""

CORPORA = {
    "walks": WalksCorpus,
    "graph": GraphCorpus,
    "ngram": NgramCorpus,
    "text": TextCorpus,
    "sampled": SampledCorpus,
}
"""Sections of corpora by their kind."""

AnyCorpus = WalksCorpus | GraphCorpus | NgramCorpus | TextCorpus | SampledCorpus
"""Where tokens come from, told apart by `kind`."""


RecipeName = Annotated[Name, Field(max_length=32)]
"""A recipe's name, short enough to be a part of a rung's."""


class Experiment(Section):
    """One experiment: corpus, models, ladder, targets, recipe, evaluation and prediction."""

    name: Name
    """Names the runs folder, runs/NAME."""
    seed: int = Field(0, ge=0)
    """Seed of initial weights and of the batches."""
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = ()
    """Seeds that every rung is trained with, in the place of `seed`; rungs are then named
    190M-5xC-s1. Recipes share initial weights and batches seed by seed."""
    corpus: AnyCorpus = Field(discriminator="kind")
    model: Model
    ladder: Ladder
    targets: tuple[TargetModel, ...] = ()
    """Models to be predicted."""
    recipe: Recipe = Recipe()
    recipes: dict[RecipeName, Recipe] = Field(default_factory=dict)
    """Recipes to compare, by name: each is `recipe` with the fields that it names changed, and
    trains a ladder and targets of its own, rungs named 190M-5xC-NAME."""
    execution: Execution = Execution()
    evaluation: Evaluation
    checkpoints: Checkpoints = Checkpoints()
    predict: Predict = Predict()
    cluster: Cluster = Cluster()
    tracking: Tracking = Tracking()

    @model_validator(mode="before")
    @classmethod
    def _fill_recipes(cls, document: Any) -> Any:
        """Put `recipe` under every one of `recipes`."""
        if not isinstance(document, dict) or not isinstance(document.get("recipes"), dict):
            return document
        base = document.get("recipe", {})
        try:
            Recipe.model_validate(base)
        except ValidationError:
            # What is wrong with the base is told once, not for every recipe.
            return {**document, "recipes": {}}
        base = base.model_dump() if isinstance(base, Recipe) else base
        # `adamw:` with nothing behind it changes nothing.
        changed = {k: _merged(base, own or {}) for k, own in document["recipes"].items()}
        return {**document, "recipes": changed}

    def of(self, rung: Rung) -> Experiment:
        """The experiment that trains a rung: of that rung's recipe and seed alone."""
        return self.only(rung.recipe, rung.seed)

    def only(self, recipe: str, seed: int) -> Experiment:
        """The experiment of one of the recipes, by name, or of the only one, and of one seed."""
        own = self.recipes.get(recipe, self.recipe)
        return self.model_copy(update={"recipe": own, "recipes": {}, "seed": seed, "seeds": ()})

    @model_validator(mode="after")
    def _coherent(self) -> Experiment:
        self._check_sizes()
        self._check_heads()
        self._check_recipes()
        return self

    def _check_sizes(self) -> None:
        base = (self.recipe.mup_base,) if self.recipe.mup_base else ()
        for size in (*self._sizes, *self.cluster.sizes, *base):
            if size not in self.model.sizes and size not in OLMO2_SHAPES:
                known = ", ".join(OLMO2_SHAPES)
                raise ValueError(f"size {size!r} is not among model.sizes, nor one of {known}")
            if reason := misfit(self.model.shape(size), self.model.built_as):
                raise ValueError(f"size {size} of the published ladder: {reason}; give its shape")

    def _check_heads(self) -> None:
        base = self.mup_base.summed_over if self.mup_base else {}
        for size in self._sizes if base else ():
            for kept, width in self.model.shape(size).summed_over.items():
                if width != base[kept]:
                    raise ValueError(
                        f"recipe.parametrisation mup: {kept} of size {size} is {width}, of the "
                        f"base {base[kept]}; make them equal, and let the number of heads grow"
                    )

    def _check_recipes(self) -> None:
        if len(set(self.seeds)) < len(self.seeds):
            doubled = next(s for s in self.seeds if self.seeds.count(s) > 1)
            raise ValueError(f"seeds: {doubled} is given twice")
        alike: dict[str, str] = {}
        for name, recipe in self.recipes.items():
            other = alike.setdefault(recipe.model_dump_json(), name)
            if other != name:
                raise ValueError(f"recipes: {other} and {name} are the same; change one")
            one = self.only(name, self.seed)
            try:
                one._check_sizes()
                one._check_heads()
            except ValueError as error:
                raise ValueError(f"recipes.{name}: {error}") from None

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
    document = read_yaml(path)
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
        section[last] = parse_yaml(value)
    except ValueError as error:
        raise InputError(f"--set {override}: {error}") from error


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
    named = False  # Whether the next part is a name that the user chose.
    for part in location:
        if isinstance(part, int) or section is None:
            continue
        if section is Experiment and part == "corpus" and kind:
            section = CORPORA[kind]
            continue
        if named:
            named = False
            continue
        field = section.model_fields.get(part)
        section = _section_of(field.annotation) if field is not None else section
        named = field is not None and get_origin(field.annotation) is dict
    return list(section.model_fields)


def _merged(base: Any, own: Any) -> Any:
    """`base` with what `own` names in its place, sections merged."""
    own = own.model_dump() if isinstance(own, Section) else own
    if not isinstance(base, dict) or not isinstance(own, dict):
        return own
    return {**base, **{k: _merged(base.get(k), v) for k, v in own.items()}}


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
