"""The time that a rung's steps take, and what metrics.jsonl makes of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from ladder import meter as meters
from ladder.config import load_config
from ladder.meter import Meter
from ladder.parallel import Parallel
from ladder.plan import make_plan
from ladder.report_provenance import origin_of_runs


def test_logged_speeds_add_up_to_the_seconds_of_all_steps(
    tiny_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A first step that compiles for a minute is counted once, not in every later line again."""
    config, now = load_config(str(tiny_config)), 1000.0
    rung = make_plan(config).run("c-4xC")
    monkeypatch.setattr(meters.time, "monotonic", lambda: now)
    meter, lines = Meter(rung, config.execution, Parallel(0, 1, "none", torch.device("cpu"))), []
    for step in range(1, 41):
        now += 60.0 if step == 1 else 0.5
        meter.stepped()
        if step % 10 == 0:
            lines.append({"tokens": step * rung.batch_tokens, **meter.read()})
        with meter.paused():
            now += 7.0  # Scored and saved.
    assert meter.spent == 60 + 39 * 0.5
    assert lines[-1]["tokens_per_second"] == rung.batch_tokens / 0.5
    assert meter.tokens_per_second == 40 * rung.batch_tokens / meter.spent
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (record,) = origin_of_runs("tiny", tiny_config, {"c-4xC": tmp_path}).runs
    assert record.seconds == pytest.approx(meter.spent, rel=1e-3)
