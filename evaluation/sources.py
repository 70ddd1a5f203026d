"""The evaluation logs of allenai/OLMo-ladder -> observations."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from evaluation.bounds import check_csv
from evaluation.files import InputError, read_json
from evaluation.records import LARGEST, validate


@dataclass(frozen=True)
class Imported:
    """Observations and what was left out of them, one line each."""

    observations: pd.DataFrame
    left_out: tuple[str, ...]


@dataclass(frozen=True)
class _Size:
    params: int
    flops_per_token: int


OLMO_LADDER_SIZES = {
    "190M": _Size(190_354_176, 1_903_391_232),
    "370M": _Size(371_262_464, 3_443_922_944),
    "600M": _Size(597_382_464, 5_180_751_744),
    "760M": _Size(758_220_288, 6_373_843_968),
    "1B": _Size(1_279_395_840, 10_109_071_360),
    "3B": _Size(3_169_537_280, 22_970_355_200),
    "peteish7": _Size(6_887_575_552, 49_412_071_424),
    "peteish13": _Size(13_202_396_160, 91_335_915_520),
}
"""Params and FLOPs per token by the first word of a file's name (allenai/OLMo-ladder,
src/ladder/ladder.py); a final.json beside the logs has precedence."""

OLMO_LADDER_TARGETS = {
    "peteish7_eval_anneal": ("7B-4T", "target"),
    "peteish13_eval_final": ("13B-5T", "target"),
    "peteish7_eval_full": ("7B-4T-stage1", "extra"),
    "peteish13_eval_full": ("13B-5T-full", "extra"),
}
"""Files of the published targets -> run and role."""

OLMO_LADDER_FITTED = re.compile(r"(190M|370M|760M|1B)-(1|2|5|10)xC")
"""The sixteen runs that the paper fits; other runs of the ladder are role extra."""

OLMO_LADDER_RUN = re.compile(r"\d+(\.\d+)?[MB]-\d+(\.\d+)?xC(-\w+)?")

MMLU_WEIGHTS = {"stem": 0.215, "humanities": 0.335, "social_sciences": 0.219, "other": 0.231}
"""Weights of MMLU's categories in its mean (arXiv 2412.04403, code)."""

CHANCE = {"piqa": 1 / 2, "socialiqa": 1 / 3, "csqa": 1 / 5, "boolq": 1 / 2, "winogrande": 1 / 2}
"""Accuracy of guessing by the first word of a task's name; one in four elsewhere."""

INSTANCES = {
    "mmlu_test": 14042,
    "mmlu_stem_test": 3018,
    "mmlu_humanities_test": 4705,
    "mmlu_social_sciences_test": 3077,
    "mmlu_other_test": 3242,
    "hellaswag_val": 10042,
    "arc_challenge_test": 1172,
    "arc_easy_test": 2376,
    "piqa_val": 1838,
    "csqa_val": 1221,
    "socialiqa_val": 1954,
    "openbookqa_test": 500,
}
"""Documents of a task and split (OLMES); other labels are left empty."""


def import_olmo_ladder(path: Path) -> Imported:
    """Read the logs of allenai/OLMo-ladder: a clone's root, or a folder of its CSV files.

    Roles and run names come from the file names, N and FLOPs per token from final.json where it
    is at hand. MMLU's categories are joined by their weighted mean. A letter-form task (`_mc_`)
    has no bits per byte of its own there: its loss is the cloze form's, as in the paper.
    """
    if not path.is_dir():
        raise InputError(f"{path}: no such folder; give a clone of allenai/OLMo-ladder")
    folder = next(
        (f for f in _log_folders(path) if any(map(_is_run, f.glob("*.csv")))),
        None,
    )
    if folder is None:
        raise InputError(
            f"{path}: holds no ladder logs such as 190M-1xC.csv; give a clone of "
            "allenai/OLMo-ladder or the folder of its CSV files"
        )
    sizes = {**OLMO_LADDER_SIZES, **_sizes_of_config(path, folder)}
    frames, left_out = [], []
    for file in sorted(folder.glob("*.csv")):
        size = sizes.get(_size_word(file.stem))
        if not _is_run(file) or size is None:
            left_out.append(f"{file.name}: not a run of the ladder or a known target")
            continue
        frames.append(_read_run(file, size))
    table = pd.concat(frames, ignore_index=True)
    return Imported(validate(table, str(folder)), tuple(left_out))


def _log_folders(path: Path) -> list[Path]:
    return [path, path / "ladder-runs", path / "src/scripts/paper/data/ladder-runs"]


def _is_run(file: Path) -> bool:
    return file.stem in OLMO_LADDER_TARGETS or bool(OLMO_LADDER_RUN.fullmatch(file.stem))


def _size_word(stem: str) -> str:
    return re.split("[-_]", stem)[0]


def _sizes_of_config(path: Path, folder: Path) -> dict[str, _Size]:
    places = (path, folder, folder.parent, path / "src/scripts/paper/configs")
    config = next((p / "final.json" for p in places if (p / "final.json").is_file()), None)
    if config is None:
        return {}
    sizes = {}
    try:
        for entry in read_json(config).values():
            for log in entry["paths"]:
                params, flops = int(entry["n"]), int(entry["flops"])
                if not 0 < min(params, flops) <= max(params, flops) <= LARGEST:
                    raise ValueError("n and flops are no counts")
                sizes[_size_word(Path(log).stem)] = _Size(params, flops)
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{config}: an entry lacks paths, n or flops ({error!r})") from error
    return sizes


def _read_run(file: Path, size: _Size) -> pd.DataFrame:
    run, role = OLMO_LADDER_TARGETS.get(file.stem, (file.stem, "extra"))
    if OLMO_LADDER_FITTED.fullmatch(file.stem):
        role = "ladder"
    log = _read_numbers(file)
    batch = _column(log, "batch_size_in_tokens", file)
    if "throughput/total_tokens" in log:
        tokens = log["throughput/total_tokens"]
    else:
        tokens = _column(log, "_step", file) * batch
    step = log["_step"] if "_step" in log else (tokens / batch).round()
    base = pd.DataFrame(
        {
            "run": run,
            "role": role,
            "params": size.params,
            "tokens": tokens,
            "flops": tokens.astype(float) * size.flops_per_token,
            "step": step,
            "final": step == step.max(),
            "batch_tokens": batch,
        }
    )
    parts = []
    for task, columns in _tasks(log).items():
        part = base.assign(task=task, loss_unit="bits/byte", chance=_chance(task), **columns)
        if "accuracy" in part:
            part["accuracy_metric"] = "acc" if _is_raw(task) else "acc_per_char"
        part["instances"] = INSTANCES.get(re.split(r"_(rc|mc)_", task)[0])
        parts.append(part[part["loss"].notna()])
    for name in log.columns:
        if match := re.fullmatch(r"eval/(.+)/CrossEntropyLoss", str(name)):
            part = base.assign(task=match[1], loss=log[name], loss_unit="nats/token")
            parts.append(part[part["loss"].notna()])
    if not parts:
        raise InputError(f"{file}: has no eval/ columns; is it an evaluation log?")
    return validate(pd.concat(parts, ignore_index=True), str(file))


def _read_numbers(file: Path) -> pd.DataFrame:
    try:
        check_csv(file)
        log = pd.read_csv(file)
    except InputError:
        raise
    except (ValueError, OSError) as error:
        raise InputError(f"{file}: cannot be read as CSV ({error})") from error
    if not len(log):
        raise InputError(f"{file}: has no rows")
    wanted = re.compile(r"eval/.*|_step|throughput/total_tokens|batch_size_in_tokens")
    log = log[[c for c in log.columns if wanted.fullmatch(str(c))]]
    for name in log.columns:
        if not pd.api.types.is_numeric_dtype(log[name]):
            # Integers of more digits than any float has come as they are.
            numbers = pd.to_numeric(log[name].astype(str), errors="coerce").astype(float)
            wrong = np.flatnonzero(~np.isfinite(numbers) & log[name].notna())
            if len(wrong):
                cell = log[name].iloc[wrong[0]]
                raise InputError(
                    f"{file}: row {wrong[0] + 1}, column {name!r}: {cell!r} is not a number"
                )
            log = log.assign(**{name: numbers})
    return log


def _column(log: pd.DataFrame, name: str, file: Path) -> pd.Series:
    if name not in log or log[name].isna().any():
        raise InputError(f"{file}: needs the column {name!r}, a number in every row")
    return log[name]


def _tasks(log: pd.DataFrame) -> dict[str, dict[str, pd.Series]]:
    """Every task in the log with its loss, accuracy and soft metrics; MMLU joined."""
    tasks: dict[str, dict[str, pd.Series]] = {}
    for name in map(str, log.columns):
        if match := re.fullmatch(r"eval/downstream_bpb/(.+)_bpb", name):
            tasks[match[1]] = _metrics(log, match[1], log[name])
    for name in map(str, log.columns):
        if match := re.fullmatch(r"eval/downstream/(.+_mc_\d+shot)_(acc|len_norm)", name):
            cloze = f"eval/downstream_bpb/{match[1].replace('_mc_', '_rc_')}_bpb"
            if match[1] not in tasks and cloze in log:
                tasks[match[1]] = _metrics(log, match[1], log[cloze])
    for rest in [m[1] for t in tasks if (m := re.fullmatch(r"mmlu_stem_(.+)", t))]:
        parts = {w: tasks.get(f"mmlu_{c}_{rest}") for c, w in MMLU_WEIGHTS.items()}
        if all(p is not None for p in parts.values()):
            shared = set.intersection(*(set(p) for p in parts.values() if p is not None))
            tasks[f"mmlu_{rest}"] = {
                metric: sum(w * p[metric] for w, p in parts.items() if p is not None)
                for metric in sorted(shared)
            }
    return tasks


def _metrics(log: pd.DataFrame, task: str, loss: pd.Series) -> dict[str, pd.Series]:
    found = {"loss": loss}
    accuracy = f"eval/downstream/{task}_{'acc' if _is_raw(task) else 'len_norm'}"
    if accuracy in log:
        found["accuracy"] = log[accuracy]
    if f"eval/downstream_soft/{task}_soft" in log:
        found["soft"] = log[f"eval/downstream_soft/{task}_soft"]
    if f"eval/downstream_soft_log/{task}_soft_log" in log:
        found["task_ce"] = -log[f"eval/downstream_soft_log/{task}_soft_log"]
    return found


def _is_raw(task: str) -> bool:
    """Whether the task's accuracy is that of raw log-likelihoods: BoolQ and letter forms."""
    return task.startswith("boolq") or ("_mc_" in task and not task.startswith("mmlu"))


def _chance(task: str) -> float:
    return CHANCE.get(task.split("_")[0], 1 / 4)
