"""Faults in tokenising and in submitting to Slurm."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from fault_harness import (
    HARMS,
    accesses,
    difference,
    fill,
    judged,
    mount,
    run,
    start,
    unmount,
)
from fault_ladder import Campaign, kind_of, send

TEXTS = {
    "kind": "text",
    "tokenizer": "bytes",
    "held_out": 0.1,
    "shard_tokens": 4000,
    "validation_tokens": 2000,
    "workers": 1,
    "sources": [{"name": "web", "files": ["{folder}/*.jsonl"]}],
}
SLURM = {
    "sbatch": """#!/bin/sh
for script; do :; done
exec 9>>"$FAULT_QUEUE.lock"; flock 9
id=$(($(wc -l <"$FAULT_QUEUE" 2>/dev/null || echo 0) + 100))
echo "$id|$script" >>"$FAULT_QUEUE"
echo $id
""",
    "squeue": """#!/bin/sh
[ -f "$FAULT_QUEUE" ] || exit 0
case "$*" in
*%o*) cat "$FAULT_QUEUE" ;;
*) awk -F'|' '{print $1 "|PENDING|None"}' "$FAULT_QUEUE" ;;
esac
""",
}


def tokenising(own: Campaign) -> None:
    """Shards: killed while they are made, on a full disk, and damaged before they are read."""
    from ladder.corpora.settings import TextCorpus
    from ladder.corpora.text import Text

    place = own.folder / "texts"
    place.mkdir()
    words = random.Random(3)
    for name in "ab":
        lines = [
            json.dumps({"text": " ".join(words.choices(["one", "two", "three", "four"], k=30))})
            for _ in range(120)
        ]
        (place / f"{name}.jsonl").write_text("\n".join(lines))
    document = json.loads(json.dumps(TEXTS).replace("{folder}", str(place)))
    config = TextCorpus.model_validate(document)

    def make(path: Path) -> Callable[[], None]:
        def made() -> None:
            path.mkdir(parents=True, exist_ok=True)
            corpus = Text(config, path / "corpus")
            corpus.prepare()
            rows = b"".join(corpus.batch(0, n, 8, 65).tobytes() for n in range(1, 40))
            held = corpus._streams["web"][1]
            (path.parent / "rows").write_bytes(rows + held[0 : len(held)].tobytes())

        return made

    def state(path: Path) -> dict[str, bytes]:
        found = {str(p.relative_to(path)): p.read_bytes() for p in path.rglob("*.bin*")}
        return {**found, "rows": (path.parent / "rows").read_bytes()}

    whole = own.fresh("made")
    count, seconds = accesses(make(whole), whole)
    expected = state(whole)
    assert len(expected) > 10

    def judge(fault: str, path: Path, note: str) -> None:
        (path.parent / "rows").unlink(missing_ok=True)
        judged(
            own.verdicts,
            "tokenising",
            fault,
            lambda: run(make(path)),
            lambda: difference(state(path), expected, path),
            path,
            note,
        )

    for index in own.many(24):
        path = own.fresh("made")
        number = signal.SIGTERM if index % 4 == 3 else signal.SIGKILL
        name = signal.Signals(number).name
        if index % 2:
            at = own.draw.randint(1, count)
            run(make(path), watched=path, at=at, number=number)
            judge(f"{name} at a file", path, f"access {at} of {count}")
        else:
            process = start(make(path))
            time.sleep(own.draw.uniform(0, seconds))
            send(process.pid, number)
            process.wait()
            judge(f"{name} at a moment", path, "")
    begun = own.fresh("made")
    run(make(begun), watched=begun, at=count // 2)
    for source, number in ((whole, 50), (begun, 20)):
        files = [p.relative_to(source) for p in sorted(source.rglob("*")) if p.is_file()]
        files = [p for p in files if not p.name.endswith((".lock", ".tmp"))]
        pairs = [(file, harm) for file in files for harm in HARMS]
        own.draw.shuffle(pairs)
        for file, harm in pairs[: 3 if own.small else number]:
            path = own.fresh("made", of=source)
            harm(path / file, own.draw)
            judge(f"{kind_of(file)} damaged", path, f"{harm.__name__} {file}")
    disk = own.folder / "disk"
    disk.mkdir(exist_ok=True)
    for _ in own.many(6):
        if not mount(disk, "1m"):
            break
        try:
            ballast = fill(disk, own.draw.randrange(0, 200_000))
            done = run(make(disk / "in" / "made"))
            ballast.unlink()
            if done.complaint:
                own.verdicts.add("tokenising", "full disk", "rude", done.complaint)
            judge("full disk", disk / "in" / "made", done.line)
        finally:
            unmount(disk)


def submitting(own: Campaign) -> None:
    """Killed while jobs are submitted: none is lost, none submitted twice."""
    tools = own.folder / "tools"
    tools.mkdir()
    queue = own.folder / "queue"
    for name, text in SLURM.items():
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    environment = {"PATH": f"{tools}:{os.environ['PATH']}", "FAULT_QUEUE": str(queue)}

    def of(path: Path) -> list[object]:
        return ["train", own.config, "--engine", "slurm", "--runs", path]

    def names(path: Path) -> list[str]:
        lines = queue.read_text().splitlines() if queue.is_file() else []
        return sorted(Path(line.split("|")[1]).stem for line in lines)

    path = own.fresh()
    assert run(of(path), environment=environment).code == 0
    expected = [*names(path)]
    queue.unlink()
    count, seconds = 0, 0.0
    process = start(of(path), own.folder, environment=environment)
    begin = time.monotonic()
    while not process.read("accesses"):
        assert time.monotonic() < begin + 60
        time.sleep(0.003)
    count, seconds = int(process.read("accesses")), time.monotonic() - begin
    process.wait()
    for index in own.many(16):
        queue.unlink(missing_ok=True)
        path = own.fresh()
        number = signal.SIGTERM if index % 4 == 3 else signal.SIGKILL
        name = signal.Signals(number).name
        if index % 2:
            at = own.draw.randint(1, count)
            run(of(path), watched=own.folder, at=at, number=number, environment=environment)
            fault, note = f"{name} at a file", f"access {at} of {count}"
        else:
            process = start(of(path), environment=environment)
            time.sleep(own.draw.uniform(0, seconds))
            send(process.pid, number)
            process.wait()
            fault, note = f"{name} at a moment", ""
        judged(
            own.verdicts,
            "submitting",
            fault,
            lambda path=path: run(of(path), environment=environment),  # type: ignore[misc]
            lambda path=path: _unlike(names(path), expected),  # type: ignore[misc]
            path,
            f"{note} {names(path)}",
        )


def _unlike(names: Sequence[str], expected: Sequence[str]) -> str:
    """Jobs that are missing or twice in the queue; the report may be there again."""
    rungs = [name for name in names if name != "report"]
    alike = {*names} == {*expected} and len(rungs) == len({*rungs})
    return "" if alike else f"queued are {', '.join(names)}"
