"""Sizes x multiples -> rungs with their hyperparameters, FLOPs and cost; no torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatchcase
from typing import Any

from evaluation.files import InputError, is_file_name
from ladder import recipe
from ladder.config import Experiment
from ladder.settings import TargetModel
from ladder.shapes import Shape, count_params, embedding_params, flops_per_token
from predict.task_fit import Target


@dataclass(frozen=True)
class Rung:
    """One run of the ladder, or a target, with everything that follows from size and tokens."""

    name: str
    role: str
    """`ladder`, `target`, or `extra` for a trunk."""
    train: bool
    """Whether `ladder run` trains it."""
    size: str
    shape: Shape
    params: int
    """N: every parameter but the input embedding."""
    params_total: int
    tokens: int
    """D, as planned; the steps' tokens may exceed it by less than one batch."""
    flops: float
    """Training FLOPs by the published formula of the architecture, those of its trunk included."""
    flops_6nd: float
    flops_per_token: int
    batch_sequences: int
    sequence_length: int
    learning_rate: float
    """Peak."""
    warmup_steps: int
    steps: int
    """Its last step, counted from the trunk's first."""
    schedule: str
    """How the learning rate falls (ladder.recipe.scheduled)."""
    trunk: Rung | None = None
    """The run that it goes on from, whose weights and batches it shares until then."""
    branch_step: int = 0
    """The trunk's step after which it goes on."""
    branches: tuple[int, ...] = ()
    """Of a trunk: the steps after which others go on."""
    recipe: str = ""
    """Its recipe's name; empty where the config has one recipe."""
    seed: int = 0
    ending: str = ""
    """What its name ends in for its recipe and seed (run_ending)."""

    @property
    def batch_tokens(self) -> int:
        """Tokens of one optimizer step."""
        return self.batch_sequences * self.sequence_length

    @property
    def stream(self) -> str:
        """What draws its initial weights and batches: its place or the trunk's, for all recipes."""
        return self.trunk.place if self.trunk else self.place

    @property
    def place(self) -> str:
        """Its name without recipe and seed, which all recipes and seeds of a rung share."""
        return self.name.removesuffix(self.ending)

    @property
    def share(self) -> float:
        """Share of its FLOPs that it costs, its trunk's left out."""
        return 1 - self.branch_step * self.batch_tokens / self.tokens

    def observed(self, step: int) -> dict[str, Any]:
        """What a row of observations says of the run after `step`."""
        tokens = step * self.batch_tokens
        return {
            "run": self.name,
            "role": self.role,
            "params": self.params,
            "tokens": tokens,
            "flops": float(self.flops_per_token) * tokens,
            "step": step,
            "final": step == self.steps,
            **self.origin,
            "batch_tokens": self.batch_tokens,
            "params_total": self.params_total,
        }

    @property
    def origin(self) -> dict[str, Any]:
        """Its seed and, where the config has several, its recipe."""
        return {**({"recipe": self.recipe} if self.recipe else {}), "seed": self.seed}

    def describe(self) -> dict[str, Any]:
        """The fields that `ladder plan --json` promises."""
        own = asdict(self)
        return {k: own[k] for k in PLAN_FIELDS}


PLAN_FIELDS = (
    "name",
    "params",
    "tokens",
    "flops",
    "flops_6nd",
    "flops_per_token",
    "batch_sequences",
    "learning_rate",
    "warmup_steps",
    "steps",
)


OWN_NAMES = frozenset(
    [
        "audit",
        "comparison",
        "config",
        "corpus",
        "exponents",
        "figures",
        "observations",
        "predictions",
        "recipes",
        "report",
        "slurm",
        "tasks",
    ]
)
"""Files and folders of a runs folder, which no run's folder may be."""

MOST_NAMES = 20
"""Runs that an error names."""


@dataclass(frozen=True)
class Plan:
    """The rungs, in the config's order, the targets, and the trunks that rungs go on from."""

    rungs: tuple[Rung, ...]
    targets: tuple[Rung, ...]
    trunks: tuple[Rung, ...] = ()

    @property
    def runs(self) -> tuple[Rung, ...]:
        """Everything that is trained: trunks, the rungs, then the targets to be trained."""
        return (*self.trunks, *self.rungs, *(t for t in self.targets if t.train))

    @property
    def ladder_flops(self) -> float:
        """FLOPs that training all rungs costs; what a trunk trains for several counts once."""
        return sum(r.flops * r.share for r in (*self.trunks, *self.rungs))

    @property
    def separate_flops(self) -> float:
        """FLOPs of the rungs if each were trained from its first step."""
        return sum(r.flops for r in self.rungs)

    @property
    def share_of_target(self) -> dict[str, float]:
        """The FLOPs of a target's ladder, all its seeds, as a share of the target's by 6ND."""
        ladders = dict.fromkeys((t.recipe for t in self.targets), 0.0)
        for rung in (*self.trunks, *self.rungs):
            if rung.recipe in ladders:
                ladders[rung.recipe] += rung.flops_6nd * rung.share
        return {t.name: ladders[t.recipe] / t.flops_6nd for t in self.targets}

    @property
    def recipes(self) -> tuple[str, ...]:
        """The recipes' names, an empty one where the config has one recipe."""
        return tuple(dict.fromkeys(rung.recipe for rung in self.rungs))

    def of_recipe(self, name: str) -> Plan:
        """What belongs to one of the recipes."""

        def own(runs: Iterable[Rung]) -> tuple[Rung, ...]:
            return tuple(run for run in runs if run.recipe == name)

        return Plan(own(self.rungs), own(self.targets), own(self.trunks))

    def as_targets(self) -> list[Target]:
        """The targets as predict knows them."""
        return [Target(t.name, t.params, t.tokens) for t in self.targets]

    def matching(self, patterns: Sequence[str]) -> list[Rung]:
        """The runs whose names match a pattern; InputError for one that matches none."""
        found: list[Rung] = []
        for pattern in patterns:
            own = [run for run in self.runs if fnmatchcase(run.name, pattern)]
            found += own or [self.run(pattern)]
        return list(dict.fromkeys(found))

    def run(self, name: str) -> Rung:
        """The run of that name; raises InputError with the names there are."""
        for rung in self.runs:
            if rung.name == name:
                return rung
        names = ", ".join(r.name for r in self.runs[:MOST_NAMES])
        more = len(self.runs) - MOST_NAMES
        names += f" and {more} more" if more > 0 else ""
        raise InputError(f"rung {name!r}: not trained by this config; there are {names}")


def make_plan(config: Experiment) -> Plan:
    """All rungs and targets of an experiment; raises InputError where two share a name."""
    rungs: list[Rung] = []
    trunks: list[Rung] = []
    targets: list[Rung] = []
    seeds = config.seeds or (config.seed,)
    for recipe_name in config.recipes or ("",):
        for seed in seeds:
            own = config.only(recipe_name, seed)
            ending = run_ending(recipe_name, seed if config.seeds else None)
            for size in config.ladder.sizes:
                trunk, branches = _of_size(own, size)
                trunks += [_named(trunk, recipe_name, ending)] if trunk else []
                rungs += [_named(rung, recipe_name, ending) for rung in branches]
            # What is not trained has no seed.
            targets += [
                _named(_target(own, t), recipe_name, ending if t.train else run_ending(recipe_name))
                for t in config.targets
                if t.train or seed == seeds[0]
            ]
    seen: set[str] = set()
    for rung in (*trunks, *rungs, *targets):
        if rung.name in seen:
            raise InputError(f"{rung.name}: planned twice; keep one of ladder and targets")
        if not is_file_name(rung.name) or rung.name.partition(".")[0] in OWN_NAMES:
            raise InputError(f"{rung.name}: is a name of the runs folder's own; choose another")
        seen.add(rung.name)
    return Plan(tuple(rungs), tuple(targets), tuple(trunks))


def run_ending(recipe_name: str, seed: int | None = None) -> str:
    """What a run's name ends in, behind its place: `-muon-s1`."""
    return (f"-{recipe_name}" if recipe_name else "") + ("" if seed is None else f"-s{seed}")


def _named(rung: Rung, recipe_name: str, ending: str) -> Rung:
    trunk = None if rung.trunk is None else _named(rung.trunk, recipe_name, ending)
    name = rung.name + ending
    return replace(rung, name=name, ending=ending, recipe=recipe_name, trunk=trunk)


def _of_size(config: Experiment, size: str) -> tuple[Rung | None, list[Rung]]:
    """A size's rungs, and under wsd the trunk that they branch from."""
    ladder = config.ladder
    asked = [(f"{size}-{m:g}xC", _tokens(config, size, m)) for m in ladder.multiples]
    asked += [(f"{size}-{short_count(tokens)}t", tokens) for tokens in ladder.tokens]
    every = [tokens for _, tokens in asked]
    rungs = [_rung(config, size, name, tokens, "ladder", True, every) for name, tokens in asked]
    if config.recipe.schedule != "wsd" or len(rungs) == 1:
        return None, rungs
    begins = [
        recipe.decay_begin(rung.steps, rung.warmup_steps, config.recipe.decay) for rung in rungs
    ]
    longest, steps = max(rungs, key=lambda rung: rung.steps), max(begins)
    if steps == 0:
        return None, rungs
    tokens = steps * longest.batch_tokens
    trunk = replace(
        longest,
        name=f"{size}-trunk",
        role="extra",
        tokens=tokens,
        flops=float(longest.flops_per_token * tokens),
        flops_6nd=6.0 * longest.params * tokens,
        steps=steps,
        schedule="constant",
        branches=tuple(sorted({begin for begin in begins if begin})),
    )
    return trunk, [
        replace(rung, trunk=trunk, branch_step=begin) if begin else rung
        for rung, begin in zip(rungs, begins, strict=True)
    ]


def _target(config: Experiment, target: TargetModel) -> Rung:
    """A target: as a rung, but for what it brings of its own."""
    tokens = target.tokens or _tokens(config, target.size, target.multiple or 1.0)
    name = target.name or f"{target.size}-{target.multiple:g}xC"
    rung = _rung(config, target.size, name, tokens, "target", target.train)
    sequences = target.batch_sequences or _sequences(config, rung.params, tokens)
    steps = recipe.steps(tokens, sequences * rung.sequence_length)
    warmup = target.warmup_steps
    if warmup is None:
        warmup = _warmup(config, rung.params, sequences * rung.sequence_length, steps)
    return replace(
        rung,
        batch_sequences=sequences,
        learning_rate=target.learning_rate or rung.learning_rate,
        warmup_steps=warmup,
        steps=steps,
    )


def short_count(count: int) -> str:
    """A count as a run's name has it: 10M, 1.5M, 300K, 999."""
    for unit, letter in ((10**12, "T"), (10**9, "B"), (10**6, "M"), (10**3, "K")):
        if count >= unit:
            return f"{count / unit:.15g}{letter}"
    return str(count)


def _tokens(config: Experiment, size: str, multiple: float) -> int:
    """Tokens of a multiple of Chinchilla-optimal."""
    shape, vocabulary = config.model.shape(size), config.corpus.vocabulary_size
    params = count_params(shape, vocabulary, config.model.built_as)
    return recipe.chinchilla_tokens(params, multiple, config.ladder.tokens_per_param)


def _sequences(config: Experiment, params: int, tokens: int) -> int:
    if config.recipe.batch_sequences is not None:
        return config.recipe.batch_sequences
    if config.recipe.batch_rule == "params":
        return recipe.batch_sequences_by_params(
            params, config.model.sequence_length, config.recipe.batch_divisor
        )
    return recipe.batch_sequences(tokens, config.recipe.batch_divisor)


def _warmup(config: Experiment, params: int, batch_tokens: int, steps: int) -> int:
    if config.recipe.warmup_rule == "params":
        return recipe.warmup_steps_by_params(params, batch_tokens)
    return recipe.warmup_steps(steps, config.recipe.warmup)


def learning_rate(config: Experiment, shape: Shape) -> float:
    """The peak learning rate of a size by the recipe's rule; under muP that of the base."""
    shape, base = config.mup_base or shape, config.recipe.learning_rate_base
    if config.recipe.learning_rate_rule == "params":
        params = count_params(shape, config.corpus.vocabulary_size, config.model.built_as)
        return recipe.learning_rate_by_params(params, config.model.sequence_length, base)
    return recipe.learning_rate(shape.width, base)


def _rung(
    config: Experiment,
    size: str,
    name: str,
    tokens: int,
    role: str,
    train: bool,
    every: Sequence[int] = (),
) -> Rung:
    """A run of a size; `every` are the tokens of the rungs it shares a trunk with under wsd."""
    model, vocabulary = config.model, config.corpus.vocabulary_size
    shape = model.shape(size)
    params = count_params(shape, vocabulary, model.built_as)
    shortest = longest = tokens
    if tokens < model.sequence_length:
        raise InputError(
            f"{name}: {tokens} tokens are less than one sequence of {model.sequence_length}; raise "
            f"the {'tokens' if config.ladder.tokens else 'multiple or tokens_per_param'}"
        )
    if config.recipe.schedule == "wsd" and every:
        shortest, longest = min(every), max(every)
    sequences = _sequences(config, params, recipe.trunk_tokens(shortest, longest))
    batch_tokens = sequences * model.sequence_length
    per_token = flops_per_token(shape, vocabulary, model.sequence_length, model.built_as)
    return Rung(
        name=name,
        role=role,
        train=train,
        size=size,
        shape=shape,
        params=params,
        params_total=params + embedding_params(shape, vocabulary),
        tokens=tokens,
        flops=float(per_token * tokens),
        flops_6nd=6.0 * params * tokens,
        flops_per_token=per_token,
        batch_sequences=sequences,
        sequence_length=model.sequence_length,
        learning_rate=learning_rate(config, shape),
        # No trunk may still be warming up where the first rung leaves it.
        warmup_steps=_warmup(config, params, batch_tokens, recipe.steps(shortest, batch_tokens)),
        steps=recipe.steps(tokens, batch_tokens),
        schedule=config.recipe.schedule,
        seed=config.seed,
    )
