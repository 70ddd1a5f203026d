"""Faults in training: kills, damaged files, full disks, other commands, ranks that die."""

from __future__ import annotations

import os
import shutil
import signal
import time
from functools import partial
from pathlib import Path

from fault_harness import (
    HARMS,
    Done,
    accesses,
    difference,
    fill,
    judged,
    mount,
    remount,
    run,
    start,
    unmount,
    waited,
)
from fault_ladder import MADE, RUNG, Campaign, kind_of, send


def kills(own: Campaign) -> None:
    """SIGKILL and SIGTERM of training at any access to a file, and at any time."""
    count, seconds = accesses(own.training(own.fresh()), own.folder)
    plans: list[tuple[str, int, bool]] = [
        *(("SIGKILL at a file", signal.SIGKILL, True) for _ in own.many(30)),
        *(("SIGTERM at a file", signal.SIGTERM, True) for _ in own.many(14)),
        *(("SIGKILL at a moment", signal.SIGKILL, False) for _ in own.many(14)),
        *(("SIGTERM at a moment", signal.SIGTERM, False) for _ in own.many(10)),
    ]
    for fault, number, at_file in plans:
        path = own.fresh()
        if at_file:
            at = own.draw.randint(1, count)
            run(own.training(path), watched=own.folder, at=at, number=number)
            note = f"access {at} of {count}"
        else:
            after = own.draw.uniform(0, seconds)
            process = start(own.training(path))
            time.sleep(after)
            send(process.pid, number)
            process.wait()
            note = f"after {after:.2f} of {seconds:.2f} s"
        own.judge("training", fault, path, note)


def halfway(own: Campaign) -> Path:
    """A run that was killed after two checkpoints, and scored."""
    path = own.fresh()
    rung = path / RUNG
    process = start(own.training(path))
    while len(list(rung.glob("checkpoints/step-*"))) < 2 or not list(rung.glob("scores*")):
        time.sleep(0.002)
        assert process.status is None
    send(process.pid, signal.SIGKILL)
    process.wait()
    return path


def damages(own: Campaign) -> None:
    """Files of a run that was killed halfway, damaged before it goes on."""
    half = halfway(own)
    files = [p.relative_to(half) for p in sorted(half.rglob("*")) if p.is_file()]
    files = [p for p in files if p.name not in (".lock", ".tables.lock")]
    pairs = [(file, harm) for file in files for harm in HARMS]
    own.draw.shuffle(pairs)
    for file, harm in pairs[: 10 if own.small else 110]:
        path = own.fresh(of=half)
        harm(path / file, own.draw)
        own.judge("training", f"{kind_of(file)} damaged", path, f"{harm.__name__} {file}", MADE)


def disks(own: Campaign) -> None:
    """Training on a disk that fills, and in a folder that turns read-only."""
    place = own.folder / "disk"
    place.mkdir(exist_ok=True)
    if not mount(place, "4m"):
        print("no tmpfs may be mounted here: full disks and read-only folders left out")
        return
    unmount(place)
    for index in own.many(10):
        assert mount(place, "4m")
        try:
            path = place / "runs"
            left = own.draw.randrange(0, 300_000)
            if index % 2:
                shutil.copytree(halfway(own), path)
            ballast = fill(place, left)
            done = run(own.training(path))
            note = f"{left} bytes free: {done.line}"
            if done.complaint or (done.code == 0 and own.state(path) != own.known):
                own.verdicts.add("training", "full disk", "rude", done.complaint or "wrong")
            ballast.unlink()
            judge_in(own, "full disk", path, note)
        finally:
            unmount(place)
    for index in own.many(6):
        assert mount(place, "4m")
        try:
            path = place / "runs"
            if index % 2:
                shutil.copytree(halfway(own), path)
            remount(place, "ro")
            done = run(own.training(path))
            status = run(["status", path, "--json"])
            remount(place, "rw")
            bad = done.complaint or (index % 2 and status.complaint)
            if bad or done.code == 0:
                own.verdicts.add("training", "read-only folder", "rude", f"{bad} {done}")
            judge_in(own, "read-only folder", path, done.line)
        finally:
            unmount(place)


def judge_in(own: Campaign, fault: str, path: Path, note: str) -> None:
    judged(
        own.verdicts,
        "training",
        fault,
        lambda: own.train(path),
        lambda: difference(own.state(path), own.known, path),
        path,
        note,
    )


def pairs(own: Campaign) -> None:
    """A second command in the folder of one that is at work."""
    count, _ = accesses(own.training(own.fresh()), own.folder)
    whole = ["train", own.config, "--engine", "here", "--runs"]
    for index in own.many(10):
        path = own.fresh()
        first = whole if index % 3 == 1 else own.training(path)[:-1]
        # Not before it has the lock: until then there is no first one.
        at = own.draw.randint(count // 3, count - 10)
        process = start([*first, path], own.folder, at, signal.SIGSTOP)
        stopped = process.until_stopped()
        second = own.training(path) if index % 3 != 2 else [*whole, path]
        refused = run(second)
        named = f"process {process.pid} " in refused.line
        quiet = not refused.complaint and refused.code == 2 and named
        if stopped and not quiet:
            own.verdicts.add("training", "a second command", "rude", f"{refused}")
        if stopped:
            os.kill(process.pid, signal.SIGCONT)
        process.wait()
        own.judge("training", "a second command", path, refused.line)


def ranks(own: Campaign) -> None:
    """One of two ranks that train together dies."""
    whole = own.fresh()
    done = together(own, whole)
    assert [d.code for d in done] == [0, 0], done
    expected = own.state(whole)
    count, _ = accesses(own.training(own.fresh()), own.folder)
    for index in range(1 if own.small else 4):
        path, victim = own.fresh(), index % 2
        at = own.draw.randint(1, 12) if victim else own.draw.randint(10, count // 2)
        dead = together(own, path, victim, at)
        for done_ in dead:
            if done_.complaint:
                own.verdicts.add("training", "a rank dies", "rude", done_.complaint)
        judged(
            own.verdicts,
            "training",
            "a rank dies",
            partial(worst, own, path),
            partial(differs, own, path, expected),
            path,
            f"rank {victim} at access {at}: {[d.code for d in dead]}",
        )


def together(own: Campaign, path: Path, victim: int = -1, at: int = 0) -> list[Done]:
    """Two ranks; one of them may kill itself at a file."""
    shared = {
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(own.draw.randint(20000, 30000)),
    }
    processes = [
        start(
            own.training(path),
            own.folder if rank == victim else None,
            at,
            environment={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(2)
    ]
    return waited(processes)


def worst(own: Campaign, path: Path) -> Done:
    """Both ranks again; the end of the one that fared worse."""
    ends = together(own, path)
    return next((end for end in ends if end.code), ends[0])


def differs(own: Campaign, path: Path, expected: dict[str, bytes]) -> str:
    return difference(own.state(path), expected)
