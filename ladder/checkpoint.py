"""A run's checkpoints: saved whole or not at all, loaded to go on bit for bit."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from evaluation.files import InputError, sync_file, sync_folder

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedModel

OPTIMIZER = "optimizer.pt"
WEIGHTS = "model.safetensors"


def save_checkpoint(
    folder: Path,
    step: int,
    model: PreTrainedModel,
    optimizer: torch.optim.Optimizer,
    tokenizer: Tokenizer,
) -> None:
    """Save step N as `folder/step-N`, a Hugging Face model with its optimizer; drop older ones.

    Batches are a pure function of seed and step, and nothing else draws random numbers after the
    weights, so that weights, optimizer and step are the whole state.
    """
    from transformers import PreTrainedTokenizerFast
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    folder.mkdir(parents=True, exist_ok=True)
    temporary, final = folder / f".step-{step}.tmp", folder / f"step-{step}"
    shutil.rmtree(temporary, ignore_errors=True)
    model.save_pretrained(temporary)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(temporary)
    torch.save(optimizer.state_dict(), temporary / OPTIMIZER)
    for file in temporary.iterdir():
        sync_file(file)
    sync_folder(temporary)
    shutil.rmtree(final, ignore_errors=True)
    temporary.rename(final)
    sync_folder(folder)
    for older in _checkpoints(folder):
        if older != final:
            shutil.rmtree(older)


def latest_checkpoint(folder: Path) -> tuple[Path, int] | None:
    """The newest whole checkpoint and its step, None where there is none."""
    found = _checkpoints(folder)
    return (found[-1], _step(found[-1])) if found else None


def load_checkpoint(path: Path, model: PreTrainedModel, optimizer: torch.optim.Optimizer) -> None:
    """Fill model and optimizer with a checkpoint's state; InputError where it is damaged."""
    try:
        model.load_state_dict(load_file(path / WEIGHTS))
        optimizer.load_state_dict(torch.load(path / OPTIMIZER, weights_only=True))
    except (OSError, RuntimeError, SafetensorError, UnpicklingError, EOFError) as error:
        raise InputError(
            f"{path}: damaged ({type(error).__name__}); remove it to train this run again"
        ) from error


def _checkpoints(folder: Path) -> list[Path]:
    return sorted(
        (p for p in folder.glob("step-*") if re.fullmatch(r"step-\d+", p.name)), key=_step
    )


def _step(path: Path) -> int:
    return int(path.name.removeprefix("step-"))
