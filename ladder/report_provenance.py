"""Where a report's numbers come from: config, versions, machines, time and cost of the runs."""

from __future__ import annotations

import math
import platform
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from evaluation.bounds import lines_of
from evaluation.files import InputError, parse_json, read_json, whole_digest
from evaluation.plain import plain
from ladder import __version__
from ladder.report_parts import Cell, Section, Table, flops_cell, number
from ladder.tables import duration
from predict.drawing import flops_text

MOST = 1e60
"""Above any FLOPs, seconds or seed that is no mistake."""

PACKAGES = ("numpy", "pandas", "matplotlib", "torch", "transformers")


@dataclass(frozen=True)
class Origin:
    """What a report was made from."""

    name: str
    """The config's name, or the table's file."""
    file: str
    digest: str
    """SHA-256 of that file."""
    runs: tuple[RunRecord, ...] = ()


@dataclass(frozen=True)
class RunRecord:
    """What a run's folder says of how it was trained."""

    name: str
    flops: float | None
    """Training FLOPs by the architecture's formula."""
    seconds: float | None
    """Spent in steps, from the speeds in metrics.jsonl; None where there are none."""
    seed: int | None
    versions: tuple[str, ...]
    machines: tuple[str, ...]


def origin_of_table(path: Path) -> Origin:
    """A table of observations as the origin."""
    return Origin(path.name, path.name, whole_digest(path))


def origin_of_runs(name: str, config: Path, runs: dict[str, Path]) -> Origin:
    """A runs folder as the origin: its config's name and file, and its runs' folders by name."""
    records = tuple(_record(run, path) for run, path in runs.items())
    return Origin(name, config.name, whole_digest(config), records)


def provenance(origin: Origin | None) -> Section:
    """The section that says all this."""
    made_with = [f"task-ladder {__version__}", f"Python {platform.python_version()}"]
    made_with += [f"{p} {v}" for p in PACKAGES if (v := _version(p))]
    rows: list[tuple[Cell | str, ...]] = [("report made with", ", ".join(made_with))]
    if origin is not None:
        kind = "config" if origin.runs else "observations"
        rows.insert(0, (kind, f"{origin.name} ({origin.file}, SHA-256 {origin.digest})"))
    tables = [Table(("what", "from"), tuple(rows))]
    if origin is not None and origin.runs:
        for what, field in (("trained with", "versions"), ("trained on", "machines")):
            found = dict.fromkeys(x for r in origin.runs for x in getattr(r, field))
            rows.append((what, "; ".join(found) or "not recorded"))
        known = [r.seconds for r in origin.runs if r.seconds is not None]
        spent = duration(sum(known)) if known else "not recorded"
        flops = [r.flops for r in origin.runs if r.flops is not None]
        rows.append(("time in steps, all runs", spent))
        rows.append(("FLOPs, all runs", flops_text(sum(flops), 3) if flops else "not recorded"))
        tables = [Table(("what", "from"), tuple(rows)), _runs(origin)]
    return Section("Provenance", tables=tuple(tables))


def _runs(origin: Origin) -> Table:
    return Table(
        ("run", "FLOPs", "time in steps", "FLOPs a second", "seed"),
        tuple(
            (
                run.name,
                flops_cell(run.flops),
                Cell(duration(run.seconds), run.seconds),
                flops_cell(run.flops / run.seconds if run.flops and run.seconds else None),
                number(run.seed, "d"),
            )
            for run in origin.runs
        ),
        caption="FLOPs by the architecture's own formula, attention included. Time is what the "
        "logged speeds make of the tokens: evaluation and waiting are not in it.",
        folded="each run's time and FLOPs",
    )


def _record(name: str, folder: Path) -> RunRecord:
    try:
        manifest = read_json(folder / "manifest.json")
    except (InputError, OSError):
        manifest = {}
    manifest = manifest if isinstance(manifest, dict) else {}
    rung, seed = manifest.get("rung"), manifest.get("seed")
    flops = rung.get("flops") if isinstance(rung, dict) else None
    return RunRecord(
        name=name,
        flops=float(flops) if isinstance(flops, int | float) and 0 < flops < MOST else None,
        seconds=_seconds(folder / "metrics.jsonl"),
        seed=seed if isinstance(seed, int) and abs(seed) < MOST else None,
        versions=tuple(
            plain(", ".join(f"{k} {v}" for k, v in sorted(entry.items())))
            for entry in _listed(manifest.get("versions"))
            if isinstance(entry, dict)
        ),
        machines=tuple(plain(str(m)) for m in _listed(manifest.get("machines"))),
    )


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _seconds(metrics: Path) -> float | None:
    """Time that the tokens between logged steps took at the logged speeds."""
    if not metrics.is_file():
        return None
    total, before = 0.0, 0.0
    with metrics.open("rb") as file:
        for line in lines_of(file, str(metrics)):
            try:
                row: dict[str, Any] = parse_json(line)
                tokens, speed = float(row["tokens"]), float(row["tokens_per_second"])
            except (ValueError, TypeError, KeyError, OverflowError):
                continue
            if not (math.isfinite(tokens) and math.isfinite(speed)):
                continue
            if speed > 0 and tokens > before:
                total += (tokens - before) / speed
            before = tokens
    return total if 0 < total < MOST else None


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""
