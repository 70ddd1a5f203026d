"""Small files that ask for endless memory or time, and what should be said of each.

    python tests/blow_ups.py NAME FOLDER

makes one in a folder, reads it with little memory, and prints what was said as JSON.
"""

from __future__ import annotations

import gzip
import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

MEMORY = 4 * 2**30
"""Bytes of address space that a reader gets, libraries included."""
LINE = 2**30
"""Bytes of an endless line."""
COLUMNS = 100_000
DEPTH = 1_000_000
ROWS = 10**9


def _sparse(path: Path) -> None:
    """A line without an end; a hole in the disk, read as zeros."""
    with path.open("wb") as file:
        file.truncate(LINE)


def _wide(path: Path) -> None:
    names = ",".join(f"column{n}" for n in range(COLUMNS))
    path.write_text(f"{names}\n{','.join('1' * COLUMNS)}\n")


def _nested(path: Path) -> None:
    path.write_text("[" * DEPTH)


def _aliases(path: Path) -> None:
    lines = ["name: &l0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 10)}]" for n in range(1, 10)]
    path.write_text("\n".join(lines))


def _merges(path: Path) -> None:
    lines = ["l0: &l0 {a: 1, b: 2}"]
    lines += [f"l{n}: &l{n} {{<<: [{', '.join([f'*l{n - 1}'] * 10)}]}}" for n in range(1, 10)]
    path.write_text("\n".join(lines))


def _circle(path: Path) -> None:
    path.write_text("name: &a [*a]")


def _sexagesimal(path: Path) -> None:
    path.write_text("seed: 1" + ":59" * 60_000)


def _claim(path: Path) -> None:
    """A Parquet file of a billion rows in a few kilobytes: nothing, very often."""
    import pyarrow as pa
    from pyarrow import parquet

    nothing = pa.table({"run": pa.nulls(ROWS // 1000, pa.float64())})
    schema = nothing.schema
    with parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        for _ in range(1000):
            writer.write_table(nothing, row_group_size=ROWS // 1000)


def _gzip(path: Path) -> None:
    piece = min(LINE, 2**26)
    member = gzip.compress(bytes(piece))
    with path.open("wb") as file:
        for _ in range(LINE // piece):
            file.write(member)


def _footer(path: Path) -> None:
    """A Parquet file that says its footer is all of it."""
    with path.open("wb") as file:
        file.truncate(LINE)
        file.seek(0, 2)
        file.write((LINE - 12).to_bytes(4, "little") + b"PAR1")


def _entities(path: Path) -> None:
    entities = ['<!ENTITY e0 "eeeeeeeeee">']
    entities += [f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 10)]
    path.write_text(f"<!DOCTYPE g [{''.join(entities)}]><graphml>&e9;</graphml>")


def _config(path: Path) -> Any:
    from ladder.config import load_config

    return load_config(str(path))


def _task(path: Path) -> Any:
    from evaluation.tasks import read_task

    return read_task(path)


def _observations(path: Path) -> Any:
    from evaluation.records import read_observations

    return read_observations(path)


def _seal(path: Path) -> Any:
    from predict.seal import read_seal

    return read_seal(path)


def _predictor(path: Path) -> Any:
    from predict import TwoStage

    return TwoStage.load(path)


def _csv(path: Path) -> Any:
    from evaluation.tabular import ColumnMap, import_csv

    return import_csv(path, ColumnMap())


def _olmo(path: Path) -> Any:
    from evaluation.sources import import_olmo_ladder

    return import_olmo_ladder(path.parent)


def _lm_eval(path: Path) -> Any:
    from evaluation.lm_eval import import_lm_eval

    return import_lm_eval(path, {"a": (1.0, 1.0)})


def _json(path: Path) -> Any:
    from evaluation.files import read_json

    return read_json(path)


def _documents(path: Path) -> Any:
    from ladder.corpora.documents import read_unit, units
    from ladder.corpora.settings import Source

    source = Source(name="own", files=(str(path),))
    return [text for unit in units(source) for text, _ in read_unit(source, unit)]


def _edges(path: Path) -> Any:
    from ladder.corpora.edges import read_edges

    return read_edges(str(path), False)


REPEATED = "values, those that aliases repeat"
LONG_LINE, LONG_TEXT = "is longer than", "holds a document of more than"
MANY_COLUMNS, TOO_LARGE = "columns, more than", "bytes, "

CASES: dict[str, tuple[str, Callable[[Path], None], Callable[[Path], Any], str]] = {
    "task, 1 GiB line": ("q.jsonl", _sparse, _task, LONG_LINE),
    "documents, 1 GiB line": ("d.jsonl", _sparse, _documents, LONG_LINE),
    "documents, 1 GiB text": ("d.txt", _sparse, _documents, LONG_TEXT),
    "documents, gzip bomb of a line": ("d.jsonl.gz", _gzip, _documents, LONG_LINE),
    "documents, gzip bomb of a text": ("d.txt.gz", _gzip, _documents, LONG_TEXT),
    "documents, Parquet of 10^9 rows": ("d.parquet", _claim, _documents, "'text' is missing"),
    "observations, 1 GiB line": ("o.csv", _sparse, _observations, LONG_LINE),
    "observations, 10^5 columns": ("o.csv", _wide, _observations, MANY_COLUMNS),
    "observations, 10^9 rows": ("o.parquet", _claim, _observations, "rows of 1 columns, more than"),
    "observations, Parquet of 1 GiB": ("o.parquet", _sparse, _observations, "cannot be read as"),
    "observations, 1 GiB footer": ("o.parquet", _footer, _observations, "its footer has .* bytes"),
    "import csv, 1 GiB line": ("o.csv", _sparse, _csv, LONG_LINE),
    "import csv, 10^5 columns": ("o.csv", _wide, _csv, MANY_COLUMNS),
    "import olmo-ladder, 1 GiB line": ("190M-1xC.csv", _sparse, _olmo, LONG_LINE),
    "import olmo-ladder, 10^5 columns": ("190M-1xC.csv", _wide, _olmo, MANY_COLUMNS),
    "import lm-eval, 1 GiB": ("results_1.json", _sparse, _lm_eval, TOO_LARGE),
    "import lm-eval, 10^6 brackets": ("results_1.json", _nested, _lm_eval, "is the file whole"),
    "JSON, 1 GiB": ("manifest.json", _sparse, _json, TOO_LARGE),
    "sealed predictions, 1 GiB": ("seal.json", _sparse, _seal, TOO_LARGE),
    "saved predictor, 1 GiB": ("model.json", _sparse, _predictor, TOO_LARGE),
    "JSON, 10^6 brackets": ("manifest.json", _nested, _json, "not readable as JSON"),
    "task, 10^6 brackets": ("q.jsonl", _nested, _task, "nested too deep"),
    "documents, 10^6 brackets": ("d.jsonl", _nested, _documents, "nested too deep"),
    "config, 1 GiB": ("c.yaml", _sparse, _config, TOO_LARGE),
    "config, 10^6 brackets": ("c.yaml", _nested, _config, "bytes, more|too deep"),
    "config, 10^10 values by aliases": ("c.yaml", _aliases, _config, REPEATED),
    "config, 10^9 values by merges": ("c.yaml", _merges, _config, REPEATED),
    "config, an alias in itself": ("c.yaml", _circle, _config, "within its own anchor"),
    "config, endless digits": ("c.yaml", _sexagesimal, _config, "a number of"),
    "edges, 10^10 letters by entities": ("e.graphml", _entities, _edges, "networkx cannot read"),
}
"""By name: the file, who makes it, who reads it, and a pattern of what that says."""


def read_limited(name: str, folder: Path) -> dict[str, Any]:
    """What is said of one, in this process, whose memory is limited from now on."""
    from evaluation.files import InputError

    file, make, read, _ = CASES[name]
    make(folder / file)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    begin = time.process_time()
    try:
        read(folder / file)
        said = ""
    except InputError as error:
        said = str(error)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    seconds = round(time.process_time() - begin, 2)
    return {"case": name, "said": said, "cpu_seconds": seconds, "peak_memory_mib": round(peak)}


if __name__ == "__main__":
    print(json.dumps(read_limited(sys.argv[1], Path(sys.argv[2]))))
