"""Every reader of files that may be anything, by name."""

from __future__ import annotations

from fuzz_foreign import foreign
from fuzz_hub import of_the_hub
from fuzz_own import own
from fuzzing import Reader


def readers() -> dict[str, Reader]:
    """All of them."""
    return {reader.name: reader for reader in (*foreign(), *of_the_hub(), *own())}
