"""From an empty environment to a first prediction: seconds of each command, without torch.

    python benchmarks/first_result.py [PYTHON ...] > benchmarks/first_result.md

Builds the wheel, installs it with constraints.txt into an empty environment of each interpreter
(by default the one that runs this), writes a CSV of results under someone's own column names into
an empty folder, and types what docs/own-results.md says. Wants `pip install build hatchling`.
"""

from __future__ import annotations

import csv
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
SIZES = {"190M": 190_354_176, "370M": 371_262_464, "760M": 758_220_288, "1B": 1_279_395_840}
TARGET = "7B-4T:6.89e9:3.95T"
COMMANDS = (
    ("installed", "ladder version"),
    ("help", "ladder --help"),
    (
        "import",
        "ladder import csv theirs.csv --out mine.csv {rename} run=model {rename} params=N "
        "--value loss_unit=bits/byte --task arc_easy=arc_bpb,arc_acc",
    ),
    ("first prediction", f"ladder predict mine.csv --target {TARGET}"),
    ("the same again", f"ladder predict mine.csv --target {TARGET}"),
)


def write_theirs(path: Path) -> None:
    """Sixteen runs of six checkpoints that follow known laws, under names of their own."""
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["model", "N", "tokens", "step", "arc_bpb", "arc_acc"])
        for size, params in SIZES.items():
            for multiple in (1, 2, 5, 10):
                for step in range(1, 7):
                    tokens = 20 * params * multiple * step // 6
                    loss = 0.5 + 160 / params**0.3 + 430 / tokens**0.3
                    accuracy = 1 - 0.75 / (1 + math.exp(-6 * (loss - 0.95)))
                    rows.writerow([f"{size}-{multiple}xC", params, tokens, step, loss, accuracy])


def timed(command: list[str], folder: Path) -> tuple[float, float, str]:
    """Seconds that a command takes, those that its processor works, and what it prints."""
    clean = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    start, before = time.perf_counter(), worked()
    done = subprocess.run(command, cwd=folder, env=clean, capture_output=True, text=True)
    seconds = time.perf_counter() - start
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: {done.stderr}")
    return seconds, worked() - before, done.stdout


def worked() -> float:
    """CPU seconds of all commands so far."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main(interpreters: list[str]) -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        timed([sys.executable, "-m", "build", "-w", "-n", "-o", name, str(ROOT)], folder)
        (wheel,) = folder.glob("*.whl")
        print("# From an empty environment to a first prediction\n")
        print(
            f"`python benchmarks/{Path(__file__).name}`; seconds of wall time, and of CPU time in"
        )
        size, load = wheel.stat().st_size / 1000, os.getloadavg()[0]
        print(f"brackets. The wheel has {size:.0f} kB. One-minute load of the machine's")
        print(f"{os.cpu_count()} cores: {load:.1f}.\n")
        print("| Python | pip install | " + " | ".join(what for what, _ in COMMANDS) + " |")
        print("| --- | --- | " + " | ".join("---" for _ in COMMANDS) + " |")
        for number, python in enumerate(interpreters):
            print(row(python, wheel, folder / str(number)), flush=True)
        print("\nBetween the end of the installation and the first prediction lie `import` and")
        print("`first prediction`; the other two are for those who look around.\n")
        print("```sh")
        for what, command in COMMANDS[2:4]:
            print(command.format(rename="--map"), f"  # {what}")
        print("```")


def row(python: str, wheel: Path, folder: Path) -> str:
    """One interpreter's line of the table."""
    work = folder / "work"
    work.mkdir(parents=True)
    write_theirs(work / "theirs.csv")
    timed([python, "-m", "venv", str(folder / "venv")], folder)
    bin = folder / "venv/bin"
    constraints = ["-c", str(ROOT / "constraints.txt")]
    *install, _ = timed([str(bin / "pip"), "install", "-q", *constraints, str(wheel)], folder)
    *_, version = timed([str(bin / "python"), "-V"], folder)
    *_, options = timed([str(bin / "ladder"), "import", "--help"], folder)
    rename = "--map" if "--map" in options else "--column"
    seconds = []
    for _, command in COMMANDS:
        words = command.format(rename=rename).split()
        seconds.append(timed([str(bin / words[0]), *words[1:]], work)[:2])
    cells = [version.split()[-1], *(f"{wall:.1f} ({cpu:.1f})" for wall, cpu in (install, *seconds))]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main(sys.argv[1:] or [sys.executable])
