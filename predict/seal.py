"""Predictions sealed before the target exists: written with hashes, checked when it does."""

from __future__ import annotations

import hashlib
import json
import math
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from evaluation.records import InputError, load_json, write_text
from predict.audit import Audit, actual_of, audit_row, measured_rows
from predict.task_fit import Prediction, Target
from predict.two_stage import TwoStage

FORMAT_VERSION = 1

READ = (
    "run",
    "params",
    "tokens",
    "step",
    "final",
    "task",
    "loss_unit",
    "accuracy",
    "chance",
    "instances",
    "seed",
)
"""Columns beside the feature that a fit reads."""


@dataclass(frozen=True)
class SealCheck:
    """What became of a seal: its audit, and whether its predictions can still be made again."""

    audit: Audit
    method: str
    sealed_at: str
    ladder_unchanged: bool
    """Whether the rows that were fitted are those that were sealed."""
    largest_change: float | None
    """Largest |sealed - refitted| accuracy, or loss where a task has none; None without a refit."""
    unscored: tuple[str, ...]
    """Sealed predictions whose target has not been measured, one line each."""


def write_seal(
    path: Path,
    model: TwoStage,
    observations: pd.DataFrame,
    targets: Sequence[Target],
    predictions: Sequence[Prediction],
    sealed_at: str,
) -> None:
    """Write the sealed predictions of a fitted model.

    Raises InputError where the file exists, or a target has already been measured.
    """
    if path.exists():
        raise InputError(f"--seal {path}: exists; a seal is written once, name another file")
    measured = set(observations["run"])
    for target in targets:
        if target.name in measured:
            raise InputError(
                f"--seal {path}: {target.name} has results in the observations already; a seal is "
                "for predictions made before, and its targets have names of their own"
            )
        same = observations[observations["role"] == "target"]
        near = (same["params"] / target.params).between(0.99, 1.01)
        near &= (same["tokens"] / target.tokens).between(0.99, 1.01)
        if near.any():
            raise InputError(
                f"--seal {path}: {target.name} has the params and tokens of "
                f"{same.loc[near, 'run'].iloc[0]}, which has results in the observations already"
            )
    rows = model.fitted_rows(observations, every_task=True)
    document: dict[str, Any] = {
        "version": FORMAT_VERSION,
        "sealed_at": sealed_at,
        "method": model.settings(),
        "versions": versions(),
        "ladder": {
            "rows": len(rows),
            "runs": sorted(map(str, rows["run"].unique())),
            "sha256": hash_rows(rows, model.feature),
        },
        "targets": [asdict(t) for t in targets],
        "loss_units": {task: fitted.loss_unit for task, fitted in model.fits_.items()},
        "predictions": [asdict(p) for p in predictions],
    }
    sealed = {**document, "sha256": hash_document(document)}
    write_text(path, json.dumps(sealed, indent=2, allow_nan=False) + "\n")


def check_seal(path: Path, observations: pd.DataFrame) -> SealCheck:
    """Check a seal and score its predictions against the targets that were measured since.

    Raises InputError where the file is no seal, was changed, describes a target otherwise than the
    observations do, or no target has been measured.
    """
    document = read_seal(path)
    try:
        return _check(path, document, observations)
    except (KeyError, TypeError, AttributeError, ZeroDivisionError) as error:
        raise InputError(f"{path}: is no seal that `ladder predict --seal` wrote") from error


def _check(path: Path, document: dict[str, Any], observations: pd.DataFrame) -> SealCheck:
    predictions = [Prediction(**row) for row in document["predictions"]]
    targets = {row["name"]: Target(**row) for row in document["targets"]}
    model = TwoStage.from_settings(document["method"])
    ladder = observations[observations["run"].isin(document["ladder"]["runs"])]
    unchanged, refitted = False, None
    try:
        rows_now = hash_rows(model.fitted_rows(ladder, every_task=True), model.feature)
        unchanged = rows_now == document["ladder"]["sha256"]
        refitted = model.fit(ladder) if unchanged else None
    except InputError:
        # Rungs that were sealed are gone or can no longer be fitted; the predictions stand.
        unchanged = False
    scored, unscored = [], []
    measured = observations[observations["role"] == "target"]
    if model.feature not in measured:
        measured = measured.iloc[:0].assign(**{model.feature: math.nan})
    for prediction in predictions:
        rows = measured_rows(measured, prediction.target, model.feature)
        rows = rows[rows["task"] == prediction.task]
        if not len(rows):
            there = (measured["run"] == prediction.target) & (measured["task"] == prediction.task)
            how = " to the end of its run" * bool(measured.loc[there, model.feature].notna().any())
            unscored.append(f"{prediction.target}, {prediction.task}: not measured{how}")
            continue
        _check_target(path, targets[prediction.target], rows)
        units = document["loss_units"]
        unit = str(rows["loss_unit"].iloc[0])
        if model.feature == "loss" and unit != units.get(prediction.task, unit):
            raise InputError(
                f"{path}: {prediction.task} was sealed in {units[prediction.task]} and is measured "
                f"in {unit}"
            )
        loss, actual = actual_of(rows, model.feature)
        fitted = refitted.fits_.get(prediction.task) if refitted else None
        scored.append(audit_row(prediction, fitted, loss, actual))
    if not scored:
        raise InputError(f"{path}: none of its targets has been measured: {', '.join(targets)}")
    change = None
    if refitted is not None:
        again = {(p.target, p.task): p for p in refitted.predict_targets(targets.values())}
        changes = [_change(p, again.get((p.target, p.task))) for p in predictions]
        change = None if None in changes else max(c for c in changes if c is not None)
    return SealCheck(
        audit=Audit(tuple(scored)),
        method=str(document["method"]["method"]),
        sealed_at=str(document["sealed_at"]),
        ladder_unchanged=unchanged,
        largest_change=change,
        unscored=tuple(unscored),
    )


def read_seal(path: Path) -> dict[str, Any]:
    """A seal's document, its hash checked; raises InputError."""
    try:
        document = load_json(path)
        digest = document.pop("sha256")
        version = document["version"]
        found = hash_document(document)
        names = {f.name for f in fields(Prediction)}
        wrong = [row for row in document["predictions"] if set(row) != names]
        _ = document["ladder"]["runs"], document["targets"], document["sealed_at"]
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: is no seal that `ladder predict --seal` wrote") from error
    if version != FORMAT_VERSION or wrong:
        raise InputError(f"{path}: sealed in another format than {FORMAT_VERSION}")
    if found != digest:
        raise InputError(f"{path}: was changed after it was sealed; its hash does not fit")
    return dict(document)


def versions() -> dict[str, str]:
    """Versions of what the numbers depend on."""
    found = {"python": platform.python_version()}
    for name in ("task-ladder", "numpy", "scipy", "pandas"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "unknown"
    return found


def hash_document(document: dict[str, Any]) -> str:
    """SHA-256 of a document, whatever the order and layout of its JSON."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def hash_rows(rows: pd.DataFrame, feature: str = "loss") -> str:
    """SHA-256 of what a fit reads of rows, whatever their order and the file they come from."""
    columns = sorted(c for c in {*READ, feature} if c in rows and rows[c].notna().any())
    ordered = rows.sort_values(["run", "task", "step"], kind="stable")
    digest = hashlib.sha256()
    for column in columns:
        values = ordered[column]
        digest.update(column.encode())
        if pd.api.types.is_numeric_dtype(values) or pd.api.types.is_bool_dtype(values):
            numbers = values.to_numpy(dtype=float, na_value=math.nan)
            digest.update(np.ascontiguousarray(numbers).tobytes())
        else:
            digest.update("\x1f".join(values.astype(str)).encode())
    return digest.hexdigest()


def _check_target(path: Path, sealed: Target, rows: pd.DataFrame) -> None:
    last = rows.sort_values("step", kind="stable").iloc[-1]
    for name in ("params", "tokens"):
        there, then = float(last[name]), float(getattr(sealed, name))
        if abs(there / then - 1) > 0.01:
            raise InputError(
                f"{path}: target {sealed.name} was sealed with {name} {then:.6g} and has "
                f"{there:.6g}; its predictions are for another model"
            )


def _change(sealed: Prediction, again: Prediction | None) -> float | None:
    if again is None:
        return None
    if sealed.predicted is None or again.predicted is None:
        return abs(sealed.loss_predicted - again.loss_predicted)
    return abs(sealed.predicted - again.predicted)
