"""What the files of a model ask for, checked before it is loaded: code, other files, memory."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from evaluation.files import InputError, is_file_name, read_json

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

WEIGHTS = ("*.safetensors", "*.bin", "*.pt", "*.pth", "*.gguf")
"""Files of a model's folder that may hold weights."""

MOST_PARTS = 10_000
"""Layers, or experts, of a model; each is made, whatever its weights."""

PER_BYTE = 4
"""Numbers that a byte of weights may hold: some are of two bits."""

SLACK = 2**24
"""Numbers of a model that no file holds, such as tables of positions."""


def check_claims(config: PreTrainedConfig, name: str) -> None:
    """Raise InputError for what no model of a folder, or of the hub, may ask for unasked.

    That is attention by a kernel of the hub, which would be fetched and run; weights in other
    folders; and a shape that the weights do not fill.
    """
    waiting = [config]
    while waiting:
        one = waiting.pop()
        waiting += filter(None, (getattr(one, part, None) for part in one.sub_configs))
        # Of several parts it may be a mapping.
        if "/" in str(asked := one._attn_implementation):
            raise InputError(
                f"{name}: its config.json asks for the hub's code {asked!r}; take "
                "attn_implementation out of it, or add --trust-remote-code, which runs it"
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
