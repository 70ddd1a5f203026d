"""Any Hugging Face causal language model with its tokenizer: loading and encoding."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from evaluation.checksums import damage, has_checksums
from evaluation.claims import check_claims
from evaluation.encoding import EncodedTask, Encoder, Ids, encode_task
from evaluation.files import InputError
from evaluation.hub import check_cached, is_out_of_reach
from evaluation.panics import panics_as_errors
from evaluation.tasks import Task

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
"""Types of weights by name."""

KERNELS = ("mamba_ssm", "causal_conv1d")
"""Packages whose kernels transformers takes for state spaces, on a GPU only."""


@dataclass(frozen=True)
class LoadedModel:
    """A model in evaluation mode and its tokenizer."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase

    @property
    def window(self) -> int | None:
        """Most tokens that the model takes; None where its config does not say."""
        return getattr(self.model.config.get_text_config(), "max_position_embeddings", None)

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
    model, or that its config asks the hub for, runs only if `trust_remote_code` says so. Raises
    InputError where either cannot be loaded.
    """
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
    from transformers.utils.logging import disable_progress_bar

    if dtype not in DTYPES:
        raise InputError(f"--dtype {dtype}: there are {', '.join(DTYPES)}")
    if os.path.exists(name) and not (Path(name) / "config.json").is_file():
        raise InputError(f"{name}: holds no config.json; give the folder of a Hugging Face model")
    if not os.path.exists(name) and (name.startswith((".", "/", "~")) or name.count("/") > 1):
        raise InputError(f"{name}: no such folder")
    if has_checksums(Path(name)) and (problem := damage(Path(name), lambda file: "/" not in file)):
        raise InputError(
            f"{name}: damaged ({problem}); remove it and its rung's manifest.json, and `ladder "
            "train` makes it again, or its checksums.json if you changed it yourself"
        )
    disable_progress_bar()
    options: dict[str, Any] = {
        "trust_remote_code": trust_remote_code,
        "local_files_only": is_out_of_reach(name),
    }
    try:
        # What is in the cache before it is read, and what was fetched before it is used.
        check_cached(name)
        if not trust_remote_code:
            check_claims(AutoConfig.from_pretrained(name, **options), name)
        with panics_as_errors():
            tokenizer = AutoTokenizer.from_pretrained(name, **options)
        model, said = AutoModelForCausalLM.from_pretrained(
            name, dtype=DTYPES[dtype], output_loading_info=True, **options
        )
        check_cached(name)
    except InputError:
        raise
    except Exception as error:  # of a broken file both libraries raise whatever comes
        reason = " ".join(str(error).split())[:300]
        raise InputError(
            f"{name}: cannot be loaded as a causal language model ({reason})"
        ) from error
    if absent := sorted({*said["missing_keys"], *map(str, said["mismatched_keys"])}):
        raise InputError(
            f"{name}: holds no weights for {absent[0]} and {len(absent) - 1} more; it is no whole "
            "causal language model"
        )
    try:
        model = model.to(device).eval()
    except (RuntimeError, AssertionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"--device {device}: does not take the model ({reason})") from error
    check_kernels(model, "--device")
    if not is_causal(model, name):
        raise InputError(f"{name}: is no causal language model; what follows changes what it says")
    return LoadedModel(model, tokenizer)


def check_kernels(model: PreTrainedModel, option: str) -> None:
    """See that a state-space model can compute where it is; `option` says where that was set.

    Transformers takes the kernels of two packages where they are installed, and its own slow path
    with a word of advice where not. They know GPUs only, so that on a CPU the advice is kept back,
    and InputError raised where they are installed.
    """
    if model.device.type != "cpu" or not any(hasattr(part, "A_log") for part in model.modules()):
        return
    if found := next(filter(find_spec, KERNELS), None):
        raise InputError(
            f"{option} cpu: transformers takes {found} for this model, which is installed and "
            "needs a GPU; take cuda, or a Python without it"
        )
    logging.getLogger("transformers.integrations.hub_kernels").addFilter(_is_no_advice)


def _is_no_advice(record: logging.LogRecord) -> bool:
    return "falling back to its reference" not in record.getMessage()


def is_causal(model: PreTrainedModel, name: str) -> bool:
    """Whether tokens leave what the model says before them as it is, by a trial of a few.

    Raises InputError, with the model's `name`, where it says what is no number.
    """
    last = model.get_input_embeddings().weight.shape[0] - 1
    rows = [[0, 1, 2 % last, 0], [0, 1, 2 % last, last]]
    tokens = [torch.tensor([row], device=model.device) for row in rows]
    try:
        with torch.inference_mode():
            one, other = (model(input_ids=ids).logits[0, :3].float() for ids in tokens)
    except (AssertionError, TypeError, ValueError, IndexError):
        return False
    if one.isnan().any():
        raise InputError(
            f"{name}: says NaN of tokens 0, 1 and 2; its weights are damaged, or too large for "
            "--dtype"
        )
    return bool(torch.allclose(one, other, rtol=0, atol=1e-3 * float(one.abs().max())))


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
    try:
        encoded: list[Ids] = tokenizer(
            list(texts), add_special_tokens=special, return_attention_mask=False
        )["input_ids"]
    except Exception as error:  # tokenizers raises nothing more particular
        raise InputError(
            f"the tokenizer cannot read this text ({error}); it is made for another corpus"
        ) from error
    return encoded
