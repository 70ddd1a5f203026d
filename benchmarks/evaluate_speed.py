"""Times the scoring of OLMES tasks against lm-evaluation-harness, olmo_eval and a padded loop.

    python benchmarks/evaluate_speed.py [--folder FOLDER] [--lm-eval PYTHON] [--olmo-eval PYTHON]

See benchmarks/rivals.py for the options, the environments and the model. CPU seconds, user and
system of all threads, of one thread in fp32 on the same requests; without imports, loading of the
model or reading of the requests. Ours alternates with the rivals, each at the best of BATCHES. The
padded loop, in this file, is what one writes in a trainer: rows sorted by length, padded on the
right, logits of every position. Then what our rows' length does, and what it takes to read and
tokenise all of HellaSwag. Prints medians; benchmarks/evaluate_speed.md holds a run.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import rivals

if __name__ == "__main__":
    # Before torch and tokenizers are loaded, which read it then.
    os.environ.update(rivals.THREADS)

import torch
import torch.nn.functional as F  # noqa: N812

from evaluation import scoring
from evaluation.models import LoadedModel, load_model
from evaluation.olmes import read_olmes
from evaluation.tasks import Task

TASKS = {"arc_easy_val_rc_5shot": 20.0, "hellaswag_val_rc_5shot": 15.0}
"""Tasks and the ratio to lm-eval and the padded loop that is required."""

DOCUMENTS = 60
ROUNDS = 3
BATCHES = (1, 4, 16)
TRIAL = 8
"""Documents on which a rival's batch size is chosen."""

WHOLE = "hellaswag_val_rc_5shot"
SWEEP = (96, 128, 192, 256, 384, 512)
CLOSE = 1e-3
"""Nats by which the padded loop may differ from ours, to see that it does the same work."""


@dataclass(frozen=True)
class Seconds:
    """CPU seconds of one run."""

    whole: float
    """With tokenisation."""
    scoring: float


Run = Callable[[str, int, int], Seconds]
"""Of a task's name, its documents and a batch size."""


def main() -> None:
    """Print everything."""
    options = rivals.arguments()
    pythons = rivals.environments(options)
    folder = options.folder / "model"
    rivals.make_model(folder)
    torch.set_num_threads(1)
    model = load_model(str(folder))
    tasks = {name: rivals.documents(name, range(DOCUMENTS)) for name in TASKS}
    started = {name: rivals.start(name, python, folder) for name, python in pythons.items()}

    def asked(rival: rivals.Rival) -> Run:
        def run(name: str, count: int, batch: int) -> Seconds:
            path = options.folder / f"{name}-{count}.jsonl"
            rivals.write_documents(fewer(tasks[name], count), path)
            numbers = list(range(count))
            answer = rival.ask(task=name, documents=str(path), numbers=numbers, batch=batch)
            return Seconds(answer["seconds"], answer["scoring_seconds"])

        return run

    def looped(name: str, count: int, batch: int) -> Seconds:
        return padded_loop(model, fewer(tasks[name], count), batch)[1]

    runs = {"lm-eval, HFLM": asked(started["lm-eval"]), "plain padded loop": looped}
    runs["olmo_eval's loop"] = asked(started["olmo-eval"])
    print("`python benchmarks/evaluate_speed.py`, CPU seconds, medians\n")
    print("| task | what | batch | with tokenising | ratio | scoring only | ratio |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name in TASKS:
        check(model, tasks[name])
        compare(name, runs, lambda task=tasks[name]: ours(model, task)[1])
    for rival in started.values():
        rival.close()
    sweep(model, tasks)
    whole_task(model)


def compare(name: str, runs: dict[str, Run], own: Callable[[], Seconds]) -> None:
    """A task's lines of the table: ours before each run of each rival."""
    batches = {
        rival: min(BATCHES, key=lambda batch: run(name, TRIAL, batch).whole)
        for rival, run in runs.items()
    }
    mine: list[Seconds] = []
    theirs: dict[str, list[Seconds]] = {rival: [] for rival in runs}
    own()
    for _ in range(ROUNDS):
        for rival, run in runs.items():
            mine.append(own())
            theirs[rival].append(run(name, DOCUMENTS, batches[rival]))
    whole, scored = medians(mine)
    title = f"{name}, {DOCUMENTS} documents"
    print(f"| {title} | task-ladder | | {whole:.2f} s | | {scored:.2f} s | |")
    for rival, found in theirs.items():
        other, other_scored = medians(found)
        print(
            f"| {title} | {rival} | {batches[rival]} | {other:.1f} s | {other / whole:.1f}x | "
            f"{other_scored:.1f} s | {other_scored / scored:.1f}x |",
            flush=True,
        )
        if rival != "olmo_eval's loop" and other / whole < TASKS[name]:
            print(f"{name}: less than {TASKS[name]:g}x {rival}", file=sys.stderr)


def medians(runs: list[Seconds]) -> tuple[float, float]:
    """Median seconds with tokenisation, and of scoring."""
    return (
        statistics.median(run.whole for run in runs),
        statistics.median(run.scoring for run in runs),
    )


def fewer(task: Task, count: int) -> Task:
    """A task's first documents."""
    return replace(task, items=task.items[:count])


def ours(model: LoadedModel, task: Task) -> tuple[list[float], Seconds]:
    """Log-likelihoods of all choices, and the time."""
    begin = time.process_time()
    encoded = model.encode(task)
    tokenised = time.process_time()
    scores = scoring.score_task(model.model, encoded)
    end = time.process_time()
    found = [value for item in scores.items for value in item.log_likelihoods]
    return found, Seconds(end - begin, end - tokenised)


def padded_loop(model: LoadedModel, task: Task, batch: int) -> tuple[list[float], Seconds]:
    """The same as a trainer's loop: a row of tokens for every choice, all logits of every row."""
    begin = time.process_time()
    words: Any = model.tokenizer
    contexts = words([item.contexts[0] for item in task.items])["input_ids"]
    rows = [
        (context, choice)
        for item, context in zip(task.items, contexts, strict=True)
        for choice in words(list(item.choices))["input_ids"]
    ]
    tokenised = time.process_time()
    order = sorted(range(len(rows)), key=lambda n: len(rows[n][0]) + len(rows[n][1]))
    found = [0.0] * len(rows)
    with torch.inference_mode():
        for start in range(0, len(order), batch):
            places = order[start : start + batch]
            inputs = [torch.tensor(rows[n][0] + rows[n][1][:-1]) for n in places]
            tokens = torch.nn.utils.rnn.pad_sequence(inputs, batch_first=True)  # (B, T)
            logits = model.model(input_ids=tokens, use_cache=False).logits  # (B, T, V)
            for own, n in zip(logits, places, strict=True):
                context, choice = rows[n]
                scored = own[len(context) - 1 : len(context) - 1 + len(choice)]
                target = torch.tensor(choice)
                found[n] = -float(F.cross_entropy(scored.float(), target, reduction="sum"))
    end = time.process_time()
    return found, Seconds(end - begin, end - tokenised)


def check(model: LoadedModel, task: Task) -> None:
    """Stop where the padded loop does not score what we do."""
    few = fewer(task, TRIAL)
    pairs = zip(ours(model, few)[0], padded_loop(model, few, BATCHES[0])[0], strict=True)
    off = max(abs(mine - other) for mine, other in pairs)
    if off > CLOSE:
        raise SystemExit(f"{task.name}: the padded loop differs by {off:.1e} nats")


def sweep(model: LoadedModel, tasks: dict[str, Task]) -> None:
    """What the length of packed rows does, in turns."""
    usual = scoring.PACKED_TOKENS["cpu"]
    times: dict[tuple[int, str], list[float]] = {}
    for _ in range(ROUNDS):
        for limit in SWEEP:
            scoring.PACKED_TOKENS["cpu"] = limit
            for name, task in tasks.items():
                times.setdefault((limit, name), []).append(ours(model, task)[1].whole)
    scoring.PACKED_TOKENS["cpu"] = usual
    print(f"\n| tokens of a packed row | {' | '.join(tasks)} |\n| --- {'| --- ' * len(tasks)}|")
    for limit in SWEEP:
        cells = " | ".join(f"{statistics.median(times[limit, name]):.2f} s" for name in tasks)
        print(f"| {limit}{', used' if limit == usual else ''} | {cells} |", flush=True)


def whole_task(model: LoadedModel) -> None:
    """What reading and tokenising a big task takes."""
    begin = time.process_time()
    task = read_olmes(WHOLE)
    read = time.process_time()
    encoded = model.encode(task)
    end = time.process_time()
    print(
        f"\n{WHOLE}, all {len(task.items)} documents: read in {read - begin:.1f} CPU s, tokenised "
        f"({sum(encoded.tokens)} tokens of choices) in {end - read:.1f} CPU s."
    )


if __name__ == "__main__":
    main()
