"""The multipliers that runs have learned: how they spread over rows, columns, layers and kinds."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluation.files import InputError
from ladder.plan import make_plan
from ladder.runs import RunsFolder
from ladder.saved import MULTIPLIERS, latest_checkpoint, step_of


@dataclass(frozen=True)
class Scales:
    """The multipliers of one side of one weight at one checkpoint."""

    run: str
    step: int
    module: str
    """The layer's name, `model.layers.0.mlp.up_proj`."""
    kind: str
    """The last part of it, `up_proj`."""
    layer: int | None
    """Its block, from 0; None outside the blocks."""
    side: str
    """`scalar`, `row` or `column`."""
    count: int
    """Multipliers."""
    mean: float
    sd: float
    """Population standard deviation over them."""
    rms: float
    smallest: float
    largest: float


@dataclass(frozen=True)
class Spread:
    """The multipliers of one side of one kind of matrix at one checkpoint."""

    run: str
    step: int
    kind: str
    side: str
    matrices: int
    mean: float
    """Mean over matrices of their mean."""
    rms: float
    """Root mean square over all multipliers, each matrix counting alike."""
    sd_within: float
    """Root mean square over matrices of the standard deviation of a matrix's own multipliers."""
    sd_between: float
    """Population standard deviation over matrices, so over layers, of their mean."""
    smallest: float
    largest: float


def learned(path: Path) -> list[Scales]:
    """The multipliers at the newest checkpoints of a runs folder or a rung, or at one checkpoint.

    Raises InputError where `path` is none of these or holds no multipliers.
    """
    found = [scales for run, checkpoint in _checkpoints(path) for scales in _read(run, checkpoint)]
    if not found:
        raise InputError(
            f"{path}: no checkpoint here has multipliers; train with recipe.multipliers.kind set"
        )
    return found


def spreads(found: Sequence[Scales]) -> list[Spread]:
    """By run, kind of matrix and side, in the order in which they first come."""
    groups: dict[tuple[str, int, str, str], list[Scales]] = {}
    for one in found:
        groups.setdefault((one.run, one.step, one.kind, one.side), []).append(one)
    return [
        Spread(
            *key,
            matrices=len(group),
            mean=_mean([one.mean for one in group]),
            rms=_mean([one.rms**2 for one in group]) ** 0.5,
            sd_within=_mean([one.sd**2 for one in group]) ** 0.5,
            sd_between=float(np.std([one.mean for one in group])),
            smallest=min(one.smallest for one in group),
            largest=max(one.largest for one in group),
        )
        for key, group in groups.items()
    ]


def document(found: Sequence[Scales]) -> dict[str, Any]:
    """What `ladder scales --json` prints."""
    return {
        "version": 1,
        "rows": [asdict(spread) for spread in spreads(found)],
        "matrices": [asdict(scales) for scales in found],
    }


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))


def _checkpoints(path: Path) -> list[tuple[str, Path]]:
    """Runs and their checkpoints."""
    if (path / "config.json").is_file() and re.fullmatch(r"step-\d+", path.name):
        return [(path.resolve().parent.parent.name, path)]
    if (path / "manifest.json").is_file():
        rungs = [path.resolve()]
    else:
        runs = RunsFolder(path)
        rungs = [runs.rung(rung.name).path for rung in make_plan(runs.load_config()).runs]
    latest = [(rung.name, latest_checkpoint(rung / "checkpoints")) for rung in rungs]
    return [(name, found[0]) for name, found in latest if found]


def _read(run: str, checkpoint: Path) -> list[Scales]:
    """The multipliers of one checkpoint, as their file orders them by layer."""
    if not (checkpoint / MULTIPLIERS).is_dir():
        return []
    try:
        from safetensors import SafetensorError
        from safetensors.numpy import load_file
    except ImportError:
        raise InputError(
            "reading multipliers needs safetensors; pip install 'task-ladder[train]'"
        ) from None
    tensors: dict[str, NDArray[np.float32]] = {}
    for file in sorted((checkpoint / MULTIPLIERS).glob("*.safetensors")):
        try:
            tensors |= load_file(file)
        except (OSError, SafetensorError) as error:
            raise InputError(f"{file}: damaged ({type(error).__name__})") from error
    step = step_of(checkpoint)
    return [_scales(run, step, name, tensors[name]) for name in sorted(tensors, key=_natural)]


def _natural(name: str) -> list[tuple[int, str]]:
    """Sorts layer 10 after layer 9."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in name.split(".")]


def _scales(run: str, step: int, name: str, tensor: NDArray[np.float32]) -> Scales:
    module, _, side = name.rpartition(".")
    layer = re.search(r"\.(\d+)\.", module)
    values = tensor.astype(np.float64)
    return Scales(
        run=run,
        step=step,
        module=module,
        kind=module.rpartition(".")[2],
        layer=int(layer.group(1)) if layer else None,
        side=side,
        count=values.size,
        mean=float(values.mean()),
        sd=float(values.std()),
        rms=float(np.sqrt((values**2).mean())),
        smallest=float(values.min()),
        largest=float(values.max()),
    )
