"""What the files of a model ask for, checked before it is loaded: code, other files, memory."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from evaluation.files import InputError, is_file_name, read_json

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

WEIGHTS = ("*.safetensors", "*.bin", "*.pt", "*.pth", "*.gguf")
"""Files of a model's folder that may hold weights."""

OWN = (None, "eager", "sdpa", "flex_attention", "grouped_mm", "batched_mm")
"""Ways to compute attention and experts that transformers and torch bring along; for others, such
as flash_attention_2, transformers goes to the hub where the package `kernels` is installed."""

MOST_PARTS = 10_000
"""Layers, or experts, of a model; each is made, whatever its weights."""

PER_BYTE = 4
"""Numbers that a byte of weights may hold: some are of two bits."""

SLACK = 2**24
"""Numbers of a model that no file holds, such as tables of positions."""


def check_claims(config: PreTrainedConfig, name: str) -> None:
    """Raise InputError for what no model of a folder, or of the hub, may ask for unasked.

    That is attention, or experts, by a kernel of the hub, which would be fetched and run; weights
    in other folders; and a shape that the weights do not fill. Kernels of a quantisation are not
    seen to: transformers alone names them, and takes them where the package `kernels` is installed.
    """
    waiting = [config]
    while waiting:
        one = waiting.pop()
        waiting += filter(None, (getattr(one, part, None) for part in one.sub_configs))
        for kind in ("attn_implementation", "experts_implementation"):
            asked = getattr(one, f"_{kind}", None)
            # Of several parts it may be a mapping.
            names = asked.values() if isinstance(asked, dict) else [asked]
            if any("/" in str(n) or (n not in OWN and find_spec("kernels")) for n in names):
                raise InputError(
                    f"{name}: its config.json asks for the hub's code {asked!r}; take {kind} out "
                    "of it, or add --trust-remote-code, which runs it"
                )
        for key, value in one.to_dict().items():
            counts = "layer" in key or "expert" in key
            if counts and isinstance(value, int) and value > MOST_PARTS:
                raise InputError(f"{name}: its config.json has a {key} of {value:,}; is it whole?")
    if Path(name).is_dir():
        _check_index(Path(name))
        _check_shape(config, Path(name))


def _check_index(folder: Path) -> None:
    for path in sorted(folder.glob("*.index.json")):
        document = read_json(path)
        named = document.get("weight_map") if isinstance(document, dict) else None
        for file in named.values() if isinstance(named, dict) else ():
            if not is_file_name(file):
                raise InputError(f"{path}: names {file!r}, no file beside it; is it this model's?")


def _check_shape(config: PreTrainedConfig, folder: Path) -> None:
    """Raise InputError for many more numbers than the weights hold: all would be allocated."""
    from transformers import AutoModelForCausalLM

    try:
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
    except Exception:  # of a broken config whatever comes; loading it says what is wrong
        return
    asked = sum(one.numel() for part in (model.parameters(), model.buffers()) for one in part)
    held = sum(path.stat().st_size for kind in WEIGHTS for path in folder.glob(kind))
    if asked > PER_BYTE * held + SLACK:
        raise InputError(
            f"{folder}: its config.json asks for {asked:,} numbers, and its weights have "
            f"{held:,} bytes; is it this model's?"
        )
