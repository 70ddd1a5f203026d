"""Shows what weight decay and gradient noise do to a matrix, with and without multipliers.

    python benchmarks/equilibrium.py --figure docs/equilibrium.svg > benchmarks/equilibrium.md

A Llama of two layers trains on the quick start's walks by AdamW at a constant learning rate until
noise and decay are in balance, over a grid of learning rates and weight decays that varies S =
sqrt(learning rate / weight decay) at several products of the two, the product setting the speed at
which the balance comes. Beside it stands Adam's own random walk: AdamW fed with i.i.d. N(0, 1)
gradients, with no model at all. A matrix's size is its RMS; multipliers learn at one rate
everywhere, so that S is all that differs.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")

import numpy as np
import torch
from matplotlib.figure import Figure

from evaluation.files import write_text
from ladder.config import load_config
from ladder.corpora import open_corpus
from ladder.model import build_model
from ladder.optim import build_optimizers
from ladder.parallel import Parallel
from ladder.settings import Execution, Model, Multipliers, Recipe
from ladder.shapes import Shape
from ladder.step import LossModel, optimizer_step
from predict.drawing import to_svg

SEQUENCES, LENGTH = 8, 32
MULTIPLIER_RATE = 0.03
"""Learning rate of multipliers, whatever S is."""

LAST = 0.25
"""Share of a run over which sizes and losses are averaged."""

SAMPLES = 100
"""Times in a run at which sizes are taken."""

ALONE = Parallel(0, 1, "none", torch.device("cpu"))


@dataclass(frozen=True)
class Grid:
    """What is trained."""

    shape: Shape
    products: tuple[float, ...]
    """Learning rate times weight decay."""
    ratios: tuple[float, ...]
    """S, the square root of learning rate over weight decay."""
    times: float
    """Length of a run, in steps that are 1 / (learning rate x weight decay)."""

    def pairs(self) -> list[tuple[float, float, int]]:
        """Learning rate, weight decay and steps of every run."""
        return [
            (ratio * speed**0.5, speed**0.5 / ratio, round(self.times / speed))
            for speed, ratio in product(self.products, self.ratios)
        ]


FULL = Grid(
    Shape(layers=2, width=32, heads=2, hidden=64),
    (8e-3, 4e-3),
    (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0),
    4.0,
)
SMALL = Grid(Shape(layers=1, width=8, heads=1, hidden=16), (0.1,), (1 / 8, 1 / 2), 3.0)


@dataclass(frozen=True)
class Run:
    """What one run came to, averaged over its last part."""

    rate: float
    decay: float
    loss: float
    sizes: dict[str, float]
    """RMS of the matrices that the model uses, by kind, mean over layers."""
    latents: dict[str, float]
    """The same of what multipliers multiply; without multipliers they are one."""

    @property
    def ratio(self) -> float:
        """S."""
        return (self.rate / self.decay) ** 0.5


def train(
    grid: Grid, rate: float, decay: float, steps: int, own_rate: float | None, seed: int
) -> Run:
    """One model at a constant learning rate; `own_rate` is its multipliers', None without."""
    kind = "both" if own_rate else "none"
    scale = (own_rate or rate) / rate
    recipe = Recipe(
        weight_decay=decay, multipliers=Multipliers(kind=kind, learning_rate_scale=scale)
    )
    corpus = open_corpus(load_config("quickstart", ()).corpus, Path())
    own = Model(architecture="llama", sequence_length=LENGTH, sizes={"x": grid.shape})
    model = build_model(own, grid.shape, corpus.vocabulary, seed)
    optimizers = build_optimizers(model, recipe)
    optimizers.set_learning_rate(rate)
    loss_model, execution = LossModel(model, 0.0), Execution(device="cpu")
    every = max(1, steps // SAMPLES)
    losses: list[float] = []
    taken: list[tuple[dict[str, float], dict[str, float]]] = []
    for step in range(1, steps + 1):
        tokens = torch.from_numpy(corpus.batch(seed, step, SEQUENCES, LENGTH + 1))
        done = optimizer_step(loss_model, optimizers, tokens, recipe, execution, ALONE, SEQUENCES)
        if step > steps * (1 - LAST):
            losses.append(done.loss)
            if step % every == 0:
                taken.append((sizes(model), sizes(optimizers.names)))
    kinds = taken[0][0]
    return Run(
        rate,
        decay,
        float(np.mean(losses)),
        *({kind: float(np.mean([t[i][kind] for t in taken])) for kind in kinds} for i in (0, 1)),
    )


def sizes(module: Any) -> dict[str, float]:
    """RMS by kind of matrix, over layers; the embedding, which does not decay, left out."""
    found: dict[str, list[float]] = {}
    for name, weight in module.named_parameters():
        kind = name.split(".")[-2]
        if weight.ndim == 2 and kind != "embed_tokens":
            found.setdefault(kind, []).append(weight.detach().square().mean().sqrt().item())
    return {kind: float(np.mean(values)) for kind, values in found.items()}


def walk(rate: float, decay: float, steps: int, seed: int) -> float:
    """RMS of a matrix that AdamW steps on gradients of nothing but noise."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.nn.Parameter(torch.zeros(64, 64))
    adamw = torch.optim.AdamW(
        [weight], lr=rate, weight_decay=decay, betas=Recipe().betas, fused=True
    )
    found = []
    for step in range(steps):
        weight.grad = torch.randn(64, 64, generator=generator)
        adamw.step()
        if step >= steps * (1 - LAST):
            found.append(weight.detach().square().mean().sqrt().item())
    return float(np.mean(found))


def slope(x: list[float], y: list[float]) -> tuple[float, float]:
    """The slope of log y against log x, and its standard error."""
    logs, values = np.log(x), np.log(y)
    centred = logs - logs.mean()
    found = float(centred @ values / (centred @ centred))
    rest = values - values.mean() - found * centred
    freedom = max(1, len(x) - 2)
    return found, float(np.sqrt(rest @ rest / freedom / (centred @ centred)))


def figure(plain: list[Run], multiplied: list[Run], walks: list[float]) -> Figure:
    """RMS against S: without multipliers, and both parts of the product with them."""
    drawn = Figure(figsize=(11, 3.8), layout="constrained")
    axes = drawn.subplots(1, 3, sharey=True)
    panels = (
        ("without multipliers: W", plain, "sizes"),
        ("with: W", multiplied, "latents"),
        ("with: what the model uses, r W c", multiplied, "sizes"),
    )
    ratios = sorted({round(run.ratio, 9) for run in plain})
    for panel, (title, runs, which) in zip(axes, panels, strict=True):
        for number, kind in enumerate(runs[0].sizes):
            means = [
                np.exp(np.mean([np.log(getattr(run, which)[kind]) for run in _at(runs, ratio)]))
                for ratio in ratios
            ]
            panel.plot(ratios, means, "o-", color=f"C{number}", markersize=3, label=kind)
        noise = [
            np.mean([w for w, r in zip(walks, plain, strict=True) if np.isclose(r.ratio, s)])
            for s in ratios
        ]
        panel.plot(ratios, noise, "k--", linewidth=1, label="AdamW on noise")
        panel.set(title=title, xlabel="S = sqrt(learning rate / weight decay)")
        panel.set_xscale("log", base=2)
        panel.set_yscale("log", base=2)
        panel.grid(alpha=0.3)
    axes[0].set_ylabel("RMS in equilibrium")
    axes[0].legend(fontsize=7)
    return drawn


def _at(runs: list[Run], ratio: float) -> list[Run]:
    """The runs of one S."""
    return [run for run in runs if np.isclose(run.ratio, ratio)]


def table(plain: list[Run], multiplied: list[Run], walks: list[float]) -> str:
    """Slopes by kind of matrix, and the losses."""
    ratios = [run.ratio for run in plain]

    def said(values: list[float]) -> str:
        found, error = slope(ratios, values)
        return f"{found:.2f} +- {error:.2f}"

    lines = [
        "| matrix | without: W | with: W | with: r W c |",
        "| --- | --- | --- | --- |",
    ]
    for kind in plain[0].sizes:
        cells = [
            said([getattr(run, which)[kind] for run in runs])
            for runs, which in ((plain, "sizes"), (multiplied, "latents"), (multiplied, "sizes"))
        ]
        lines.append(f"| {kind} | {' | '.join(cells)} |")
    lines.append(f"| AdamW on noise | {said(walks)} | | |")
    level = np.exp(np.mean([np.log(w / r) for w, r in zip(walks, ratios, strict=True)]))
    lines += [
        "",
        f"AdamW on noise has an RMS of {level:.3f} S; 1/sqrt(2) = {0.5**0.5:.3f} is what a random",
        "walk with decay has.",
        "",
        "Training loss, nats per token, mean over the last quarter of each run and over products:",
        "",
        "| S | without | with |",
        "| --- | --- | --- |",
    ]
    for ratio in sorted({round(r, 9) for r in ratios}):
        means = [np.mean([run.loss for run in _at(runs, ratio)]) for runs in (plain, multiplied)]
        lines.append(f"| {ratio:g} | {means[0]:.3f} | {means[1]:.3f} |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """Train the grid, draw, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="seconds, to see that it runs")
    parser.add_argument("--rate", type=float, default=MULTIPLIER_RATE, help="of multipliers")
    parser.add_argument("--figure", type=Path, help="where the figure goes, .svg")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    grid = SMALL if given.small else FULL
    plain, multiplied, walks = [], [], []
    for number, (rate, decay, steps) in enumerate(grid.pairs()):
        plain.append(train(grid, rate, decay, steps, None, number))
        multiplied.append(train(grid, rate, decay, steps, given.rate, number))
        walks.append(walk(rate, decay, steps, number))
    if given.figure:
        write_text(given.figure, to_svg(figure(plain, multiplied, walks)))
    shape = grid.shape
    print("# Noise and weight decay in balance\n")
    speeds = ", ".join(map(str, grid.products))
    print("`python benchmarks/equilibrium.py`: slope of log RMS against log S, S = sqrt(learning")
    print(f"rate / weight decay), over {len(plain)} runs (S from {grid.ratios[0]:g} to")
    print(f"{grid.ratios[-1]:g}, learning rate x weight decay {speeds}; {grid.times:g} times one")
    print(f"over it in steps) with its standard error; Llama, d = {shape.width}, {shape.layers}")
    print(f"layers, one seed a run; multipliers learn at a rate of {given.rate}. 1: the size is")
    print("what S makes it; 0: it does not depend on S.\n")
    print(table(plain, multiplied, walks))


if __name__ == "__main__":
    main()
