"""The runs folder: configs, manifests, progress, locks and observations; no torch.

runs/NAME/config.yaml, observations.parquet, predictions.json, audit.csv, report.html, figures/,
          tasks/, of a grid exponents.json
runs/NAME/RUNG/config.yaml, manifest.json, progress.json, metrics.jsonl, scores.parquet,
               checkpoints/step-N/, choices/step-N/TASK.parquet
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import pandas as pd

from evaluation.files import InputError, is_file_name, read_json, write_json, write_text
from evaluation.records import read_observations
from evaluation.store import Store
from evaluation.tasks import read_task, write_task
from ladder.config import Experiment, differences, dump_config, load_config
from ladder.corpora import open_corpus
from ladder.plan import Plan, Rung

STATES = ("running", "failed", "finished")
"""States that a manifest may name."""

LOCK_WAIT = 10.0
"""Seconds to wait for a killed run's worker to let go of a rung."""


@dataclass(frozen=True)
class Progress:
    """Where a rung is, as its worker last said."""

    step: int
    steps: int
    loss: float
    """Training loss of the last step, nats per token."""
    tokens_per_second: float
    updated: float
    """Seconds since the epoch."""


@dataclass(frozen=True)
class RungStatus:
    """One line of `ladder status`."""

    name: str
    role: str
    state: str
    """`pending`, `running`, `interrupted`, `failed` or `finished`."""
    step: int
    steps: int
    loss: float | None
    tokens_per_second: float | None
    seconds_left: float | None
    error: str = ""


class RungFolder:
    """Files of one rung."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoints = path / "checkpoints"
        self.manifest = path / "manifest.json"
        self.progress = path / "progress.json"
        self.metrics = path / "metrics.jsonl"
        self.scores = path / "scores.parquet"

    def store(self, step: int, dtype: str = "float32") -> Store:
        """Where the score of every choice after `step` is kept."""
        owner = {"run": self.path.name, "step": step, "dtype": dtype}
        return Store(self.path / "choices" / f"step-{step}", owner)

    @property
    def finished(self) -> bool:
        """Whether the rung was trained and scored to its end."""
        return self.state() == "finished"

    def state(self) -> str:
        """What the manifest says, `pending` where there is none; InputError where it is broken."""
        return str(self._read_manifest()["state"])

    @contextmanager
    def lock(self, wait: float = LOCK_WAIT) -> Iterator[None]:
        """Hold the rung against other processes; raises InputError where one keeps it."""
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / ".lock").open("a") as handle:
            deadline = time.monotonic() + wait
            while not _try_lock(handle.fileno()):
                if time.monotonic() > deadline:
                    raise InputError(f"{self.path}: another process trains this rung; wait for it")
                time.sleep(0.1)
            yield

    def is_locked(self) -> bool:
        """Whether a process trains the rung now."""
        path = self.path / ".lock"
        if not path.is_file():
            return False
        # Some network file systems lock only what is open for writing.
        with path.open("r+") as handle:
            return not _try_lock(handle.fileno())

    def write_manifest(self, rung: Rung, state: str, **more: Any) -> None:
        """Write what was run: rung, seed, state, and all versions and machines that had a hand."""
        before = self._read_manifest()
        versions, machines = before.get("versions", []), before.get("machines", [])
        if (machine := machine_name()) not in machines:
            machines = [*machines, machine]
        now = {name: _version(name) for name in ("task-ladder", "torch", "transformers")}
        if now not in versions:
            versions = [*versions, now]
        document = {
            "version": 1,
            "state": state,
            "role": rung.role,
            **rung.origin,
            "rung": {**rung.describe(), "shape": rung.shape.model_dump()},
            "versions": versions,
            "machines": machines,
            **more,
        }
        write_json(self.manifest, document)

    def write_progress(self, progress: Progress) -> None:
        """Say where the rung is; the last word counts, so it is not synced."""
        temporary = self.progress.with_suffix(".tmp")
        temporary.write_text(json.dumps(asdict(progress)))
        temporary.replace(self.progress)

    def status(self, rung: Rung) -> RungStatus:
        """The rung's state, read from its files."""
        state, error = self.state(), str(self._read_manifest().get("error", ""))
        if state == "running" and not self.is_locked():
            state = "interrupted"
        progress = self._read_progress()
        if progress is None or state == "pending":
            done = rung.steps if state == "finished" else 0
            return RungStatus(
                rung.name, rung.role, state, done, rung.steps, None, None, None, error
            )
        speed = progress.tokens_per_second
        left = (rung.steps - progress.step) * rung.batch_tokens / speed if speed else None
        return RungStatus(
            name=rung.name,
            role=rung.role,
            state=state,
            step=progress.step,
            steps=rung.steps,
            loss=progress.loss,
            tokens_per_second=speed,
            seconds_left=left if state == "running" else None,
            error=error,
        )

    def _read_manifest(self) -> dict[str, Any]:
        if not self.manifest.is_file():
            return {"state": "pending"}
        try:
            manifest = read_json(self.manifest)
        except InputError:
            manifest = None
        if not isinstance(manifest, dict) or manifest.get("state") not in STATES:
            raise InputError(
                f"{self.manifest}: damaged; remove {self.path} to train this run again"
            )
        return manifest

    def _read_progress(self) -> Progress | None:
        try:
            said = json.loads(self.progress.read_text())
            progress = Progress(
                int(said["step"]),
                int(said["steps"]),
                float(said["loss"]),
                float(said["tokens_per_second"]),
                float(said["updated"]),
            )
        except (OSError, ValueError, TypeError, KeyError, OverflowError, RecursionError):
            return None
        return progress if math.isfinite(progress.loss * progress.tokens_per_second) else None


class RunsFolder:
    """The folder of one experiment."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.yaml"
        self.tasks = path / "tasks"
        self.task_index = self.tasks / "index.json"
        self.corpus = path / "corpus"
        self.observations = path / "observations.parquet"
        self.predictions = path / "predictions.json"
        self.audit = path / "audit.csv"
        self.report = path / "report.html"
        self.figures = path / "figures"
        self.comparison = path / "comparison.json"
        self.exponents = path / "exponents.json"

    def recipe(self, name: str) -> RunsFolder:
        """Where what follows from one of several recipes is written."""
        return RunsFolder(self.path / "recipes" / name)

    @property
    def task_files(self) -> list[Path]:
        """The tasks that rungs are scored on as they train."""
        if not self.task_index.is_file():
            return sorted(self.tasks.glob("*.jsonl"))
        names = read_json(self.task_index)
        # A name must not lead out of the folder.
        if not isinstance(names, list) or not all(map(is_file_name, names)):
            raise InputError(f"{self.task_index}: damaged; remove {self.path} to begin again")
        return [self.tasks / f"{name}.jsonl" for name in names]

    def rung(self, name: str) -> RungFolder:
        """The folder of one rung; InputError for a name that would lead out of this one."""
        if not is_file_name(name):
            raise InputError(f"{self.path}: {name!r} is no name of a run's folder")
        return RungFolder(self.path / name)

    def trunk_of(self, rung: Rung) -> Path:
        """The checkpoint that a rung goes on from, where it has a trunk."""
        if rung.trunk is None:
            raise ValueError(f"{rung.name} has no trunk")
        return self.rung(rung.trunk.name).checkpoints / f"step-{rung.branch_step}"

    def has_trunk(self, rung: Rung) -> bool:
        """Whether all that a run goes on from is there."""
        if rung.trunk is None or self.trunk_of(rung).is_dir():
            return True
        own = self.rung(rung.name)
        return own.finished or any(own.checkpoints.glob("step-*"))

    def prepare(self, config: Experiment) -> None:
        """Make the folder with its config and tasks; refuse one that another config made."""
        if self.config.is_file():
            changed = differences(self.load_config(), config)
            if changed:
                more = f" (and {len(changed) - 3} more)" if len(changed) > 3 else ""
                raise InputError(
                    f"{self.path}: was made from another config: {'; '.join(changed[:3])}{more}; "
                    "give another folder with --runs, or remove this one"
                )
            if dump_config(config) != self.config.read_text(encoding="utf-8"):
                write_text(self.config, dump_config(config))
        elif self.path.exists() and not self.path.is_dir():
            raise InputError(f"{self.path}: is a file; give a folder with --runs")
        elif self.path.is_dir() and any(p.name != "tasks" for p in self.path.glob("[!.]*")):
            raise InputError(
                f"{self.path}: is not empty and holds no config.yaml; give another --runs"
            )
        else:
            tasks = open_corpus(config.corpus, self.corpus).tasks()
            try:
                self.tasks.mkdir(parents=True, exist_ok=True)
            except (FileExistsError, NotADirectoryError, PermissionError) as error:
                reason = error.strerror or error
                raise InputError(
                    f"{self.path}: cannot be made ({reason}); give another --runs"
                ) from error
            for task in tasks:
                write_task(task, self.tasks)
            write_json(self.task_index, [task.name for task in tasks])
            write_text(self.config, dump_config(config))
        for path in self.task_files:
            read_task(path)

    def load_config(self) -> Experiment:
        """The config that the folder was made from."""
        if not self.config.is_file():
            raise InputError(f"{self.path}: no runs folder; it holds no config.yaml")
        return load_config(str(self.config))

    def statuses(self, plan: Plan) -> list[RungStatus]:
        """The state of every run."""
        return [self.rung(rung.name).status(rung) for rung in plan.runs]

    def gather(self, plan: Plan) -> pd.DataFrame:
        """All finished runs' scores in one table, in the plan's order."""
        folders = [self.rung(rung.name) for rung in plan.runs]
        lost = [f.scores for f in folders if f.finished and not f.scores.is_file()]
        if lost:
            raise InputError(f"{lost[0]}: is gone; remove {lost[0].parent} to train this run again")
        parts = [read_observations(f.scores) for f in folders if f.finished]
        if not parts:
            raise InputError(f"{self.path}: no run has finished; `ladder train` goes on")
        return pd.concat(parts, ignore_index=True)

    def is_complete(self, plan: Plan) -> bool:
        """Whether every run has finished and the outputs were made from exactly these scores."""
        if not all(self.rung(rung.name).finished for rung in plan.runs):
            return False
        try:
            return bool(read_json(self.predictions)["made_from"] == self.digests(plan))
        except (InputError, KeyError, TypeError):
            return False

    def digests(self, plan: Plan) -> dict[str, str]:
        """SHA-256 of the finished runs' scores and of what was made from them, by path.

        Of reports only that they are there: they tell times and machines, and what else is here
        is the same however often a run was killed.
        """
        scores = [self.rung(r.name).scores for r in plan.runs if self.rung(r.name).finished]
        made, reports = [self.observations, self.audit], [self.report]
        for own in map(self.recipe, filter(None, plan.recipes)):
            made += [own.predictions, own.audit]
            reports.append(own.report)
        told = {
            path: hashlib.sha256(path.read_bytes()).hexdigest()
            for path in (*scores, *made, self.comparison, self.exponents)
            if path.is_file()
        }
        told |= {path: "there" for path in reports if path.is_file()}
        return {str(path.relative_to(self.path)): digest for path, digest in told.items()}


def _try_lock(descriptor: int) -> bool:
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def machine_name() -> str:
    """The processor, how many of its cores this process may use, and the GPUs that torch sees."""
    name = platform.processor() or platform.machine()
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                name = line.partition(":")[2].strip()
                break
    found = [f"{cores()} cores of {name}"]
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        found += [f"{names.count(n)} x {n}" for n in dict.fromkeys(names)]
    return ", ".join(found)


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
