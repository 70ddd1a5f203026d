"""Damage to valid files: what is drawn, how it is done, and how a file is then written."""

from __future__ import annotations

import copy
import csv
import io
import json
import os
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from evaluation.files import InputError
from evaluation.plain import plain

LONG = 10_000
"""Cases of every reader in the long tier."""

Edit = tuple[int, str, Any]
"""A place, what is done there, and with what."""
Cut = tuple[int, str, bytes]
"""The same in a file's bytes."""

RAW = {
    "@deep@": b"[" * 20_000,
    "@deep pairs@": b'{"a":' * 20_000,
    "@digits@": b"9" * 5000,
    "@huge@": b"1" + b"0" * 400,
    "@exponent@": b"1e400",
    "@exponents@": b"1e" + b"9" * 400,
    "@nan@": b"NaN",
    "@infinity@": b"-Infinity",
    "@twice@": b'{"a": 1, "a": 2}',
    "@bytes@": b'"\xff\xfe\x00"',
    "@half@": b'"\\ud800"',
    "@alias@": b"*nobody",
    "@tag@": b"!!python/object/apply:os.system ['touch pwned']",
    "@object@": b"!!python/name:os.system",
    "@timestamp@": b"2001-99-99",
    "@bases@": b"190:59:59:59",
}
"""What no document holds, by the text that stands for it until the file is written."""

NASTY: tuple[Any, ...] = (
    *RAW,
    *(None, True, False, 0, 1, -1, 2**31, 2**53 + 1, 2**63, -(2**63) - 1, 10**30),
    *(0.5, -0.0, 5e-324, 1e-300, 1e308, -1e308, float("nan"), float("inf"), float("-inf")),
    *("", " ", "\x00", "\ud800", "\u2028", "\r\n", "\x1b[31m", "nan", "inf", "-inf", "1e999"),
    *(
        "null",
        "True",
        "NaN",
        "1_000",
        "\uff11\uff12",
        "²",
        "0x10",
        "1,000",
        "5%",
        "=1+1",
        "a\tb",
        '"',
        "''",
    ),
    *("../../etc/passwd", "/etc/passwd", "..", ".", "~", "CON", "a/b", "a\\b", "[red]x[/red]"),
    *("<script>alert(1)</script>", "; rm -rf x", "$(touch pwned)", "{0.__class__}", "x" * 5000),
    *([], {}, [[]], [{}], {"": None}, [None], [0.5, "a"], {"a": {"b": [1]}}, date(2001, 1, 1)),
)

VALUES = st.one_of(
    st.sampled_from(NASTY),
    st.sampled_from(NASTY),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
)
KINDS = (
    *("put", "put", "put", "drop", "rename", "twice", "wrap", "box", "swap", "add", "text", "nest"),
)
EDITS = st.lists(st.tuples(st.integers(0, 2**20), st.sampled_from(KINDS), VALUES), max_size=4)
"""Damage to a document's nodes."""

CUTS = ("cut", "flip", "insert", "delete", "repeat", "whole", "zero")
BYTES = st.one_of(
    st.just([]),
    st.lists(
        st.tuples(st.integers(0, 2**20), st.sampled_from(CUTS), st.binary(min_size=1, max_size=12)),
        max_size=2,
    ),
)
"""Damage to a file's bytes, in half of the cases none."""


def mutated(document: Any, edits: list[Edit]) -> Any:
    """A copy of a document with its nodes changed one after another."""
    root = [copy.deepcopy(document)]
    for place, kind, value in edits:
        nodes = _nodes(root)
        holder, key = nodes[place % len(nodes)]
        _edit(holder, key, kind, copy.deepcopy(value), nodes[(place * 7 + 1) % len(nodes)])
        if not root:
            root = [None]
    return root[0]


def damaged(content: bytes, cuts: list[tuple[int, str, bytes]]) -> bytes:
    """A file's bytes, some of them changed."""
    for place, kind, value in cuts:
        at = place % (len(content) + 1)
        match kind:
            case "cut":
                content = content[:at]
            case "flip":
                content = content[:at] + value[:1] + content[at + 1 :]
            case "insert":
                content = content[:at] + value + content[at:]
            case "delete":
                content = content[:at] + content[at + len(value) * 3 :]
            case "repeat":
                content = content[:at] + content[max(0, at - 64) : at] + content[at:]
            case "zero":
                content = content[:at] + bytes(len(value)) + content[at + len(value) :]
            case "whole":
                content = value * (1 + place % 5)
    return content


def as_json(document: Any) -> bytes:
    """JSON, halves of surrogate pairs as they are."""
    text = json.dumps(document, default=str, ensure_ascii=False)
    return _raw(text.encode("utf-8", "surrogatepass"))


def as_lines(documents: Any) -> bytes:
    """JSONL of a list of documents."""
    listed = documents if isinstance(documents, list) else [documents]
    return b"\n".join(map(as_json, listed)) + b"\n"


def as_csv(delimiter: str = ",") -> Callable[[Any], bytes]:
    """A writer of tables given as a list of rows, the header among them."""

    def write(rows: Any) -> bytes:
        text = io.StringIO()
        writer = csv.writer(text, delimiter=delimiter)
        for row in rows if isinstance(rows, list) else [[rows]]:
            writer.writerow([_cell(c) for c in row] if isinstance(row, list) else [_cell(row)])
        return text.getvalue().encode("utf-8", "surrogatepass")

    return write


def as_yaml(document: Any) -> bytes:
    """YAML, or JSON where YAML has no word for it."""
    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    try:
        text = yaml.dump(document, Dumper=dumper, sort_keys=False, allow_unicode=True)
    except (yaml.YAMLError, UnicodeError):
        return as_json(document)
    return _raw(text.encode("utf-8", "surrogatepass"), quote=b"'")


def as_parquet(document: Any) -> bytes:
    """Parquet of `{"columns": {name: values}, "label": ...}`; what no type holds as text."""
    whole = document if isinstance(document, dict) else {}
    columns = whole.get("columns")
    columns = columns if isinstance(columns, dict) else {"columns": [columns]}
    arrays = {str(k).encode("utf-8", "replace").decode(): _array(v) for k, v in columns.items()}
    length = min((len(a) for a in arrays.values()), default=0)
    table = pa.table({k: a[:length] for k, a in arrays.items()})
    if "label" in whole:
        table = table.replace_schema_metadata({b"task-ladder": as_json(whole["label"])})
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    return buffer.getvalue()


def as_bytes(content: Any) -> bytes:
    """Bytes as they are; what an edit put in their place as text."""
    return content if isinstance(content, bytes) else str(content).encode("utf-8", "replace")


@dataclass(frozen=True)
class File:
    """A valid file: its contents as a document, and who writes that."""

    document: Any
    write: Callable[[Any], bytes] = as_json

    def bytes(self, edits: list[Edit] | None = None, cuts: Any = ()) -> bytes:
        """The file with its damage."""
        return damaged(self.write(mutated(self.document, edits or [])), list(cuts))


@dataclass(frozen=True)
class Reader:
    """A reader, its valid files by name, and how it is called on the folder they lie in."""

    name: str
    made: Mapping[str, File] | Callable[[], Mapping[str, File]]
    """Those to be damaged, one in each case; a function where they take long to make."""
    read: Callable[[Path], object]
    """Reads, and asserts that what was read is valid."""
    beside: Mapping[str, bytes] | Callable[[], Mapping[str, bytes]] | None = None
    """Files that stay as they are."""

    @cached_property
    def files(self) -> Mapping[str, File]:
        """Those to be damaged."""
        return self.made() if callable(self.made) else self.made


@dataclass(frozen=True)
class Figures:
    """What a run of many cases was like."""

    cases: int
    read: int
    """Cases in which the damaged file was still valid."""
    slowest: float
    """Seconds of the processor that the slowest case took to read."""


def place(folder: Path, reader: Reader) -> None:
    """Write all of a reader's valid files."""
    beside = reader.beside() if callable(reader.beside) else reader.beside or {}
    whole = {k: f.bytes() for k, f in reader.files.items()} | dict(beside)
    for name, content in whole.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        os.utime(path, ns=(0, 0))


def newest(folder: Path) -> Path:
    """The file that was damaged last."""
    return max(filter(Path.is_file, folder.rglob("*")), key=lambda path: path.stat().st_mtime_ns)


def fuzz(reader: Reader, folder: Path, cases: int) -> Figures:
    """Damage one of the reader's files in each case, and read: valid data, or one line."""
    place(folder, reader)
    valid = {name: file.bytes() for name, file in sorted(reader.files.items())}
    seconds: dict[bool, list[float]] = {True: [], False: []}

    @settings(
        max_examples=cases,
        database=None,
        deadline=None,
        derandomize=cases < LONG,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
    )
    @given(st.sampled_from(list(valid)), EDITS, BYTES)
    def one(name: str, edits: list[Edit], cuts: list[Cut]) -> None:
        path = folder / name
        path.write_bytes(reader.files[name].bytes(edits, cuts))
        os.utime(path)
        begin = time.process_time()
        is_read = False
        try:
            reader.read(folder)
            is_read = True
        except InputError as error:
            said = str(error)
            assert said.strip()
            assert said == plain(said, len(said)), f"not one line of plain text: {said!r}"
            assert len(said) < 3000, f"{len(said)} characters"
        finally:
            seconds[is_read].append(time.process_time() - begin)
            path.write_bytes(valid[name])
            os.utime(path, ns=(0, 0))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        one()
    counts = {key: len(found) for key, found in seconds.items()}
    slowest = max(found for own in seconds.values() for found in own)
    return Figures(counts[True] + counts[False], counts[True], slowest)


def _nodes(root: list[Any]) -> list[tuple[Any, Any]]:
    """Every node by its holder and its key there."""
    found: list[tuple[Any, Any]] = []
    waiting: list[Any] = [root]
    while waiting:
        holder = waiting.pop()
        for key in list(holder) if isinstance(holder, dict) else range(len(holder)):
            found.append((holder, key))
            if isinstance(holder[key], (dict, list)):
                waiting.append(holder[key])
    return found or [(root, 0)]


def _edit(holder: Any, key: Any, kind: str, value: Any, other: tuple[Any, Any]) -> None:
    old = holder[key]
    match kind:
        case "put":
            holder[key] = value
        case "drop":
            del holder[key]
        case "rename" if isinstance(holder, dict):
            holder[value if isinstance(value, str) else repr(value)] = holder.pop(key)
        case "twice" if isinstance(holder, list):
            holder.insert(key, copy.deepcopy(old))
        case "wrap":
            holder[key] = [old]
        case "box":
            holder[key] = {"a": old}
        case "swap":
            its, name = other
            # A node in one of its own children would be a circle.
            holder[key] = copy.deepcopy(its[name])
        case "add" if isinstance(old, dict):
            old[value if isinstance(value, str) else repr(value)] = value
        case "add" if isinstance(old, list):
            old.append(value)
        case "text":
            holder[key] = str(old)
        case "nest":
            for _ in range(60):
                old = [old]
            holder[key] = old


def _raw(content: bytes, quote: bytes = b'"') -> bytes:
    if b"@" in content:
        for name, bytes_ in RAW.items():
            text = name.encode()
            for mark in (b'"', quote):
                content = content.replace(mark + text + mark, bytes_)
    return content


def _cell(value: Any) -> str:
    if isinstance(value, str) and value in RAW:
        return RAW[value].decode("utf-8", "replace")
    return value if isinstance(value, str) else str(value)


def _array(values: Any) -> pa.Array:
    listed = values if isinstance(values, list) else [values]
    try:
        array = pa.array(listed)
        pq.write_table(pa.table({"a": array}), io.BytesIO())
        return array
    except (pa.ArrowException, OverflowError, ValueError, TypeError):
        return pa.array([str(v).encode("utf-8", "replace").decode() for v in listed])
