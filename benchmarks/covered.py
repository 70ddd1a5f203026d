"""Which lines and branches the tests reach, module by module, and which functions they leave out.

    pip install coverage==7.17.3
    python benchmarks/covered.py [--data FILE]

Runs the tests that CI runs but for the full quick start, with the processes that they start, and
writes benchmarks/results/coverage.json and the tables in benchmarks/coverage.md: half an hour of
one core. With --data the tables are made from what `coverage combine` left in that file.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parent
RESULTS, TABLE = HERE / "results" / "coverage.json", HERE / "coverage.md"
PACKAGES = ("evaluation", "predict", "ladder")

LEFT_OUT = "tests/test_quickstart.py"
"""Trains for minutes what tests/test_pipeline.py trains in seconds."""

GPU = re.compile(r"cuda|nccl")
"""In the condition that a line stands under, or in itself: it is reached on a GPU alone."""

INTRODUCTION = """\
# Coverage

`python benchmarks/covered.py`: lines and branches that the tests of CI reach, those of processes
that they start among them, but for the full quick start, which trains for minutes what
tests/test_pipeline.py trains in seconds. Lines that only a GPU reaches, known by a condition on
`cuda` or `nccl`, are counted apart and in no percentage: no GPU was there to run them. Not reached
are mostly refusals: files that cannot be read, a hub that does not answer, libraries that are
missing. Texts that a tokenizer is trained on are read by a thread of its library, in which nothing
is seen.
"""


@dataclass(frozen=True)
class Module:
    """One module's counts, GPU lines left out."""

    name: str
    lines: int
    missed: int
    branches: int
    missed_branches: int
    gpu: int
    """Lines that only a GPU reaches."""
    functions: dict[str, int]
    """Missed lines by the function they are in."""

    @property
    def share(self) -> float:
        """Of lines and branches together, those that were reached."""
        whole = self.lines + self.branches
        return 1 - (self.missed + self.missed_branches) / whole if whole else 1.0


def main() -> None:
    """Measure, or read what was measured, and write both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path)
    data = parser.parse_args().data
    with tempfile.TemporaryDirectory() as folder:
        found = Path(folder) / "coverage.json"
        if data is None:
            data = Path(folder) / "data"
            measure(data)
        coverage(data, "json", "-q", "-o", str(found))
        files = json.loads(found.read_text())["files"]
    modules = [module_of(path, told) for path, told in sorted(files.items())]
    document = {m.name: {k: v for k, v in vars(m).items() if k != "name"} for m in modules}
    lines = [f"{json.dumps(name)}: {json.dumps(own)}" for name, own in document.items()]
    RESULTS.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    text = report(modules)
    TABLE.write_text(text)
    print(text)


def measure(data: Path) -> None:
    """Run the tests and leave in `data` what they and their processes reached."""
    command = ["run", "-m", "pytest", f"--ignore={LEFT_OUT}"]
    coverage(data, *command)
    coverage(data, "combine", "-q")


def coverage(data: Path, *words: str) -> None:
    """Run a command of coverage as pyproject.toml has it set up."""
    environment = {
        **os.environ,
        "COVERAGE_FILE": str(data.resolve()),
        "COVERAGE_RCFILE": str(ROOT / "pyproject.toml"),
    }
    subprocess.run(
        [sys.executable, "-m", "coverage", *words], cwd=ROOT, env=environment, check=True
    )


def module_of(path: str, told: dict[str, Any]) -> Module:
    """What coverage told of a file, lines that only a GPU reaches taken out."""
    parts = Path(path).parts
    name = "/".join(parts[max(n for n, part in enumerate(parts) if part in PACKAGES) :])
    missing = set(told["missing_lines"])
    gpu = missing & gpu_lines(ROOT / name)
    arcs = [arc for arc in told["missing_branches"] if not {abs(x) for x in arc} & gpu]
    functions: Counter[str] = Counter()
    for function, own in told["functions"].items():
        if count := len(set(own["missing_lines"]) - gpu):
            functions[function or "the module"] = count
    counts = told["summary"]
    return Module(
        name=name,
        lines=counts["num_statements"] - len(gpu),
        missed=len(missing - gpu),
        branches=counts["num_branches"] - len(told["missing_branches"]) + len(arcs),
        missed_branches=len(arcs),
        gpu=len(gpu),
        functions=dict(functions.most_common()),
    )


@cache
def gpu_lines(path: Path) -> frozenset[int]:
    """Lines that speak of a GPU, or stand under a condition that does."""
    text = path.read_text(encoding="utf-8")
    found = {n for n, line in enumerate(text.splitlines(), 1) if GPU.search(line)}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.If) and GPU.search(ast.unparse(node.test)):
            found |= set(range(node.body[0].lineno, (node.body[-1].end_lineno or 0) + 1))
    return frozenset(found)


def report(modules: list[Module]) -> str:
    """The tables: packages, then every module of which something is left out."""
    head = "| | modules | lines | reached | branches | reached | both | GPU lines |"
    rows = [head, "|---|--:|--:|--:|--:|--:|--:|--:|"]
    for package in (*PACKAGES, "all"):
        own = [m for m in modules if package in ("all", m.name.partition("/")[0])]
        rows.append(f"| {package} | {len(own)} | {' | '.join(sums(own))} |")
    part = [m for m in modules if m.share < 1]
    own = ["| module | lines and branches | functions with lines not reached |", "|---|--:|---|"]
    for m in sorted(part, key=lambda m: m.share):
        names = ", ".join(f"{name} {count}" for name, count in m.functions.items())
        own.append(f"| {m.name} | {m.share:.1%} | {names} |")
    low = [m.name for m in part if m.share < 0.9]
    below = f"Below 90%: {', '.join(low)}." if low else "No module is below 90%."
    return "\n".join(
        [
            INTRODUCTION,
            *rows,
            "",
            f"{below} {len(modules) - len(part)} modules are reached whole. Of the others these "
            "functions are not, with how many of their lines:",
            "",
            *own,
            "",
        ]
    )


def sums(modules: list[Module]) -> list[str]:
    """Cells of lines, branches and both together."""
    lines, missed = sum(m.lines for m in modules), sum(m.missed for m in modules)
    branches = sum(m.branches for m in modules)
    open_ = sum(m.missed_branches for m in modules)
    both = 1 - (missed + open_) / (lines + branches)
    shares = (
        f"{lines:,}",
        f"{1 - missed / lines:.1%}",
        f"{branches:,}",
        f"{1 - open_ / branches:.1%}",
    )
    return [*shares, f"{both:.1%}", str(sum(m.gpu for m in modules))]


if __name__ == "__main__":
    main()
