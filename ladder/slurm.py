"""Slurm: one batch script a rung, plain text, submitted with sbatch; squeue tells the queue.

RUNS/slurm/RUNG.sbatch, report.sbatch, jobs.json; RUNS/RUNG/slurm-JOB.out
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from evaluation.files import InputError, is_file_name, read_json, sweep, write_json, write_text
from ladder.config import Experiment
from ladder.locks import hold
from ladder.plan import Plan, Rung
from ladder.runs import UNSURE, RungStatus, RunsFolder
from ladder.settings import Cluster, Resources
from ladder.stopping import STOPPED_STATUS

REPORT = "report"
"""Name of the last job, which analyses what has finished; no rung's, they have a multiple."""

HEADER = """\
#!/bin/bash
# {what}; written by `ladder train --engine slurm`, which writes it anew.
# To submit it as it is here, edited or not: sbatch {path}
"""

FOREGROUND = """\
# Slurm warns with USR1 before the time limit and with TERM before it takes the nodes back. The
# rung then saves a checkpoint and ends, and goes on from there when the job runs again: this job
# queues itself for that, unless it was cancelled, or queued again by Slurm.
rung= asked= again=yes
ask() {{
  asked=yes again=yes
  if [ -n "$rung" ]; then kill -USR1 "$rung" 2>/dev/null; fi
}}
trap ask USR1 TERM

{launch} &
rung=$!
if [ -n "$asked" ]; then kill -USR1 "$rung" 2>/dev/null; fi

# A signal ends `wait` early.
while [ -n "$again" ]; do
  again=
  wait "$rung"
  status=$?
done

# {stopped}: it stopped as asked. Asked before it could listen, it was ended by the signal.
if [ "$status" -eq {stopped} ] || {{ [ -n "$asked" ] && [ "$status" -ne 0 ]; }}; then
  if [ "$(squeue --noheader --jobs="$SLURM_JOB_ID" --format=%T)" = RUNNING ]; then
    scontrol requeue "$SLURM_JOB_ID"
  fi
fi
exit "$status"
"""

RANKS = """\
# One process a GPU, with the environment that torchrun gives its own. srun passes on signals and
# exit statuses, which torchrun does not.
export MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export MASTER_PORT=$((20000 + SLURM_JOB_ID % 20000))
export WORLD_SIZE={world} LOCAL_WORLD_SIZE={local}

"""

ONE_RANK = 'RANK=$SLURM_PROCID LOCAL_RANK=$SLURM_LOCALID exec "$@"'


@dataclass(frozen=True)
class Job:
    """A job in the queue."""

    id: str
    state: str
    """As squeue says it: `PENDING`, `RUNNING`, `COMPLETING`, ..."""
    reason: str
    """Why it waits."""


@dataclass(frozen=True)
class Submission:
    """What `submit` did; job ids by name."""

    submitted: dict[str, str]
    queued: dict[str, str]
    """Left out: in the queue already."""
    finished: tuple[str, ...]
    """Left out: trained to their end."""


def rung_script(config: Experiment, rung: Rung, runs: RunsFolder) -> str:
    """The batch script that trains one rung; InputError where it cannot be shared out so."""
    if not is_file_name(rung.name):
        raise InputError(f"{rung.name!r}: is no name of a run's folder")
    resources = config.cluster.resources(rung.size)
    nodes, local = resources.nodes or 1, max(1, resources.gpus or 0)
    world = nodes * local
    if world > rung.batch_sequences:
        raise InputError(
            f"{rung.name}: {world} processes are more than the {rung.batch_sequences} sequences "
            f"of a batch; lower cluster.nodes or cluster.gpus, or cluster.sizes.{rung.size}"
        )
    folder = _safe(runs.path)
    train = ("train", folder / "config.yaml", "--rung", rung.name, "--runs", folder)
    command = _ladder(config.cluster, *train, "--engine", "here")
    body = ""
    if world > 1:
        body = RANKS.format(world=world, local=local)
        cpus = f" --cpus-per-task={resources.cpus}" if resources.cpus else ""
        srun = f"srun --nodes={nodes} --ntasks-per-node={local}{cpus} --kill-on-bad-exit=1"
        command = f"{srun} \\\n  bash -c {shlex.quote(ONE_RANK)} rank \\\n  {command}"
    return _script(
        config,
        rung.name,
        f"Rung {rung.name} of {config.name}",
        folder,
        folder / rung.name,
        [
            *_options(resources, local),
            "--open-mode=append",
            "--requeue",
            f"--signal=B:USR1@{config.cluster.signal_seconds}",
        ],
        body + FOREGROUND.format(launch=command, stopped=STOPPED_STATUS),
    )


def report_script(config: Experiment, runs: RunsFolder) -> str:
    """The batch script of the last job: says which rungs finished, and analyses those."""
    folder, cluster = _safe(runs.path), config.cluster
    resources = Resources(cpus=cluster.cpus, memory=cluster.memory, time=cluster.time)
    lines = [_ladder(cluster, "status", folder), _ladder(cluster, "report", folder)]
    return _script(
        config,
        REPORT,
        f"Observations, predictions, audit and report of {config.name} from the rungs that "
        "finished; it trains none",
        folder,
        folder / "slurm",
        [*_options(resources, 1), "--open-mode=append"],
        "\n".join(lines) + "\n",
    )


def scripts(
    config: Experiment, plan: Plan, names: Sequence[str], runs: RunsFolder
) -> dict[str, str]:
    """The scripts by name: trunks, the costliest first, the report last unless rungs are named.

    A rung that is named brings its trunk along, where that has not come so far. InputError where
    a trunk has finished and what a rung goes on from is gone.
    """
    rungs = plan.matching(names) if names else list(plan.runs)
    for rung in rungs:
        runs.check_trunk(rung)
    rungs += [rung.trunk for rung in rungs if rung.trunk and not runs.has_trunk(rung)]
    order = sorted(dict.fromkeys(rungs), key=lambda rung: (not rung.branches, -rung.flops))
    texts = {rung.name: rung_script(config, rung, runs) for rung in order}
    return texts if names else {**texts, REPORT: report_script(config, runs)}


def dry_run(config: Experiment, plan: Plan, names: Sequence[str], runs: RunsFolder) -> str:
    """The scripts of all that has not finished, as text, with the commands that submit them."""
    texts = scripts(config, plan, names, runs)
    rungs = [n for n in texts if n != REPORT and not runs.rung(n).complete]
    parts = []
    for name in rungs:
        rung = plan.run(name)
        after = [f"<{rung.trunk.name}>"] if rung.trunk and not runs.has_trunk(rung) else []
        parts.append(f"# ----- {_command(runs, name, after)}\n{texts[name]}")
    if REPORT in texts:
        after = [f"<{name}>" for name in rungs]
        parts.append(f"# ----- {_command(runs, REPORT, after)}\n{texts[REPORT]}")
    return "\n".join(parts)


def submit(config: Experiment, plan: Plan, names: Sequence[str], runs: RunsFolder) -> Submission:
    """Write and submit the scripts of all that has neither finished nor waits in the queue.

    Job ids are kept in jobs.json as they come. InputError where Slurm refuses one; those before
    it stay, and the same call submits the others.
    """
    for tool in ("sbatch", "squeue"):
        if shutil.which(tool) is None:
            raise InputError(
                f"{tool}: not found; run this where Slurm is, or print the scripts with --dry-run"
            )
    texts = scripts(config, plan, names, runs)
    runs.prepare(config)
    submits = hold(runs.path / "slurm" / ".lock", "submits its jobs")
    with runs.lock(shared=True), submits as lock:
        runs.check_config(config)
        return _submit(plan, texts, runs, lock)


def _submit(plan: Plan, texts: dict[str, str], runs: RunsFolder, lock: int) -> Submission:
    folder = runs.path / "slurm"
    sweep(folder)
    known = {**_read_jobs(runs), **_untold(texts, runs)}
    if known:
        write_json(_jobs_file(runs), {"version": 1, "jobs": known}, sealed=True)
    queue = jobs(runs)
    finished = tuple(n for n in texts if n != REPORT and runs.rung(n).complete)
    submitted: dict[str, str] = {}
    for name, text in texts.items():
        if name in finished or (name in queue and name != REPORT):
            continue
        after: list[str] = []
        if name == REPORT:
            waiting = [job.id for other, job in queue.items() if other != REPORT]
            after = [*waiting, *submitted.values()]
            if not submitted and (REPORT in queue or (not after and runs.is_complete(plan))):
                continue
            if REPORT in queue:  # It waits for fewer jobs than there are now.
                _slurm(["scancel", "--state=PENDING", queue[REPORT].id], "the old report's job")
        else:
            runs.rung(name).path.mkdir(parents=True, exist_ok=True)
            rung = plan.run(name)
            if rung.trunk and not runs.has_trunk(rung):
                waits = queue.get(rung.trunk.name)
                after = [waits.id if waits else submitted[rung.trunk.name]]
        write_text(folder / f"{name}.sbatch", text)
        try:
            # Killed meanwhile, sbatch goes on: the next command waits for what it submits.
            said = _slurm(["sbatch", "--parsable", *_sbatch(runs, name, after)], name, (lock,))
        except InputError as error:
            told = ", ".join(f"{n} ({id})" for n, id in submitted.items())
            before = f"; submitted before it: {told}" if told else ""
            raise InputError(f"{error}{before}; the same command submits the rest") from None
        id = said.strip().splitlines()[-1].split(";")[0]
        if not re.fullmatch(r"\d+", id):
            raise InputError(f"{name}: sbatch answered {said.strip()!r}, no job id; see squeue")
        submitted[name] = known[name] = id
        write_json(_jobs_file(runs), {"version": 1, "jobs": known}, sealed=True)
    # A job that has finished its rung may still be leaving the queue.
    left = set(texts) - {*submitted, *finished}
    queued = {name: job.id for name, job in queue.items() if name in left}
    return Submission(submitted, queued, finished)


def jobs(runs: RunsFolder) -> dict[str, Job]:
    """Those of the folder's jobs that are in the queue, by name; InputError where it is closed."""
    names = {id: name for name, id in _read_jobs(runs).items()}
    if not names:
        return {}
    command = ["squeue", "--noheader", f"--jobs={','.join(names)}", "--format=%i|%T|%r"]
    try:
        said = _slurm(command, "the queue")
    except InputError as error:
        # So it answers for one job that it has forgotten; of several it leaves those out.
        if "Invalid job id" in str(error):
            return {}
        raise
    found = (line.split("|", 2) for line in said.splitlines() if line.count("|") >= 2)
    return {names[id]: Job(id, state, reason) for id, state, reason in found if id in names}


def with_job(status: RungStatus, job: Job | None, rung: Rung) -> RungStatus:
    """A rung's status where its job is known: `queued`, or `running` on another machine."""
    if job is None or status.state == "finished":
        return status
    if status.state == "running" and status.error != UNSURE:
        return status
    if job.state == "PENDING":
        return replace(status, state="queued", error="")
    if job.state != "RUNNING":
        return status
    speed = status.tokens_per_second
    left = (status.steps - status.step) * rung.batch_tokens / speed if speed else None
    return replace(status, state="running", seconds_left=left, error="")


def _script(
    config: Experiment,
    name: str,
    what: str,
    runs: Path,
    logs: Path,
    options: Sequence[str],
    body: str,
) -> str:
    cluster = config.cluster
    given = {
        "partition": cluster.partition,
        "account": cluster.account,
        "qos": cluster.qos,
        "constraint": cluster.constraint,
    }
    lines = [
        f"--job-name={config.name}.{name}",
        *(f"--{key}={value}" for key, value in given.items() if value is not None),
        *options,
        f"--output={str(logs).replace('%', '%%')}/slurm-%j.out",
    ]
    path = shlex.quote(str(runs / "slurm" / f"{name}.sbatch"))
    header = HEADER.format(what=what, path=path)
    header += "".join(f"#SBATCH {shlex.quote(line)}\n" for line in lines)
    header += "".join(f"#SBATCH {line}\n" for line in cluster.extra)
    return "\n".join([header, *(line + "\n" for line in cluster.setup), body])


def _options(resources: Resources, tasks: int) -> list[str]:
    given = {
        "time": resources.time,
        "nodes": resources.nodes or 1,
        "ntasks-per-node": tasks,
        "gpus-per-node": resources.gpus or None,
        "cpus-per-task": resources.cpus,
        "mem": resources.memory,
    }
    return [f"--{key}={value}" for key, value in given.items() if value is not None]


def _ladder(cluster: Cluster, *arguments: object) -> str:
    # -P: a module of the user's beside the job must not stand in for ours.
    words = [cluster.python or sys.executable, "-P", "-m", "ladder.cli", *map(str, arguments)]
    return shlex.join(words)


def _sbatch(runs: RunsFolder, name: str, after: Sequence[str]) -> list[str]:
    return [*_wait(name, after), str(_safe(runs.path) / "slurm" / f"{name}.sbatch")]


def _command(runs: RunsFolder, name: str, after: Sequence[str] = ()) -> str:
    wait = "".join(f"{option} " for option in _wait(name, after))
    return f"sbatch --parsable {wait}{shlex.join(_sbatch(runs, name, ()))}"


def _wait(name: str, after: Sequence[str]) -> list[str]:
    """Options that let a job wait: the report for the others' end, a rung for its trunk's success.

    Without its trunk a rung has nothing to go on from, and Slurm drops it.
    """
    if not after:
        return []
    if name == REPORT:
        return [f"--dependency=afterany:{':'.join(after)}"]
    return [f"--dependency=afterok:{':'.join(after)}", "--kill-on-invalid-dep=yes"]


def _safe(path: Path) -> Path:
    """The path in full; InputError where Slurm would read it as something else."""
    full = path.resolve()
    if re.search(r"[\x00-\x1f\\]", str(full)):
        raise InputError(
            f"{str(full)!r}: Slurm takes no backslash, tab or line break in a folder's name; give "
            "another --runs"
        )
    return full


def _untold(texts: Mapping[str, str], runs: RunsFolder) -> dict[str, str]:
    """Jobs in the queue by their scripts: a command that was killed may have kept no id of one."""
    # By number: Slurm before 20.02 knows no --me, and not every number has a name on every node.
    own = f"--user={os.getuid()}"
    try:
        said = _slurm(["squeue", own, "--noheader", "--format=%i|%o"], "the queue")
    except InputError as error:
        if "Invalid job id" in str(error):
            return {}
        raise
    pairs = (line.partition("|") for line in said.splitlines())
    queued = {script: id for id, _, script in pairs}
    scripts = {name: str(_safe(runs.path) / "slurm" / f"{name}.sbatch") for name in texts}
    return {name: queued[path] for name, path in scripts.items() if path in queued}


def _jobs_file(runs: RunsFolder) -> Path:
    return runs.path / "slurm" / "jobs.json"


def _read_jobs(runs: RunsFolder) -> dict[str, str]:
    path = _jobs_file(runs)
    if not path.is_file():
        return {}
    try:
        document = read_json(path)
    except InputError:
        document = None
    known = document.get("jobs") if isinstance(document, Mapping) else None
    if not isinstance(known, dict) or not all(
        isinstance(id, str) and re.fullmatch(r"\d+", id) for id in known.values()
    ):
        raise InputError(f"{path}: damaged; remove it, and what is queued is found by its script")
    return known


def _slurm(command: list[str], what: str, inherits: tuple[int, ...] = ()) -> str:
    """Standard output of one of Slurm's commands; InputError with its message where it fails."""
    try:
        done = subprocess.run(  # noqa: S603
            command, capture_output=True, text=True, check=False, pass_fds=inherits
        )
    except OSError as error:
        raise InputError(f"{what}: {command[0]} cannot be run ({error.strerror})") from None
    if done.returncode:
        said = " ".join(done.stderr.split()) or f"exit status {done.returncode}"
        raise InputError(f"{what}: {command[0]} refused: {said}")
    return done.stdout
