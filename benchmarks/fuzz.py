"""Every reader of foreign files on thousands of damaged ones, and on files made to blow it up.

    python benchmarks/fuzz.py [--cases 10000] [bombs] [READER ...]

Each reader has a process of its own, so that its memory is its own. Writes
benchmarks/results/fuzz.json: cases, how many of the damaged files were still valid, seconds of the
processor, of all cases and of the slowest, and peak memory before and after them, MiB; and the
same as tables, benchmarks/fuzz.md. Readers that are named take their old rows' places. Ends with 1
where a reader raised anything but one line.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "fuzz.json"
TABLES = HERE / "fuzz.md"
BOMBS = "bombs"
"""Stands among the readers' names for the files that are made to blow them up."""
sys.path.insert(0, str(HERE.parent / "tests"))


def measure(name: str, cases: int) -> dict[str, Any]:
    """One reader, in this process."""
    from fuzz_readers import readers
    from fuzzing import fuzz, place

    reader = readers()[name]
    with tempfile.TemporaryDirectory() as folder:
        place(Path(folder), reader)
        reader.read(Path(folder))
        before, begin = _peak(), time.process_time()
        found = fuzz(reader, Path(folder), cases)
    return {
        "reader": name,
        "cases": found.cases,
        "still_valid": found.read,
        "cpu_seconds": round(time.process_time() - begin, 1),
        "slowest_seconds": round(found.slowest, 2),
        "memory_mib": round(before),
        "peak_memory_mib": round(_peak()),
    }


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def bombs() -> list[dict[str, Any]]:
    """Every file that is made to blow a reader up, each in a process of 4 GiB."""
    import blow_ups

    found = []
    for name in blow_ups.CASES:
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, blow_ups.__file__, name, folder]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            row = json.loads(done.stdout.splitlines()[-1])
            found.append({**row, "said": row["said"].replace(f"{folder}/", "")})
            print(found[-1], flush=True)
    return found


WORDS = """\
# Damaged files

`python benchmarks/fuzz.py` damages valid files of every reader, {cases:,} cases in all: values put,
dropped, renamed, nested and swapped, bytes cut, flipped, inserted and repeated (`tests/fuzzing.py`,
`tests/fuzz_*.py`). A case passes where the reader gives valid data or one line that says what is
wrong; no other exception, and no endless memory or time. *still valid* is how many of the damaged
files were still what they should be. Answers of the hub and exponents of others are asked for
what can always be said: out of reach or not, read or left out.

| reader | cases | still valid | CPU s | slowest case, s | peak MiB |
|---|--:|--:|--:|--:|--:|
{readers}

Files that are made to blow a reader up (`tests/blow_ups.py`), each in a process of 4 GiB, and what
is said of them:

| file | said | CPU s | peak MiB |
|---|---|--:|--:|
{bombs}
"""


def tables(document: dict[str, Any]) -> str:
    """The results as Markdown."""
    readers = [
        f"| {r['reader']} | {r['cases']:,} | {r['still_valid']:,} | {r['cpu_seconds']:.0f} "
        f"| {r['slowest_seconds']:.2f} | {r['peak_memory_mib']} |"
        for r in document["readers"]
    ]
    shown = [
        f"| {b['case']} | {b['said'].replace('|', '/')} | {b['cpu_seconds']:.2f} "
        f"| {b['peak_memory_mib']} |"
        for b in document["bombs"]
    ]
    return WORDS.format(cases=document["cases"], readers="\n".join(readers), bombs="\n".join(shown))


def main(arguments: list[str]) -> int:
    """Measure all readers and bombs, or those named, and write the results."""
    if arguments[:1] == ["--one"]:
        print(json.dumps(measure(arguments[1], int(arguments[2]))))
        return 0
    cases = 10_000
    if arguments[:1] == ["--cases"]:
        cases, arguments = int(arguments[1]), arguments[2:]
    from fuzz_readers import readers

    document: dict[str, Any] = {"version": 1, "readers": [], "bombs": []}
    if RESULTS.is_file() and arguments:
        document |= json.loads(RESULTS.read_text())
    rows = {row["reader"]: row for row in document["readers"]}
    failed = False
    for name in arguments or (BOMBS, *readers()):
        if name == BOMBS:
            document["bombs"] = bombs()
        else:
            command = [sys.executable, __file__, "--one", name, str(cases)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                failed = True
                print(f"{name}: FAILED\n{done.stderr[-3000:]}", file=sys.stderr, flush=True)
                continue
            rows[name] = json.loads(done.stdout.splitlines()[-1])
            print(rows[name], flush=True)
        document["readers"] = [rows[name] for name in readers() if name in rows]
        document["cases"] = sum(row["cases"] for row in document["readers"])
        RESULTS.write_text(json.dumps(document, indent=1) + "\n")
        TABLES.write_text(tables(document))
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
