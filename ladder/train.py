"""Trains and scores one rung, alone or on all ranks of torchrun, resuming from its checkpoint."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING, Any
from zlib import crc32

import torch

from evaluation.files import InputError, write_text
from evaluation.models import LoadedModel, check_kernels
from evaluation.ranks import lost_ranks_told
from evaluation.tasks import read_task
from ladder import recipe, stopping
from ladder.checkpoint import Saver, Training, load_checkpoint
from ladder.config import Experiment
from ladder.corpora import Corpus, open_corpus
from ladder.meter import Meter
from ladder.model import build_model, freeze_norms
from ladder.mup import factors
from ladder.optim import Optimizers, build_optimizers
from ladder.parallel import Parallel, blocks, joined
from ladder.plan import Rung
from ladder.runs import Progress, RungFolder, RunsFolder
from ladder.scores import Scores, steps_at
from ladder.step import LossModel, optimizer_step
from ladder.tracker import open_tracker
from ladder.verified import check_checkpoint, whole_checkpoint

if TYPE_CHECKING:
    from transformers import PreTrainedModel

REPORT_SECONDS = 0.5
"""Seconds between two words on progress."""

LOG_STEPS = 10
"""Steps between two lines of metrics.jsonl."""


def train_rung(config: Experiment, rung: Rung, runs: RunsFolder) -> None:
    """Train a rung to its end, scoring it on the way; a finished one is left as it is.

    Under torchrun all ranks call it together, and the first writes. What a rung becomes is a
    function of config and rung; on one CPU process to the last bit, however often it was killed.
    """
    config, folder = config.of(rung), runs.rung(rung.name)
    # The first rank alone holds the lock, for all of them.
    with (
        lost_ranks_told(rung.name, "the same command goes on from the last checkpoint") as peers,
        joined(config.execution, peers) as parallel,
        folder.lock() if parallel.is_first else nullcontext(),
    ):
        parallel.barrier()
        if folder.complete:
            return
        _manifest(parallel, folder, rung, "running")
        if parallel.is_first:
            write_text(folder.path / "config.yaml", runs.config.read_text(encoding="utf-8"))
        try:
            with _deterministic(parallel):
                _train(config, rung, runs, parallel)
        except Exception as error:
            kind = "" if isinstance(error, InputError) else f"{type(error).__name__}: "
            reason = f"{kind}{error}"
            # On a full disk this fails too; the error that led here is what to tell.
            with suppress(OSError, InputError):
                _manifest(parallel, folder, rung, "failed", error=reason)
            raise
        _manifest(parallel, folder, rung, "finished")
        parallel.barrier()


def run_seed(seed: int, name: str) -> int:
    """A rung's own seed, from the experiment's and the rung's name."""
    return crc32(f"{seed} {name}".encode())


def _manifest(parallel: Parallel, folder: RungFolder, rung: Rung, state: str, **more: Any) -> None:
    if parallel.is_first:
        folder.write_manifest(rung, state, **more)


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
    seed = run_seed(config.seed, rung.stream)
    scales = factors(config, rung.shape, corpus.vocabulary)
    model = build_model(
        config.model, rung.shape, corpus.vocabulary, seed, execution.attention, scales
    )
    loaded = LoadedModel(model, tokenizer)
    runs.check_tasks()
    tasks = [loaded.encode(read_task(path)) for path in runs.task_files]
    if not config.recipe.train_norms:
        freeze_norms(model)
    if execution.activation_checkpointing:
        model.gradient_checkpointing_enable()
    if execution.compile:
        for block in blocks(model):
            block.compile()
    parallel.shard(model, execution)
    check_kernels(model, "execution.device")
    optimizers = build_optimizers(model, config.recipe, scales)
    start = _restored(config, rung, runs, model, optimizers, parallel)
    scores = Scores(config, rung, folder, corpus, model, tasks, parallel, start.step)
    loss_model = parallel.replicate(LossModel(model, config.recipe.z_loss))
    tracker = open_tracker(config, rung, folder, start.step) if parallel.is_first else None
    kept = steps_at(rung, config.checkpoints.keep_at) | set(rung.branches)
    own, saving = identity(config, rung), config.checkpoints
    skipped = start.skipped
    with (
        tracker or nullcontext(),
        Saver(
            folder.checkpoints,
            model,
            optimizers,
            tokenizer,
            parallel,
            saving.background,
            saving.keep,
            frozenset(kept),
            lambda: scores.rows,
        ) as saver,
    ):
        if scores.lack(start.step):
            parallel.gather_once(model)
            scores.score(start.step)
        meter = Meter(rung, execution, parallel)
        for step in range(start.step + 1, rung.steps + 1):
            rate = _rate(config, rung, step)
            optimizers.set_learning_rate(rate)
            tokens = _rows_of(corpus, rung, seed, step, parallel)
            values = {"tokens": step * rung.batch_tokens}
            try:
                stepped = optimizer_step(
                    loss_model,
                    optimizers,
                    tokens,
                    config.recipe,
                    execution,
                    parallel,
                    rung.batch_sequences,
                )
            except FloatingPointError as error:
                if skipped == execution.skip_non_finite:
                    if step - 1 > start.step:
                        saver.save(Training(step - 1, skipped, own))
                    raise FloatingPointError(
                        f"step {step}: {error}, or raise execution.skip_non_finite to leave it out"
                    ) from None
                skipped += 1
                stepped = None
            meter.stepped()
            is_due, stop = scores.due(step), parallel.any(stopping.asked())
            if tracker and stepped is None:
                tracker.write(step, {**values, "skipped": skipped})
            elif tracker and stepped and (is_due or step % LOG_STEPS == 0):
                measured = {
                    "loss": stepped.loss,
                    "gradient_norm": stepped.gradient_norm,
                    "learning_rate": rate,
                }
                tracker.write(step, {**values, **measured, **meter.read()})
            if tracker and stepped and (is_due or stop or meter.due(REPORT_SECONDS)):
                speed = meter.tokens_per_second
                told = Progress(step, rung.steps, stepped.loss, speed, time.time())
                folder.write_progress(told)
            with meter.paused():
                if is_due or stop or step in kept or step % saving.every == 0:
                    saver.save(Training(step, skipped, own))
                if stop and step < rung.steps:
                    break
                if is_due:
                    scores.score(step)
        else:
            return
    raise stopping.Stopped(f"{rung.name}: saved after step {step}")


def identity(config: Experiment, rung: Rung) -> dict[str, Any]:
    """What a run's checkpoints must be of, for no other run's may stand in for them."""
    return {
        **config.recipe.model_dump(mode="json"),
        "mup_base": config.mup_base and config.mup_base.model_dump(),
        "run": rung.name,
        "seed": config.seed,
        "architecture": config.model.built_as,
        "shape": rung.shape.model_dump(),
        "params_total": rung.params_total,
        "sequence_length": rung.sequence_length,
        "batch_sequences": rung.batch_sequences,
        "learning_rate": rung.learning_rate,
        "warmup_steps": rung.warmup_steps,
        "steps": rung.steps,
        "schedule": rung.schedule,
    }


def _restored(
    config: Experiment,
    rung: Rung,
    runs: RunsFolder,
    model: PreTrainedModel,
    optimizers: Optimizers,
    parallel: Parallel,
) -> Training:
    """Fill model and optimizers from the newest checkpoint, or where the run leaves its trunk."""
    if latest := whole_checkpoint(runs.rung(rung.name).checkpoints, parallel, rung.name):
        return load_checkpoint(latest, model, optimizers, identity(config, rung))
    if rung.trunk is None:
        return Training(0, 0, {})
    runs.check_trunk(rung)
    if not runs.has_trunk(rung):
        raise InputError(
            f"{rung.name}: goes on from step {rung.branch_step} of {rung.trunk.name}, which has "
            "not come so far; train that first"
        )
    check_checkpoint(runs.trunk_of(rung), parallel, runs.mend_of_trunk(rung.trunk))
    return load_checkpoint(runs.trunk_of(rung), model, optimizers, identity(config, rung.trunk))


def _rate(config: Experiment, rung: Rung, step: int) -> float:
    return recipe.scheduled(
        step,
        rung.steps,
        rung.warmup_steps,
        rung.learning_rate,
        rung.schedule,
        config.recipe.final_learning_rate,
        config.recipe.decay,
    )


def _rows_of(corpus: Corpus, rung: Rung, seed: int, step: int, parallel: Parallel) -> torch.Tensor:
    """The rank's rows (b, T + 1) of the step's global batch."""
    sequences, rows = rung.batch_sequences, parallel.rows(rung.batch_sequences)
    return torch.from_numpy(corpus.batch(seed, step, sequences, rung.sequence_length + 1, rows))
