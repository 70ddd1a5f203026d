"""Worker processes that tokenise: each is told a unit at a time, and ends when its parent does.

Not multiprocessing: its workers outlive a parent that was killed, and import the caller's script.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from queue import SimpleQueue
from typing import Any

from evaluation.files import InputError
from ladder.corpora.documents import Unit
from ladder.corpora.tokenise import Job, make_unit

Numbered = tuple[int, Unit]


def make_in_processes(
    job: Job, pending: Sequence[Numbered], workers: int, report: Callable[[int, float], None]
) -> None:
    """Have the units tokenised by at most so many processes; InputError where one reports it."""
    count = min(workers, len(pending))
    # The largest first, so that none is left over at the end.
    queue: Iterator[Numbered] = iter(sorted(pending, key=lambda x: -x[1].size))
    events: SimpleQueue[tuple[str, Any]] = SimpleQueue()
    lock = threading.Lock()

    def take() -> Numbered | None:
        with lock:
            return next(queue, None)

    threads = max(1, workers // count)  # of a tokenizer, where units are fewer than workers
    processes = [_start(job, threads) for _ in range(count)]
    try:
        for process in processes:
            threading.Thread(target=_lead, args=(process, take, events), daemon=True).start()
        finished = 0
        while finished < count:
            kind, value = events.get()
            if kind == "share":
                report(*value)
            elif kind == "finished":
                finished += 1
            elif kind == "input":
                raise InputError(value)
            else:
                raise RuntimeError(value)
    finally:
        for process in processes:
            process.kill()
            process.wait()
            with suppress(BrokenPipeError):
                if process.stdin is not None:
                    process.stdin.close()


def _start(job: Job, threads: int) -> subprocess.Popen[str]:
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path),
        "RAYON_NUM_THREADS": str(threads),
        "TOKENIZERS_PARALLELISM": "true" if threads > 1 else "false",
        "OMP_NUM_THREADS": "1",
    }
    process = subprocess.Popen(
        # -P: a module that lies in the working folder must not stand in for ours.
        [sys.executable, "-P", "-m", "ladder.corpora.workers"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        # Ctrl-C is the parent's to handle.
        start_new_session=True,
    )
    _tell(process, job.model_dump_json())
    return process


def _lead(
    process: subprocess.Popen[str],
    take: Callable[[], Numbered | None],
    events: SimpleQueue[tuple[str, Any]],
) -> None:
    """Give one process units until there are none, and pass on what it says."""
    while (job := take()) is not None:
        number, unit = job
        _tell(process, json.dumps([number, asdict(unit)]))
        for line in process.stdout or ():
            kind, value = json.loads(line)
            if kind == "done":
                break
            events.put((kind, (number, value) if kind == "share" else value))
        else:
            code = process.wait()
            why = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
            events.put(
                (
                    "input",
                    f"a process that tokenises {unit.path} {why}; if memory ran out, lower "
                    "corpus.workers or corpus.shard_tokens; start again, finished shards are kept",
                )
            )
            return
    events.put(("finished", None))


def _tell(process: subprocess.Popen[str], line: str) -> None:
    # Where it has ended, its silence tells so.
    with suppress(BrokenPipeError):
        print(line, file=process.stdin, flush=True)


def _work() -> None:
    """The whole life of a worker: jobs on standard input, events on standard output."""
    # Libraries that print must not be read as events.
    events = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    lines: SimpleQueue[str] = SimpleQueue()
    threading.Thread(target=_listen, args=(lines,), daemon=True).start()

    def say(kind: str, value: Any = None) -> None:
        events.write(json.dumps([kind, value]) + "\n")

    job = Job.model_validate_json(lines.get())
    while True:
        number, unit = json.loads(lines.get())
        try:
            make_unit(job, number, Unit(**unit), partial(say, "share"))
        except InputError as error:
            say("input", str(error))
        except Exception:
            say("failed", traceback.format_exc())
        say("done")


def _listen(lines: SimpleQueue[str]) -> None:
    for line in sys.stdin:
        lines.put(line)
    # The parent is gone, however it went.
    os._exit(0)


if __name__ == "__main__":
    _work()
