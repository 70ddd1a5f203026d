"""Under torchrun the ranks share the work, and their scores are those of one process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from test_packed import branches, made
from tiny_model import PROMPT, TASK, saved

from evaluation import scoring
from evaluation.ranks import Ranks
from evaluation.tasks import Item, Task, write_task

RANKS = 2


@pytest.mark.parametrize("name", ["llama", "sliding window"])
@pytest.mark.parametrize("world", [2, 3])
def test_the_parts_of_the_ranks_add_up_to_the_whole(
    name: str, world: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Part(Ranks):
        def add(self, values: torch.Tensor) -> torch.Tensor:
            return values

    monkeypatch.setitem(scoring.PACKED_TOKENS, "cpu", 32)
    monkeypatch.setattr(scoring, "PADDED_TOKENS", 64)
    model, found = made(name), branches(9, 14)
    places = sum(len(branch.choices) for branch in found)
    parts = [
        scoring._log_likelihoods(model, found, places, lambda share: None, Part(rank, world))
        for rank in range(world)
    ]
    assert [sum(part[place] for part in parts) for place in range(places)] == (
        scoring.log_likelihoods(model, found)
    )


def test_two_processes_give_the_scores_of_one(tmp_path: Path) -> None:
    model = saved(tmp_path / "model")
    words = ["grass", "sky", "snow", "blue", "white", "green"]
    items = tuple(
        Item(str(n), f"{PROMPT}{words[n % 6]} {'is ' * (n % 5)}", (f" {words[n % 4]}", " it"), 0)
        for n in range(40)
    )
    write_task(Task("many", items), tmp_path)
    write_task(TASK, tmp_path)
    (tmp_path / "sky.txt").write_text("the sky is blue and snow is white. " * 60)
    files = [str(tmp_path / name) for name in ("many.jsonl", "colours.jsonl", "sky.txt")]
    arguments = ["evaluate", str(model), "--tasks", *files, "--json"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def rows(*command: str) -> list[dict]:
        done = subprocess.run(
            [*command, *arguments, "--keep", str(tmp_path / f"kept{len(command)}")],
            capture_output=True,
            text=True,
            check=False,
            env=environment,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        return json.loads(done.stdout)["rows"]

    ladder = str(Path(sys.executable).with_name("ladder"))
    torchrun = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={RANKS}"]
    assert rows(*torchrun, "--no-python", ladder) == rows(ladder)
