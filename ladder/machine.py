"""What a machine is: processor, cores, GPUs, versions of packages; imports no torch itself."""

from __future__ import annotations

import os
import platform
import sys
from contextlib import suppress
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from evaluation.files import InputError


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def gpus() -> list[str]:
    """Names of the GPUs that torch sees; none where torch is not loaded."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return []
    return [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]


def machine_name() -> str:
    """The processor, how many of its cores this process may use, and the GPUs that torch sees."""
    name = platform.processor() or platform.machine()
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                name = line.partition(":")[2].strip()
                break
    names = gpus()
    own = [f"{names.count(gpu)} x {gpu}" for gpu in dict.fromkeys(names)]
    return ", ".join([f"{cores()} cores of {name}", *own])


def version_of(package: str) -> str:
    """A distribution's version, or `not installed`."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def check_installed(use: str) -> None:
    """Raise InputError where the packages that `use`, such as "training", needs are not there."""
    missing = [name for name in ("torch", "transformers") if find_spec(name) is None]
    if missing:
        raise InputError(f"{use} needs {' and '.join(missing)}; pip install 'task-ladder[train]'")
