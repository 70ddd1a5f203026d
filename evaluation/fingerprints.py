"""What tells one model's folder from another's; no torch."""

from __future__ import annotations

import hashlib
from pathlib import Path

from evaluation.files import sample_digest

IDENTITY = ("config.json", "*.safetensors", "*.bin", "*.model", "tokenizer*", "vocab*", "merges*")
"""Files of a model's folder that say what it is."""


def fingerprint(folder: Path) -> str:
    """What tells one model's folder from another's: SHA-256 of configs and of samples of weights.

    Training moves every weight, so that samples tell checkpoints apart.
    """
    total = hashlib.sha256()
    for path in sorted({path for pattern in IDENTITY for path in folder.glob(pattern)}):
        total.update(f"{path.name} {sample_digest(path)}\n".encode())
    return total.hexdigest()
