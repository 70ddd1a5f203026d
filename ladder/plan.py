"""Sizes x multiples -> rungs with their hyperparameters, FLOPs and cost; no torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from evaluation.files import InputError
from ladder import recipe
from ladder.config import Experiment, TargetModel
from ladder.shapes import Shape, count_params, embedding_params, flops_per_token
from predict.task_fit import Target


@dataclass(frozen=True)
class Rung:
    """One run of the ladder, or a target, with everything that follows from size and tokens."""

    name: str
    role: str
    """`ladder` or `target`."""
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
    """Training FLOPs by the published formula of the architecture."""
    flops_6nd: float
    flops_per_token: int
    batch_sequences: int
    sequence_length: int
    learning_rate: float
    """Peak."""
    warmup_steps: int
    steps: int

    @property
    def batch_tokens(self) -> int:
        """Tokens of one optimizer step."""
        return self.batch_sequences * self.sequence_length

    def observed(self, step: int, seed: int) -> dict[str, Any]:
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
            "seed": seed,
            "batch_tokens": self.batch_tokens,
            "params_total": self.params_total,
        }

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


@dataclass(frozen=True)
class Plan:
    """The rungs, in the config's order, and the targets."""

    rungs: tuple[Rung, ...]
    targets: tuple[Rung, ...]

    @property
    def runs(self) -> tuple[Rung, ...]:
        """Everything that is trained: the rungs, then the targets to be trained."""
        return (*self.rungs, *(t for t in self.targets if t.train))

    @property
    def ladder_flops(self) -> float:
        """FLOPs of all rungs together."""
        return sum(r.flops for r in self.rungs)

    @property
    def share_of_target(self) -> dict[str, float]:
        """The ladder's FLOPs as a share of each target's, both by 6ND."""
        ladder = sum(r.flops_6nd for r in self.rungs)
        return {t.name: ladder / t.flops_6nd for t in self.targets}

    def as_targets(self) -> list[Target]:
        """The targets as predict knows them."""
        return [Target(t.name, t.params, t.tokens) for t in self.targets]

    def run(self, name: str) -> Rung:
        """The run of that name; raises InputError with the names there are."""
        for rung in self.runs:
            if rung.name == name:
                return rung
        names = ", ".join(r.name for r in self.runs)
        raise InputError(f"rung {name!r}: not trained by this config; there are {names}")


def make_plan(config: Experiment) -> Plan:
    """All rungs and targets of an experiment; raises InputError where two share a name."""
    rungs = tuple(
        _rung(config, size, multiple, "ladder", True)
        for size in config.ladder.sizes
        for multiple in config.ladder.multiples
    )
    targets = tuple(_target(config, target) for target in config.targets)
    seen: set[str] = set()
    for rung in (*rungs, *targets):
        if rung.name in seen:
            raise InputError(f"{rung.name}: planned twice; keep one of ladder and targets")
        seen.add(rung.name)
    return Plan(rungs, targets)


def _target(config: Experiment, target: TargetModel) -> Rung:
    """A target: as a rung, but for what it brings of its own."""
    rung = _rung(config, target.size, target.multiple or 1.0, "target", target.train)
    tokens = target.tokens or rung.tokens
    sequences = target.batch_sequences or _sequences(config, rung.params, tokens)
    steps = recipe.steps(tokens, sequences * rung.sequence_length)
    warmup = target.warmup_steps
    if warmup is None:
        warmup = _warmup(config, rung.params, sequences * rung.sequence_length, steps)
    return replace(
        rung,
        name=target.name or rung.name,
        tokens=tokens,
        flops=float(rung.flops_per_token * tokens),
        flops_6nd=6.0 * rung.params * tokens,
        batch_sequences=sequences,
        learning_rate=target.learning_rate or rung.learning_rate,
        warmup_steps=warmup,
        steps=steps,
    )


def _sequences(config: Experiment, params: int, tokens: int) -> int:
    if config.recipe.batch_rule == "params":
        return recipe.batch_sequences_by_params(
            params, config.model.sequence_length, config.recipe.batch_divisor
        )
    return recipe.batch_sequences(tokens, config.recipe.batch_divisor)


def _warmup(config: Experiment, params: int, batch_tokens: int, steps: int) -> int:
    if config.recipe.warmup_rule == "params":
        return recipe.warmup_steps_by_params(params, batch_tokens)
    return recipe.warmup_steps(steps, config.recipe.warmup)


def _learning_rate(config: Experiment, params: int, width: int) -> float:
    base = config.recipe.learning_rate_base
    if config.recipe.learning_rate_rule == "params":
        return recipe.learning_rate_by_params(params, config.model.sequence_length, base)
    return recipe.learning_rate(width, base)


def _rung(config: Experiment, size: str, multiple: float, role: str, train: bool) -> Rung:
    model, vocabulary = config.model, config.corpus.vocabulary_size
    shape = model.shape(size)
    params = count_params(shape, vocabulary, model.architecture)
    tokens = recipe.chinchilla_tokens(params, multiple, config.ladder.tokens_per_param)
    if tokens < model.sequence_length:
        raise InputError(
            f"{size}-{multiple:g}xC: {tokens} tokens are less than one sequence of "
            f"{model.sequence_length}; raise the multiple or tokens_per_param"
        )
    sequences = _sequences(config, params, tokens)
    steps = recipe.steps(tokens, sequences * model.sequence_length)
    per_token = flops_per_token(shape, vocabulary, model.sequence_length, model.architecture)
    return Rung(
        name=f"{size}-{multiple:g}xC",
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
        learning_rate=_learning_rate(config, params, shape.width),
        warmup_steps=_warmup(config, params, sequences * model.sequence_length, steps),
        steps=steps,
    )
