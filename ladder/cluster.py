"""Launches runs on this machine: a process a GPU, or a core where there are none; targets last."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.queues import SimpleQueue
from pathlib import Path

from evaluation.files import InputError
from ladder import stopping
from ladder.config import Experiment
from ladder.machine import check_installed, cores
from ladder.plan import Rung
from ladder.runs import RunsFolder

THREAD_SETTINGS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
POLL_SECONDS = 0.5

GPU_DRIVERS = (Path("/dev/nvidiactl"), Path("/dev/kfd"), Path("/dev/dxg"))
"""One of these there is where a GPU is: NVIDIA's, AMD's, Windows' own Linux'."""


class TrainingError(RuntimeError):
    """A run that could not be finished; the message is one line."""


def train_local(
    config: Experiment,
    pending: list[Rung],
    runs: RunsFolder,
    watch: Callable[[], None],
    workers: int | None = None,
) -> None:
    """Train `pending` side by side; `watch` is called about twice a second.

    Trunks go first, then rungs, the costliest first, so that the cores finish together; targets
    follow. A rung waits until its trunk has come to where it goes on. One that fails does not stop
    the others, a worker that is killed does. All failures are raised together: InputError where
    each is a user's mistake, else TrainingError. Workers take turns over the GPUs, one by default
    for each; without GPUs there is one a core, of one thread.
    """
    check_installed("training")
    order = sorted(pending, key=lambda r: (r.role == "target", not r.branches, -r.flops))
    gpus = visible_gpus(config.execution.device)
    count = min(workers or len(gpus) or cores(), len(order))
    context = multiprocessing.get_context("spawn")
    turns = context.SimpleQueue()
    for gpu in assigned_gpus(count, gpus):
        turns.put(gpu)
    with (
        _inherited(cores() // count if gpus else 1),
        ProcessPoolExecutor(
            count, context, initializer=_start_worker, initargs=(os.getpid(), turns)
        ) as pool,
    ):
        futures: dict[Future[None], Rung] = {}
        waiting, left = order, set[Future[None]]()
        try:
            while waiting or left:
                going = {futures[future].name for future in left}
                for rung in (ready := [r for r in waiting if _is_ready(r, runs, going, waiting)]):
                    future = _submitted(pool, config, rung, runs.path)
                    futures[future] = rung
                    left.add(future)
                waiting = [rung for rung in waiting if rung not in ready]
                _, left = wait(left, timeout=POLL_SECONDS)
                watch()
        except BaseException:
            _kill(pool)
            raise
    failed: dict[str, list[str]] = {}
    for future, rung in futures.items():
        if reason := _failure(future):
            failed.setdefault(reason, []).append(rung.name)
    if failed:
        line = "; ".join(f"{', '.join(names)}: {reason}" for reason, names in failed.items())
        errors = [error for future in futures if (error := future.exception())]
        mistake = all(isinstance(error, InputError) for error in errors)
        raise InputError(line) if mistake else TrainingError(line)


def train_here(
    config: Experiment, pending: list[Rung], runs: RunsFolder, watch: Callable[[], None]
) -> None:
    """Train `pending` one after another in this process; raises Stopped where a signal asks to."""
    check_installed("training")
    from ladder.train import train_rung

    for rung in pending:
        if stopping.asked():
            raise stopping.Stopped(f"{rung.name}: not started")
        train_rung(config, rung, runs)
        watch()


def _submitted(
    pool: ProcessPoolExecutor, config: Experiment, rung: Rung, path: Path
) -> Future[None]:
    """A run given to the workers; one that failed where the kill of a worker has ended them all."""
    try:
        return pool.submit(_train, config, rung, path)
    except BrokenProcessPool as error:
        failed = Future[None]()
        failed.set_exception(error)
        return failed


def visible_gpus(device: str) -> tuple[str, ...]:
    """Names, as in CUDA_VISIBLE_DEVICES, of the GPUs that training on `device` may use."""
    # Importing torch takes seconds, for nothing where no driver is loaded.
    if device == "cpu" or not any(driver.exists() for driver in GPU_DRIVERS):
        return ()
    import torch

    count = torch.cuda.device_count()
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = map(str, range(count)) if given is None else map(str.strip, given.split(","))
    return tuple(names)[:count]


def assigned_gpus(workers: int, gpus: Sequence[str]) -> list[str | None]:
    """The GPU of every worker, in turn; None for all where there are none."""
    return [gpus[number % len(gpus)] if gpus else None for number in range(workers)]


def _is_ready(rung: Rung, runs: RunsFolder, going: set[str], waiting: list[Rung]) -> bool:
    """Whether a run can start: its trunk has come so far, or never will, which it then says."""
    if rung.trunk is None or runs.has_trunk(rung):
        return True
    return rung.trunk.name not in {*going, *(other.name for other in waiting)}


def _train(config: Experiment, rung: Rung, path: Path) -> None:
    from ladder.train import train_rung

    train_rung(config, rung, RunsFolder(path))


def _failure(future: Future[None]) -> str:
    error = future.exception()
    if isinstance(error, BrokenProcessPool):
        return "a worker process was killed; the same command goes on from here"
    if isinstance(error, InputError):
        return str(error)
    return f"{type(error).__name__}: {error}" if error else ""


def _start_worker(parent: int, turns: SimpleQueue[str | None]) -> None:
    """Make a worker ready, before it imports torch: it sees one GPU, the next in turn."""
    gpu = turns.get()
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    _watch_parent(parent)


def _watch_parent(parent: int) -> None:
    """End this worker when its parent is gone: a killed command leaves no one training.

    An interrupt from the keyboard reaches the whole group; the command alone acts on it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(POLL_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _kill(pool: ProcessPoolExecutor) -> None:
    """End the workers at once; what they had saved is what the next command goes on from."""
    for process in list((pool._processes or {}).values()):
        process.kill()


@contextmanager
def _inherited(count: int) -> Iterator[None]:
    """Workers inherit these settings before their libraries start thread pools."""
    # Nor may a module that lies in the working folder stand in for one of theirs.
    settings = {**dict.fromkeys(THREAD_SETTINGS, str(max(1, count))), "PYTHONSAFEPATH": "1"}
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
