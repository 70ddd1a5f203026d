"""A rung that is asked to stop saves, says so, and ends as one that was not."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
from safetensors.torch import load_file

from ladder import stopping
from ladder.checkpoint import latest_checkpoint
from ladder.cli import main
from ladder.runs import RunsFolder


def stop_after(monkeypatch: pytest.MonkeyPatch, steps: int, number: int) -> None:
    """A signal arrives as training asks for the so manieth time whether to stop."""
    real, calls = stopping.asked, []

    def asked() -> bool:
        calls.append(1)
        if len(calls) == steps:
            os.kill(os.getpid(), number)
        return real()

    monkeypatch.setattr(stopping, "asked", asked)


def tensors(checkpoint: Path) -> dict[str, list[float]]:
    """Weights and optimizer's state."""
    files = {p.parent.name: load_file(p) for p in checkpoint.rglob("*.safetensors")}
    return {f"{n}/{k}": t.flatten().tolist() for n, file in files.items() for k, t in file.items()}


@pytest.mark.parametrize("number", stopping.SIGNALS)
def test_a_rung_asked_to_stop_ends_as_one_that_was_not(
    tiny_config: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    number: int,
) -> None:
    def train(name: str, *rungs: str) -> int:
        named = [word for rung in rungs for word in ("--rung", rung)]
        runs = str(tmp_path / name)
        return main(["train", str(tiny_config), "--runs", runs, *named, "--engine", "here"])

    assert train("whole", "a-1xC", "b-2xC") == 0
    handlers = [signal.getsignal(n) for n in stopping.SIGNALS]
    with monkeypatch.context() as patch:
        stop_after(patch, 31, number)  # Once before the rung starts, then after every step.
        with pytest.raises(SystemExit) as stop:
            train("parts", "b-2xC", "a-1xC")
    assert stop.value.code == stopping.STOPPED_STATUS == 85
    assert [signal.getsignal(n) for n in stopping.SIGNALS] == handlers
    assert "stopped as asked, b-2xC: saved after step 30; the same command goes on" in (
        capsys.readouterr().err
    )
    parts = RunsFolder(tmp_path / "parts")
    saved = latest_checkpoint(parts.rung("b-2xC").checkpoints)
    assert saved is not None
    assert saved[1] == 30
    main(["status", str(parts.path), "--json"])
    states = {r["name"]: r for r in json.loads(capsys.readouterr().out)["runs"]}
    assert (states["b-2xC"]["state"], states["b-2xC"]["step"]) == ("interrupted", 30)
    assert states["a-1xC"]["state"] == "pending"
    assert train("parts", "b-2xC", "a-1xC") == 0
    for rung in ("a-1xC", "b-2xC"):
        one, other = (RunsFolder(tmp_path / name).rung(rung) for name in ("whole", "parts"))
        assert one.scores.read_bytes() == other.scores.read_bytes()
        kept = [tensors(latest_checkpoint(f.checkpoints)[0]) for f in (one, other)]
        assert kept[0] == kept[1]
        assert kept[0]


def test_a_signal_before_the_first_step_starts_nothing(
    tiny_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_after(monkeypatch, 1, signal.SIGTERM)
    with pytest.raises(SystemExit, match="85"):
        main(["train", str(tiny_config), "--runs", str(tmp_path / "runs"), "--engine", "here"])
    assert not list((tmp_path / "runs").glob("*-*xC"))


def test_a_request_is_forgotten_with_its_block() -> None:
    with stopping.on_signals():
        assert not stopping.asked()
        os.kill(os.getpid(), signal.SIGUSR1)
        assert stopping.asked()
    assert not stopping.asked()
