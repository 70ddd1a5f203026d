"""A fitted predictor as JSON, and back."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from evaluation.records import InputError, write_text
from predict.chains import ChainFit
from predict.fit import Fit
from predict.points import RungPoint
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
        document = json.loads(Path(path).read_text(encoding="utf-8"))
        version = document.pop("version")
        if version != FORMAT_VERSION:
            raise InputError(f"{path}: format {version} is not {FORMAT_VERSION}; fit again")
        fits = {entry["task"]: _task_fit(entry) for entry in document.pop("fits")}
    except (OSError, KeyError, TypeError, AttributeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: not a saved predictor ({error!r})") from error
    return document, fits


def _task_fit(entry: dict[str, Any]) -> TaskFit:
    lists = ("votes", "link_loss", "link_accuracy")
    return TaskFit(
        **{
            **entry,
            "rungs": tuple(RungPoint(**r) for r in entry["rungs"]),
            "chains": tuple(_chain(c) for c in entry["chains"]),
            **{name: tuple(entry[name]) for name in lists},
        }
    )


def _chain(entry: dict[str, Any]) -> ChainFit:
    step2 = entry["step2"]
    return ChainFit(
        entry["kind"],
        _fit(entry["step1"]),
        None if step2 is None else _fit(step2),
        entry.get("chance"),
    )


def _fit(entry: dict[str, Any]) -> Fit:
    covariance = tuple(tuple(row) for row in entry["covariance"])
    return Fit(**{**entry, "at_bound": tuple(entry["at_bound"]), "covariance": covariance})
