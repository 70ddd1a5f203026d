"""The command that checks a parametrisation: coordinates."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tyro import conf

from evaluation.files import InputError
from ladder.commands.options import Flag, Names

if TYPE_CHECKING:
    from ladder.config import Experiment
    from ladder.coordinates import CoordinateCheck
    from ladder.shapes import Shape

MULTIPLES = (1, 2, 4, 8)
"""Widths that are tried by default, as multiples of the base's."""


def coordinates(
    config: conf.Positional[str],
    set: conf.UseAppendAction[Names] = (),
    recipe: str | None = None,
    widths: tuple[int, ...] = (),
    sizes: Names = (),
    steps: int = 8,
    seeds: int = 3,
    sequences: int = 32,
    runs: Path | None = None,
    json: Flag = False,
    out: Path | None = None,
) -> None:
    """How activations and their changes go with width: flat under muP.

    Take a learning rate at which changes stay smaller than outputs, or saturation hides slopes.

    Example: ladder coordinates quickstart --set recipe.parametrisation=mup

    Args:
        config: A YAML file, or the name of a shipped config such as quickstart.
        set: Override a setting, KEY=VALUE such as recipe.parametrisation=mup.
        recipe: One of the config's `recipes`, by name, where it has several.
        widths: Widths to try, the base's shape made wider (recipe.mup_base, else the narrowest of
            ladder.sizes); 1, 2, 4 and 8 times its own by default.
        sizes: Sizes of the config to try instead, as they are.
        steps: Optimizer steps, at the peak learning rate, before changes are measured.
        seeds: Models of each width.
        sequences: Sequences of a batch.
        runs: Folder where the corpus is kept; runs/NAME by default.
        json: Print one JSON document.
        out: Write a .json, .csv or .svg file, the last a figure.
    """
    from ladder import tables
    from ladder.config import load_config
    from ladder.runs import RunsFolder

    tables.check_out(out, None, (".json", ".csv", ".svg"))
    for option, value in (("steps", steps), ("seeds", seeds), ("sequences", sequences)):
        if value < 1:
            raise InputError(f"--{option} {value}: must be at least 1")
    experiment = _of_recipe(load_config(config, set), recipe)
    shapes = _shapes(experiment, widths, sizes)
    if len({shape.width for shape in shapes.values()}) < 2:
        raise InputError("a slope needs two widths at least; give more --widths or --sizes")

    from ladder.coordinates import check_coordinates, figure
    from ladder.corpora import open_corpus

    folder = RunsFolder(runs or Path("runs") / experiment.name)
    corpus = open_corpus(experiment.corpus, folder.corpus)
    corpus.prepare()
    corpus.check((steps + 1) * sequences, experiment.model.sequence_length + 1)
    found = check_coordinates(experiment, shapes, corpus, steps, seeds, sequences)
    document = found.document()
    rows = [
        {"module": r.module, "quantity": r.quantity, "width": width, "rms": rms, "slope": r.slope}
        for r in found.rows
        for width, rms in zip(found.widths, r.rms, strict=True)
    ]
    drawing = out if out and out.suffix == ".svg" else None
    tables.emit(document, rows, json, None if drawing else out)
    if drawing:
        from evaluation.files import write_text
        from predict.drawing import to_svg

        write_text(drawing, to_svg(figure(found)))
    if not json:
        _show(found)


def _of_recipe(config: Experiment, recipe: str | None) -> Experiment:
    known = ", ".join(config.recipes)
    if recipe is None and config.recipes:
        raise InputError(f"--recipe: is missing; the config has {known}")
    if recipe is not None and recipe not in config.recipes:
        told = f"there are {known}" if known else "the config has one only, recipe; leave it out"
        raise InputError(f"--recipe {recipe}: no such recipe; {told}")
    return config.only(recipe or "", (*config.seeds, config.seed)[0])


def _shapes(config: Experiment, widths: tuple[int, ...], sizes: Names) -> dict[str, Shape]:
    """Shapes by name, narrowest first."""
    from ladder.coordinates import scaled
    from ladder.shapes import OLMO2_SHAPES

    if widths and sizes:
        raise InputError("--widths and --sizes: give one of them")
    known = {**OLMO2_SHAPES, **config.model.sizes}
    for size in sizes:
        if size not in known:
            raise InputError(f"--sizes {size}: no such size; there are {', '.join(known)}")
    if sizes:
        found = {size: known[size] for size in sizes}
    else:
        narrowest = min((known[s] for s in config.ladder.sizes), key=lambda shape: shape.width)
        base = config.mup_base or (
            known[config.recipe.mup_base] if config.recipe.mup_base else narrowest
        )
        wanted = widths or tuple(base.width * multiple for multiple in MULTIPLES)
        if min(wanted) < 1:
            raise InputError(f"--widths {min(wanted)}: must be above 0")
        found = {f"width {width}": scaled(base, width) for width in wanted}
    return dict(sorted(found.items(), key=lambda item: item[1].width))


def _show(found: CoordinateCheck) -> None:
    from ladder import tables

    said = {"initial": "output at the first step", "change": f"its change in {found.steps} steps"}
    for quantity, title in said.items():
        tables.show(
            f"{found.optimizer}, {found.parametrisation}: {title}, root mean square",
            ("module", *found.sizes, "slope"),
            [
                (row.module, *(f"{rms:.3g}" for rms in row.rms), f"{row.slope:+.2f}")
                for row in found.rows
                if row.quantity == quantity
            ],
        )
