"""What `python -m build` makes of a copy of the tree, and environments to install it into."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
LEFT_BEHIND = shutil.ignore_patterns(
    ".git", "__pycache__", "*.egg-info", ".*_cache", ".hypothesis", ".venv", "dist", "runs"
)


def build(folder: Path) -> tuple[Path, Path]:
    """The wheel, made from the source distribution as `python -m build` does, and that one."""
    copy = folder / "tree"
    shutil.copytree(ROOT, copy, ignore=LEFT_BEHIND)
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder / "dist")]
    finished(command, copy)
    (wheel,), (source,) = ((folder / "dist").glob(f"*.{end}") for end in ("whl", "tar.gz"))
    return wheel, source


def finished(command: list[str], folder: Path, **environment: str) -> str:
    """What a command printed that ends well, run in a folder where nothing of the tree is found."""
    clean = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | environment
    done = subprocess.run(command, cwd=folder, env=clean, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def interpreter(version: str) -> str | None:
    """Python of that version, `3.12`, on this machine: on the path, or one of pyenv's."""
    if sys.version_info[:2] == tuple(map(int, version.split("."))):
        return sys.executable
    known = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    places = [*sorted(known.glob(f"{version}.*/bin/python")), shutil.which(f"python{version}")]
    for place in filter(None, places):
        done = subprocess.run([str(place), "-V"], capture_output=True, text=True)
        if done.returncode == 0 and done.stdout.startswith(f"Python {version}."):
            return str(place)
    return None


def empty_environment(python: str, folder: Path) -> Path:
    """The folder of the commands of a new virtual environment."""
    finished([python, "-m", "venv", str(folder)], folder.parent)
    return folder / "bin"
