"""Progress while runs train: bars on a terminal, one line a finished run elsewhere."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from evaluation.plain import plain
from ladder.tables import duration, note

if TYPE_CHECKING:
    from ladder.plan import Plan
    from ladder.runs import RunsFolder

Watch = Callable[["RunsFolder", "Plan"], None]


Item = TypeVar("Item")

BAR = 10
"""Characters of a run's bar, beside which its loss, speed and time left fit into 80."""

PATIENCE = 1.0
"""Seconds that a loop takes before it gets a bar, so that short ones do not flash."""

LINE_SECONDS = 30.0
"""Seconds between two lines on a long task, where there is no terminal."""


def steps(label: str) -> Callable[[Sequence[Item]], Iterable[Item]]:
    """A function that goes through items, with a bar and the time left on a terminal."""

    def watch(items: Sequence[Item]) -> Iterable[Item]:
        if not sys.stderr.isatty():
            return items
        from rich.console import Console
        from rich.progress import track

        return track(items, label, console=Console(stderr=True), transient=True)

    return watch


@contextmanager
def telling() -> Iterator[None]:
    """Within this, loops of `predict.watch.each` have a bar on a terminal, elsewhere nothing."""
    if not (sys.stderr.isatty() and is_first_rank()):
        yield
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from predict.watch import listening

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.completed:.0f} of {task.total:.0f}"),
        TimeRemainingColumn(),
    )
    bars = Progress(*columns, console=Console(stderr=True), transient=True)

    @contextmanager
    def bar(name: str, count: int) -> Iterator[Callable[[int], None]]:
        shown, start = bars.add_task(plain(name), total=count), time.monotonic()

        def tell(done: int) -> None:
            bars.update(shown, completed=done)
            if not bars.live.is_started and time.monotonic() - start > PATIENCE:
                bars.start()

        try:
            yield tell
        finally:
            bars.remove_task(shown)
            bars.stop()

    try:
        with listening(bar):
            yield
    finally:
        # Before an error is told: a loop that it ended is closed later.
        bars.stop()


@contextmanager
def scoring(shown: bool) -> Iterator[Callable[[str], Callable[[float], None]]]:
    """A function of the name of what is scored next, giving one to be told its share.

    On a terminal it is a bar with the time left; elsewhere a line for what took a while.
    """
    if shown and sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (
            # Names are shown as they are, not as rich's markup.
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=Console(stderr=True), transient=True) as bars:

            def bar(name: str) -> Callable[[float], None]:
                for old in bars.task_ids:
                    bars.remove_task(old)
                shown_task = bars.add_task(plain(name), total=1.0)
                return lambda share: bars.update(shown_task, completed=share)

            yield bar
        return

    def line(name: str) -> Callable[[float], None]:
        start = last = time.monotonic()

        def watch(share: float) -> None:
            nonlocal last
            now = time.monotonic()
            if shown and (now - last > LINE_SECONDS or (share >= 1 and now - start > 2)):
                left = duration((now - start) * (1 - share) / share) if 0 < share < 1 else ""
                note(f"{name}: {share:.0%}" + (f", {left} left" if left else ""))
                last = now

        return watch

    yield line


def is_first_rank() -> bool:
    """Whether this process speaks for those that torchrun started with it, or is alone."""
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def watching(plan: Plan) -> Iterator[Watch]:
    """A function to be called now and then while runs train; only torchrun's first rank tells."""
    if not is_first_rank():
        yield lambda runs, plan: None
    elif sys.stderr.isatty():
        with _bars(plan) as watch:
            yield watch
    else:
        yield _lines()


@contextmanager
def _bars(plan: Plan) -> Iterator[Watch]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

    rungs = {rung.name: rung for rung in plan.runs}
    flops = {name: rung.flops * rung.share for name, rung in rungs.items()}
    with Progress(
        TextColumn("{task.description}", justify="right"),
        BarColumn(BAR),
        TextColumn("{task.percentage:>3.0f}%"),
        TextColumn("{task.fields[more]}"),
        TimeElapsedColumn(),
        console=Console(stderr=True),
    ) as bars:
        whole = bars.add_task("all runs", total=sum(flops.values()), more="")
        shown: dict[str, TaskID] = {}

        def watch(runs: RunsFolder, plan: Plan) -> None:
            done, finished = 0.0, 0
            for status in runs.statuses(plan):
                begin = rungs[status.name].branch_step
                share = max(0, status.step - begin) / (status.steps - begin)
                done += flops[status.name] * share
                finished += status.state == "finished"
                if status.state == "running" and status.loss is not None:
                    if status.name not in shown:
                        shown[status.name] = bars.add_task(status.name, total=status.steps, more="")
                    bars.update(
                        shown[status.name],
                        completed=status.step,
                        more=f"loss {status.loss:.3f}  {status.tokens_per_second:,.0f} tokens/s  "
                        f"{duration(status.seconds_left)} left",
                    )
                elif status.name in shown:
                    bars.remove_task(shown.pop(status.name))
            bars.update(whole, completed=done, more=f"{finished} of {len(plan.runs)} finished")

        yield watch


def _lines() -> Watch:
    start, known = time.monotonic(), set[str]()

    def watch(runs: RunsFolder, plan: Plan) -> None:
        for status in runs.statuses(plan):
            if status.state == "finished" and status.name not in known:
                known.add(status.name)
                loss = "" if status.loss is None else f", loss {status.loss:.3f}"
                note(
                    f"[{duration(time.monotonic() - start)}] {status.name} finished{loss}; "
                    f"{len(known)} of {len(plan.runs)}"
                )

    return watch
