"""The runs folder: configs, manifests, progress, locks and observations; no torch.

runs/NAME/config.yaml, observations.parquet, predictions.json, audit.csv, report.html, figures/,
          tasks/, of a grid exponents.json
runs/NAME/RUNG/config.yaml, manifest.json, progress.json, metrics.jsonl, scores.parquet,
               checkpoints/step-N/, choices/step-N/TASK.parquet
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from evaluation.files import (
    InputError,
    is_file_name,
    read_json,
    sweep,
    temporary_of,
    write_json,
)
from evaluation.records import read_observations
from evaluation.store import Store
from ladder.config import Experiment
from ladder.kept_config import KeptConfig
from ladder.kept_tasks import KeptTasks
from ladder.locks import LOCK_WAIT, hold, is_held
from ladder.machine import machine_name, version_of
from ladder.plan import Plan, Rung

STATES = ("running", "failed", "finished")
"""States that a manifest may name."""

LOCK = ".lock"
"""File of a rung that whoever trains it holds, and of a runs folder that a command holds."""

MOST = 1e30
"""Above any step, loss and speed that is no mistake."""

TABLES_WAIT = 3600.0
"""Seconds to wait while another command writes a runs folder's tables, which takes seconds of most
ladders and minutes of the largest."""

UNSURE = "whether it still does cannot be told here: the file system keeps no locks, or hides them"
"""Of a run that its manifest says is running."""


@dataclass(frozen=True)
class Progress:
    """Where a rung is, as its worker last said."""

    step: int
    steps: int
    loss: float
    """Training loss of the last step, nats per token: of one batch, and so a noisy one."""
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
        """Hold the rung against other processes; raises InputError naming one that keeps it."""
        with hold(self.path / LOCK, "trains this rung", wait):
            sweep(self.path)
            yield

    def is_locked(self) -> bool | None:
        """Whether a process trains the rung now; None where that cannot be told."""
        return is_held(self.path / LOCK)

    @property
    def complete(self) -> bool:
        """Whether the rung has finished and its scores can be read; they are made again if not."""
        if not self.finished:
            return False
        try:
            self.read_scores()
        except InputError:
            return False
        return True

    def read_scores(self) -> pd.DataFrame:
        """The observations of a finished rung; InputError where they are gone or damaged."""
        again = "`ladder train` scores that run again"
        if not self.scores.is_file():
            raise InputError(f"{self.scores}: is gone; {again}")
        try:
            return read_observations(self.scores)
        except InputError as error:
            raise InputError(f"{error}; {again}") from None

    def write_manifest(self, rung: Rung, state: str, **more: Any) -> None:
        """Write what was run: rung, seed, state, and all versions and machines that had a hand."""
        before = self._read_manifest()
        versions, machines = before.get("versions", []), before.get("machines", [])
        if (machine := machine_name()) not in machines:
            machines = [*machines, machine]
        now = {name: version_of(name) for name in ("task-ladder", "torch", "transformers")}
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
        write_json(self.manifest, document, sealed=True)

    def write_progress(self, progress: Progress) -> None:
        """Say where the rung is; the last word counts, so it is not synced.

        A disk without room for it is no reason to stop: what counts is saved by others.
        """
        temporary = temporary_of(self.progress)
        with suppress(OSError):
            temporary.write_text(json.dumps(asdict(progress)))
            temporary.replace(self.progress)

    def status(self, rung: Rung) -> RungStatus:
        """The rung's state, read from its files."""
        manifest = self._read_manifest()
        if manifest["state"] == "running" and not (locked := self.is_locked()):
            # It may have ended between the two looks, and said how.
            manifest = self._read_manifest()
            if manifest["state"] == "running":
                manifest |= {"error": UNSURE} if locked is None else {"state": "interrupted"}
        state, error = str(manifest["state"]), str(manifest.get("error", ""))
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
                f"{self.manifest}: damaged; remove it, and the run goes on from its last checkpoint"
            )
        return manifest

    def _read_progress(self) -> Progress | None:
        try:
            said = read_json(self.progress)
            progress = Progress(
                int(said["step"]),
                int(said["steps"]),
                float(said["loss"]),
                float(said["tokens_per_second"]),
                float(said["updated"]),
            )
        except (ValueError, TypeError, KeyError, OverflowError):
            return None
        speed = progress.tokens_per_second
        numbers = (progress.step, progress.steps, abs(progress.loss), speed)
        can_be = all(0 <= number < MOST for number in numbers) and not 0 < speed < 1 / MOST
        return progress if can_be else None


class RunsFolder:
    """The folder of one experiment."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.yaml"
        self.tasks = path / "tasks"
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
        return KeptTasks(self.tasks).files

    def check_tasks(self) -> None:
        """Raise InputError for a task that is not what was written when the folder was made."""
        KeptTasks(self.tasks).check()

    @contextmanager
    def lock(self, shared: bool = False) -> Iterator[None]:
        """Hold the folder for a command that trains all of it, or `shared` for one of some rungs.

        Raises InputError naming who holds it, unless both share it: then each rung has its lock.
        """
        with hold(self.path / LOCK, "trains this ladder", shared=shared):
            sweep(self.path)
            yield

    @contextmanager
    def tables(self) -> Iterator[None]:
        """Hold the tables that follow from all rungs, while they are written anew."""
        with hold(self.path / ".tables.lock", "writes its tables", TABLES_WAIT, patient=True):
            yield

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

    def check_trunk(self, rung: Rung) -> None:
        """Raise InputError where a run's trunk has finished and what it goes on from is gone."""
        if rung.trunk and not self.has_trunk(rung) and self.rung(rung.trunk.name).finished:
            raise InputError(
                f"{self.trunk_of(rung)}: is gone, and {rung.name} needs it; "
                f"{self.mend_of_trunk(rung.trunk)}"
            )

    def mend_of_trunk(self, trunk: Rung) -> str:
        """How what other runs go on from can be had again."""
        return f"remove {self.rung(trunk.name).path} to train it again"

    def prepare(self, config: Experiment) -> None:
        """Make the folder with its config and tasks; refuse one that another config made.

        As long as nothing has begun another takes its place, if its corpus is the same.
        """
        KeptConfig(self.path).prepare(config, self.lock)

    def check_config(self, config: Experiment) -> None:
        """Raise InputError where the folder's config is another; to be asked under the lock."""
        KeptConfig(self.path).check(config)

    def load_config(self) -> Experiment:
        """The config that the folder was made from; InputError where it is not what was written."""
        return KeptConfig(self.path).load()

    def statuses(self, plan: Plan) -> list[RungStatus]:
        """The state of every run."""
        return [self.rung(rung.name).status(rung) for rung in plan.runs]

    def gather(self, plan: Plan) -> pd.DataFrame:
        """All finished runs' scores in one table, in the plan's order."""
        folders = [self.rung(rung.name) for rung in plan.runs]
        parts = [folder.read_scores() for folder in folders if folder.finished]
        if not parts:
            raise InputError(f"{self.path}: no run has finished; `ladder train` goes on")
        return pd.concat(parts, ignore_index=True)

    def is_complete(self, plan: Plan) -> bool:
        """Whether every run has finished and the outputs were made from exactly these scores."""
        if not all(self.rung(rung.name).finished for rung in plan.runs):
            return False
        try:
            made_from = read_json(self.predictions)["made_from"]
            return bool(made_from == self.score_digests(plan) | self.made_digests(plan))
        except (InputError, KeyError, TypeError):
            return False

    def score_digests(self, plan: Plan) -> dict[str, str]:
        """SHA-256 of the finished runs' scores, by path."""
        finished = (own for rung in plan.runs if (own := self.rung(rung.name)).finished)
        return self._digests(folder.scores for folder in finished)

    def made_digests(self, plan: Plan) -> dict[str, str]:
        """SHA-256 of what was made from the scores, by path.

        Of reports only that they are there: they tell times and machines, and what else is here
        is the same however often a run was killed.
        """
        made, reports = [self.observations, self.audit], [self.report]
        for own in map(self.recipe, filter(None, plan.recipes)):
            made += [own.predictions, own.audit]
            reports.append(own.report)
        there = {str(r.relative_to(self.path)): "there" for r in reports if r.is_file()}
        return self._digests((*made, self.comparison, self.exponents)) | there

    def _digests(self, paths: Iterable[Path]) -> dict[str, str]:
        return {
            str(path.relative_to(self.path)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in paths
            if path.is_file()
        }
