"""The files that commands of README and docs name: a synthetic ladder in every form."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
from conftest import true_accuracy, true_loss
from pages import ROOT, blocks

from evaluation.records import read_observations, write_observations
from ladder.config import load_config
from ladder.runs import RunsFolder


def rows_of(
    run: str,
    role: str,
    params: float,
    tokens: float,
    task: str,
    evaluations: int = 12,
    until: float = 1.0,
    off: float = 1.0,
) -> list[dict]:
    """A run of the synthetic ladder whose checkpoints stand above its end, with a little noise."""
    random = np.random.default_rng([*task.encode(), int(params) % 2**31, int(tokens) % 2**31])
    rows = []
    for step in range(1, evaluations + 1):
        share = step / evaluations
        if share > until:
            break
        clean = off * true_loss(params, share * tokens) * (1 + 0.05 * (1 - share))
        row = {
            "run": run,
            "role": role,
            "params": params,
            "tokens": share * tokens,
            "step": step,
            "final": step == evaluations,
            "task": task,
            "loss": clean * np.exp(0.003 * random.normal()),
            "loss_unit": "bits/byte",
        }
        if not task.startswith("c4"):
            accuracy = true_accuracy(clean) + 0.004 * random.normal()
            row |= {"accuracy": min(accuracy, 1), "chance": 0.25, "instances": 2000}
        else:
            row["loss_unit"] = "nats/token"
        rows.append(row)
    return rows


SIZES = {"190M": 190_354_176, "370M": 371_262_464, "760M": 758_220_288, "1B": 1_279_395_840}
LADDER = [
    (f"{s}-{m}xC", "ladder", n, 20.0 * n * m) for s, n in SIZES.items() for m in (1, 2, 5, 10)
]


BIG = ("7B-4T", "target", 6_887_575_552, 3.945e12)


def table(runs: list[tuple], tasks: tuple[str, ...], **options: float) -> pd.DataFrame:
    return pd.DataFrame(
        [row for run in runs for task in tasks for row in rows_of(*run, task, **options)]
    )


def furnished(folder: Path) -> Path:
    """The folder, with the files that the pages' commands name."""
    tasks = ("arc_easy_test_rc_5shot", "c4_en-validation")
    larger = [(f"3B-{m}xC", "extra", 3_169_537_280, 20.0 * m * 3_169_537_280) for m in (1, 10)]
    flight = pd.DataFrame(
        [
            row
            for task in tasks
            for row in rows_of("7B-4T-stage1", "extra", BIG[2], 5e12, task, 24, until=0.5)
        ]
    )
    whole = pd.concat([table([*LADDER, *larger, BIG], tasks), flight], ignore_index=True)
    whole["flops"] = 6.3 * whole["params"] * whole["tokens"]
    write_observations(whole, folder / "obs.parquet")
    mine = table(LADDER, ("arc_easy",), evaluations=6)
    write_observations(mine, folder / "mine.csv")
    with_target = pd.concat([mine, table([BIG], ("arc_easy",), evaluations=6)], ignore_index=True)
    write_observations(with_target, folder / "with-7B.csv")
    theirs = with_target.rename(columns={"run": "model", "params": "N"})
    theirs["arc_bpb"], theirs["arc_acc"] = theirs["loss"], 100 * theirs["accuracy"]
    theirs[["model", "N", "tokens", "step", "arc_bpb", "arc_acc"]].to_csv(
        folder / "theirs.csv", index=False
    )
    for name, off in (("adamw", 1.0), ("muon", 0.99)):
        one = table([*LADDER, BIG], ("arc_easy",), evaluations=6, off=off)
        write_observations(one.assign(recipe=name), folder / f"{name}.parquet")
    recipes = pd.concat(
        [
            read_observations(folder / f"{n}.parquet").assign(run=lambda t, n=n: t["run"] + f"-{n}")
            for n in ("adamw", "muon")
        ],
        ignore_index=True,
    )
    write_observations(recipes, folder / "runs.parquet")
    for letter, name in (("A", "adamw"), ("B", "muon")):
        shutil.copy(folder / f"{name}.parquet", folder / f"{letter}.parquet")
    grid = [
        (f"{n:.1g}-{d:.1g}", "ladder", n, d)
        for n in (1e8, 2e8, 4e8, 8e8)
        for d in (2e9, 4e9, 8e9, 1.6e10)
    ]
    losses = table(grid, ("c4_en-validation",), evaluations=1, off=3)
    write_observations(losses, folder / "grid.parquet")
    config = next(b for b in blocks("docs/cluster.md") if b.file == "mine.yaml")
    (folder / "mine.yaml").write_text(config.text, encoding="utf-8")
    _charts(folder / "charts")
    _lm_eval(folder / "results")
    runs = RunsFolder(folder / "scratch" / "runs" / "mine")
    runs.prepare(load_config("quickstart"))
    clusters = [
        (f"{size}-{m}xC", "ladder", n, 20.0 * n * m)
        for size, n in (("13M", 12_544_320), ("32M", 32_391_936), ("91M", 91_263_744))
        for m in (1, 2, 5)
    ]
    clusters.append(("1.3B-200B", "target", 1_090_652_160, 2e11))
    write_observations(table(clusters, ("arc_easy",)), runs.path / "observations.parquet")
    return folder


def _charts(folder: Path) -> None:
    folder.mkdir()
    for metric, values in (("arc_bpb", (1.2, 1.1)), ("arc_acc", (0.35, 0.4))):
        names = [f"{run} - eval/{metric}" for run in ("190M-1xC", "190M-2xC")]
        lines = [f"{step},{v},{v - 0.02}" for step, v in zip((100, 200), values, strict=True)]
        quoted = ",".join(f'"{name}"' for name in names)
        (folder / f"{metric}.csv").write_text("\n".join([f"Step,{quoted}", *lines]) + "\n")


def _lm_eval(folder: Path) -> None:
    """What lm-eval wrote of 190M-1xC, and the same under the name of 7B-4T."""
    shutil.copytree(ROOT / "tests/data/lm_eval", folder)
    for old in list(folder.iterdir()):
        new = folder / old.name.replace("190M-1xC", "7B-4T")
        shutil.copytree(old, new)
        for file in new.glob("results_*.json"):
            file.write_text(file.read_text("utf-8").replace("190M-1xC", "7B-4T"), encoding="utf-8")
