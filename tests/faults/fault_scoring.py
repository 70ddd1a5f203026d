"""Faults in scoring a run, and in what `ladder run` made of all runs."""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Sequence
from pathlib import Path

from fault_harness import (
    HARMS,
    Done,
    accesses,
    difference,
    judged,
    run,
    start,
)
from fault_ladder import KEPT, MADE, Campaign, kind_of, send


def evaluations(own: Campaign) -> None:
    """Scoring a finished run on another task: killed, and from damaged files."""
    command = ["evaluate", "{path}", "--tasks", own.extra, "--json"]

    def of(path: Path) -> list[object]:
        return [str(word).format(path=path) for word in command]

    whole = own.fresh(of=own.whole)
    count, seconds = accesses(of(whole), whole)
    known = run(of(whole))
    expected = {**own.state(whole), "told": known.out.replace(str(whole), "")}
    assert known.code == 0, known.err

    def judge(fault: str, path: Path, note: str, kept: Sequence[str] = KEPT) -> None:
        said: list[str] = []
        # What was scored before is not scored again, whatever became of the weights.
        must = expected if kept == KEPT else {n: expected[n] for n in (*kept, "told")}

        def again() -> Done:
            done = run(of(path))
            if done.code == 2 and "`ladder train`" in done.line:
                from fault_harness import mended

                mended(done.line, path)
                trained = own.train(path)
                return trained if trained.code else run(of(path))
            said[:] = [done.out.replace(str(path), "")]
            return done

        def differs() -> str:
            final = run(of(path)).out.replace(str(path), "")
            return difference({**own.state(path, *kept), "told": final}, must, path)

        judged(own.verdicts, "evaluation", fault, again, differs, path, note)
        shutil.rmtree(path.parent, ignore_errors=True)

    for index in own.many(16):
        path = own.fresh(of=own.whole)
        number = signal.SIGTERM if index % 4 == 3 else signal.SIGKILL
        name = signal.Signals(number).name
        if index % 2:
            at = own.draw.randint(1, count)
            run(of(path), watched=path, at=at, number=number)
            judge(f"{name} at a file", path, f"access {at} of {count}")
        else:
            process = start(of(path))
            time.sleep(own.draw.uniform(0, seconds))
            send(process.pid, number)
            process.wait()
            judge(f"{name} at a moment", path, "")
    files = [p.relative_to(whole) for p in sorted(whole.rglob("*")) if p.is_file()]
    files = [p for p in files if not p.name.endswith(".lock")]
    pairs = [(file, harm) for file in files for harm in HARMS]
    own.draw.shuffle(pairs)
    for file, harm in pairs[: 3 if own.small else 40]:
        path = own.fresh(of=whole)
        harm(path / file, own.draw)
        judge(f"{kind_of(file)} damaged", path, f"{harm.__name__} {file}", MADE[:1])


def outputs(own: Campaign) -> None:
    """What `ladder run` made, damaged; the same command makes it again."""
    path = own.fresh()
    command = ["run", own.config, "--workers", "1", "--runs"]
    done = run([*command, path])
    assert done.code == 0, done.err
    names = ("observations.parquet", "predictions.json", "audit.csv", "config.yaml")
    names += ("tasks/next.jsonl", "tasks/index.json")
    rungs = [f"{rung}-{m}xC" for rung in "ab" for m in (1, 2)]
    names += tuple(f"{rung}/scores.parquet" for rung in rungs)

    def state(path: Path) -> dict[str, bytes]:
        return {name: (path / name).read_bytes() for name in names}

    expected = state(path)
    pairs = [(Path(name), harm) for name in (*names, "a-1xC/manifest.json") for harm in HARMS]
    own.draw.shuffle(pairs)
    for file, harm in pairs[: 1 if own.small else 8]:
        copy = own.fresh(of=path)
        harm(copy / file, own.draw)
        judged(
            own.verdicts,
            "the whole",
            f"{kind_of(file)} damaged",
            lambda copy=copy: run([*command, copy]),  # type: ignore[misc]
            lambda copy=copy: difference(state(copy), expected),  # type: ignore[misc]
            copy,
            f"{harm.__name__} {file}",
        )
