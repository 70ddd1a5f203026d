"""The command that tells how the runs of a folder fare: status."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from tyro import conf

from evaluation.files import InputError
from ladder.commands.options import Flag

if TYPE_CHECKING:
    from ladder.runs import RungStatus, RunsFolder
    from ladder.slurm import Job


def status(runs: conf.Positional[Path], json: Flag = False, out: Path | None = None) -> None:
    """How far the runs are: state, loss, tokens/s, time left, by whom.

    The loss is that of the last batch alone, nats per token, and so a noisy one; speed is the mean
    since training began or went on. Where `ladder train --engine slurm` submitted them, the queue
    is read too.

    Example: ladder status runs/quickstart

    Args:
        runs: A runs folder, such as runs/quickstart.
        json: Print one JSON document.
        out: Write a .json or .csv file.
    """
    from dataclasses import asdict

    from ladder import slurm, tables
    from ladder.plan import make_plan
    from ladder.runs import RunsFolder

    tables.check_out(out)
    folder = RunsFolder(runs)
    planned = make_plan(folder.load_config())
    try:
        jobs = slurm.jobs(folder)
    except InputError as error:
        tables.note(f"without the queue's word: {error}")
        jobs = {}
    statuses = [
        slurm.with_job(s, jobs.get(s.name), planned.run(s.name)) for s in folder.statuses(planned)
    ]
    ids = {name: job.id for name, job in jobs.items()}
    rows = [{**asdict(s), "job": ids.get(s.name)} for s in statuses]
    tables.emit({"version": 1, "runs": rows}, rows, json, out)
    if json:
        return
    who = {s.name: _who(folder, s, jobs.get(s.name)) for s in statuses}
    tables.show(
        str(runs),
        ("run", "state", "step", "loss", "tokens/s", "time left", "by"),
        [
            (
                s.name,
                s.state,
                f"{s.step:,} / {s.steps:,}",
                "" if s.loss is None else f"{s.loss:.4f}",
                "" if s.tokens_per_second is None else f"{s.tokens_per_second:,.0f}",
                tables.duration(s.seconds_left),
                who[s.name],
            )
            for s in statuses
        ],
    )
    for s in statuses:
        if s.error:
            tables.say(f"{s.name}: {s.state}: {s.error}")
    counts = Counter(s.state for s in statuses)
    tables.say(", ".join(f"{count} {state}" for state, count in counts.items()))
    if slurm.REPORT in jobs:
        tables.note(f"report: job {_job(jobs[slurm.REPORT])}")


def _who(folder: RunsFolder, status: RungStatus, job: Job | None) -> str:
    """The job or the process that has a run; empty where nobody does."""
    from ladder.locks import read_holder
    from ladder.runs import LOCK

    if job is not None:
        return f"job {_job(job)}"
    holder = read_holder(folder.rung(status.name).path / LOCK)
    if status.state != "running" or holder is None:
        return ""
    return f"process {holder.command_pid} on {holder.host}"


def _job(job: Job) -> str:
    waits = job.reason if job.state == "PENDING" else ""
    return f"{job.id} ({waits})" if waits else job.id
