"""The sides of benchmarks/train_speed.py: our training and the Trainer's, on the same batches."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from numpy.typing import NDArray

from evaluation.files import write_text
from ladder import recipe, train
from ladder.config import Experiment, dump_config, load_config
from ladder.corpora import open_corpus
from ladder.model import build_model
from ladder.optim import build_optimizers
from ladder.plan import Rung, make_plan
from ladder.runs import RunsFolder
from ladder.shapes import Shape

KEPT_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1)}
"""What ladder.parallel asks of glibc, as environment variables: for a Trainer that has it too."""

WARM_UP = 5
"""Steps before the clock starts."""

NO_CHECKPOINTS = f"checkpoints.every={10**9}"
BATCHES = 40
"""Different batches, which a run repeats."""

CLOSE = 1e-3
"""Nats by which the sides' losses may differ over the warm-up, to see that they do the same."""


@dataclass(frozen=True)
class Case:
    """What both sides train."""

    config: Experiment
    rung: Rung
    vocabulary: int
    rows: NDArray[np.int64]
    """Batches, (BATCHES, B, T + 1)."""


@dataclass
class Clock:
    """When each step began."""

    device: str = "cpu"
    timed: int = 0
    """Steps after the warm-up that count."""
    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def tick(self) -> None:
        """A step begins."""
        if self.device == "cuda" and len(self.wall) in (WARM_UP, WARM_UP + self.timed):
            torch.cuda.synchronize()
        self.cpu.append(time.process_time())
        self.wall.append(time.perf_counter())

    @property
    def seconds(self) -> dict[str, float]:
        """CPU and wall seconds of a step."""
        both = {"cpu": self.cpu, "wall": self.wall}
        last = WARM_UP + self.timed
        return {key: (times[last] - times[WARM_UP]) / self.timed for key, times in both.items()}


Run = tuple[Clock, list[float]]
"""When the steps of a run began, and their losses."""


def make_case(name: str, steps: int) -> Case:
    """A rung of the quick start by name, or d256, with that many steps to be timed."""
    config = load_config("quickstart", (NO_CHECKPOINTS,))
    rung = make_plan(config).run("29K-10xC" if name == "d256" else name)
    rung = replace(rung, steps=WARM_UP + steps + 1)
    if name != "d256":
        corpus = open_corpus(config.corpus, Path())
        rows = [
            corpus.batch(0, step, rung.batch_sequences, rung.sequence_length + 1)
            for step in range(BATCHES)
        ]
        return Case(config, rung, corpus.vocabulary, np.stack(rows))
    shape = Shape(layers=8, width=256, heads=4, hidden=1024)
    config = load_config("quickstart", (NO_CHECKPOINTS, "model.sequence_length=256"))
    rung = replace(rung, shape=shape, sequence_length=256, batch_sequences=4, learning_rate=1e-3)
    drawn = np.random.default_rng(0).integers(8192, size=(BATCHES, 4, 257))
    return Case(config, rung, 8192, drawn)


class Rows:
    """A corpus of batches made beforehand."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.vocabulary = case.vocabulary

    def batch(self, seed: int, step: int, sequences: int, length: int, rows: slice) -> Any:
        """The step's batch."""
        return self.case.rows[step % len(self.case.rows)][rows]

    def prepare(self) -> None:
        """Nothing."""

    def check(self, sequences: int, length: int) -> None:
        """Nothing."""

    def tokenizer(self) -> None:
        """None: nothing is scored or saved."""


def ours(case: Case, clock: Clock) -> Run:
    """Train with train_rung, neither scored nor saved."""
    losses = []
    step = train.optimizer_step
    unscored = mock.Mock(**{"due.return_value": False, "lack.return_value": False})

    def stepped(*arguments: Any, **named: Any) -> Any:
        clock.tick()
        found = step(*arguments, **named)
        losses.append(found.loss)
        return found

    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.multiple(
            train,
            open_corpus=lambda *_: Rows(case),
            optimizer_step=stepped,
            Scores=mock.Mock(return_value=unscored),
        ),
    ):
        runs = RunsFolder(Path(folder))
        write_text(runs.config, dump_config(case.config))
        train.train_rung(case.config, case.rung, runs)
    return clock, losses


class Examples(torch.utils.data.Dataset):  # type: ignore[misc]
    """The same rows in the same order, a batch at a time."""

    def __init__(self, case: Case) -> None:
        self.rows = torch.from_numpy(np.roll(case.rows, -1, axis=0)).flatten(0, 1)
        self.count = case.rung.steps * case.rung.batch_sequences

    def __len__(self) -> int:
        return self.count

    def __getitems__(self, places: Sequence[int]) -> torch.Tensor:
        return self.rows[torch.tensor(places) % len(self.rows)]


def collated(rows: torch.Tensor) -> dict[str, torch.Tensor]:
    """Inputs and targets of rows (B, T + 1), shifted here rather than in the model."""
    targets = rows[:, 1:].contiguous()
    return {"input_ids": rows[:, :-1], "labels": targets, "shift_labels": targets}


def trainer(case: Case, clock: Clock, fused: bool = True, **more: Any) -> Run:
    """Train with transformers.Trainer, as fast as its settings make it."""
    from transformers import PrinterCallback, Trainer, TrainingArguments

    config, rung = case.config, case.rung
    if clock.device == "cpu":
        torch.set_num_threads(1)
    seed = train.run_seed(config.seed, rung.stream)
    model = build_model(config.model, rung.shape, case.vocabulary, seed).to(clock.device)
    groups = build_optimizers(model, config.recipe).parts[0].param_groups
    own = config.recipe
    optimizer = torch.optim.AdamW(
        [{"params": g["params"], "weight_decay": g["weight_decay"]} for g in groups],
        lr=1.0,
        betas=own.betas,
        eps=own.eps,
        fused=fused,
    )

    def rate(done: int) -> float:
        return recipe.scheduled(
            done + 1,
            rung.steps,
            rung.warmup_steps,
            rung.learning_rate,
            rung.schedule,
            own.final_learning_rate,
            own.decay,
        )

    losses = []
    with tempfile.TemporaryDirectory() as folder:
        options = {
            "per_device_train_batch_size": rung.batch_sequences,
            "use_cpu": clock.device == "cpu",
            **more,
        }
        arguments = TrainingArguments(
            folder,
            max_steps=rung.steps,
            max_grad_norm=own.gradient_clip,
            train_sampling_strategy="sequential",
            logging_strategy="no",
            logging_nan_inf_filter=False,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            remove_unused_columns=False,
            dataloader_pin_memory=False,
            average_tokens_across_devices=False,
            **options,
        )
        rival = Trainer(
            model,
            arguments,
            data_collator=collated,
            train_dataset=Examples(case),
            optimizers=(optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, rate)),
        )
        rival.remove_callback(PrinterCallback)  # It would write among the answers.
        step, passes = rival.training_step, arguments.gradient_accumulation_steps
        count = 0

        def stepped(*given: Any, **named: Any) -> torch.Tensor:
            nonlocal count
            if count % passes == 0:
                clock.tick()
            count += 1
            loss = step(*given, **named)
            losses.append(loss)
            return loss

        rival.training_step = stepped
        rival.train()
    parts = torch.stack(losses).view(-1, passes)
    return clock, parts.sum(dim=1).tolist()


def trainer_for_loop(case: Case, clock: Clock) -> Run:
    """The Trainer with its optimizer not fused."""
    return trainer(case, clock, fused=False)


SIDES: dict[str, tuple[Callable[[Case, Clock], Run], dict[str, str]]] = {
    "ours": (ours, {}),
    "Trainer": (trainer, {}),
    "Trainer, AdamW not fused": (trainer_for_loop, {}),
    "Trainer, memory kept": (trainer, KEPT_MEMORY),
}
"""What is run, and in which environment; the Trainer at its best is the second."""
