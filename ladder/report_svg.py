"""A figure's SVG made fit for a page: small, named marks, colours that follow light and dark."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from xml.etree import ElementTree as ET

from predict.drawing import DOTS, dark_of

SVG, XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
HREF = f"{{{XLINK}}}href"
MARKS = (f"{{{SVG}}}use", f"{{{SVG}}}path")
DROPPED = ("font-family", "stroke-linecap", "stroke-linejoin", "stroke-miterlimit")
"""Declarations that the page's own style sets for all figures."""

SCALE = 1.36
"""CSS pixels a point: type of 9 points is then about as large as the page's small print."""

_NUMBER = re.compile(r"-?\d+\.\d+")
_SPACES = re.compile(r"\s*([A-Za-z])\s*")
_COLOR = re.compile(r"#[0-9a-f]{6}")
_REFERENCE = re.compile(r"url\(#([^)]+)\)")


def color_names() -> dict[str, str]:
    """The custom property of every colour of a figure."""
    return {color: f"--f{index}" for index, color in enumerate(dark_of())}


def colors() -> list[tuple[str, str, str]]:
    """Every colour of a figure: its custom property, and its values on light and dark pages."""
    dark = dark_of()
    return [(name, color, dark[color]) for color, name in color_names().items()]


class Sheet:
    """The style rules that all figures of a page share, each once, by the class that has it."""

    def __init__(self) -> None:
        self._rules: dict[str, str] = {}

    def name(self, declarations: str) -> str:
        """The class of these declarations."""
        return self._rules.setdefault(declarations, f"s{len(self._rules)}")

    def css(self) -> str:
        """All rules."""
        return "".join(f".{name}{{{text}}}" for text, name in self._rules.items())


def titled(svg: str, texts: Mapping[str, tuple[str, ...]], title: str) -> ET.Element:
    """Matplotlib's SVG with what it repeats left out, and a title on every mark that has a text.

    `texts` are those of the figure's marks by the gid of their artist, as drawing.hover_texts
    gives them.
    """
    root = ET.fromstring(svg)  # noqa: S314, matplotlib wrote it
    for child in list(root):
        if child.tag == f"{{{SVG}}}metadata" or child.find(f"{{{SVG}}}style") is not None:
            root.remove(child)
    for element in root.iter():
        _round(element)
    for group in root.iter(f"{{{SVG}}}g"):
        gid = group.get("id", "")
        if gid == DOTS:
            _as_one_path(group)
        elif gid in texts:
            marks = [e for e in _outside_definitions(group) if e.tag in MARKS]
            if len(marks) != len(texts[gid]):
                raise ValueError(f"{len(marks)} marks for {len(texts[gid])} texts")
            for mark, text in zip(marks, texts[gid], strict=True):
                mark.set("class", "mark")
                ET.SubElement(mark, f"{{{SVG}}}title").text = text
    used = {m for e in root.iter() for v in e.attrib.values() for m in _REFERENCE.findall(v)}
    used |= {e.get(HREF, "#")[1:] for e in root.iter()}
    for element in root.iter():
        if element.get("id") not in used:
            element.attrib.pop("id", None)
    root.set("role", "img")
    root.set("aria-label", title)
    return root


def as_file(root: ET.Element) -> str:
    """The SVG as a file of its own."""
    ET.register_namespace("", SVG)
    ET.register_namespace("xlink", XLINK)
    head = '<?xml version="1.0" encoding="utf-8"?>\n'
    style = (
        "<style>*{stroke-linejoin:round;stroke-linecap:butt}"
        "text{font-family:system-ui,'DejaVu Sans',sans-serif}</style>"
    )
    text = ET.tostring(root, encoding="unicode")
    end = text.index(">") + 1
    return head + text[:end] + style + text[end:] + "\n"


def inline(root: ET.Element, prefix: str, sheet: Sheet) -> str:
    """The SVG as a part of a page: ids with a prefix of their own, styles as classes of `sheet`.

    Changes `root`.
    """
    width = root.attrib.pop("width", "").removesuffix("pt")
    root.attrib.pop("height", None)
    root.attrib.pop("version", None)
    root.set("width", f"{SCALE * float(width or 0):.0f}")
    root.set("class", "figure wide" if float(width or 0) > 480 else "figure")
    root.set("tabindex", "0")
    names = color_names()
    for element in root.iter():
        element.tag = element.tag.removeprefix(f"{{{SVG}}}")
        style = element.attrib.pop("style", "")
        kept = [d.strip() for d in style.split(";") if d.strip().split(":")[0] not in DROPPED]
        if text := ";".join(d.replace(": ", ":") for d in kept if d):
            text = _COLOR.sub(lambda m: f"var({names[m[0]]})" if m[0] in names else m[0], text)
            other = element.get("class")
            own = sheet.name(text)
            element.set("class", f"{other} {own}" if other else own)
        if reference := element.attrib.pop(HREF, None):
            element.set("href", f"#{prefix}{reference[1:]}")
        for key, value in element.attrib.items():
            if key == "id":
                element.set(key, prefix + value)
            elif "url(#" in value:
                element.set(key, _REFERENCE.sub(rf"url(#{prefix}\1)", value))
    return ET.tostring(root, encoding="unicode", short_empty_elements=False)


def _round(element: ET.Element) -> None:
    """Coordinates to a hundredth of a point."""
    for key in ("d", "x", "y", "transform", "points", "width", "height"):
        if value := element.get(key):
            value = _NUMBER.sub(_shorter, value)
            element.set(key, _SPACES.sub(r"\1", value) if key == "d" else value)
    element.text = element.text if element.text and element.text.strip() else None
    element.tail = None


def _shorter(match: re.Match[str]) -> str:
    return f"{float(match[0]):.2f}".rstrip("0").rstrip(".")


def _as_one_path(group: ET.Element) -> None:
    """Many round points as one path of dots, a tenth of the size."""
    uses = [e for e in group.iter() if e.tag == f"{{{SVG}}}use"]
    if not uses:
        return
    style = dict(
        part.strip().split(": ", 1) for part in uses[0].get("style", "").split(";") if ": " in part
    )
    shape = next(e for e in group.iter() if e.tag == f"{{{SVG}}}path")
    size = 2 * max(abs(float(n)) for n in re.findall(r"-?\d+\.?\d*", shape.get("d", "0")))
    clip = next((e.get("clip-path") for e in group.iter() if e.get("clip-path")), None)
    for child in list(group):
        group.remove(child)
    path = ET.SubElement(group, f"{{{SVG}}}path")
    path.set("d", "".join(f"M{e.get('x')} {e.get('y')}h0" for e in uses))
    color, opacity = style.get("fill", "#000000"), style.get("fill-opacity", "1")
    path.set(
        "style",
        f"fill: none; stroke: {color}; stroke-opacity: {opacity}; stroke-width: {size:.3g}",
    )
    path.set("stroke-linecap", "round")
    if clip:
        path.set("clip-path", clip)


def _outside_definitions(element: ET.Element) -> Iterator[ET.Element]:
    for child in element:
        if child.tag != f"{{{SVG}}}defs":
            yield child
            yield from _outside_definitions(child)
