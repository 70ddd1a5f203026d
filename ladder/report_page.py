"""Sections as one HTML page that opens offline: styles, figures and the one script are inside.

A content security policy lets nothing else run or load.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader
from markupsafe import Markup, escape

from evaluation.files import InputError, atomic_write, write_text
from ladder import __version__
from ladder.report_parts import Picture, Section
from ladder.report_svg import Sheet, as_file, colors, inline, titled
from predict.drawing import hover_texts, printable, to_png, to_svg


@dataclass(frozen=True)
class Card:
    """One number at the head of a page."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Head:
    """What stands above the sections."""

    title: str
    method: str
    lead: str
    """One sentence: what came of it."""
    cards: tuple[Card, ...] = ()
    lines: tuple[str, ...] = ()
    misses: tuple[str, ...] = ()
    """What went wrong, said first."""
    well: str = ""
    """What to say where nothing did."""


def write_page(
    head: Head, sections: Sequence[Section], path: Path, figures: Path | None = None
) -> None:
    """Write a page, atomically; every text is escaped.

    `figures` is a folder that gets every figure as SVG and PNG.
    """
    pictures = _Pictures(figures)
    body = [_render(s, f"s{i}", pictures) for i, s in enumerate(sections, 1)]
    pictures.write()
    environment = Environment(
        loader=PackageLoader("ladder", "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["code"] = _code
    style = environment.get_template("report.css").render(
        colors=colors(), rules=pictures.sheet.css()
    )
    script = environment.get_template("report.js").render()
    html = environment.get_template("report.html").render(
        head=head,
        version=__version__,
        style=style,
        script=script,
        style_hash=_hash(style),
        script_hash=_hash(script),
        sections=body,
    )
    write_text(path, html)


class _Pictures:
    """Figures as they become parts of the page, and files where a folder was named."""

    def __init__(self, folder: Path | None) -> None:
        self.sheet = Sheet()
        self._folder = folder
        self._names: set[str] = set()
        self._files: list[tuple[str, bytes]] = []

    def add(self, picture: Picture) -> Markup:
        """The figure as a part of the page."""
        name = self._name(picture.name)
        alt = printable(picture.alt)
        root = titled(to_svg(picture.figure), hover_texts(picture.figure), alt)
        if self._folder is not None:
            self._files.append((f"{name}.svg", as_file(root).encode()))
            self._files.append((f"{name}.png", to_png(picture.figure)))
        # Escaped by the XML writer: names of the data are text and attributes in it.
        return Markup(inline(root, f"f{len(self._names)}-", self.sheet))  # noqa: S704

    def write(self) -> None:
        """The files."""
        if self._folder is None:
            return
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{self._folder}: cannot be made ({error.strerror})") from error
        for name, content in self._files:
            atomic_write(self._folder / name, partial(_put, content))

    def _name(self, wanted: str) -> str:
        """A file's name of safe characters that no other figure has."""
        stem = re.sub(r"[^A-Za-z0-9._-]+", "-", wanted)[:80].strip("-.") or "figure"
        name, count = stem, 1
        while name.lower() in self._names:
            count += 1
            name = f"{stem}-{count}"
        self._names.add(name.lower())
        return name


def _put(content: bytes, path: Path) -> None:
    path.write_bytes(content)


def _render(section: Section, anchor: str, pictures: _Pictures) -> dict[str, Any]:
    """A section as the template reads it: with an anchor, its figures drawn."""
    return {
        "anchor": anchor,
        "title": section.title,
        "text": section.text,
        "pictures": [(pictures.add(p), p.caption) for p in section.pictures],
        "tables": section.tables,
        "lines": section.lines,
        "links": section.links,
        "sections": _numbered(section.sections, anchor, pictures),
    }


def _numbered(
    sections: Iterable[Section], anchor: str, pictures: _Pictures
) -> list[dict[str, Any]]:
    return [_render(s, f"{anchor}-{i}", pictures) for i, s in enumerate(sections, 1)]


def _code(text: str) -> Markup:
    """The text escaped, what stands between backticks as code."""
    parts = [escape(part) for part in text.split("`")]
    if len(parts) % 2 == 0:
        return escape(text)
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if i % 2 else part for i, part in enumerate(parts)
    )


def _hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
