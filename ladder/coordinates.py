"""The coordinate check: how the size of activations and of their changes goes with width."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
import torch

from evaluation.files import InputError
from ladder.config import Experiment
from ladder.corpora import Corpus
from ladder.model import build_model, freeze_norms
from ladder.mup import factors
from ladder.optim import build_optimizers
from ladder.parallel import Parallel, blocks, joined
from ladder.plan import learning_rate
from ladder.section import Section
from ladder.shapes import Shape
from ladder.step import LossModel, optimizer_step
from ladder.train import run_seed
from predict.watch import each

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import nn
    from transformers import PreTrainedModel

Quantity = Literal["initial", "change"]

CHILDREN = {
    "self_attn": "attention",
    "attention": "attention",
    "mamba": "mixer",
    "mixer": "mixer",
    "mlp": "feed-forward",
    "feed_forward": "feed-forward",
}
"""Kinds of modules by their name in a block."""

FINAL_NORMS = ("norm", "final_layernorm", "final_layer_norm", "norm_f")
"""Names of the norm before the output head."""


@dataclass(frozen=True)
class Coordinate:
    """One kind of module, at every width."""

    module: str
    """embedding, attention, mixer, feed-forward, residual (after a block), final norm or logits."""
    quantity: Quantity
    """initial: the output at the first step; change: by how much training moved it since."""
    rms: tuple[float, ...]
    """Root mean square over positions, channels and layers, geometric mean over seeds, by width."""
    slope: float
    """Of log rms in log width, least squares; 0: does not depend on width."""


@dataclass(frozen=True)
class CoordinateCheck:
    """The answer, and what it was measured on."""

    parametrisation: str
    optimizer: str
    steps: int
    seeds: int
    sizes: tuple[str, ...]
    widths: tuple[int, ...]
    learning_rates: tuple[float, ...]
    """Peak, by width, held through all steps."""
    rows: tuple[Coordinate, ...]

    def document(self) -> dict[str, Any]:
        """What `ladder coordinates --json` prints."""
        return {"version": 1, **asdict(self)}

    def slope(self, module: str, quantity: Quantity) -> float:
        """The slope of one kind of module; KeyError where the model has none."""
        return {(row.module, row.quantity): row.slope for row in self.rows}[module, quantity]


def scaled(shape: Shape, width: int) -> Shape:
    """A shape made wider, heads as wide as before, so that all else grows with the width.

    Raises InputError where something would not be a whole number.
    """

    def grown(section: Section, *names: str) -> dict[str, int]:
        found = {}
        for name in names:
            if (before := getattr(section, name)) is None:
                continue
            found[name], rest = divmod(before * width, shape.width)
            if rest or not found[name]:
                raise InputError(
                    f"--widths {width}: {name} {before} of width {shape.width} would be "
                    f"{before * width / shape.width:g}; take a multiple of {shape.width}"
                )
        return found

    changes: dict[str, Any] = {"width": width, **grown(shape, "heads", "kv_heads", "hidden")}
    if shape.ssm is not None:
        mixer = shape.mixer
        kept = {"head_width": mixer.head_width, "state": mixer.state}
        changes["ssm"] = shape.ssm.model_copy(update={**kept, **grown(shape.ssm, "heads")})
    return shape.model_copy(update=changes)


def check_coordinates(
    config: Experiment,
    shapes: Mapping[str, Shape],
    corpus: Corpus,
    steps: int = 8,
    seeds: int = 3,
    sequences: int = 32,
) -> CoordinateCheck:
    """Train a model of each shape for some steps at its peak rate and measure what it computes.

    The batches, `sequences` each, are the same for all shapes; what is measured is another one.
    Raises InputError where training breaks down.
    """
    measured = []
    with joined(config.execution) as parallel:
        for shape in each(list(shapes.values()), "widths"):
            found = [
                _measured(config, shape, corpus, steps, sequences, seed, parallel)
                for seed in range(config.seed, config.seed + seeds)
            ]
            measured.append({key: _geometric_mean([one[key] for one in found]) for key in found[0]})
    widths = tuple(shape.width for shape in shapes.values())
    rows = []
    for module, quantity in measured[0]:
        rms = tuple(one[module, quantity] for one in measured)
        rows.append(Coordinate(module, quantity, rms, slope(widths, rms)))
    return CoordinateCheck(
        config.recipe.parametrisation,
        config.recipe.optimizer,
        steps,
        seeds,
        tuple(shapes),
        widths,
        tuple(learning_rate(config, shape) for shape in shapes.values()),
        tuple(rows),
    )


def slope(widths: Sequence[int], rms: Sequence[float]) -> float:
    """Of log rms in log width, by least squares."""
    return float(np.polyfit(np.log(widths), np.log(rms), 1)[0])


def figure(check: CoordinateCheck) -> Figure:
    """RMS against width, a line a kind of module: initial outputs and their changes."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import colormaps, pyplot
    from matplotlib.ticker import NullFormatter, NullLocator

    from predict.drawing import STYLE

    titles = {"initial": "output at the first step", "change": f"change in {check.steps} steps"}
    with pyplot.rc_context(STYLE):
        drawn, axes = pyplot.subplots(1, 2, figsize=(9.2, 3.3))
        for axis, (quantity, title) in zip(axes, titles.items(), strict=True):
            rows = [row for row in check.rows if row.quantity == quantity]
            for index, row in enumerate(rows):
                color = colormaps["viridis"](0.05 + 0.85 * index / max(1, len(rows) - 1))
                label = f"{row.module}, slope {row.slope:+.2f}"
                axis.plot(check.widths, row.rms, "o-", ms=3, lw=1, color=color, label=label)
            axis.set_xscale("log", base=2)
            axis.set_yscale("log")
            axis.set_xticks(check.widths, [str(width) for width in check.widths])
            axis.xaxis.set_minor_locator(NullLocator())
            axis.xaxis.set_minor_formatter(NullFormatter())
            axis.set(xlabel="width", ylabel="root mean square", title=title)
            axis.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))
        drawn.suptitle(f"{check.optimizer}, {check.parametrisation}", x=0.01, ha="left")
        drawn.tight_layout()
    pyplot.close(drawn)
    return cast("Figure", drawn)


def _measured(
    config: Experiment,
    shape: Shape,
    corpus: Corpus,
    steps: int,
    sequences: int,
    seed: int,
    parallel: Parallel,
) -> dict[tuple[str, Quantity], float]:
    recipe, length = config.recipe, config.model.sequence_length
    seed = run_seed(seed, "coordinates")
    scales = factors(config, shape, corpus.vocabulary)
    model = build_model(
        config.model, shape, corpus.vocabulary, seed, config.execution.attention, scales
    )
    if not recipe.train_norms:
        freeze_norms(model)
    parallel.shard(model, config.execution)
    optimizers = build_optimizers(model, recipe, scales)
    loss_model = LossModel(model, recipe.z_loss)
    optimizers.set_learning_rate(learning_rate(config, shape))

    def batch(step: int) -> torch.Tensor:
        return torch.from_numpy(corpus.batch(seed, step, sequences, length + 1))

    probe = batch(steps + 1)[:, :-1].to(parallel.device)
    before = _outputs(model, probe)
    try:
        for step in range(1, steps + 1):
            optimizer_step(
                loss_model, optimizers, batch(step), recipe, config.execution, parallel, sequences
            )
    except FloatingPointError as error:
        raise InputError(f"width {shape.width}, step {step}: {error}") from None
    after = _outputs(model, probe)
    found: dict[tuple[str, Quantity], float] = {
        (kind, "initial"): _rms(outputs) for kind, outputs in before.items()
    }
    for kind, outputs in after.items():
        change = [new - old for new, old in zip(outputs, before[kind], strict=True)]
        found[kind, "change"] = _rms(change)
    return found


def _outputs(model: PreTrainedModel, tokens: torch.Tensor) -> dict[str, list[torch.Tensor]]:
    """What every kind of module gives for tokens (B, T), layer by layer."""
    found: dict[str, list[torch.Tensor]] = {}
    with _watching(_kinds(model), found), torch.no_grad():
        model.eval()(input_ids=tokens)
    return found


def _kinds(model: PreTrainedModel) -> list[tuple[str, nn.Module]]:
    """Modules with their kind, in the order in which they are reported."""
    layers = blocks(model)
    inside = [
        (CHILDREN[name], child)
        for block in layers
        for name, child in block.named_children()
        if name in CHILDREN
    ]
    norms = [
        ("final norm", child)
        for name, child in model.base_model.named_children()
        if name in FINAL_NORMS
    ]
    return [
        ("embedding", model.get_input_embeddings()),
        *inside,
        *(("residual", block) for block in layers),
        *norms,
        ("logits", model.get_output_embeddings()),
    ]


@contextmanager
def _watching(
    modules: Sequence[tuple[str, nn.Module]], found: dict[str, list[torch.Tensor]]
) -> Iterator[None]:
    """Within it, `found` gets what each of the modules gives."""

    def hook(kind: str) -> Any:
        def keep(module: nn.Module, given: object, output: Any) -> None:
            first = output[0] if isinstance(output, tuple) else output
            found[kind].append(first.detach().double().cpu())

        return keep

    found.update({kind: [] for kind, _ in modules})
    handles = [module.register_forward_hook(hook(kind)) for kind, module in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _rms(outputs: Sequence[torch.Tensor]) -> float:
    return math.sqrt(sum(float(x.square().mean()) for x in outputs) / len(outputs))


def _geometric_mean(values: Sequence[float]) -> float:
    return math.exp(sum(math.log(value) for value in values) / len(values))
