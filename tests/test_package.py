"""What is built installs into an empty environment, is small, and does what the docs say there."""

from __future__ import annotations

import json
import re
import sys
import tarfile
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest
from built import ROOT, build, empty_environment, finished, interpreter
from conftest import synthetic

from evaluation.records import write_observations
from ladder.commands import COMMANDS

PACKAGES = ("evaluation", "ladder", "predict")
TARGET = "big:6.9e9:4T"

BLOCK = """
import sys


class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "transformers", "datasets", "tokenizers", "networkx"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


sys.meta_path.insert(0, Block())
"""
"""A sitecustomize.py that hides the extra `train`."""

SESSION = """
import contextlib, io, json, sys

import ladder
from ladder.cli import main


def said(*words):
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        assert main(list(words)) == 0, words
    return out.getvalue()


document = {
    "where": ladder.__file__,
    "help": said("--help"),
    "plan": said("plan", "quickstart", "--json"),
    "predict": said("predict", "mine.csv", "--target", sys.argv[1], "--json"),
}
print(json.dumps(document))
"""
"""What someone types one after the other, in one process, which is quicker."""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return build(tmp_path_factory.mktemp("built"))


@pytest.fixture(scope="module")
def wheel(built: tuple[Path, Path]) -> Path:
    return built[0]


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as opened:
        (name,) = (n for n in opened.namelist() if n.endswith(".dist-info/METADATA"))
        return Parser().parsestr(opened.read(name).decode())


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A CSV of someone's results, and nothing else in its folder."""
    folder = tmp_path / "work"
    folder.mkdir()
    table = synthetic()
    write_observations(table[table["role"] == "ladder"], folder / "mine.csv")
    return folder / "mine.csv"


def test_the_wheel_is_under_a_megabyte_and_has_all_that_runs_and_nothing_else(wheel: Path) -> None:
    assert wheel.stat().st_size < 1_000_000
    with zipfile.ZipFile(wheel) as opened:
        names = {n for n in opened.namelist() if ".dist-info/" not in n}
    here = {
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    configs = {f"ladder/configs/{path.name}" for path in (ROOT / "configs").glob("*.yaml")}
    assert names == here | configs
    assert {f"{package}/py.typed" for package in PACKAGES} <= names
    assert {f"ladder/templates/report.{end}" for end in ("html", "css", "js")} <= names


def test_the_source_distribution_has_docs_tests_benchmarks_and_what_ci_runs(
    built: tuple[Path, Path],
) -> None:
    with tarfile.open(built[1]) as opened:
        names = {n.partition("/")[2] for n in opened.getnames()}
    folders = (*PACKAGES, "docs", "tests", "benchmarks", "configs")
    here = {
        str(path.relative_to(ROOT))
        for folder in folders
        for end in ("py", "md", "svg", "yaml")
        for path in (ROOT / folder).rglob(f"*.{end}")
    }
    assert here - names == set()
    assert {".ci/run", "constraints.txt", "README.md", "LICENSE", "CHANGELOG.md"} <= names
    assert not [n for n in names if n.startswith(("shared", "runs")) or "__pycache__" in n]


def test_the_metadata_says_what_it_is_and_what_it_runs_on(metadata: Message) -> None:
    assert metadata["Name"] == "task-ladder"
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["Summary"]
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert metadata.get_payload() == (ROOT / "README.md").read_text(encoding="utf-8")
    classifiers = metadata.get_all("Classifier", [])
    minors = [c[-4:] for c in classifiers if re.search(r":: 3\.\d+$", c)]
    assert minors == ["3.11", "3.12", "3.13"]
    assert set(metadata.get_all("Provides-Extra", [])) == {"train", "wandb", "test"}
    core = [r for r in metadata.get_all("Requires-Dist", []) if "extra ==" not in r]
    assert not [r for r in core if re.match(r"torch|transformers|datasets|wandb", r)]


def test_the_wheels_files_alone_help_plan_and_predict_where_there_is_no_torch(
    wheel: Path, results: Path, tmp_path: Path
) -> None:
    installed = tmp_path / "site"
    with zipfile.ZipFile(wheel) as opened:
        opened.extractall(installed)
    (installed / "sitecustomize.py").write_text(BLOCK, encoding="utf-8")
    (tmp_path / "all.py").write_text(SESSION, encoding="utf-8")
    command = [sys.executable, str(tmp_path / "all.py"), TARGET]
    said = json.loads(finished(command, results.parent, PYTHONPATH=str(installed)))
    assert Path(said["where"]).is_relative_to(installed)
    assert [verb for verb in COMMANDS if verb not in said["help"]] == []
    assert json.loads(said["plan"])["rungs"]
    check_prediction(said["predict"])


def check_prediction(document: str) -> None:
    (row,) = (r for r in json.loads(document)["rows"] if r["task"] == "quiz")
    assert 0 < row["lower80"] < row["predicted"] < row["upper80"] <= 1


@pytest.mark.slow
@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13"])
def test_without_torch_it_installs_into_an_empty_environment_and_predicts(
    version: str, wheel: Path, results: Path, tmp_path: Path
) -> None:
    python = interpreter(version)
    if python is None:
        pytest.skip(f"no Python {version} on this machine")
    bin = empty_environment(python, tmp_path / "venv")
    finished(
        [str(bin / "pip"), "install", "-q", "-c", str(ROOT / "constraints.txt"), str(wheel)],
        tmp_path,
    )
    finished([str(bin / "python"), "-m", "pip", "check"], tmp_path)
    assert "torch" not in finished([str(bin / "pip"), "list"], tmp_path)

    def ladder(*words: str) -> str:
        return finished([str(bin / "ladder"), *words], results.parent)

    assert "predict" in ladder("--help")
    check_prediction(ladder("predict", "mine.csv", "--target", TARGET, "--json"))
    ladder("backtest", "mine.csv")
    ladder("report", "mine.csv", "--target", TARGET)
    assert "<svg" in (results.parent / "mine.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_quick_start_runs_from_the_installed_wheel_in_an_empty_folder(
    wheel: Path, tmp_path: Path
) -> None:
    bin = empty_environment(sys.executable, tmp_path / "venv")
    finished(
        [
            *(str(bin / "pip"), "install", "-q", "-c", str(ROOT / "constraints.txt")),
            f"{wheel}[train]",
        ],
        tmp_path,
    )
    work = tmp_path / "work"
    work.mkdir()
    finished([str(bin / "ladder"), "run", "quickstart"], work)
    runs = work / "runs" / "quickstart"
    assert "Every prediction is within 5 points" in (runs / "report.html").read_text("utf-8")
    assert (runs / "observations.parquet").is_file()
