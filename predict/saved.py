"""A fitted predictor as JSON, and back."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from evaluation.files import load_json
from evaluation.records import InputError, write_text
from predict.laws import get_law
from predict.task_fit import TaskFit

FORMAT_VERSION = 2
"""Version of the JSON that a fitted predictor is saved as."""


def save_document(path: Path | str, settings: dict[str, Any], fits: dict[str, TaskFit]) -> None:
    """Write a predictor's settings and fits, atomically."""
    document = {
        "version": FORMAT_VERSION,
        **settings,
        "fits": [asdict(fitted) for fitted in fits.values()],
    }
    write_text(path, json.dumps(document, allow_nan=False))


def load_document(path: Path | str) -> tuple[dict[str, Any], dict[str, TaskFit]]:
    """Settings and fits that `save_document` wrote; raises InputError where it did not."""
    try:
        document = load_json(Path(path))
        version = document.pop("version")
        if version != FORMAT_VERSION:
            raise InputError(f"{path}: format {version} is not {FORMAT_VERSION}; fit again")
        fits = {entry["task"]: _task_fit(entry) for entry in document.pop("fits")}
    except InputError:
        raise
    except (
        *(OSError, LookupError, TypeError, AttributeError, ValueError, ArithmeticError),
        RecursionError,
    ) as error:
        raise InputError(f"{path}: not a saved predictor ({error!r})") from error
    return document, fits


def _check(fitted: TaskFit) -> None:
    """Raise ValueError, or InputError for an unknown law, where a fit is none that can predict."""
    for step, found in fitted.steps():
        law = get_law(found.law)
        numbers = [*found.parameters.values(), *(x for row in found.covariance for x in row)]
        if (
            tuple(found.parameters) != law.names
            or [len(row) for row in found.covariance] not in ([law.size] * law.size, [])
            or not all(map(math.isfinite, [*numbers, found.relative_rms, found.noise]))
            or found.relative_rms < 0
            or not _is_covariance(found.covariance)
        ):
            raise ValueError(f"{fitted.task}, {step}: not the numbers of the law {law.name}")
    if not fitted.chains or set(fitted.votes) - {chain.kind for chain in fitted.chains}:
        raise ValueError(f"{fitted.task}: votes of chains that it has not")
    for rung in fitted.rungs:
        sizes = (rung.params, rung.tokens, rung.loss)
        shares = [x for x in (rung.accuracy, rung.accuracy_sd) if x is not None]
        if not all(0 < x < math.inf for x in sizes) or not all(0 <= x <= 1 for x in shares):
            raise ValueError(f"{fitted.task}: run {rung.run} has a number that none can have")


def _is_covariance(rows: tuple[tuple[float, ...], ...]) -> bool:
    """Whether no combination of parameters has a variance below 0, rounding apart."""
    if not rows:
        return True
    values = np.linalg.eigvalsh((np.array(rows) + np.array(rows).T) / 2)
    return bool(values[0] >= -1e-6 * max(abs(values[-1]), 1e-300))


def _task_fit(entry: dict[str, Any]) -> TaskFit:
    fitted = TypeAdapter(TaskFit).validate_python(entry)
    _check(fitted)
    return fitted
