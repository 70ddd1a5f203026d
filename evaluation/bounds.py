"""Files of others read within bounds of size, length and depth; no torch.

What a reader takes of memory and time follows from what is said here, not from who wrote the file.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import yaml

from evaluation.checksums import footer_of
from evaluation.files import InputError, check_size

LONGEST_LINE = 2**26
"""Bytes of a line of JSONL or CSV."""

LONGEST_DOCUMENT = 2**28
"""Characters of a text file that is one document."""

LARGEST_YAML = 2**20
"""Bytes of a YAML file: a config may name ten thousand files of tokens, each by its path."""

MOST_NODES = 100_000
"""Values of a YAML document, those that aliases repeat counted each time."""

DEEPEST = 100
"""Lists and mappings of a YAML document around one another."""

LONGEST_NUMBER = 400
"""Characters of a number in YAML: no float has more before its point."""

MOST_COLUMNS = 10_000
"""Columns of a table."""

LARGEST_FOOTER = 2**26
"""Bytes of a Parquet file's footer, which readers hold whole, several times over."""

MOST_CELLS = 2 * 10**8
"""Rows times columns of a Parquet file, which a few bytes can claim: 10^7 rows of twenty."""


def lines_of(file: IO[bytes], where: str) -> Iterator[bytes]:
    """The lines of a file, each with its end; InputError for one that is too long."""
    number = 0
    while line := file.readline(LONGEST_LINE + 1):
        number += 1
        if len(line) > LONGEST_LINE:
            raise InputError(
                f"{where}, line {number}: is longer than {LONGEST_LINE:,} bytes; is it the right "
                "file, and a line an entry?"
            )
        yield line


def check_lines(path: Path) -> None:
    """Raise InputError for a file with a line that is too long; reads it once."""
    with path.open("rb") as file:
        length, number = 0, 1
        while piece := file.read(2**20):
            first = piece.find(b"\n")
            length += len(piece) if first < 0 else first
            # Within a piece no line is too long.
            if length > LONGEST_LINE:
                raise InputError(
                    f"{path}: line {number} or later is longer than {LONGEST_LINE:,} bytes; is it "
                    "the right file?"
                )
            if first >= 0:
                number += piece.count(b"\n")
                length = len(piece) - piece.rfind(b"\n") - 1


def check_csv(path: Path) -> None:
    """Raise InputError for lines that are too long, or too many columns in the first.

    Commas, semicolons or tabs stand between them.
    """
    check_lines(path)
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        head = file.readline()
    separator = max((",", ";", "\t"), key=head.count)
    if head.count(separator) >= MOST_COLUMNS:
        count = max(map(len, csv.reader([head], delimiter=separator)), default=0)
        check_columns(count, str(path))


def check_columns(count: int, source: str) -> None:
    """Raise InputError for a table of too many columns."""
    if count > MOST_COLUMNS:
        raise InputError(
            f"{source}: has {count:,} columns, more than {MOST_COLUMNS:,}; is it the right file, "
            "and the right way round?"
        )


def check_parquet_size(path: Path) -> None:
    """Raise InputError for a Parquet file of too many columns or cells, by what it claims."""
    from pyarrow import parquet

    with path.open("rb") as file:
        footer = footer_of(file)
    if footer.size > LARGEST_FOOTER:
        raise InputError(
            f"{path}: says its footer has {footer.size:,} bytes, more than {LARGEST_FOOTER:,}; "
            "write it in fewer row groups, or is it damaged?"
        )
    claimed = parquet.read_metadata(path)
    check_columns(claimed.num_columns, str(path))
    if claimed.num_rows < 0 or claimed.num_rows * max(1, claimed.num_columns) > MOST_CELLS:
        raise InputError(
            f"{path}: says it has {claimed.num_rows:,} rows of {claimed.num_columns} columns, more "
            f"than {MOST_CELLS:,} cells; split it, or is it damaged?"
        )


def read_array(path: Path) -> Any:
    """A `.npy` file as a memory map, no pickle; ValueError or OSError for what is none."""
    import numpy as np

    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError:
        raise
    except Exception as error:  # numpy reads the header as Python's literals
        raise ValueError(" ".join(str(error).split()) or type(error).__name__) from error


def read_yaml(path: Path) -> Any:
    """A YAML document without tags of anyone's; InputError for what is none, or too large."""
    try:
        check_size(path, LARGEST_YAML)
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not readable as YAML (not UTF-8 at {error.start})") from error
    try:
        return parse_yaml(text)
    except ValueError as error:
        raise InputError(f"{path}: not readable as YAML ({error})") from error


class Loader(yaml.SafeLoader):
    """PyYAML's safe loader, which is also safe from what is nested deep.

    Its scanner takes a time that grows with the square of the depth.
    """

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """A node, if not too many are around it."""
        self.depth += 1
        if self.depth > DEEPEST:
            raise ValueError("nested too deep")
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


def parse_yaml(text: str) -> Any:
    """A YAML document; ValueError, in a line, for what is none, too large or a circle."""
    try:
        loader = Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _count(node, {})
        return loader.construct_document(node)
    except RecursionError:
        raise ValueError("nested too deep") from None
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from error
    except (AttributeError, IndexError, KeyError, OverflowError, TypeError) as error:
        # PyYAML's own slips, over `!!timestamp x`, `0b` and the like.
        raise ValueError(f"{type(error).__name__}: {error}") from error


def _count(node: yaml.Node, known: dict[int, int]) -> int:
    """Values in a node, those behind aliases as often as they stand there."""
    if isinstance(node, yaml.ScalarNode):
        if len(node.value) > LONGEST_NUMBER and node.tag.endswith((":int", ":float")):
            raise ValueError(f"a number of {len(node.value):,} digits")
        return 1
    if id(node) in known:
        if not known[id(node)]:
            raise ValueError("an alias stands within its own anchor")
        return known[id(node)]
    known[id(node)] = 0
    if isinstance(node, yaml.MappingNode):
        _check_keys(node)
    pairs = node.value if isinstance(node, yaml.MappingNode) else [(one,) for one in node.value]
    total = 1 + sum(_count(one, known) for pair in pairs for one in pair)
    if total > MOST_NODES:
        raise ValueError(f"more than {MOST_NODES:,} values, those that aliases repeat counted")
    known[id(node)] = total
    return total


def _check_keys(node: yaml.MappingNode) -> None:
    """Raise ValueError for a key that stands twice, of which YAML would take the last one."""
    lines: dict[tuple[str, str], int] = {}
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode) or key.tag.endswith(":merge"):
            continue
        line = key.start_mark.line + 1
        if before := lines.get((key.tag, key.value)):
            where = f"in lines {before} and {line}" if before != line else f"in line {line}"
            raise ValueError(f"{key.value} stands twice, {where}; keep one")
        lines[key.tag, key.value] = line
