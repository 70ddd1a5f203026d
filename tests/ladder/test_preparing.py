"""What a config names is looked for before anything is paid; text is tokenised beforehand."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from command_line import fails
from corpora_english import DOCUMENTS, write_lines

from ladder.cli import main
from ladder.config import load_config
from ladder.inputs import missing


@pytest.fixture
def config(tmp_path: Path, tiny_config: Path) -> Path:
    """The tiny ladder, on text that is there."""
    write_lines(tmp_path / "web.jsonl", DOCUMENTS[:200])
    document = yaml.safe_load(tiny_config.read_text())
    document["corpus"] = {
        "kind": "text",
        "tokenizer": "bytes",
        "held_out": 0.1,
        "workers": 1,
        "sources": [{"name": "web", "files": [f"{tmp_path}/web.jsonl"]}],
    }
    path = tmp_path / "text.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


def changed(config: Path, **more: object) -> Path:
    document = yaml.safe_load(config.read_text())
    document["corpus"] |= more
    path = config.with_name("changed.yaml")
    path.write_text(yaml.safe_dump(document))
    return path


def test_text_is_tokenised_once_before_anything_trains(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["tokenise", str(config), "--runs", str(tmp_path / "runs")]
    assert main(command) == 0
    assert "ready to train" in capsys.readouterr().err
    shards = {p: p.stat().st_mtime_ns for p in (tmp_path / "runs").rglob("*.bin")}
    assert shards
    assert main(command) == 0
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "runs").rglob("*.bin")} == shards
    assert not list((tmp_path / "runs").glob("a-*"))


@pytest.mark.parametrize(
    "absent",
    [{"files": ["absent/*.jsonl"]}, {"tokens": ["absent/*.npy"]}, {"files": ["web.csv"]}],
)
def test_a_source_that_cannot_be_read_is_told_before_a_tokenizer_is_trained(
    absent: dict[str, object],
    config: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "web.csv").write_text("text\nsome\n")
    sources = [
        {"name": "web", "files": [f"{tmp_path}/web.jsonl"]},
        {"name": "last", **absent},
    ]
    lacking = changed(config, sources=sources, tokenizer={"train": 300})
    monkeypatch.setattr(
        "ladder.corpora.tokenizer.trained_tokenizer", lambda *_: pytest.fail("is trained")
    )
    fails(capsys, "tokenise", lacking, "--runs", tmp_path / "runs")
    assert not list((tmp_path / "runs").rglob("*.bin"))


def test_shards_outlive_the_files_that_they_were_made_from(config: Path, tmp_path: Path) -> None:
    command = ["tokenise", str(config), "--runs", str(tmp_path / "runs")]
    assert main(command) == 0
    (tmp_path / "web.jsonl").unlink()
    assert main(command) == 0


def test_a_config_whose_inputs_are_there_lacks_nothing(config: Path) -> None:
    assert missing(load_config(str(config))) == []
    assert missing(load_config("quickstart")) == []


def test_what_is_not_there_is_named_all_of_it(config: Path) -> None:
    sources = [
        {"name": "web", "files": ["absent/*.jsonl"]},
        {"name": "code", "tokens": ["absent/*.npy"], "validation": ["other.npy"]},
    ]
    found = missing(load_config(str(changed(config, sources=sources, tasks=["quiz.jsonl"]))))
    assert len(found) == 4
    assert "corpus.sources, web: no file matches absent/*.jsonl" in found[0]
    assert "corpus.sources, code: no file matches absent/*.npy" in found[1]
    assert "corpus.sources, code, validation: no file matches other.npy" in found[2]
    assert "quiz.jsonl" in found[3]


@pytest.mark.parametrize("verb", ["run", "train"])
def test_a_dry_run_says_what_would_be_trained_and_writes_nothing(
    verb: str, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = tmp_path / "runs"
    assert main([verb, str(config), "--dry-run", "--runs", str(runs)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert f"10 of 10 runs would be trained into {runs}" in said
    assert "a-1xC, a-2xC" in said
    assert not runs.exists()


@pytest.mark.parametrize("verb", ["run", "train"])
def test_a_dry_run_fails_where_training_would(
    verb: str, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lacking = changed(config, sources=[{"name": "web", "files": ["absent/*.jsonl"]}])
    runs = tmp_path / "runs"
    said = fails(capsys, verb, lacking, "--dry-run", "--runs", runs)
    assert "no file matches absent/*.jsonl" in said
    assert not runs.exists()


def test_a_dry_run_of_slurm_warns_of_what_is_not_here_and_prints_the_scripts(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lacking = changed(config, sources=[{"name": "web", "files": ["absent/*.jsonl"]}])
    runs = tmp_path / "runs"
    command = ["train", str(lacking), "--engine", "slurm", "--dry-run", "--runs", str(runs)]
    assert main(command) == 0
    said = capsys.readouterr()
    assert "#SBATCH" in said.out
    assert "warning, not here: corpus.sources, web: no file matches absent/*.jsonl" in said.err
    assert not runs.exists()
