"""The Hugging Face hub: whether it answers, and whether what it gave is what it stated."""

from __future__ import annotations

import hashlib
import json
import os
import re
import zlib
from contextlib import ExitStack, suppress
from functools import cache
from pathlib import Path

from evaluation.files import InputError, whole_digest
from evaluation.fingerprints import IDENTITY
from evaluation.olmes import cache_folder

SECONDS = 10.0
"""To wait for the hub's answer, as long as its client waits for each of its own."""

NOTED = 2**24
"""Bytes of a file from which on it is noted that it was verified; smaller ones are read anew."""

Version = tuple[int, int, int, int]
"""Size, times of the last write and change, ns, and number of a file."""


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
    small files. Raises InputError for one that is not what was stated. Weights are read when they
    are first used, and again once their file changed. A folder of one's own has no such hashes, nor
    has the cache of a system without symbolic links.
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
        if path.is_symlink() and not _is_as_stated(blob, _version(blob)):
            raise InputError(
                f"{path}: is damaged, not what the hub stated; remove {blob} to fetch it again"
            )


@cache
def _is_as_stated(blob: Path, version: Version) -> bool:
    """Whether a file's name is its hash, if it looks like one.

    Weights are read once for each version of the file: what was found is noted in a small file of
    our cache, which processes that ask at the same time wait for.
    """
    if not re.fullmatch("[0-9a-f]{40}|[0-9a-f]{64}", blob.name):
        return True
    if version[0] < NOTED:
        return _digest(blob) == blob.name
    note = cache_folder() / "verified" / f"{blob.name}-{zlib.crc32(os.fsencode(blob)):08x}.json"
    with ExitStack() as stack:
        # Where there is no place for notes, or none to wait at, each reads for itself.
        with suppress(OSError, ImportError):
            import fcntl

            note.parent.mkdir(parents=True, exist_ok=True)
            fcntl.flock(stack.enter_context(note.open("a")), fcntl.LOCK_EX)
        with suppress(OSError, ValueError):
            if json.loads(note.read_text(encoding="utf-8")) == list(version):
                return True
        if _digest(blob) != blob.name:
            return False
        with suppress(OSError):
            note.write_text(json.dumps(version), encoding="utf-8")
    return True


def _version(blob: Path) -> Version:
    """What changes whenever a file does, unless the disk itself turns a bit.

    The time of the last change of its inode is the system's own, and no tool sets it back.
    """
    found = blob.stat()
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino


def _digest(blob: Path) -> str:
    """A file's hash, of the kind that its name has the length of."""
    if len(blob.name) == 64:
        return whole_digest(blob)
    content = blob.read_bytes()
    # How git names contents; no one's secret hangs on it.
    own = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False)
    return own.hexdigest()
