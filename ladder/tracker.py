"""Where a rung's metrics go as it trains: metrics.jsonl always, Weights & Biases where asked."""

from __future__ import annotations

import json
import secrets
import sys
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

from evaluation.bounds import lines_of
from evaluation.files import InputError, parse_json, write_text
from ladder import stopping
from ladder.config import Experiment
from ladder.settings import WandB

if TYPE_CHECKING:
    from ladder.plan import Rung
    from ladder.runs import RungFolder

UPLOAD_SECONDS = 60
"""Longest wait for Weights & Biases at the end of a run, short against a job's time to save; what
was not uploaded by then stays in the rung's folder wandb/, and `wandb sync` sends it."""


class Sink(Protocol):
    """One place that metrics go to."""

    def write(self, step: int, values: dict[str, float]) -> None:
        """Keep what was measured after `step`."""

    def close(self, failed: bool = False) -> None:
        """Say that no more follows, and whether the run failed."""


class Tracker:
    """All the places that the metrics of one rung go to; a context manager that closes them."""

    def __init__(self, *sinks: Sink) -> None:
        self.sinks = sinks

    def write(self, step: int, values: dict[str, float]) -> None:
        """Keep what was measured after `step`, once a step, in rising order."""
        for sink in self.sinks:
            sink.write(step, values)

    def close(self, failed: bool = False) -> None:
        """Say that no more follows, and whether the run failed."""
        for sink in self.sinks:
            sink.close(failed)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        # A run that was asked to stop goes on later: it has not failed.
        self.close(failed=kind is not None and not issubclass(kind, stopping.Stopped))


class JsonLines:
    """metrics.jsonl: a line for every step written, those beyond the checkpoint dropped."""

    def __init__(self, folder: RungFolder, start: int) -> None:
        """Go on after step `start`, the checkpoint's; 0 for a new run."""
        self.path = folder.metrics
        kept = [line for line in _lines(self.path) if line["step"] <= start]
        write_text(self.path, "".join(f"{json.dumps(line)}\n" for line in kept))

    def write(self, step: int, values: dict[str, float]) -> None:
        """Append a line."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")

    def close(self, failed: bool = False) -> None:
        """Nothing to do: every line is written as it comes."""


class WeightsAndBiases:
    """A run of Weights & Biases, the same one however often the rung is killed and goes on.

    Steps that it holds already are not written again, and online those that a kill kept from it are
    sent later, from metrics.jsonl; offline a kill loses the last 15 seconds (measured). Where its
    own process is lost, training goes on without it, which a line on standard error says.
    """

    def __init__(self, config: Experiment, own: WandB, rung: Rung, folder: RungFolder) -> None:
        """Start or go on; raises InputError where wandb is missing, unknown or out of reach."""
        check_tracking(config)
        import wandb

        self.name = rung.name
        self.is_lost = False
        if own.mode == "online" and not wandb.login(prompt=False, verify=False):
            raise InputError(
                "tracking.wandb: no API key; run `wandb login`, set WANDB_API_KEY, or choose mode "
                "offline"
            )
        try:
            self.run: Any = wandb.init(
                project=own.project,
                entity=own.entity,
                mode=own.mode,
                group=own.group or config.name,
                name=rung.name,
                id=_run_id(folder.path / "wandb_id"),
                resume="allow",
                dir=folder.path,
                config={"role": rung.role, **rung.origin, **rung.describe()},
                settings=wandb.Settings(console="off", silent=True, finish_timeout=UPLOAD_SECONDS),
            )
        except (wandb.Error, OSError) as error:
            reason = " ".join(str(error).split())[:200]
            raise InputError(
                f"tracking.wandb: cannot be reached ({reason}); choose mode offline, and `wandb "
                "sync` later"
            ) from error
        # Only online does the run know which steps it holds.
        self.next = int(self.run.step)
        if own.mode == "online":
            self.catch_up(folder.metrics)

    def catch_up(self, metrics: Path) -> None:
        """Log the lines of metrics.jsonl beyond the last step that the run holds."""
        for line in _lines(metrics):
            self.write(line.pop("step"), line)

    def write(self, step: int, values: dict[str, float]) -> None:
        """Log the step at once, so that a kill loses none."""
        if self.is_lost or step < self.next:
            return
        try:
            self.run.log(values, step=step, commit=True)
        except Exception as error:
            self._lose(error)
        self.next = step + 1

    def close(self, failed: bool = False) -> None:
        """End the run and wait for its upload, at most UPLOAD_SECONDS."""
        if self.is_lost:
            return
        try:
            self.run.finish(exit_code=int(failed))
        except Exception as error:
            self._lose(error)

    def _lose(self, error: Exception) -> None:
        self.is_lost = True
        print(
            f"{self.name}: goes on without Weights & Biases ({error}); metrics.jsonl has all",
            file=sys.stderr,
        )


def open_tracker(config: Experiment, rung: Rung, folder: RungFolder, start: int) -> Tracker:
    """The places that the config asks for, to go on after step `start` (0 for a new run).

    Raises InputError where Weights & Biases is asked for and cannot be had.
    """
    sinks: list[Sink] = [JsonLines(folder, start)]
    if config.tracking.wandb is not None:
        sinks.append(WeightsAndBiases(config, config.tracking.wandb, rung, folder))
    return Tracker(*sinks)


def check_tracking(config: Experiment) -> None:
    """Raise InputError where the config asks for what is not installed."""
    if config.tracking.wandb is None:
        return
    found = find_spec("wandb")
    # A folder wandb/ of logs in the working folder is found too, without a file of its own.
    if found is None or found.origin is None:
        raise InputError("tracking.wandb: is not installed; pip install 'task-ladder[wandb]'")


def _lines(path: Path) -> list[dict[str, Any]]:
    """Whole lines of metrics; one cut short by a kill, or damaged, ends them."""
    found: list[dict[str, Any]] = []
    if not path.is_file():
        return found
    with path.open("rb") as file, suppress(ValueError):
        for line in lines_of(file, str(path)):
            row = parse_json(line)
            if not isinstance(row, dict) or type(row.get("step")) is not int:
                break
            found.append(row)
    return found


def _run_id(path: Path) -> str:
    """The rung's id there, kept in its folder: another folder of that name is another run."""
    if not path.is_file():
        write_text(path, f"{secrets.token_hex(8)}\n")
    return path.read_text(encoding="utf-8").strip()
