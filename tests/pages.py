"""README and docs as tests read them: their fenced blocks and commands."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGES = ["README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    language: str
    text: str
    line: int
    file: str | None
    """What it is kept as: named by a comment above it, `<!-- file: mine.yaml -->`."""

    @property
    def commands(self) -> list[str]:
        """Its shell commands, a line each, comments and continuations resolved."""
        lines = re.sub(r"\\\n", " ", self.text).splitlines()
        bare = [re.split(r"(?:^|\s)#\s", line)[0] for line in lines]
        return [" ".join(line.split()) for line in bare if line.strip()]


def blocks(page: str) -> list[Block]:
    """Every fenced block of a page; indented lines that begin with `ladder` are shell too."""
    found, inside, start, file = [], None, 0, None
    kept: list[str] = []
    for number, line in enumerate((ROOT / page).read_text(encoding="utf-8").splitlines(), 1):
        fence = re.match(r"```(\w*)$", line)
        if fence and inside is None:
            inside, start, kept = fence[1], number, []
        elif fence:
            found.append(Block(inside or "", "\n".join(kept) + "\n", start, file))
            inside, file = None, None
        elif inside is not None:
            kept.append(line)
        elif named := re.match(r"<!-- file: (\S+) -->$", line):
            file = named[1]
        elif line.startswith("    ladder "):
            found.append(Block("sh", re.split(r"\s{2,}", line.strip())[0], number, None))
    return found


def all_commands(page: str) -> list[str]:
    return [c for block in blocks(page) if block.language == "sh" for c in block.commands]
