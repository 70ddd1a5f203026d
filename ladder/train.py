"""Trains and scores one rung on one CPU thread, resuming from its last checkpoint bit for bit."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from zlib import crc32

import pandas as pd
import torch
from torch.nn import functional

from evaluation.encoding import encode_task, fast_encoder
from evaluation.files import write_text
from evaluation.records import read_observations, write_observations
from evaluation.tasks import read_task
from ladder import recipe
from ladder.checkpoint import latest_checkpoint, load_checkpoint, save_checkpoint
from ladder.config import Experiment
from ladder.corpora.walks import Walks
from ladder.model import build_model
from ladder.optim import build_optimizer, set_learning_rate
from ladder.plan import Rung
from ladder.runs import Progress, RunsFolder
from ladder.score import score_rung

REPORT_SECONDS = 0.5
"""Seconds between two words on progress."""

LOG_STEPS = 10
"""Steps between two lines of metrics.jsonl."""


def train_rung(config: Experiment, rung: Rung, runs: RunsFolder) -> None:
    """Train a rung to its end, scoring it on the way; a finished one is left as it is.

    Everything that it does is a function of config and rung, so that a run that was killed and
    resumed writes the same scores as one that was not.
    """
    folder = runs.rung(rung.name)
    with folder.lock():
        if folder.finished:
            return
        folder.write_manifest(rung, config, "running")
        write_text(folder.path / "config.yaml", runs.config.read_text(encoding="utf-8"))
        try:
            with _deterministic():
                _train(config, rung, runs)
        except Exception as error:
            folder.write_manifest(rung, config, "failed", error=f"{type(error).__name__}: {error}")
            raise
        folder.write_manifest(rung, config, "finished")


def run_seed(seed: int, name: str) -> int:
    """A rung's own seed, from the experiment's and the rung's name."""
    return crc32(f"{seed} {name}".encode())


def evaluation_steps(rung: Rung, shares: tuple[float, ...]) -> list[int]:
    """Steps after which a rung is scored: the shares of its length, and its end."""
    return sorted({max(1, round(share * rung.steps)) for share in shares} | {rung.steps})


@contextmanager
def _deterministic() -> Iterator[None]:
    """One thread and deterministic kernels; what was set before is restored on leaving."""
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        torch.use_deterministic_algorithms(before[1])


def _train(config: Experiment, rung: Rung, runs: RunsFolder) -> None:
    folder, corpus = runs.rung(rung.name), Walks(config.corpus)
    tokenizer = corpus.tokenizer()
    files = [runs.tasks / f"{task.name}.jsonl" for task in config.corpus.tasks]
    encoder = fast_encoder(tokenizer)
    tasks = [encode_task(read_task(f), encoder, config.model.sequence_length) for f in files]
    seed = run_seed(config.seed, rung.name)
    model = build_model(config.model, rung.shape, corpus.vocabulary, seed)
    optimizer = build_optimizer(model, config.recipe)
    due = evaluation_steps(rung, config.evaluation.at)
    start, rows = 0, []
    if latest := latest_checkpoint(folder.checkpoints):
        path, start = latest
        load_checkpoint(path, model, optimizer)
        rows = _rows_until(folder.scores, start) if due[0] <= start else []
    _truncate_metrics(folder.metrics, start)
    clock = last_report = time.monotonic()
    with folder.metrics.open("a") as metrics:
        for step in range(start + 1, rung.steps + 1):
            rate = recipe.scheduled(
                step,
                rung.steps,
                rung.warmup_steps,
                rung.learning_rate,
                config.recipe.schedule,
                config.recipe.final_learning_rate,
            )
            set_learning_rate(optimizer, rate)
            batch = corpus.batch(seed, step, rung.batch_sequences, rung.sequence_length + 1)
            loss, norm = _step(model, optimizer, torch.from_numpy(batch), config)
            now = time.monotonic()
            is_due = step in due
            if is_due or step % LOG_STEPS == 0:
                line = {
                    "step": step,
                    "tokens": step * rung.batch_tokens,
                    "loss": loss,
                    "gradient_norm": norm,
                    "learning_rate": rate,
                }
                metrics.write(json.dumps(line) + "\n")
                metrics.flush()
            if is_due or now - last_report > REPORT_SECONDS:
                speed = (step - start) * rung.batch_tokens / max(now - clock, 1e-9)
                folder.write_progress(Progress(step, rung.steps, loss, speed, time.time()))
                last_report = now
            if is_due:
                rows += score_rung(
                    rung.observed(step, config.seed),
                    corpus,
                    rung.sequence_length,
                    model.eval(),
                    tasks,
                    folder.store(step),
                )
                write_observations(pd.DataFrame(rows), folder.scores)
            if is_due or step % config.checkpoint_steps == 0:
                save_checkpoint(folder.checkpoints, step, model, optimizer, tokenizer)


def _step(
    model: Any, optimizer: torch.optim.Optimizer, batch: torch.Tensor, config: Experiment
) -> tuple[float, float]:
    """One optimizer step on tokens (B, T + 1); training loss in nats per token, gradient norm."""
    model.train()
    logits = model(input_ids=batch[:, :-1]).logits  # (B, T, V)
    loss = functional.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), config.recipe.gradient_clip)
    if not math.isfinite(loss.item()):
        raise FloatingPointError(f"loss is {loss.item()}; lower recipe.learning_rate_base")
    optimizer.step()
    return loss.item(), norm.item()


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
