"""Any Hugging Face causal language model with its tokenizer, scored on tasks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from evaluation.choices import ChoiceScores, choice_scores
from evaluation.files import InputError
from evaluation.packed import EncodedItem, packed_log_likelihoods, takes_packed_rows
from evaluation.scoring import batched, log_likelihoods
from evaluation.tasks import Item, Task

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class LoadedModel:
    """A model in evaluation mode, its tokenizer, and where both came from."""

    name: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase

    @property
    def window(self) -> int | None:
        """Most tokens that the model takes; None where its config does not say."""
        return getattr(self.model.config, "max_position_embeddings", None)


@dataclass(frozen=True)
class ScoredTask:
    """A task's record, and how many contexts were cut on the left to fit the window."""

    scores: ChoiceScores
    cut: int


def load_model(
    name: str, dtype: str = "float32", device: str = "auto", trust_remote_code: bool = False
) -> LoadedModel:
    """Load a model and its tokenizer from a folder or the hub.

    `dtype` is float32, bfloat16 or float16; `device` auto takes a GPU where there is one. Weights
    are read as data, and code that comes with a model runs only if `trust_remote_code` says so.
    Raises InputError where either cannot be loaded.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    if dtype not in DTYPES:
        raise InputError(f"--dtype {dtype}: there are {', '.join(DTYPES)}")
    if Path(name).exists() and not (Path(name) / "config.json").is_file():
        raise InputError(f"{name}: holds no config.json; give the folder of a Hugging Face model")
    options: dict[str, Any] = {"trust_remote_code": trust_remote_code}
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, **options)
        model = AutoModelForCausalLM.from_pretrained(name, dtype=DTYPES[dtype], **options)
    except (OSError, ValueError, KeyError, ImportError) as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(
            f"{name}: cannot be loaded as a causal language model ({reason})"
        ) from error
    place = device if device != "auto" else ("cuda" if torch.cuda.is_available() else "cpu")
    return LoadedModel(name, model.to(place).eval(), tokenizer)


def score(loaded: LoadedModel, task: Task) -> ScoredTask:
    """The log-likelihood of every choice of every item.

    Context and choice are encoded apart, which for byte-pair encodings is the same as together.
    A context that does not fit the window with its longest choice loses tokens on the left.
    Raises InputError naming the item where nothing is left to score.
    """
    cut = 0
    items = []
    for item in task.items:
        encoded, was_cut = _encode(loaded, task, item)
        items.append(encoded)
        cut += was_cut
    if takes_packed_rows(loaded.model):
        found = packed_log_likelihoods(loaded.model, items)
    else:
        pairs = [(item.context, item.choices) for item in items]
        found = log_likelihoods(loaded.model, batched(task, pairs))
    return ScoredTask(choice_scores(task, found), cut)


def _encode(loaded: LoadedModel, task: Task, item: Item) -> tuple[EncodedItem, bool]:
    where = f"task {task.name}, item {item.id}"
    context = _ids(loaded, item.context, special=True)
    choices = [_ids(loaded, choice, special=False) for choice in item.choices]
    for text, ids in zip(item.choices, choices, strict=True):
        if not ids:
            raise InputError(f"{where}: {text!r} has no tokens")
    if not context:
        raise InputError(f"{where}: the context has no tokens")
    highest = max(max(context), *(max(ids) for ids in choices))
    size = loaded.model.get_input_embeddings().weight.shape[0]
    if highest >= size:
        raise InputError(
            f"{where}: token {highest} is beyond the model's vocabulary of {size}; the tokenizer "
            "is another model's"
        )
    room = (loaded.window or 2**62) - (max(map(len, choices)) - 1)
    if room < 1:
        raise InputError(f"{where}: a choice is longer than the window of {loaded.window} tokens")
    kept = context[-room:]
    return EncodedItem(tuple(kept), tuple(map(tuple, choices))), len(kept) < len(context)


def _ids(loaded: LoadedModel, text: str, special: bool) -> list[int]:
    ids: list[int] = loaded.tokenizer(text, add_special_tokens=special)["input_ids"]
    # A context goes on, so that an end that the tokenizer adds is none.
    while special and ids and ids[-1] == loaded.tokenizer.eos_token_id and len(ids) > 1:
        ids = ids[:-1]
    return ids
