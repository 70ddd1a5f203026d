"""Trains and scores one rung, alone or on all ranks of torchrun, resuming from its checkpoint."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any
from zlib import crc32

import pandas as pd
import torch

from evaluation.files import InputError, write_text
from evaluation.models import LoadedModel
from evaluation.ranks import ONE, Ranks
from evaluation.records import read_observations, write_observations
from evaluation.tasks import read_task
from ladder import recipe, stopping
from ladder.checkpoint import latest_checkpoint, load_checkpoint, save_checkpoint
from ladder.config import Experiment
from ladder.corpora import Corpus, open_corpus
from ladder.meter import Meter
from ladder.model import build_model
from ladder.optim import build_optimizers
from ladder.parallel import Parallel, blocks, joined
from ladder.plan import Rung
from ladder.runs import Progress, RungFolder, RunsFolder
from ladder.score import score_rung
from ladder.step import LossModel, optimizer_step

REPORT_SECONDS = 0.5
"""Seconds between two words on progress."""

LOG_STEPS = 10
"""Steps between two lines of metrics.jsonl."""


def train_rung(config: Experiment, rung: Rung, runs: RunsFolder) -> None:
    """Train a rung to its end, scoring it on the way; a finished one is left as it is.

    Under torchrun all ranks call it together, and the first writes. What a rung becomes is a
    function of config and rung; on one CPU process to the last bit, however often it was killed.
    """
    folder = runs.rung(rung.name)
    # The first rank alone holds the lock, for all of them.
    with (
        joined(config.execution) as parallel,
        folder.lock() if parallel.is_first else nullcontext(),
    ):
        parallel.barrier()
        if folder.finished:
            return
        _manifest(parallel, folder, rung, config, "running")
        if parallel.is_first:
            write_text(folder.path / "config.yaml", runs.config.read_text(encoding="utf-8"))
        try:
            with _deterministic(parallel):
                _train(config, rung, runs, parallel)
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            _manifest(parallel, folder, rung, config, "failed", error=reason)
            raise
        _manifest(parallel, folder, rung, config, "finished")
        parallel.barrier()


def run_seed(seed: int, name: str) -> int:
    """A rung's own seed, from the experiment's and the rung's name."""
    return crc32(f"{seed} {name}".encode())


def evaluation_steps(rung: Rung, shares: tuple[float, ...]) -> list[int]:
    """Steps after which a rung is scored: the shares of its length, and its end."""
    return sorted({max(1, round(share * rung.steps)) for share in shares} | {rung.steps})


def _manifest(
    parallel: Parallel, folder: RungFolder, rung: Rung, config: Experiment, state: str, **more: Any
) -> None:
    if parallel.is_first:
        folder.write_manifest(rung, config, state, **more)


@contextmanager
def _deterministic(parallel: Parallel) -> Iterator[None]:
    """On a CPU one thread and deterministic kernels; restored on leaving."""
    if parallel.device.type != "cpu":
        yield
        return
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        torch.use_deterministic_algorithms(before[1])


def _train(config: Experiment, rung: Rung, runs: RunsFolder, parallel: Parallel) -> None:
    folder, corpus = runs.rung(rung.name), open_corpus(config.corpus, runs.corpus)
    if parallel.world > rung.batch_sequences:
        raise InputError(
            f"{rung.name}: {parallel.world} ranks for a batch of {rung.batch_sequences} sequences; "
            "train it on fewer"
        )
    if parallel.is_first:
        corpus.prepare()
    parallel.barrier()
    corpus.check(rung.steps * rung.batch_sequences, rung.sequence_length + 1)
    execution, tokenizer = config.execution, corpus.tokenizer()
    seed = run_seed(config.seed, rung.name)
    model = build_model(config.model, rung.shape, corpus.vocabulary, seed)
    loaded = LoadedModel(model, tokenizer)
    tasks = [loaded.encode(read_task(path)) for path in runs.task_files]
    if execution.activation_checkpointing:
        model.gradient_checkpointing_enable()
    if execution.compile:
        for block in blocks(model):
            block.compile()
    parallel.shard(model, execution)
    optimizers = build_optimizers(model, config.recipe)
    due = evaluation_steps(rung, config.evaluation.at)
    start, rows = 0, []
    if latest := latest_checkpoint(folder.checkpoints):
        path, start = latest
        load_checkpoint(path, model, optimizers)
        rows = _rows_until(folder.scores, start) if due[0] <= start else []
    loss_model = parallel.replicate(LossModel(model, config.recipe.z_loss))
    # Sharded models need every rank in every pass; whole ones share the passes out.
    ranks = ONE if parallel.kind == "fsdp" else Ranks(parallel.rank, parallel.world)
    meter = Meter(rung, execution, parallel)
    log = _Log(folder, start) if parallel.is_first else None
    for step in range(start + 1, rung.steps + 1):
        rate = _rate(config, rung, step)
        optimizers.set_learning_rate(rate)
        tokens = _rows_of(corpus, rung, seed, step, parallel)
        stepped = optimizer_step(
            loss_model,
            optimizers,
            tokens,
            config.recipe,
            execution,
            parallel,
            rung.batch_sequences,
        )
        meter.stepped()
        is_due, stop = step in due, parallel.any(stopping.asked())
        if log and (is_due or step % LOG_STEPS == 0):
            line = {
                "step": step,
                "tokens": step * rung.batch_tokens,
                "loss": stepped.loss,
                "gradient_norm": stepped.gradient_norm,
                "learning_rate": rate,
            }
            log.write({**line, **meter.read()})
        if log and (is_due or stop or meter.due(REPORT_SECONDS)):
            speed = meter.tokens_per_second
            folder.write_progress(Progress(step, rung.steps, stepped.loss, speed, time.time()))
        if is_due:
            with meter.paused():
                rows += score_rung(
                    rung.observed(step, config.seed),
                    corpus,
                    rung.sequence_length,
                    model.eval(),
                    tasks,
                    folder.store(step) if parallel.is_first else None,
                    ranks,
                )
                if parallel.is_first:
                    write_observations(pd.DataFrame(rows), folder.scores)
        if is_due or stop or step % config.checkpoint_steps == 0:
            with meter.paused():
                save_checkpoint(folder.checkpoints, step, model, optimizers, tokenizer, parallel)
        if stop and step < rung.steps:
            raise stopping.Stopped(f"{rung.name}: saved after step {step}")


def _rate(config: Experiment, rung: Rung, step: int) -> float:
    own = config.recipe
    return recipe.scheduled(
        step,
        rung.steps,
        rung.warmup_steps,
        rung.learning_rate,
        own.schedule,
        own.final_learning_rate,
        own.decay,
    )


def _rows_of(corpus: Corpus, rung: Rung, seed: int, step: int, parallel: Parallel) -> torch.Tensor:
    """The rank's rows (b, T + 1) of the step's global batch."""
    sequences, rows = rung.batch_sequences, parallel.rows(rung.batch_sequences)
    return torch.from_numpy(corpus.batch(seed, step, sequences, rung.sequence_length + 1, rows))


class _Log:
    """metrics.jsonl, lines beyond the checkpoint dropped."""

    def __init__(self, folder: RungFolder, start: int) -> None:
        _truncate_metrics(folder.metrics, start)
        self.path = folder.metrics

    def write(self, line: dict[str, Any]) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps(line) + "\n")


def _rows_until(scores: Any, step: int) -> list[dict[str, Any]]:
    table = read_observations(scores)
    # A kill between the scores' and the checkpoint's write leaves rows that are made again.
    rows = table[table["step"] <= step].to_dict("records")
    return [{str(k): v for k, v in row.items() if not pd.isna(v)} for row in rows]


def _truncate_metrics(path: Any, step: int) -> None:
    """Drop lines beyond the checkpoint, and one cut short by a kill."""
    kept = []
    if path.is_file():
        for line in path.read_text().splitlines():
            try:
                if json.loads(line)["step"] <= step:
                    kept.append(line)
            except ValueError:
                break
    write_text(path, "".join(f"{line}\n" for line in kept))
