"""Files that are either whole or absent: write to a temporary name, sync, rename."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import time
import zlib
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from evaluation.plain import plain

LARGEST_JSON = 2**28
"""Bytes of a file that is one JSON document."""
CHECKSUM, SHA256 = "checksum", "sha256:"
"""Key of a sealed document's digest, and how that begins."""

LEFT_SECONDS = 86400.0
"""Age after which a temporary file of another machine or container, or from before this one was
started anew, whose processes are not seen, is a killed one's."""

SAMPLE, PLACES = 2**16, 64
"""Bytes of a sample of a big file, and how many samples are spread over it."""


class InputError(ValueError):
    """A user's mistake, in one line: what is wrong, where, and how to mend it.

    Whatever of a file's contents it quotes, the line is plain text (evaluation.plain).
    """

    def __init__(self, message: object) -> None:
        super().__init__(plain(str(message)))


DEVICES = {"con", "prn", "aux", "nul"} | {f"{d}{n}" for d in ("com", "lpt") for n in range(1, 10)}
"""Names of files that Windows keeps for devices, whatever their ending."""

LONGEST_NAME = 200
"""Bytes of a file's name without the endings that it may get."""


def is_file_name(name: object) -> bool:
    """Whether a name, of whoever's file it is, stays in its folder and is a file's on any system.

    It has no separator, no control character, nothing that Windows refuses, and is not hidden.
    """
    return (
        isinstance(name, str)
        and name.isprintable()
        and not set(name) & set('/\\:*?"<>|')
        and name[:1] not in ("", ".", " ")
        and name[-1:] not in (".", " ")
        and name.partition(".")[0].rstrip().lower() not in DEVICES
        and len(name.encode()) <= LONGEST_NAME
    )


def sync_folder(folder: Path) -> None:
    """Make renames inside `folder` survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_file(path: Path) -> None:
    """Force a file's contents to the disk."""
    with path.open("rb") as handle:
        os.fsync(handle.fileno())


def atomic_write(path: Path | str, write: Callable[[Path], None]) -> None:
    """Call `write(temporary)`, then put the finished file in the place of `path`.

    The temporary file lies in the same folder, so the rename is atomic; on any error it is
    removed and `path` keeps its old contents.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise InputError(f"{path}: the folder {path.parent} does not exist; make it first")
    temporary = temporary_of(path)
    try:
        write(temporary)
        sync_file(temporary)
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror or error})") from error
    finally:
        # A folder that can no longer be written has no room for it, or keeps it.
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def temporary_of(path: Path) -> Path:
    """What this process calls a file until it is whole."""
    return path.with_name(f".{path.name}.{os.getpid()}-{_seen()}.tmp")


def sweep(folder: Path) -> None:
    """Remove temporary files in a folder whose writers were killed."""
    for left in folder.glob(".*.tmp"):
        found = re.fullmatch(r"\..*\.(\d+)(?:-([0-9a-f]{8}))?\.tmp", left.name)
        if found is None:
            continue
        with suppress(OSError):
            if found[2] == _seen():
                is_left = not is_alive(int(found[1]))
            else:
                is_left = time.time() - left.stat().st_mtime > LEFT_SECONDS
            if is_left:
                left.unlink()


def is_alive(pid: int) -> bool:
    """Whether a process of that number is on this machine."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


@cache
def processes_of() -> str:
    """Among which processes the number of this one means it: the machine, its boot, the container.

    Containers may have one name and one kernel, and yet each its own process 7.
    """
    parts = [platform.node()]
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
        parts += [boot, os.readlink("/proc/self/ns/pid")]
    return " ".join(parts)


def _seen() -> str:
    """The same in eight letters, for a file's name."""
    return f"{zlib.crc32(processes_of().encode()):08x}"


def write_text(path: Path | str, text: str) -> None:
    """Write `text` as UTF-8, atomically."""
    atomic_write(path, lambda temporary: _dump(temporary, text))


def write_json(path: Path | str, document: Any, sealed: bool = False, atomic: bool = True) -> None:
    """Write `document` as indented JSON, atomically; NaN and infinities are refused.

    A `sealed` one, an object, gets the key `checksum`, which read_json verifies. Not `atomic` is
    for files of a folder that is synced and put in its place as a whole.
    """
    if sealed:
        # As it will be read: keys as text.
        document = json.loads(json.dumps(document, allow_nan=False))
        document[CHECKSUM] = _json_digest(document)
    text = json.dumps(document, indent=2, allow_nan=False) + "\n"
    if atomic:
        write_text(path, text)
    else:
        _dump(Path(path), text)


def check_size(path: Path, most: int) -> None:
    """Raise InputError for a file that is too large to be what it should be."""
    if (size := path.stat().st_size) > most:
        raise InputError(f"{path}: has {size:,} bytes, more than {most:,}; is it the right file?")


def parse_json(text: str | bytes) -> Any:
    """A JSON document; ValueError for what is none, is nested too deep or has endless digits."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deep") from None


def load_json(path: Path) -> Any:
    """The JSON document in a file, for who tells errors in words of its own.

    Raises OSError or ValueError where it cannot be read, InputError where it is too large.
    """
    check_size(path, LARGEST_JSON)
    return parse_json(path.read_text(encoding="utf-8"))


def read_json(path: Path | str) -> Any:
    """Read a JSON file; raises InputError where it is missing or no JSON.

    Where it was sealed, its checksum is left out, and InputError raised where that is another's.
    """
    path = Path(path)
    try:
        document = load_json(path)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
    except InputError:
        raise
    except ValueError as error:
        raise InputError(f"{path}: not readable as JSON ({error})") from error
    sealed = isinstance(document, dict) and str(document.get(CHECKSUM, "")).startswith(SHA256)
    if sealed and document.pop(CHECKSUM) != _json_digest(document):
        raise InputError(f"{path}: is damaged or was edited, its checksum is another's")
    return document


def _json_digest(document: dict[str, Any]) -> str:
    """SHA-256 of a JSON object, however it is laid out."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return SHA256 + hashlib.sha256(text.encode()).hexdigest()


def whole_digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sample_digest(path: Path) -> str:
    """SHA-256 of a file's size and of samples spread over it; of all of a small file.

    It tells files apart that were written anew, in no time however big they are.
    """
    size = path.stat().st_size
    total = hashlib.sha256(f"{size}\n".encode())
    with path.open("rb") as file:
        if size <= SAMPLE * PLACES:
            total.update(file.read())
        else:
            for n in range(PLACES):
                file.seek(n * (size - SAMPLE) // (PLACES - 1))
                total.update(file.read(SAMPLE))
    return total.hexdigest()


def _dump(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
