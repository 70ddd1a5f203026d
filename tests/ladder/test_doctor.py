"""What works here is said, what does not too, with how to mend it."""

from __future__ import annotations

import contextlib
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from ladder import __version__, doctor
from ladder.cli import main

KEYS = {"name", "state", "found", "mend"}


def findings(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, dict[str, str]]:
    with contextlib.suppress(SystemExit):
        main(["doctor", *arguments, "--json"])
    said = json.loads(capsys.readouterr().out)
    assert said["version"] == 1
    assert all(set(found) == KEYS for found in said["findings"])
    return {found["name"]: found for found in said["findings"]}


def test_what_is_there_is_told_with_its_version(capsys: pytest.CaptureFixture[str]) -> None:
    found = findings(capsys)
    assert found["task-ladder"]["found"].startswith(__version__)
    for name in ("names", "core", "train", "disk", "machine"):
        assert found[name]["state"] == "ok", found[name]
        assert found[name]["mend"] == ""
    import torch

    assert f"torch {torch.__version__}" in found["train"]["found"]
    assert (found["GPU"]["state"] == "ok") == torch.cuda.is_available()


def test_without_torch_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "TRAINING", ("no-such-torch", "numpy"))
    found = doctor._packages("train", doctor.TRAINING, "pip install 'task-ladder[train]'")
    assert (found.state, found.found) == ("absent", "no no-such-torch")
    assert "task-ladder[train]" in found.mend


def test_a_package_that_does_not_load_is_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "flash_attn.py").write_text("raise OSError('undefined symbol: _Z')")
    monkeypatch.syspath_prepend(tmp_path)
    found = doctor._kernel("flash_attn", "attention")
    assert found.state == "broken"
    assert "undefined symbol" in found.found


def test_a_predict_py_of_ones_own_is_found(tmp_path: Path) -> None:
    (tmp_path / "predict.py").write_text("")
    code = "from ladder.doctor import _names; f = _names(); print(f.state, f.found)"
    home = str(Path(doctor.__file__).parent.parent)
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), home])}
    said = subprocess.run(
        [sys.executable, "-c", code], env=env, cwd=tmp_path, capture_output=True, text=True
    )
    assert said.stdout.startswith("broken"), said
    assert str(tmp_path / "predict.py") in said.stdout


@pytest.mark.parametrize(
    ("script", "state", "words"),
    [
        ("echo gpu*; echo cpu", "ok", "gpu*, cpu"),
        ("echo no controller >&2; exit 1", "broken", "no controller"),
        ("exec sleep 60", "broken", "TimeoutExpired"),
    ],
)
def test_slurm_is_asked_whether_it_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, state: str, words: str
) -> None:
    for name in ("sinfo", "sbatch"):
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(doctor, "SECONDS", 0.5)
    found = doctor._slurm()
    assert found.state == state
    assert words in found.found


def test_a_machine_without_slurm_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert doctor._slurm().state == "absent"


def test_a_full_disk_is_broken_and_ends_with_status_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "LITTLE_DISK", 1e18)
    with pytest.raises(SystemExit) as stop:
        main(["doctor", "--runs", str(tmp_path / "not" / "yet")])
    assert stop.value.code == 1
    said = capsys.readouterr().out
    assert "!!  disk" in said
    assert "--runs" in said
    assert max(map(len, said.splitlines())) <= 80
    assert not (tmp_path / "not").exists()


def test_the_version_is_one_line_or_all_that_numbers_depend_on(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"{__version__}\n"
    assert main(["version", "--json"]) == 0
    versions = json.loads(capsys.readouterr().out)["versions"]
    assert versions["task-ladder"] == __version__
    assert set(versions) == {"task-ladder", "python", "numpy", "pandas", "torch", "transformers"}
