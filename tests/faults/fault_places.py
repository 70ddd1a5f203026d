"""Full disks, read-only folders, two commands at once: scoring, tokenising, submitting.

Training has its own in fault_training; here the commands are given as a user would.
"""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml
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
)
from fault_ladder import KEPT, TINY, Campaign, kind_of
from fault_preparing import TEXTS, Queue, unlike, write_texts


@dataclass(frozen=True)
class Work:
    """A command that makes something in a runs folder."""

    stage: str
    command: Callable[[Path], list[object]]
    state: Callable[[Path], Mapping[str, object]]
    """What must be the same."""
    begun_from: Path | None = None
    """The folder that the command goes on in, a copy of it; an empty one where None."""
    environment: Mapping[str, str] = field(default_factory=dict)
    again: Callable[[Path], object] = lambda path: None
    """What is put back before each."""

    def run(self, path: Path) -> Done:
        return run(self.command(path), environment=self.environment)

    def begin(self, path: Path) -> None:
        self.again(path)
        if self.begun_from is not None:
            shutil.copytree(self.begun_from, path)


def places(own: Campaign) -> None:
    """Each work on a disk that fills, in a read-only folder, and twice at once."""
    for work in (_scoring(own), _tokenising(own), _submitting(own)):
        whole = own.fresh()
        work.begin(whole)
        done = work.run(whole)
        assert done.code == 0, done
        known = work.state(whole)
        disks(own, work, known)
        twice(own, work, known)
        if work.stage == "submitting":
            damages(own, work, known, whole)


def judge(
    own: Campaign, work: Work, fault: str, path: Path, known: Mapping[str, object], note: str
) -> None:
    judged(
        own.verdicts,
        work.stage,
        fault,
        lambda: work.run(path),
        lambda: difference(work.state(path), known, path),
        path,
        note,
    )


def disks(own: Campaign, work: Work, known: Mapping[str, object]) -> None:
    """The folder's file system has little room left, or becomes read-only."""
    place = own.folder / "small"
    place.mkdir(exist_ok=True)
    for index in own.many(10):
        if not mount(place, "4m"):
            return
        try:
            path = place / "runs"
            work.begin(path)
            if index % 5 == 4:
                fault = "read-only folder"
                remount(place, "ro")
                done = work.run(path)
                remount(place, "rw")
                if done.code == 0 or done.complaint:
                    own.verdicts.add(work.stage, fault, "rude", f"{done}")
            else:
                fault = "full disk"
                ballast = fill(place, own.draw.randrange(0, 60_000))
                done = work.run(path)
                ballast.unlink()
                wrong = done.code == 0 and difference(work.state(path), known)
                if done.complaint or wrong:
                    own.verdicts.add(work.stage, fault, "rude", f"{wrong} {done}")
            judge(own, work, fault, path, known, done.line)
        finally:
            unmount(place)


def twice(own: Campaign, work: Work, known: Mapping[str, object]) -> None:
    """A second command while the first stands still, wherever in its folder that is."""
    fault, path = "a second command", own.fresh()
    work.begin(path)
    count, _ = accesses(work.command(path), path, work.environment)
    for _ in own.many(4):
        path = own.fresh()
        work.begin(path)
        at = own.draw.randint(1, count)
        first = start(work.command(path), path, at, signal.SIGSTOP, work.environment)
        stopped = first.until_stopped()
        second = start(work.command(path), environment=work.environment)
        said, deadline = "", time.monotonic() + 4
        while "waiting for it" not in said and not second.has_ended:
            said = second.read("err")
            if time.monotonic() > deadline:
                break
            time.sleep(0.01)
        if stopped:
            os.kill(first.pid, signal.SIGCONT)
        ends = [first.wait(), second.wait()]
        if bad := [end for end in ends if end.complaint or end.code not in (0, 2)]:
            own.verdicts.add(work.stage, fault, "rude", f"{bad}")
        if "waiting for it" not in said:
            said = ends[1].line
        if said and f"process {first.pid} (" not in said:
            own.verdicts.add(work.stage, fault, "rude", f"names nobody: {said}")
        judge(own, work, fault, path, known, f"access {at} of {count}: {ends[1].err[:200]}")


def damages(own: Campaign, work: Work, known: Mapping[str, object], whole: Path) -> None:
    """Files of the folder harmed between two commands; the queue is left as it is."""
    files = [p.relative_to(whole) for p in sorted(whole.rglob("*")) if p.is_file()]
    files = [p for p in files if p.name != ".lock"]
    pairs = [(file, harm) for file in files for harm in HARMS]
    own.draw.shuffle(pairs)
    for file, harm in pairs[: 2 if own.small else 16]:
        path = own.fresh()
        work.begin(path)
        assert work.run(path).code == 0
        harm(path / file, own.draw)
        fault = f"{kind_of(file)} damaged"
        judge(own, work, fault, path, known, f"{harm.__name__} {file}")


def _scoring(own: Campaign) -> Work:
    def told(path: Path) -> Mapping[str, object]:
        said = run(["evaluate", path, "--tasks", own.extra, "--json"])
        return {**own.state(path, *KEPT), "told": said.out.replace(str(path), "")}

    return Work(
        "evaluation", lambda path: ["evaluate", path, "--tasks", own.extra], told, own.whole
    )


def _tokenising(own: Campaign) -> Work:
    folder = own.folder / "placed"
    write_texts(folder)
    config = folder / "text.yaml"
    corpus = {**TEXTS, "sources": [{"name": "web", "files": [f"{folder}/*.jsonl"]}]}
    config.write_text(yaml.safe_dump({**TINY, "corpus": corpus}))

    def made(path: Path) -> Mapping[str, object]:
        return {str(p.relative_to(path)): p.read_bytes() for p in path.rglob("*.bin*")}

    return Work("tokenising", lambda path: ["tokenise", config, "--runs", path], made)


def _submitting(own: Campaign) -> Work:
    queue = Queue(own.folder / "placed-queue")
    rungs = ["a-1xC", "a-2xC", "b-1xC", "b-2xC", "b-8xC", "report"]

    def state(path: Path) -> Mapping[str, object]:
        return {"wrong": unlike(queue.names(), rungs)}

    return Work(
        "submitting",
        lambda path: ["train", own.config, "--engine", "slurm", "--runs", path],
        state,
        environment=queue.environment,
        again=lambda path: queue.clear(),
    )
