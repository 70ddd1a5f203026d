"""Finds the best learning rate at every width, with and without muP, for AdamW and Muon.

    python benchmarks/mup.py --out benchmarks/mup.md --figure docs/mup.svg

Byte-level OLMo-2 models of two blocks and widths 16 to 128, heads 16 wide, on the sources of
Python's standard library: 300 steps of 16 sequences of 64 tokens for every width. Rates lie on a
grid of factor 2, and are added until the best one, by the mean held-out loss over seeds, has a
neighbour on either side at every width, and the base's best has been tried at all. Results are kept
in --results, one JSON line a run, so that the same command goes on where it was stopped. `--small`
is the same in seconds, to see that it works.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    # Before torch is loaded, which reads it then.
    os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")

from evaluation.files import write_text
from ladder.config import Experiment, load_config

ADAMW = {"optimizer": "adamw"}
MATCHED = {"optimizer": "muon", "muon": {"adjust_lr_fn": "match_rms_adamw"}}
ORIGINAL = {"optimizer": "muon", "muon": {"adjust_lr_fn": "original"}}
MUP = {"parametrisation": "mup"}
METHODS: dict[str, dict[str, Any]] = {
    "AdamW, standard": ADAMW,
    "AdamW, muP": {**ADAMW, **MUP},
    "Muon match_rms_adamw, standard": MATCHED,
    "Muon match_rms_adamw, muP": {**MATCHED, **MUP},
    "Muon original, standard": ORIGINAL,
    "Muon original, muP": {**ORIGINAL, **MUP},
}
"""Settings of the recipe by the method's name. The rate that is searched is that of the blocks'
matrices; under Muon, embedding and head keep HELD."""
JOINT = ", one rate for all"
"""Ends the name of a method in which Muon's matrices, embedding and head share one rate."""
HELD = -3
"""Power of AdamW's rate for embedding, head and vectors under Muon: AdamW's best at the base."""

NEAR = 2
"""Steps of the grid from the best rate within which a parabola is laid."""
RANGE = (-14, 2)
"""Powers of two that a peak learning rate may be."""


@dataclass(frozen=True)
class Scale:
    """How much is trained."""

    widths: tuple[int, ...]
    seeds: int
    steps: int
    sequences: int
    length: int
    held_out: int
    """Tokens that the loss is measured on."""
    sources: tuple[str, ...] = ()
    """Files to train on; those of the text ladder by default."""


FULL = Scale((16, 32, 64, 128), seeds=3, steps=300, sequences=16, length=64, held_out=32768)
SMALL = Scale(
    (16, 32), 1, steps=6, sequences=4, length=16, held_out=512, sources=("{stdlib}/json/*.py",)
)


@dataclass(frozen=True)
class Run:
    """One model: at peak learning rate 2^power."""

    method: str
    width: int
    power: int
    seed: int


Losses = Mapping[Run, float]
"""Held-out loss, nats per byte; infinite where training broke down."""


def make_config(scale: Scale, method: str) -> Experiment:
    """The text ladder's config with our sizes and the method's recipe."""
    sizes = {
        f"w{width}": {"layers": 2, "width": width, "heads": width // 16, "hidden": 5 * width // 2}
        for width in scale.widths
    }
    changes = {
        "targets": [],
        "model.sizes": sizes,
        "model.sequence_length": scale.length,
        "ladder.sizes": list(sizes),
        "corpus.validation_tokens": scale.held_out,
        "corpus.continuations": [],
        **{f"recipe.{key}": value for key, value in METHODS[method.replace(JOINT, "")].items()},
    }
    if scale.sources:
        source = {"name": "small", "files": scale.sources, "format": "txt", "separator": "\n\n\n"}
        changes["corpus.sources"] = [source]
    return load_config("text", tuple(f"{key}={json.dumps(v)}" for key, v in changes.items()))


def train(run: Run, scale: Scale, folder: Path) -> float:
    """Train a model as `ladder train` does, in one thread; its held-out loss."""
    import torch

    from ladder import recipe
    from ladder.corpora import open_corpus
    from ladder.model import build_model
    from ladder.mup import factors
    from ladder.optim import build_optimizers
    from ladder.parallel import joined
    from ladder.score import ModelScorer
    from ladder.step import LossModel, optimizer_step

    torch.set_num_threads(1)
    config = make_config(scale, run.method)
    corpus = open_corpus(config.corpus, folder)
    corpus.prepare()
    shape, own = config.model.shape(f"w{run.width}"), config.recipe
    scales, peak = factors(config, shape, corpus.vocabulary), 2.0**run.power
    if own.optimizer == "muon" and JOINT not in run.method:
        muon = own.muon.model_copy(update={"learning_rate_scale": 2.0 ** (run.power - HELD)})
        own, peak = own.model_copy(update={"muon": muon}), 2.0**HELD
    model = build_model(config.model, shape, corpus.vocabulary, run.seed, factors=scales)
    optimizers = build_optimizers(model, own, scales)
    loss_model, warmup = LossModel(model, own.z_loss), recipe.warmup_steps(scale.steps, own.warmup)
    with joined(config.execution) as parallel:
        for step in range(1, scale.steps + 1):
            rate = recipe.scheduled(step, scale.steps, warmup, peak, own.schedule, 0.0)
            optimizers.set_learning_rate(rate)
            rows = corpus.batch(run.seed, step, scale.sequences, scale.length + 1)
            tokens = torch.from_numpy(rows)
            try:
                optimizer_step(
                    loss_model, optimizers, tokens, own, config.execution, parallel, len(rows)
                )
            except FloatingPointError:
                return math.inf
    loss = corpus.validation_loss(ModelScorer(model.eval()), scale.length + 1)
    return loss if math.isfinite(loss) else math.inf


def first_power(method: str, width: int) -> int:
    """Where the search begins; where it ends depends on it only if there are several minima."""
    falls = 0.0
    if "standard" in method and "original" not in method:
        falls = 1.0 if "AdamW" in method else 0.5
    return round(-3 - falls * math.log2(width / 16))


def twin(run: Run, scale: Scale) -> Run:
    """The run that is the same: at the base's width muP changes nothing."""
    if run.width == scale.widths[0]:
        return Run(run.method.replace("muP", "standard"), run.width, run.power, run.seed)
    return run


def mean_loss(losses: Losses, scale: Scale, method: str, width: int, power: int) -> float | None:
    """Over seeds; None where a run is missing."""
    runs = [twin(Run(method, width, power, seed), scale) for seed in range(scale.seeds)]
    return statistics.fmean(losses[r] for r in runs) if all(r in losses for r in runs) else None


def tried(losses: Losses, scale: Scale, method: str, width: int) -> dict[int, float]:
    """Mean loss by power, in order."""
    found = {p: mean_loss(losses, scale, method, width, p) for p in range(*RANGE)}
    return {power: loss for power, loss in found.items() if loss is not None}


def best_power(losses: Losses, scale: Scale, method: str, width: int) -> int | None:
    """The power of the smallest mean loss, where both neighbours are tried."""
    found = tried(losses, scale, method, width)
    if not found:
        return None
    best = min(found, key=lambda power: found[power])
    ends = (RANGE[0], RANGE[1] - 1)
    inside = all(near in found for near in (best - 1, best + 1) if ends[0] <= near <= ends[1])
    return best if inside else None


def missing(losses: Losses, scale: Scale, methods: Iterable[str]) -> list[Run]:
    """Runs to do next, widest first; none where all is known."""
    wanted: dict[Run, None] = {}
    for method in methods:
        base = best_power(losses, scale, method, scale.widths[0])
        for width in scale.widths:
            found = tried(losses, scale, method, width)
            start = first_power(method, width)
            best = min(found, key=lambda power: found[power]) if found else start
            powers = {best - 1, best, best + 1} | ({base} if base is not None else set())
            for power in sorted(p for p in powers - found.keys() if RANGE[0] <= p < RANGE[1]):
                for seed in range(scale.seeds):
                    run = twin(Run(method, width, power, seed), scale)
                    if run not in losses:
                        wanted[run] = None
    return sorted(wanted, key=lambda run: -run.width)


def optimum(losses: Losses, scale: Scale, method: str, width: int) -> tuple[float, float]:
    """Base-2 logarithm of the best rate and its standard error over seeds.

    By a parabola through what was tried up to NEAR steps of the best rate, of the mean and of
    each seed alone: one rate's luck counts for less than in the three best alone.
    """
    best = best_power(losses, scale, method, width)
    assert best is not None
    powers = [p for p in tried(losses, scale, method, width) if abs(p - best) <= NEAR]
    rows = [
        [losses[twin(Run(method, width, p, seed), scale)] for p in powers]
        for seed in range(scale.seeds)
    ]
    found = vertex(powers, [statistics.fmean(column) for column in zip(*rows, strict=True)], best)
    alone = [vertex(powers, row, best) for row in rows]
    error = statistics.stdev(alone) / math.sqrt(len(alone)) if len(alone) > 1 else math.nan
    return found, error


def vertex(powers: list[int], losses: list[float], best: int) -> float:
    """Where the parabola by least squares is smallest, at most NEAR from the best power.

    The best power itself where there is no smallest place; runs that broke down count for nothing.
    """
    import numpy as np

    kept = [(p - best, loss) for p, loss in zip(powers, losses, strict=True) if math.isfinite(loss)]
    if len(kept) < 3:
        return float(best)
    places, values = np.array(kept).T
    curvature, slope, _ = np.polyfit(places, values, 2)
    if curvature <= 0:
        return float(best)
    return best + float(np.clip(-slope / (2 * curvature), -NEAR, NEAR))


def read(path: Path) -> dict[Run, float]:
    """What is known; a line cut short by a kill is taken off."""
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    if lines and not lines[-1].endswith("\n"):
        write_text(path, "".join(lines[:-1]))
    found = {}
    for row in map(json.loads, (line for line in lines if line.endswith("\n"))):
        loss = row.pop("loss")
        found[Run(**row)] = math.inf if loss is None else loss
    return found


def search(scale: Scale, methods: list[str], path: Path, folder: Path, workers: int) -> Losses:
    """Train what is missing until nothing is."""
    from ladder.corpora import open_corpus

    open_corpus(make_config(scale, methods[0]).corpus, folder).prepare()
    losses = read(path)
    while runs := missing(losses, scale, methods):
        for run, loss in trained(runs, scale, folder, workers):
            losses[run] = loss
            row = {**asdict(run), "loss": loss if math.isfinite(loss) else None}
            with path.open("a") as file:
                file.write(json.dumps(row) + "\n")
    return losses


def trained(
    runs: list[Run], scale: Scale, folder: Path, workers: int
) -> Iterator[tuple[Run, float]]:
    """Runs with their losses as they come, side by side if there are several workers."""
    if workers == 1:
        yield from ((run, train(run, scale, folder)) for run in runs)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        waiting = {pool.submit(train, run, scale, folder): run for run in runs}
        for future in as_completed(waiting):
            yield waiting[future], future.result()


def report(losses: Losses, scale: Scale, methods: list[str]) -> str:
    """Two tables: the best rate by width, and what the base's best rate costs at the others."""
    widths = scale.widths
    told = f"{scale.seeds} seeds, ± standard error" if scale.seeds > 1 else "one seed"
    head = "| method | " + " | ".join(f"width {width}" for width in widths)
    rule = "| --- |" + " --- |" * (len(widths) + 1)
    rates = [f"{head} | moves, steps |", rule]
    costs = [f"{head} | at the base's best rate, width {widths[-1]} |", rule]
    for method in methods:
        places = [optimum(losses, scale, method, width) for width in widths]
        best = [best_power(losses, scale, method, width) for width in widths]
        assert best[0] is not None
        cells = [
            f"2^{power} ({place:.2f}{spread(error, 2)})"
            for power, (place, error) in zip(best, places, strict=True)
        ]
        move, error = places[-1][0] - places[0][0], math.hypot(places[-1][1], places[0][1])
        rates.append(f"| {method} | {' | '.join(cells)} | {move:+.2f}{spread(error, 2)} |")
        cells = [_loss(losses, scale, method, w, p) for w, p in zip(widths, best, strict=True)]
        transferred = _loss(losses, scale, method, widths[-1], best[0])
        costs.append(f"| {method} | {' | '.join(cells)} | {transferred} |")
    return "\n".join(
        [
            "`python benchmarks/mup.py`: the best peak learning rate on a grid of factor 2, and in "
            f"brackets its base-2 logarithm by a parabola through the rates up to {NEAR} steps off"
            f"; {told}. The last column: from the narrowest to the widest, in steps of the grid."
            "\n",
            *rates,
            "\nHeld-out loss there, nats per byte; and at the widest with the narrowest's best "
            "rate.\n",
            *costs,
            "",
        ]
    )


def _loss(losses: Losses, scale: Scale, method: str, width: int, power: int | None) -> str:
    assert power is not None
    own = [losses[twin(Run(method, width, power, s), scale)] for s in range(scale.seeds)]
    error = statistics.stdev(own) / math.sqrt(len(own)) if len(own) > 1 else math.nan
    return f"{statistics.fmean(own):.4f}{spread(error, 4)}"


def spread(error: float, digits: int) -> str:
    """A standard error behind a number; nothing with one seed."""
    return f" ± {error:.{digits}f}" if math.isfinite(error) else ""


def draw(losses: Losses, scale: Scale, methods: list[str], path: Path) -> None:
    """Loss against rate, a panel for each method and a line for each width."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import colormaps, pyplot

    from predict.drawing import STYLE, to_svg

    with pyplot.rc_context(STYLE):
        rows = math.ceil(len(methods) / 2)
        figure, axes = pyplot.subplots(
            rows, 2, figsize=(8, 2.6 * rows), sharex=True, sharey=True, squeeze=False
        )
        for axis in axes.flat[len(methods) :]:
            axis.set_axis_off()
        for axis, method in zip(axes.flat, methods, strict=False):
            for index, width in enumerate(scale.widths):
                found = tried(losses, scale, method, width)
                finite = {p: loss for p, loss in found.items() if math.isfinite(loss)}
                color = colormaps["viridis"](0.05 + 0.75 * index / (len(scale.widths) - 1))
                rates = [2.0**power for power in finite]
                axis.plot(rates, finite.values(), "o-", ms=3, lw=1, color=color, label=str(width))
                place, _ = optimum(losses, scale, method, width)
                best = best_power(losses, scale, method, width)
                axis.plot(2**place, found[best], "*", ms=9, color=color)
            axis.set_xscale("log", base=2)
            axis.set(title=method)
        for axis in axes[:, 0]:
            axis.set(ylabel="held-out loss, nats per byte")
        for axis in axes[-1]:
            axis.set(xlabel="peak learning rate")
        axes[0, 0].legend(title="width")
        figure.tight_layout()
        write_text(path, to_svg(figure))


def main(arguments: list[str] | None = None) -> None:
    """Train what is missing, print the tables, draw the figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="seconds, to see that it works")
    joint = [method + JOINT for method in METHODS if "Muon" in method]
    parser.add_argument("--methods", nargs="+", choices=[*METHODS, *joint], default=list(METHODS))
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--folder", type=Path, default=Path("runs/mup"), help="of the corpus")
    parser.add_argument("--results", type=Path, help="JSON lines; benchmarks/results/mup.jsonl")
    parser.add_argument("--seeds", type=int)
    parser.add_argument("--out", type=Path, help="where to write the tables")
    parser.add_argument("--figure", type=Path, help="where to draw")
    given = parser.parse_args(arguments)
    scale = SMALL if given.small else FULL
    if given.seeds:
        scale = Scale(**{**asdict(scale), "seeds": given.seeds})
    kept = given.results or (
        given.folder / "small.jsonl" if given.small else Path("benchmarks/results/mup.jsonl")
    )
    given.folder.mkdir(parents=True, exist_ok=True)
    losses = search(scale, given.methods, kept, given.folder, given.workers)
    text = report(losses, scale, given.methods)
    if given.out:
        write_text(given.out, text)
    if given.figure:
        draw(losses, scale, given.methods, given.figure)
    print(text)


if __name__ == "__main__":
    main()
