"""Shells complete commands, options, shipped configs and files."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from ladder.cli import main
from ladder.commands import COMMANDS


@pytest.fixture(scope="module")
def bash_script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("completion") / "ladder.bash"
    import contextlib
    import io

    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        assert main(["completion", "bash"]) == 0
    path.write_text(said.getvalue())
    return path


def completed(script: Path, *words: str, folder: Path | None = None) -> set[str]:
    """What a real bash offers for the last word."""
    line = " ".join(f"'{word}'" for word in ("ladder", *words))
    code = (
        f"source {script}; COMP_WORDS=({line}); COMP_CWORD={len(words)}; _ladder; "
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        ["bash", "-c", code], capture_output=True, text=True, check=True, cwd=folder
    )
    assert done.stderr == ""
    return set(done.stdout.split())


def test_a_beginning_gives_the_commands_that_begin_so(bash_script: Path) -> None:
    assert completed(bash_script, "pre") == {"predict"}
    assert completed(bash_script, "") == set(COMMANDS)


def test_a_commands_own_options_are_offered(bash_script: Path) -> None:
    assert completed(bash_script, "predict", "obs.csv", "--se") == {"--seal"}
    assert "--engine" in completed(bash_script, "train", "--")
    assert "--engine" not in completed(bash_script, "predict", "--")


def test_configs_that_are_shipped_and_files_are_offered(bash_script: Path, tmp_path: Path) -> None:
    (tmp_path / "quiz.yaml").touch()
    assert completed(bash_script, "run", "qui", folder=tmp_path) == {"quickstart", "quiz.yaml"}
    assert completed(bash_script, "audit", "qui", folder=tmp_path) == {"quiz.yaml"}


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_know_every_command_too(
    shell: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert all(verb in script for verb in COMMANDS)
    if shutil.which(shell):
        (tmp_path / "script").write_text(script)
        subprocess.run([shell, "-n", str(tmp_path / "script")], check=True)
