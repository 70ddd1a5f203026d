"""Injects hundreds of faults and counts what came of them; times what checksums cost.

    python benchmarks/faults.py [--seed N]

Writes benchmarks/results/faults.json and the table in benchmarks/faults.md. About ten minutes of
one core; as root it mounts small file systems in memory, otherwise full disks and read-only folders
are left out.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from zlib import crc32

import numpy as np

HERE = Path(__file__).parent
CAMPAIGN = HERE.parent / "tests" / "faults" / "fault_campaign.py"
RESULTS, TABLE = HERE / "results" / "faults.json", HERE / "faults.md"
MEBIBYTE = 2**20

INTRODUCTION = """\
# Faults

`python benchmarks/faults.py` trains, scores, tokenises and submits a tiny ladder, and does it harm:
SIGKILL and SIGTERM at a random access to a file or at a random moment, a disk that fills up, a
folder that turns read-only, files cut short, emptied, removed, blanked in part or with one bit
flipped at unchanged size and time, a second command in the same folder, a rank that dies or is
silent. After each fault the plain command is given again, and where it refuses, what its line says
is done, until it ends well. Then scores, weights and shards are compared, byte for byte, with those
of an undisturbed run.

- *same*: the next command ended with the same bytes;
- *refused*: it first refused, in one line, and doing what that said led to the same bytes;
- *bad*: a traceback, more than one line of error, a hang, a run that was lost, or another result.
"""


def main() -> None:
    """Run the campaign, time the checksums, write both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    seed = parser.parse_args().seed
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "faults.json"
        command = [sys.executable, str(CAMPAIGN), "--seed", str(seed), "--out", str(out)]
        done = subprocess.run(command, check=False)
        found = json.loads(out.read_text())
    found.pop("rows")
    found["checksums"] = costs()
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    TABLE.write_text(table(found))
    print(TABLE.read_text())
    raise SystemExit(done.returncode)


def costs() -> dict[str, float]:
    """Speeds on one core, and what a row of 2049 tokens costs with its blocks unseen and seen."""
    content = os.urandom(64 * MEBIBYTE)
    view = memoryview(content)
    blocks = range(0, len(content), 2**16)
    found = {
        "sha256_gb_per_s": len(content) / 1e9 / best(lambda: hashlib.sha256(content)),
        "blake2b_gb_per_s": len(content) / 1e9 / best(lambda: hashlib.blake2b(content)),
        "crc32_of_64_kib_gb_per_s": len(content)
        / 1e9
        / best(lambda: [crc32(view[b : b + 2**16]) for b in blocks]),
    }
    from ladder.corpora.shards import Index, open_shards, write_shard

    with tempfile.TemporaryDirectory() as folder:
        tokens = np.random.default_rng(0).integers(0, 2**16, 2**25, dtype=np.uint16)
        shard = write_shard(Path(folder), "0.bin", [tokens])
        assert shard is not None
        starts = np.random.default_rng(1).integers(0, len(tokens) - 2049, 512)
        for name, known in (("without", shard.model_copy(update={"blocks": None})), ("", shard)):
            index = Index(source="", tokenizer="", dtype="uint16", train=(known,), held_out=())
            train, _ = open_shards("s", Path(folder), index, 2**16, "")
            train[0:1]
            begin = time.perf_counter()
            train.rows(starts, 2049, 2**16)
            first = time.perf_counter() - begin
            again = best(lambda train=train: train.rows(starts, 2049, 2**16))  # type: ignore[misc]
            suffix = "_unverified" if name else ""
            found[f"row_first_us{suffix}"] = first / 512 * 1e6
            found[f"row_again_us{suffix}"] = again / 512 * 1e6
    return {name: round(value, 2) for name, value in found.items()}


def best(function: Callable[[], object]) -> float:
    """Seconds of the fastest of five calls."""
    seconds = []
    for _ in range(5):
        begin = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - begin)
    return min(seconds)


def table(found: dict) -> str:  # type: ignore[type-arg]
    """The whole page."""
    lines = [
        INTRODUCTION,
        "| stage | fault | faults | same | refused | bad |",
        "|---|---|--:|--:|--:|--:|",
    ]
    for stage, faults in found["counts"].items():
        for fault, verdicts in sorted(faults.items()):
            total = sum(verdicts.values())
            same, refused = verdicts.get("same", 0), verdicts.get("refused", 0)
            row = (stage, fault, total, same, refused, total - same - refused)
            lines.append("| " + " | ".join(map(str, row)) + " |")
    cost = found["checksums"]
    lines += [
        "",
        f"{found['faults']} faults from seed {found['seed']}: {found['bad']} bad; "
        f"{found['cpu_seconds']} CPU seconds.",
        "",
        "Ranks are forked processes that find each other over gloo, and are ended together as "
        "torchrun does; jobs are submitted to a scripted sbatch. A rank that dies under torchrun "
        "itself, and jobs that a real Slurm cancels, requeues and ends at their time limit, are in "
        "`pytest -m slow tests/faults tests/test_slurm_real.py`.",
        "",
        "## What checksums cost",
        "",
        f"One core: SHA-256 {cost['sha256_gb_per_s']:.1f} GB/s, blake2b "
        f"{cost['blake2b_gb_per_s']:.1f}, CRC-32 in blocks of 64 KiB "
        f"{cost['crc32_of_64_kib_gb_per_s']:.1f}. A checkpoint is hashed in the background, each "
        "rank its share, and verified once as a run goes on. A block of a shard is verified when a "
        f"process first reads from it: a row of 2,049 tokens takes {cost['row_first_us']:.0f} "
        f"microseconds then (unverified {cost['row_first_us_unverified']:.0f}), "
        f"{cost['row_again_us']:.1f} afterwards (unverified "
        f"{cost['row_again_us_unverified']:.1f}).",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
