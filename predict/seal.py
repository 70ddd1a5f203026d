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

from evaluation.records import InputError, write_text
from predict.audit import Audit, actual_of, audit_row
from predict.task_fit import Prediction, Target
from predict.two_stage import TwoStage

FORMAT_VERSION = 1


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
    measured = set(observations.loc[observations["role"] == "target", "run"])
    for target in targets:
        if target.name in measured:
            raise InputError(
                f"--seal {path}: target {target.name} has results in the observations already; "
                "a seal is for predictions made before"
            )
    rows = model.fitted_rows(observations, every_task=True)
    document: dict[str, Any] = {
        "version": FORMAT_VERSION,
        "sealed_at": sealed_at,
        "method": model.settings(),
        "versions": versions(),
        "ladder": {"rows": len(rows), "runs": _runs(rows), "sha256": hash_rows(rows)},
        "targets": [asdict(t) for t in targets],
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
    predictions = [Prediction(**row) for row in document["predictions"]]
    targets = {row["name"]: Target(**row) for row in document["targets"]}
    model = TwoStage.from_settings(document["method"])
    ladder = observations[observations["run"].isin(document["ladder"]["runs"])]
    unchanged, refitted = False, None
    if set(document["ladder"]["runs"]) <= set(ladder["run"]):
        rows_now = hash_rows(model.fitted_rows(ladder, every_task=True))
        unchanged = rows_now == document["ladder"]["sha256"]
        refitted = model.fit(ladder)
    scored, unscored = [], []
    for prediction in predictions:
        rows = observations[
            (observations["run"] == prediction.target) & (observations["task"] == prediction.task)
        ]
        rows = rows[rows[model.feature].notna()] if model.feature in rows else rows.iloc[:0]
        if not len(rows):
            unscored.append(f"{prediction.target}, {prediction.task}: not measured")
            continue
        _check_target(path, targets[prediction.target], rows)
        loss, actual = actual_of(rows, model.feature)
        fitted = refitted.fits_.get(prediction.task) if refitted and unchanged else None
        scored.append(audit_row(prediction, fitted, loss, actual))
    if not scored:
        raise InputError(f"{path}: none of its targets has been measured: {', '.join(targets)}")
    change = None
    if refitted is not None and unchanged:
        again = {(p.target, p.task): p for p in refitted.predict_targets(targets.values())}
        change = max(_change(p, again.get((p.target, p.task))) for p in predictions)
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
        document = json.loads(path.read_text(encoding="utf-8"))
        digest = document.pop("sha256")
        version = document["version"]
        names = {f.name for f in fields(Prediction)}
        wrong = [row for row in document["predictions"] if set(row) != names]
        _ = document["ladder"]["runs"], document["targets"], document["sealed_at"]
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise InputError(f"{path}: is no seal that `ladder predict --seal` wrote") from error
    if version != FORMAT_VERSION or wrong:
        raise InputError(f"{path}: sealed in another format than {FORMAT_VERSION}")
    if hash_document(document) != digest:
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


def hash_rows(rows: pd.DataFrame) -> str:
    """SHA-256 of rows by value, whatever their order and the file that they come from."""
    columns = sorted(c for c in rows.columns if rows[c].notna().any() and c != "schema_version")
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


def _runs(rows: pd.DataFrame) -> list[str]:
    return sorted(map(str, rows["run"].unique()))


def _check_target(path: Path, sealed: Target, rows: pd.DataFrame) -> None:
    last = rows.sort_values("step", kind="stable").iloc[-1]
    for name in ("params", "tokens"):
        there, then = float(last[name]), float(getattr(sealed, name))
        if abs(there / then - 1) > 0.01:
            raise InputError(
                f"{path}: target {sealed.name} was sealed with {name} {then:.6g} and has "
                f"{there:.6g}; its predictions are for another model"
            )


def _change(sealed: Prediction, again: Prediction | None) -> float:
    if again is None:
        return math.inf
    if sealed.predicted is None or again.predicted is None:
        return abs(sealed.loss_predicted - again.loss_predicted)
    return abs(sealed.predicted - again.predicted)
