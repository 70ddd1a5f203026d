"""Times a step with learnable multipliers against one without, and against PyTorch's parametrize.

    python benchmarks/multipliers_speed.py [CASE ...] [--small] > benchmarks/multipliers_speed.md

Three models of the same shape, initial weights and batches take steps in turn on one CPU thread:
without multipliers; with row and column multipliers of every matrix of the blocks and the
embedding, kept by the optimizer as training keeps them; and with the same as a parametrisation of
torch.nn.utils.parametrize, in the forward pass. A turn's ratio is of steps that follow one another.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

if __name__ == "__main__":
    os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")

import numpy as np
import torch
from torch import nn
from torch.nn.utils import parametrize

from ladder.model import build_model
from ladder.multipliers import MultipliedWeights
from ladder.optim import Optimizers, build_optimizers
from ladder.parallel import Parallel
from ladder.placement import placements
from ladder.settings import Execution, Model, Multipliers, Recipe
from ladder.shapes import Shape
from ladder.step import LossModel, optimizer_step

SHAPES = {
    "d = 256": Shape(layers=8, width=256, heads=4, hidden=1024),
    "d = 16": Shape(layers=1, width=16, heads=1, hidden=40),
}
CASES = {
    "d256-16x128": ("d = 256", 16, 128, 9),
    "d256-8x512": ("d = 256", 8, 512, 6),
    "d16-8x32": ("d = 16", 8, 32, 100),
}
"""Shape, sequences and tokens of each, turns."""

SMALL = {"small": ("d = 16", 8, 32, 6)}
VOCABULARY = 4096
WARM_UP = 2
BOTH = Recipe(multipliers=Multipliers(kind="both"))
ALONE = Parallel(0, 1, "none", torch.device("cpu"))


class Product(nn.Module):
    """r_i W_ij c_j in the forward pass."""

    def __init__(self, rows: int, columns: int) -> None:
        super().__init__()
        self.row, self.column = nn.Parameter(torch.ones(rows)), nn.Parameter(torch.ones(columns))

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """The weight that the model uses."""
        return self.row[:, None] * weight * self.column


def parametrised(model: Any, recipe: Recipe) -> Optimizers:
    """The same multipliers by torch.nn.utils.parametrize, all stepped by one fused AdamW."""
    for name in placements(model, recipe.multipliers):
        module, _, own = name.rpartition(".")
        layer = model.get_submodule(module)
        parametrize.register_parametrization(layer, own, Product(*layer.weight.shape))
    vectors = [w for n, w in model.named_parameters() if n.endswith((".row", ".column"))]
    known = {id(weight) for weight in vectors}
    weights = [weight for weight in model.parameters() if id(weight) not in known]
    groups = [
        {"params": weights, "weight_decay": recipe.weight_decay, "rate_scale": 1.0},
        {"params": vectors, "weight_decay": 0.002, "rate_scale": 1.0},
    ]
    adamw = torch.optim.AdamW(groups, lr=0.0, betas=recipe.betas, eps=recipe.eps, fused=True)
    none = MultipliedWeights(model, Multipliers())
    return Optimizers((adamw,), model, tuple(weights), none)


SIDES: dict[str, Callable[[Any], Optimizers]] = {
    "none": lambda model: build_optimizers(model, Recipe()),
    "multipliers": lambda model: build_optimizers(model, BOTH),
    "parametrize": lambda model: parametrised(model, BOTH),
}


def stepper(side: str, shape: Shape, tokens: torch.Tensor) -> Callable[[], tuple[float, float]]:
    """A function that makes one step and returns its CPU seconds and its loss."""
    own = Model(architecture="llama", sequence_length=tokens.shape[1] - 1, sizes={"x": shape})
    model = build_model(own, shape, VOCABULARY, seed=0)
    optimizers = SIDES[side](model)
    optimizers.set_learning_rate(1e-3)
    loss_model, execution = LossModel(model, 0.0), Execution(device="cpu")

    def step() -> tuple[float, float]:
        start = time.process_time()
        done = optimizer_step(
            loss_model, optimizers, tokens, Recipe(), execution, ALONE, len(tokens)
        )
        return time.process_time() - start, done.loss

    return step


def interval(values: list[float]) -> tuple[float, float, float]:
    """The median and a 95% bootstrap interval of it."""
    draws = np.random.default_rng(0).choice(values, size=(4000, len(values)))
    low, high = np.quantile(np.median(draws, axis=1), [0.025, 0.975])
    return statistics.median(values), float(low), float(high)


def measure(name: str, sequences: int, length: int, turns: int) -> list[str]:
    """The lines of one case's table."""
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, VOCABULARY, (sequences, length + 1), generator=generator)
    steps = {side: stepper(side, SHAPES[name], tokens) for side in SIDES}
    seconds: dict[str, list[float]] = {side: [] for side in SIDES}
    losses: dict[str, list[float]] = {side: [] for side in SIDES}
    for turn in range(WARM_UP + turns):
        order = list(SIDES)[turn % 3 :] + list(SIDES)[: turn % 3]
        for side in order:
            spent, loss = steps[side]()
            losses[side].append(loss)
            if turn >= WARM_UP:
                seconds[side].append(spent)
    # Without multipliers the losses part after the first step; with them only decay tells.
    apart = max(
        abs(a - b) for a, b in zip(losses["multipliers"], losses["parametrize"], strict=True)
    )
    if apart > 0.05:
        raise SystemExit(f"{name}: the sides do not train alike, {apart} nats apart")
    lines = []
    for side in SIDES:
        pairs = zip(seconds[side], seconds["none"], strict=True)
        ratio, low, high = interval([own / plain for own, plain in pairs])
        said = "1" if side == "none" else f"{ratio:.3f} ({low:.3f} to {high:.3f})"
        case = f"{name}, {sequences} x {length}"
        lines.append(f"| {case} | {side} | {statistics.median(seconds[side]):.4f} | {said} |")
    return lines


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="seconds, to see that it runs")
    parser.add_argument("cases", nargs="*", help=f"of {', '.join(CASES)}; all by default")
    given = parser.parse_args()
    known = SMALL if given.small else CASES
    cases = [known[name] for name in given.cases or known]
    torch.set_num_threads(1)
    print("# What multipliers cost in a step\n")
    print("`python benchmarks/multipliers_speed.py`: Llama, fp32, one CPU thread, AdamW, row and")
    print(
        f"column multipliers of all matrices of the blocks and the embedding ({VOCABULARY} rows);"
    )
    print("median CPU seconds of a step, and the median over turns of the ratio to a step without")
    print("multipliers, 95% bootstrap interval. parametrize: torch.nn.utils.parametrize.\n")
    load = os.getloadavg()[0]
    print("| model, sequences x tokens | multipliers | s a step | ratio |")
    print("| --- | --- | --- | --- |")
    for case in cases:
        print("\n".join(measure(*case)), flush=True)
    print(f"\nThe machine's load was {load:.1f} before and {os.getloadavg()[0]:.1f} after.")


if __name__ == "__main__":
    main()
