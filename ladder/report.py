"""One self-contained HTML file from a fitted predictor: ladder, fits, predictions, errors.

It opens offline: styles, figures and the one script are inside, and a content security policy lets
nothing else run or load. A section is a function in ladder.report_sections.SECTIONS.
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

import pandas as pd
from jinja2 import Environment, PackageLoader
from markupsafe import Markup, escape

from evaluation.files import InputError, atomic_write, write_text
from ladder import __version__
from ladder.report_context import Context
from ladder.report_parts import Picture, Section, plural
from ladder.report_provenance import Origin
from ladder.report_sections import SECTIONS
from ladder.report_svg import Sheet, as_file, colors, inline, titled
from ladder.result import Result
from predict.drawing import flops_text, hover_texts, printable, to_png, to_svg

__all__ = ["Result", "Section", "misses", "write_report"]


@dataclass(frozen=True)
class _Card:
    """One number at the head of the report."""

    label: str
    value: str
    note: str = ""


def write_report(
    result: Result,
    observations: pd.DataFrame,
    title: str,
    path: Path,
    *,
    origin: Origin | None = None,
    figures: Path | None = None,
    full: bool = False,
    more: Sequence[Section] = (),
) -> None:
    """Write the report, atomically; every name from the data is escaped.

    `origin` says what it was made from; `figures` is a folder that gets every figure as SVG and
    PNG; `full` cuts the ladder and fits it again however long that takes; `more` are sections
    before the last one, which tells the provenance.
    """
    context = Context(result, observations, origin, full)
    sections = [s for make in SECTIONS if (s := make(context)) is not None]
    sections[-1:-1] = more
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
        title=printable(title),
        version=__version__,
        style=style,
        script=script,
        style_hash=_hash(style),
        script_hash=_hash(script),
        result=result,
        cards=_cards(context),
        misses=misses(result),
        sections=body,
    )
    write_text(path, html)


def misses(result: Result) -> list[str]:
    """Predictions that are off by more than 5 points or no better than repeating the top rung."""
    lines = []
    for row in result.audit.rows if result.audit else ():
        if row.error is None or row.actual is None:
            continue
        name = f"{row.prediction.target}, {row.prediction.task}"
        if abs(row.error) > 0.05:
            lines.append(f"{name}: off by {100 * row.error:+.1f} points")
        if row.top_rung is not None and abs(row.error) >= abs(row.top_rung - row.actual):
            top = f"{100 * row.top_rung:.1f}"
            lines.append(f"{name}: no closer than repeating the top rung's {top}")
    if result.truth is not None:
        if abs(result.truth.floor_error) > 0.1:
            lines.append(f"irreducible loss: off by {result.truth.floor_error:+.1%} of the range")
        if result.truth.excess_error is not None and abs(result.truth.excess_error) > 0.3:
            lines.append(f"excess loss: off by {result.truth.excess_error:+.0%} of the predicted")
    return lines


def _cards(context: Context) -> list[_Card]:
    """The numbers that a reader looks for first."""
    result, rungs = context.result, context.rungs
    audit, scored = result.audit, context.scored
    total = sum(6 * r.params * r.tokens for r in rungs)
    cards = []
    if audit and audit.mean_abs_error is not None:
        several = len({r.prediction.target for r in scored}) > 1
        pooled = audit.pooled[-1]
        note = f"mean of {plural(len(scored), 'prediction')}"
        error = f"{100 * audit.mean_abs_error:.1f} points"
        cards.append(_Card("error", error, note + (", all targets" if several else "")))
        if pooled.with_interval:
            inside = f"{pooled.inside80} of {pooled.with_interval}"
            cards.append(_Card("inside 80%", inside, f"{pooled.inside95} inside 95%"))
    tasks = [f for f in result.model.fits_.values() if f.step2 is not None]
    losses = len(result.model.fits_) - len(tasks)
    note = "" if not losses else f"and {losses} loss" + ("" if losses == 1 else "es")
    cards.append(_Card("tasks", str(len(tasks)), note))
    sizes = plural(len({r.params for r in rungs}), "size")
    cards.append(_Card("rungs", str(len(rungs)), f"{sizes}, {flops_text(total)} FLOPs"))
    for target in result.targets[:2]:
        share = total / (6 * target.params * target.tokens)
        cards.append(_Card(f"of {printable(target.name)}", f"{share:.2%}", "what the ladder costs"))
    return cards


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
