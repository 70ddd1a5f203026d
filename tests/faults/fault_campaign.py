"""Hundreds of faults in training, scoring, tokenising and submitting, and what comes of each.

python tests/faults/fault_campaign.py [--small] [--seed N] [--only STAGE] [--out FILE.json]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

if __name__ == "__main__":
    os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false")
    sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[2])]

import fault_preparing
import fault_scoring
import fault_training
from fault_harness import Verdicts
from fault_ladder import Campaign

STAGES: dict[str, Callable[[Campaign], None]] = {
    "ranks": fault_training.ranks,
    "submitting": fault_preparing.submitting,
    "pairs": fault_training.pairs,
    "disks": fault_training.disks,
    "tokenising": fault_preparing.tokenising,
    "evaluations": fault_scoring.evaluations,
    "kills": fault_training.kills,
    "damages": fault_training.damages,
    "outputs": fault_scoring.outputs,
}
"""What is done, in this order."""


def campaign(seed: int, small: bool, only: Sequence[str] = ()) -> Verdicts:
    """Do it all, on a file system in memory where there is one."""
    place = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="faults-", dir=place) as folder:
        tempfile.tempdir = folder
        try:
            own = Campaign(Path(folder), seed, small)
            for name, stage in STAGES.items():
                if not only or name in only:
                    before, begin = len(own.verdicts.rows), time.monotonic()
                    stage(own)
                    made, seconds = len(own.verdicts.rows) - before, time.monotonic() - begin
                    print(f"{name}: {made} faults in {seconds:.0f} s", flush=True)
            return own.verdicts
        finally:
            tempfile.tempdir = None


def main() -> int:
    """Run it, print what came of it, and fail where something did that must not."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", action="append", default=[])
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    begin, cpu = time.monotonic(), os.times()
    verdicts = campaign(given.seed, given.small, given.only)
    now = os.times()
    document = {
        "version": 1,
        "seed": given.seed,
        "faults": len(verdicts.rows),
        "bad": len(verdicts.bad),
        "seconds": round(time.monotonic() - begin),
        "cpu_seconds": round(
            now.user + now.system + now.children_user + now.children_system - cpu.user - cpu.system
        ),
        "counts": verdicts.counts(),
    }
    print(json.dumps(document, indent=1))
    if given.out:
        given.out.write_text(json.dumps({**document, "rows": verdicts.rows}, indent=1) + "\n")
    return 1 if verdicts.bad else 0


if __name__ == "__main__":
    raise SystemExit(main())
