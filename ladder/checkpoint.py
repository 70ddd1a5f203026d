"""A run's checkpoints: whole or absent, the same for any number of ranks, safetensors only.

`step-N/` is a Hugging Face model with its tokenizer, which loads anywhere; `step-N/optimizer/`
holds the optimizer's tensors as every rank wrote its own.
"""

from __future__ import annotations

import re
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed.checkpoint as dcp
from safetensors import SafetensorError
from torch.distributed.checkpoint import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)

from evaluation.files import InputError, sync_file, sync_folder
from ladder.optim import Optimizers
from ladder.parallel import Parallel

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

OPTIMIZER = "optimizer"
DAMAGE = (
    OSError,
    RuntimeError,
    ValueError,
    KeyError,
    SafetensorError,
    dcp.CheckpointException,
)
"""What reading a checkpoint raises that was cut short or changed."""

FLAT = StateDictOptions(flatten_optimizer_state_dict=True)


def save_checkpoint(
    folder: Path,
    step: int,
    model: PreTrainedModel,
    optimizers: Optimizers,
    tokenizer: PreTrainedTokenizerFast,
    parallel: Parallel,
) -> None:
    """Save step N as `folder/step-N`, all ranks together; drop older ones.

    Batches are a pure function of seed and step, and nothing else draws random numbers after the
    weights, so that weights, optimizer and step are the whole state.
    """
    temporary, final = folder / f".step-{step}.tmp", folder / f"step-{step}"
    if parallel.is_first:
        shutil.rmtree(temporary, ignore_errors=True)
        (temporary / OPTIMIZER).mkdir(parents=True)
    parallel.barrier()
    _write(get_model_state_dict(model), temporary, parallel, whole=True)
    _write(_optimizer_tensors(model, optimizers), temporary / OPTIMIZER, parallel, whole=False)
    parallel.barrier()
    if parallel.is_first:
        shutil.rmtree(temporary / "sharded", ignore_errors=True)
        model.config.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
        for file in temporary.rglob("*"):
            if file.is_file():
                sync_file(file)
        sync_folder(temporary / OPTIMIZER)
        sync_folder(temporary)
        shutil.rmtree(final, ignore_errors=True)
        temporary.rename(final)
        sync_folder(folder)
        for older in _checkpoints(folder):
            if older != final:
                shutil.rmtree(older)
    parallel.barrier()


def latest_checkpoint(folder: Path) -> tuple[Path, int] | None:
    """The newest whole checkpoint and its step, None where there is none."""
    found = _checkpoints(folder)
    return (found[-1], _step(found[-1])) if found else None


def load_checkpoint(path: Path, model: PreTrainedModel, optimizers: Optimizers) -> None:
    """Fill model and optimizers with a checkpoint's state; InputError where it is damaged."""
    weights = get_model_state_dict(model)
    state = _optimizer_tensors(model, optimizers)
    try:
        with _quiet():
            dcp.load(weights, storage_reader=HuggingFaceStorageReader(str(path)))
            dcp.load(state, storage_reader=HuggingFaceStorageReader(str(path / OPTIMIZER)))
    except DAMAGE as error:
        raise InputError(
            f"{path}: damaged ({type(error).__name__}); remove it to train this run again"
        ) from error
    set_model_state_dict(model, weights)
    for part, known in zip(optimizers.parts, _by_part(state), strict=True):
        flat = get_optimizer_state_dict(model, part, options=FLAT)
        set_optimizer_state_dict(model, part, {**flat, **known}, options=FLAT)


def _optimizer_tensors(model: PreTrainedModel, optimizers: Optimizers) -> dict[str, Any]:
    """The tensors of all optimizers, named by their place and parameter."""
    return {
        f"{index}.{name}": value
        for index, part in enumerate(optimizers.parts)
        for name, value in get_optimizer_state_dict(model, part, options=FLAT).items()
        if isinstance(value, torch.Tensor)
    }


def _by_part(state: dict[str, Any]) -> list[dict[str, Any]]:
    parts: dict[int, dict[str, Any]] = {}
    for key, value in state.items():
        index, _, name = key.partition(".")
        parts.setdefault(int(index), {})[name] = value
    return [parts[index] for index in sorted(parts)]


def _write(state: dict[str, Any], path: Path, parallel: Parallel, whole: bool) -> None:
    """Write tensors, each rank its own; with `whole` also as one file that loads anywhere."""
    several = parallel.world > 1
    writer = HuggingFaceStorageWriter(
        str(path),
        fqn_to_index_mapping=dict.fromkeys(state, 1),
        save_distributed=several,
        enable_consolidation=several and whole,
    )
    with _quiet():
        dcp.save(state, storage_writer=writer)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the remark that one process alone saves or loads."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        yield


def _checkpoints(folder: Path) -> list[Path]:
    return sorted(
        (p for p in folder.glob("step-*") if re.fullmatch(r"step-\d+", p.name)), key=_step
    )


def _step(path: Path) -> int:
    return int(path.name.removeprefix("step-"))
