"""The Hugging Face hub: whether it answers, and whether what it gave is what it stated."""

from __future__ import annotations

import hashlib
import os
import re
from functools import cache
from pathlib import Path

from evaluation.files import InputError, whole_digest
from evaluation.fingerprints import IDENTITY

SECONDS = 10.0
"""To wait for the hub's answer, as long as its client waits for each of its own."""


def is_out_of_reach(name: str) -> bool:
    """Whether a model or tokenizer of that name can only come from the cache of this machine.

    The client asks six times for every file before it looks there, with waits between that double.
    A folder needs no hub.
    """
    if os.path.exists(name):
        return False
    from huggingface_hub import constants, get_session

    try:
        get_session().head(constants.ENDPOINT, timeout=SECONDS)
    except Exception:  # Its client's own, which differ between versions, and HF_HUB_OFFLINE.
        return True
    return False


def check_cached(name: str) -> None:
    """Verify files of a model or tokenizer that the hub's client keeps; before they are used.

    The client keeps each under the hash that the hub stated: SHA-256 of weights, git's SHA-1 of
    small files. Raises InputError for one that is not what was stated. A folder of one's own has no
    such hashes, nor has the cache of a system without symbolic links.
    """
    if os.path.exists(name):
        return
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(name, "config.json")
    if not isinstance(found, str):
        found = try_to_load_from_cache(name, "tokenizer.json")
    if not isinstance(found, str):
        return
    folder = Path(found).parent
    for path in sorted({path for pattern in IDENTITY for path in folder.glob(pattern)}):
        blob = path.resolve()
        if path.is_symlink() and not _is_as_stated(blob, blob.stat().st_mtime_ns):
            raise InputError(
                f"{path}: is damaged, not what the hub stated; remove {blob} to fetch it again"
            )


@cache
def _is_as_stated(blob: Path, written: int) -> bool:
    """Whether a file's name is its hash, if it looks like one."""
    if re.fullmatch("[0-9a-f]{64}", blob.name):
        return whole_digest(blob) == blob.name
    if re.fullmatch("[0-9a-f]{40}", blob.name):
        content = blob.read_bytes()
        # How git names contents; no one's secret hangs on it.
        own = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False)
        return own.hexdigest() == blob.name
    return True
