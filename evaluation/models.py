"""Any Hugging Face causal language model with its tokenizer: loading, encoding, identity."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from evaluation.encoding import EncodedTask, Encoder, Ids, encode_task
from evaluation.files import InputError, sample_digest
from evaluation.tasks import Task

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class LoadedModel:
    """A model in evaluation mode and its tokenizer."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase

    @property
    def window(self) -> int | None:
        """Most tokens that the model takes; None where its config does not say."""
        return getattr(self.model.config, "max_position_embeddings", None)

    @property
    def vocabulary(self) -> int:
        """Tokens that the model knows."""
        return int(self.model.get_input_embeddings().weight.shape[0])

    @property
    def encoder(self) -> Encoder:
        """The tokenizer, as far as scoring needs one."""
        tokenizer = self.tokenizer

        def plain(texts: Sequence[str]) -> list[Ids]:
            return _ids(tokenizer, texts, special=False)

        def opening(texts: Sequence[str]) -> list[Ids]:
            found = plain(texts)
            before = _before(tokenizer, next((text for text in texts if text), ""))
            # A text that already begins with BOS gets no second one.
            return [ids if ids[: len(before)] == before else before + ids for ids in found]

        start = tokenizer.bos_token_id
        return Encoder(plain, opening, tokenizer.eos_token_id if start is None else start)

    def encode(self, task: Task, unconditional: bool = False) -> EncodedTask:
        """The task's tokens; raises InputError naming an item that cannot be scored."""
        return encode_task(task, self.encoder, self.window, self.vocabulary, unconditional)


def load_model(
    name: str, dtype: str = "float32", device: str = "cpu", trust_remote_code: bool = False
) -> LoadedModel:
    """Load a model and its tokenizer from a folder or the hub.

    `dtype` is float32, bfloat16 or float16. Weights are read as data, and code that comes with a
    model runs only if `trust_remote_code` says so. Raises InputError where either cannot be
    loaded.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils.logging import disable_progress_bar

    if dtype not in DTYPES:
        raise InputError(f"--dtype {dtype}: there are {', '.join(DTYPES)}")
    if Path(name).exists() and not (Path(name) / "config.json").is_file():
        raise InputError(f"{name}: holds no config.json; give the folder of a Hugging Face model")
    disable_progress_bar()
    options: dict[str, Any] = {"trust_remote_code": trust_remote_code}
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, **options)
        model = AutoModelForCausalLM.from_pretrained(name, dtype=DTYPES[dtype], **options)
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(
            f"{name}: cannot be loaded as a causal language model ({reason})"
        ) from error
    try:
        return LoadedModel(model.to(device).eval(), tokenizer)
    except (RuntimeError, AssertionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"--device {device}: does not take the model ({reason})") from error


def fingerprint(folder: Path) -> str:
    """What tells one model's folder from another's: SHA-256 of configs and of samples of weights.

    Training moves every weight, so that samples tell checkpoints apart.
    """
    total = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.suffix in (".json", ".safetensors", ".bin", ".model", ".txt", ".gguf"):
            total.update(f"{path.name} {sample_digest(path)}\n".encode())
    return total.hexdigest()


def _before(tokenizer: PreTrainedTokenizerBase, text: str) -> Ids:
    """What the tokenizer puts before a text such as this one: BOS, or nothing.

    What it puts after does not count, since a context goes on.
    """
    (alone,), (whole,) = (_ids(tokenizer, [text], special) for special in (False, True))
    if not alone:
        return []
    for begin in range(len(whole) - len(alone) + 1):
        if whole[begin : begin + len(alone)] == alone:
            return whole[:begin]
    return []


def _ids(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], special: bool) -> list[Ids]:
    if not texts:
        return []
    encoded: list[Ids] = tokenizer(
        list(texts), add_special_tokens=special, return_attention_mask=False
    )["input_ids"]
    return encoded
