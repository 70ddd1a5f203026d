"""Real English text that comes with Python: the help topics of the language's reference."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from pydoc_data.topics import topics

DOCUMENTS = [
    f"{name}\n\n{paragraph}"
    for name, text in sorted(topics.items())
    for paragraph in text.split("\n\n")
    if len(paragraph) > 80
]


def write_lines(path: Path, documents: list[str] = DOCUMENTS) -> Path:
    text = "".join(json.dumps({"id": i, "text": d}) + "\n" for i, d in enumerate(documents))
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "wt", encoding="utf-8") as file:
        file.write(text)
    return path
