"""What of task-ladder works on this machine, what does not, and how to mend it; torch if there."""

from __future__ import annotations

import importlib
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from ladder import __version__
from ladder.machine import cores, gpus

State = Literal["ok", "absent", "broken"]
"""absent: not there, and needed only by some; broken: what is there does not work."""

CORE = ("numpy", "pandas", "pyarrow", "pydantic", "matplotlib", "jinja2", "rich", "tyro")
TRAINING = ("torch", "transformers", "datasets", "tokenizers", "safetensors")
KERNELS = {
    "flash_attn": "execution.attention flash_attention_2",
    "mamba_ssm": "fast Mamba-2 on GPUs",
}
PACKAGES = ("evaluation", "predict", "ladder")
LITTLE_DISK = 5e9
"""Bytes of free disk below which training a ladder may end early."""
SECONDS = 5
"""Seconds that Slurm gets to answer."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    name: str
    state: State
    found: str
    mend: str = ""
    """How to mend it, or what it would be good for; empty where all is well."""


def examine(folder: Path, verify: bool = False) -> list[Finding]:
    """Look at everything; `folder` is where runs would be written. Changes nothing.

    To `verify` reads all that lies there.
    """
    checks: tuple[Callable[[], Finding], ...] = (
        _version,
        _names,
        lambda: _packages("core", CORE, "pip install task-ladder"),
        lambda: _packages("train", TRAINING, "pip install 'task-ladder[train]'"),
        _gpu,
        *(lambda name=name, use=use: _kernel(name, use) for name, use in KERNELS.items()),
        _wandb,
        _slurm,
        _requests,
        _machine,
        lambda: _disk(folder),
        *((lambda: _written(folder),) if verify else ()),
    )
    return [check() for check in checks]


def document(findings: list[Finding]) -> dict[str, Any]:
    """What `ladder doctor --json` prints."""
    return {"version": 1, "task_ladder": __version__, "findings": [asdict(f) for f in findings]}


def _version() -> Finding:
    where = Path(__file__).parent.parent
    python = f"Python {platform.python_version()} ({sys.executable})"
    return Finding("task-ladder", "ok", f"{__version__} in {where}, {python}")


def _names() -> Finding:
    """Whether `predict`, `evaluation` and `ladder` are ours, from wherever they are imported."""
    home = Path(__file__).resolve().parent.parent
    for name in PACKAGES:
        spec = importlib.util.find_spec(name)
        origin = Path(spec.origin or "").resolve() if spec else Path()
        if origin.parent.parent != home:
            return Finding(
                "names",
                "broken",
                f"`import {name}` finds {origin}",
                "rename that file, or use an environment of its own",
            )
    return Finding("names", "ok", f"{', '.join(PACKAGES)} are ours")


def _packages(extra: str, names: tuple[str, ...], install: str) -> Finding:
    versions, missing = [], []
    for name in names:
        try:
            versions.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            missing.append(name)
    if missing:
        state: State = "broken" if extra == "core" else "absent"
        need = "" if extra == "core" else ": needed to train and to score models"
        return Finding(extra, state, f"no {', '.join(missing)}", install + need)
    if error := _import_error(names[0]):
        return Finding(extra, "broken", f"{names[0]} does not load ({error})", install)
    return Finding(extra, "ok", ", ".join(versions))


def _gpu() -> Finding:
    if importlib.util.find_spec("torch") is None or _import_error("torch"):
        return Finding("GPU", "absent", "unknown without torch", "install the extra train")
    import torch

    if torch.cuda.is_available():
        names = gpus()
        memory = torch.cuda.get_device_properties(0).total_memory / 2**30
        return Finding("GPU", "ok", f"{len(names)} x {names[0]}, {memory:.0f} GiB each")
    if shutil.which("nvidia-smi"):
        return Finding(
            "GPU",
            "broken",
            f"a driver is there, but torch {torch.__version__} sees no GPU",
            "install PyTorch's build for your CUDA, or ask for a GPU in your job",
        )
    return Finding("GPU", "absent", "none", "rungs train on the CPU; tiny ones are faster there")


def _kernel(name: str, use: str) -> Finding:
    if importlib.util.find_spec(name) is None:
        return Finding(name, "absent", "not installed", f"good for {use}")
    error = _import_error(name)
    if error:
        return Finding(name, "broken", error, f"install it anew; good for {use}")
    return Finding(name, "ok", "installed")


def _wandb() -> Finding:
    if importlib.util.find_spec("wandb") is None:
        how = "pip install 'task-ladder[wandb]', for tracking.wandb"
        return Finding("wandb", "absent", "not installed", how)
    return Finding("wandb", "ok", metadata.version("wandb"))


def _slurm() -> Finding:
    if shutil.which("sbatch") is None:
        how = "needed by --engine slurm only; log in to a node that submits jobs"
        return Finding("Slurm", "absent", "no sbatch", how)
    try:
        said = subprocess.run(
            ["sinfo", "--noheader", "--format=%P"],  # noqa: S607
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return Finding("Slurm", "broken", f"sinfo: {type(error).__name__}", "ask your cluster")
    if said.returncode:
        return Finding("Slurm", "broken", said.stderr.strip()[:100], "is slurmctld running?")
    return Finding("Slurm", "ok", f"partitions {', '.join(said.stdout.split()) or 'none'}")


def _requests() -> Finding:
    from evaluation.olmes import cache_folder, fetched

    if fetched():
        return Finding("OLMES tasks", "ok", f"fetched, in {cache_folder()}")
    return Finding("OLMES tasks", "absent", "not fetched", "ladder tasks fetch")


def _machine() -> Finding:
    memory = ""
    if "SC_PHYS_PAGES" in getattr(os, "sysconf_names", {}):
        size = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
        memory = f", {size:.0f} GiB of memory"
    return Finding("machine", "ok", f"{platform.system()}, {cores()} cores{memory}")


def _disk(folder: Path) -> Finding:
    there = next(path for path in (folder, *folder.resolve().parents) if path.is_dir())
    free = shutil.disk_usage(there).free
    found = f"{free / 1e9:.0f} GB free in {there.resolve()}"
    if not os.access(there, os.W_OK):
        return Finding("disk", "broken", f"{there.resolve()} cannot be written", "--runs elsewhere")
    if free < LITTLE_DISK:
        return Finding("disk", "broken", found, "make room, or name another folder with --runs")
    return Finding("disk", "ok", found)


def _written(folder: Path) -> Finding:
    from ladder.verify import verify_runs

    if not folder.is_dir():
        return Finding("files", "absent", f"{folder} is no folder", "name one with --runs")
    found = verify_runs(folder)
    if not found.problems:
        return Finding("files", "ok", f"{found.files} in {folder} are what was written")
    return Finding(
        "files",
        "broken",
        "; ".join(found.problems),
        "`ladder train` names, file by file, what to remove, and goes on from what is whole",
    )


def _import_error(name: str) -> str:
    try:
        importlib.import_module(name)
    except Exception as error:  # a broken package may raise anything
        return f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
    return ""
