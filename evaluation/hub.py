"""Whether the Hugging Face hub answers, asked once: its client asks for most of a minute."""

from __future__ import annotations

from pathlib import Path

SECONDS = 10.0
"""To wait for the hub's answer, as long as its client waits for each of its own."""


def is_out_of_reach(name: str) -> bool:
    """Whether a model or tokenizer of that name can only come from the cache of this machine.

    The client asks six times for every file before it looks there, with waits between that double.
    A folder needs no hub.
    """
    if Path(name).exists():
        return False
    from huggingface_hub import constants, get_session

    try:
        get_session().head(constants.ENDPOINT, timeout=SECONDS)
    except Exception:  # Its client's own, which differ between versions, and HF_HUB_OFFLINE.
        return True
    return False
