"""A run's checkpoints: whole or absent, the same for any number of ranks, safetensors only.

`step-N/` is a Hugging Face model with its tokenizer, which loads anywhere; `step-N/optimizer/`
holds the optimizer's tensors as every rank wrote its own, `step-N/training.json` whose they are,
`step-N/rows.json` what was measured before, `step-N/checksums.json` the digest of each file.
Where there are multipliers, they are already in the model's weights; `step-N/multipliers/` holds
them by themselves, and what they multiply is with the optimizer's tensors.
"""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed.checkpoint as dcp
from safetensors import SafetensorError
from torch import distributed
from torch.distributed.checkpoint import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.staging import DefaultStager, StagingOptions
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)

from evaluation import ranks
from evaluation.checksums import (
    digests,
    files_of,
    write_checksums,
)
from evaluation.files import InputError, read_json, sync_file, sync_folder, write_json
from ladder.corpora.disk import FULL, system_number
from ladder.optim import Optimizers
from ladder.parallel import Parallel
from ladder.saved import MULTIPLIERS, ROWS, TRAINING, VERSION, checkpoints, step_of
from ladder.saved import latest_checkpoint as latest_checkpoint

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

OPTIMIZER = "optimizer"
LATENT = "latent."
"""Before the names of weights without their multipliers among the optimizer's tensors."""
DAMAGE = (
    OSError,
    RuntimeError,
    ValueError,
    KeyError,
    SafetensorError,
    dcp.CheckpointException,
)
"""What reading a checkpoint raises that was cut short or changed."""
SAVING = (OSError, InputError, dcp.CheckpointException, SafetensorError)
"""What writing one raises where it cannot be written, and what `tokenizers` says of a full disk."""

FLAT = StateDictOptions(flatten_optimizer_state_dict=True)

# A run of one process writes alone, and means it.
warnings.filterwarnings("ignore", message="torch.distributed is disabled")


@dataclass(frozen=True)
class Training:
    """What a checkpoint says of its run beside the tensors.

    Batches are a pure function of seed and step, and nothing else draws random numbers after the
    weights, so that weights, optimizer and this are the whole state.
    """

    step: int
    skipped: int
    """Steps that were left out because they were not finite."""
    run: Mapping[str, Any]
    """What its tensors follow from; another run's cannot stand in for it."""


class Saver:
    """Saves a run's checkpoints one after another, all ranks together.

    In the background the tensors are copied and written while training goes on. Leaving the
    context waits for what is being written.
    """

    def __init__(
        self,
        folder: Path,
        model: PreTrainedModel,
        optimizers: Optimizers,
        tokenizer: PreTrainedTokenizerFast,
        parallel: Parallel,
        background: bool = True,
        newest: int = 2,
        kept: frozenset[int] = frozenset(),
        rows: Callable[[], Sequence[Mapping[str, Any]]] = lambda: (),
    ) -> None:
        """`newest` checkpoints stay, and those of the steps `kept`.

        `rows` are the observations of the run so far, which every checkpoint keeps too.
        """
        self.folder = folder
        self.model = model
        self.optimizers = optimizers
        self.tokenizer = tokenizer
        self.parallel = parallel
        self.newest = newest
        self.kept = kept
        self.rows = rows
        self.pool = ThreadPoolExecutor(1) if background else None
        self.writing: Future[None] | None = None
        self.saved: int | None = None
        # Ranks that write must not wait for one another among the messages of those that train.
        self.group = None
        if parallel.world > 1:
            self.group = distributed.new_group(backend="gloo", timeout=ranks.SILENCE)
        if parallel.is_first:
            for left in folder.glob(".step-*.tmp"):
                shutil.rmtree(left, ignore_errors=True)

    def __enter__(self) -> Saver:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            # After an error its message counts, and not that saving failed too.
            with suppress(Exception) if kind and issubclass(kind, Exception) else nullcontext():
                self.wait()
        finally:
            if self.pool:
                self.pool.shutdown()

    def save(self, training: Training) -> None:
        """Save a step as `folder/step-N`, after the one before it; older ones are dropped.

        Saving a step twice saves it once: a kill while it is replaced would lose it. Raises
        InputError where this or the last one could not be written.
        """
        self.wait()
        if training.step == self.saved:
            return
        self.saved = training.step
        held = [
            get_model_state_dict(self.model),
            _optimizer_tensors(self.optimizers) | _latents(self.optimizers),
            _multipliers(self.optimizers),
        ]
        rows = list(self.rows())
        if self.pool is None:
            self._write(training, rows, *held)
            return
        self.writing = self.pool.submit(self._write, training, rows, *map(_copied, held))

    def wait(self) -> None:
        """Return once everything is on the disk; raises InputError where it could not be."""
        writing, self.writing = self.writing, None
        if writing is not None:
            writing.result()

    def _write(
        self,
        training: Training,
        rows: Sequence[Mapping[str, Any]],
        weights: dict[str, Any],
        state: dict[str, Any],
        multipliers: dict[str, Any],
    ) -> None:
        temporary = self.folder / f".step-{training.step}.tmp"
        try:
            self._write_whole(training, rows, weights, state, multipliers, temporary)
        # torch's own is none of Exception's.
        except (Exception, dcp.CheckpointException) as error:
            if not isinstance(error, SAVING) and system_number(error) not in FULL:
                raise
            if self.parallel.is_first:
                shutil.rmtree(temporary, ignore_errors=True)
            raise InputError(
                f"{self.folder}: step {training.step} cannot be saved ({_reason(error)}); the same "
                "command goes on from the last one that was"
            ) from error

    def _write_whole(
        self,
        training: Training,
        rows: Sequence[Mapping[str, Any]],
        weights: dict[str, Any],
        state: dict[str, Any],
        multipliers: dict[str, Any],
        temporary: Path,
    ) -> None:
        final = self.folder / f"step-{training.step}"
        if self.parallel.is_first:
            shutil.rmtree(temporary, ignore_errors=True)
            (temporary / OPTIMIZER).mkdir(parents=True)
            if multipliers:
                (temporary / MULTIPLIERS).mkdir()
        self._barrier()
        self._write_tensors(weights, temporary, whole=True)
        self._write_tensors(state, temporary / OPTIMIZER, whole=False)
        if multipliers:
            self._write_tensors(multipliers, temporary / MULTIPLIERS, whole=True)
        self._barrier()
        if self.parallel.is_first:
            for left in (temporary, temporary / MULTIPLIERS):
                shutil.rmtree(left / "sharded", ignore_errors=True)
            self.model.config.save_pretrained(temporary)
            self.tokenizer.save_pretrained(temporary)
            document = {"version": VERSION, **asdict(training)}
            write_json(temporary / TRAINING, document, sealed=True, atomic=False)
            write_json(temporary / ROWS, list(rows), atomic=False)
        self._barrier()
        told = self._digests(temporary)
        if self.parallel.is_first:
            write_checksums(temporary, told)
            for file in temporary.rglob("*"):
                if file.is_file():
                    sync_file(file)
            sync_folder(temporary / OPTIMIZER)
            if multipliers:
                sync_folder(temporary / MULTIPLIERS)
            sync_folder(temporary)
            shutil.rmtree(final, ignore_errors=True)
            temporary.rename(final)
            sync_folder(self.folder)
            for older in checkpoints(self.folder)[: -self.newest]:
                if step_of(older) not in self.kept:
                    shutil.rmtree(older)
        self._barrier()

    def _write_tensors(self, state: dict[str, Any], path: Path, whole: bool) -> None:
        """Write tensors, each rank its own; with `whole` also as one file that loads anywhere."""
        several = self.parallel.world > 1
        writer = HuggingFaceStorageWriter(
            str(path),
            fqn_to_index_mapping=dict.fromkeys(state, 1),
            save_distributed=several,
            enable_consolidation=several and whole,
        )
        dcp.save(state, storage_writer=writer, process_group=self.group)

    def _digests(self, folder: Path) -> dict[str, Any]:
        """Of every file; ranks share the work, since a big model's takes as long as writing it."""
        rank, world = self.parallel.rank, self.parallel.world
        if self.group is None:
            return digests(folder, files_of(folder))
        # One list for all: on a network's file system another rank may see new files later.
        files = [files_of(folder) if self.parallel.is_first else []]
        distributed.broadcast_object_list(files, src=0, group=self.group)
        own = digests(folder, files[0][rank::world])
        parts: list[Any] = [None] * world
        distributed.all_gather_object(parts, own, group=self.group)
        return {name: told for part in parts for name, told in part.items()}

    def _barrier(self) -> None:
        if self.group is not None:
            distributed.barrier(self.group)


def load_checkpoint(
    path: Path, model: PreTrainedModel, optimizers: Optimizers, run: Mapping[str, Any]
) -> Training:
    """Fill model and optimizers with a checkpoint's state.

    Raises InputError where it is damaged, or not of this run.
    """
    training = _read_training(path, run)
    weights = get_model_state_dict(model)
    state, latents = _optimizer_tensors(optimizers), _latents(optimizers)
    multipliers = _multipliers(optimizers)
    try:
        dcp.load(weights, storage_reader=HuggingFaceStorageReader(str(path)))
        stepped = state | latents
        dcp.load(stepped, storage_reader=HuggingFaceStorageReader(str(path / OPTIMIZER)))
        if multipliers:
            dcp.load(multipliers, storage_reader=HuggingFaceStorageReader(str(path / MULTIPLIERS)))
    except DAMAGE as error:
        raise InputError(_damaged(path, type(error).__name__)) from error
    set_model_state_dict(model, weights)
    for part, known in zip(optimizers.parts, _by_part(state), strict=True):
        flat = get_optimizer_state_dict(optimizers.names, part, options=FLAT)
        set_optimizer_state_dict(optimizers.names, part, {**flat, **known}, options=FLAT)
    return training


def _read_training(path: Path, run: Mapping[str, Any]) -> Training:
    try:
        found = read_json(path / TRAINING)
        training = Training(int(found["step"]), int(found["skipped"]), dict(found["run"]))
    except (InputError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise InputError(_damaged(path, type(error).__name__)) from None
    other = [
        f"{key} is {training.run.get(key)!r}, not {value!r}"
        for key, value in run.items()
        if training.run.get(key) != value
    ]
    if other or training.step != step_of(path):
        why = "; ".join(other[:3]) or f"it is of step {training.step}"
        raise InputError(f"{path}: is a checkpoint of another run ({why}); remove it")
    return training


def _damaged(path: Path, why: str) -> str:
    return f"{path}: damaged ({why}); remove it to train this run again from what is left"


def _reason(error: BaseException) -> str:
    """What the system said, wherever in a chain of failures of all ranks it is."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    inner = list(getattr(error, "failures", {}).values())
    causes = [cause[0] if isinstance(cause, tuple) else cause for cause in inner]
    for cause in (*causes, error.__cause__, error.__context__):
        if isinstance(cause, BaseException):
            return _reason(cause)
    return " ".join(str(error).split()) or type(error).__name__


def _copied(state: dict[str, Any]) -> dict[str, Any]:
    """The tensors as they are now, on the CPU."""
    plain = StagingOptions(
        use_pinned_memory=False,
        use_shared_memory=False,
        use_async_staging=False,
        use_non_blocking_copy=False,
    )
    staged: dict[str, Any] = DefaultStager(plain).stage(state)
    return staged


def _latents(optimizers: Optimizers) -> dict[str, Any]:
    """What multipliers multiply, by the weight's name; loading fills it where it is."""
    weights = optimizers.multiplied.items()
    return {f"{LATENT}{name}": weight.latent.detach() for name, weight in weights}


def _multipliers(optimizers: Optimizers) -> dict[str, Any]:
    """The multipliers by name; loading fills them where they are."""
    named = optimizers.multiplied.multipliers.items()
    return {name: one.detach() for name, one in named}


def _optimizer_tensors(optimizers: Optimizers) -> dict[str, Any]:
    """The tensors of all optimizers, named by their place and parameter."""
    return {
        f"{index}.{name}": value
        for index, part in enumerate(optimizers.parts)
        for name, value in get_optimizer_state_dict(optimizers.names, part, options=FLAT).items()
        if isinstance(value, torch.Tensor)
    }


def _by_part(state: dict[str, Any]) -> list[dict[str, Any]]:
    parts: dict[int, dict[str, Any]] = {}
    for key, value in state.items():
        index, _, name = key.partition(".")
        parts.setdefault(int(index), {})[name] = value
    return [parts[index] for index in sorted(parts)]
