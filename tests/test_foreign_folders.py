"""Folders that others made: their links, lists of files and locks lead to nothing outside."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from conftest import synthetic
from fuzz_foreign import source_of

from evaluation import bounds, olmes
from evaluation.checksums import CHECKSUMS, damage, write_checksums
from evaluation.choices import ChoiceScores, item_scores, write_choices
from evaluation.files import InputError, write_json
from evaluation.models import load_model
from evaluation.panics import panics_as_errors
from evaluation.prompts import read_prompted
from evaluation.records import read_observations, write_observations
from ladder import cluster, tables
from ladder.config import load_config
from ladder.corpora import tokenise, tokenizer, workers
from ladder.corpora.disk import locked
from ladder.corpora.documents import find
from ladder.item_margins import read_margins
from ladder.locks import hold, read_holder
from ladder.plan import make_plan
from ladder.report_provenance import origin_of_runs, provenance
from ladder.runs import RungFolder
from ladder.tracker import _lines
from ladder.verify import verify_runs


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a/../../secret", "a\x00", "..", ""])
def test_checksums_of_files_elsewhere_are_none_of_the_folder(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "step-1"
    folder.mkdir()
    (folder / "weights").write_text("own")
    (tmp_path / "secret").write_text("mine")
    write_checksums(folder)
    assert damage(folder) == ""
    told = json.loads((folder / CHECKSUMS).read_text())["files"]
    told[name] = told["weights"]
    write_json(folder / CHECKSUMS, {"version": 1, "files": told}, sealed=True)
    assert damage(folder) == f"{CHECKSUMS} names {name!r}, no file of the folder"


@pytest.mark.parametrize("lock", [lambda path: hold(path, "trains it"), locked])
def test_a_lock_that_is_a_link_is_refused_and_what_it_leads_to_is_left(
    lock: object, tmp_path: Path
) -> None:
    victim, path = tmp_path / "diary", tmp_path / "runs" / ".lock"
    victim.write_text("dear diary")
    path.parent.mkdir()
    path.symlink_to(victim)
    with pytest.raises(InputError, match=r"\.lock: is a link and no lock; remove it"), lock(path):
        pass
    assert victim.read_text() == "dear diary"
    path.unlink()
    with lock(path):
        assert path.is_file()


@pytest.mark.parametrize(
    "content",
    [
        "[" * 10_000,
        json.dumps({"host": "a", "pid": 1, "command_pid": 1, "command": "x" * 10**6, "since": ""}),
        '{"host": "a", "pid": 1e999, "command_pid": 1, "command": "", "since": ""}',
        "\n",
        "\udcff",
    ],
)
def test_a_lock_that_names_nobody_has_no_holder(content: str, tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    assert read_holder(path) is None


def test_margins_of_runs_and_tasks_are_read_below_the_runs_folder_only(tmp_path: Path) -> None:
    folder = tmp_path / "runs"
    scores = ChoiceScores("quiz", (item_scores("a", 0, [" x", " y"], [-1.0, -2.0], [1, 1]),))
    table = synthetic(sizes=(1.9e8,), multiples=(1,), targets=(), tasks=("quiz",))
    table["accuracy_metric"] = "acc"
    for run, task in (("../else", "quiz"), ("own", "../../../../else/choices/step-1/quiz")):
        write_folder = tmp_path / "else" / "choices" / "step-1"
        write_folder.mkdir(parents=True, exist_ok=True)
        write_choices(scores, write_folder / "quiz.parquet")
        (folder / "own" / "choices" / "step-1").mkdir(parents=True, exist_ok=True)
        table["run"], table["task"] = run, task
        assert (folder / run / "choices" / "step-1" / f"{task}.parquet").is_file()
        with pytest.raises(InputError, match="no rung has stored scores"):
            read_margins(folder, table, 1)


def test_verify_follows_links_to_folders_and_each_folder_once(tmp_path: Path) -> None:
    scratch, runs = tmp_path / "scratch", tmp_path / "runs"
    scratch.mkdir()
    runs.mkdir()
    write_observations(synthetic(), scratch / "o.parquet")
    (runs / "a-1xC").symlink_to(scratch)
    (scratch / "circle").symlink_to(runs)
    assert verify_runs(runs).files == 1
    with (scratch / "o.parquet").open("r+b") as file:
        file.seek(1000)
        file.write(b"\x00\x01\x02")
    found = verify_runs(runs)
    assert (found.files, len(found.problems)) == (1, 1)
    assert "a-1xC/o.parquet: is damaged" in found.problems[0]


@pytest.mark.parametrize("name", ["a\x00b.csv", "a\nb.csv", "\u202eb.csv"])
@pytest.mark.parametrize("key", ["data", "examples"])
def test_rows_of_a_task_have_a_name_that_a_file_may_have(
    key: str, name: str, tmp_path: Path
) -> None:
    prompt = {"data": "r.csv", "context": "{q}", "choices": [" {q}"], key: name}
    (tmp_path / "q.yaml").write_text(yaml.safe_dump({**prompt, "shots": 1}))
    (tmp_path / "r.csv").write_text("q\nx\n")
    with pytest.raises(InputError, match=f"{key}: .* must be a file beside it"):
        read_prompted(tmp_path / "q.yaml")


@pytest.mark.parametrize("pattern", ["a\x00b", "a\x00/*.jsonl", "**/\x00"])
def test_a_pattern_with_nul_matches_no_file(pattern: str) -> None:
    with pytest.raises(InputError, match="no file matches"):
        find([pattern], "corpus.sources, own")


def test_what_training_said_is_read_within_bounds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounds, "LONGEST_LINE", 100)
    monkeypatch.setattr("evaluation.files.LARGEST_JSON", 100)
    line = {"step": 1, "tokens": 10, "loss": 1.0, "tokens_per_second": 5.0}
    said = {"step": 1, "steps": 2, "loss": 1.0, "tokens_per_second": 1.0, "updated": 0.0}
    folder = RungFolder(tmp_path)
    (tmp_path / "config.yaml").write_text("name: a\n")
    folder.metrics.write_text(json.dumps(line) + "\n" + " " * 200 + "\n")
    folder.progress.write_text(json.dumps(said))
    assert _lines(folder.metrics) == [line]
    assert folder._read_progress() is not None
    with pytest.raises(InputError, match=r"metrics\.jsonl, line 2: is longer than"):
        origin_of_runs("a", tmp_path / "config.yaml", {"a-1xC": tmp_path})
    folder.progress.write_text(json.dumps(said) + " " * 200)
    assert folder._read_progress() is None


@pytest.mark.parametrize("number", ["1e308", "-1", "NaN", "1e-320", "1" + "0" * 400, "true", "[]"])
@pytest.mark.parametrize("key", ["step", "steps", "loss", "tokens_per_second"])
def test_progress_of_a_foreign_folder_is_shown_or_left_out(
    key: str, number: str, tiny_config: Path, tmp_path: Path
) -> None:
    (rung, *_) = make_plan(load_config(str(tiny_config))).runs
    folder = RungFolder(tmp_path)
    folder.write_manifest(rung, "running")
    said = {"step": "1", "steps": "9", "loss": "2.5", "tokens_per_second": "1e3", "updated": "0"}
    pairs = ", ".join(f'"{k}": {v}' for k, v in {**said, key: number}.items())
    folder.progress.write_text(f"{{{pairs}}}")
    status = folder.status(rung)
    shown = f"{status.loss} {status.step} {tables.duration(status.seconds_left)}"
    assert len(shown) < 100


@pytest.mark.parametrize(
    "manifest",
    [
        '{"rung": {"flops": 1' + "0" * 400 + '}, "seed": 1' + "0" * 400 + "}",
        '{"rung": {"flops": 1e308}}',
        '{"versions": [{"a": "\\ud800"}], "machines": ["\\u001b[31m", "\\ud800", [1], null]}',
    ],
)
@pytest.mark.parametrize("line", ["1e308, 1e-300", "1, 1e-300", "1e308, 1"])
def test_provenance_of_a_foreign_folder_is_text_and_numbers_that_can_be(
    manifest: str, line: str, tmp_path: Path
) -> None:
    (tmp_path / "config.yaml").write_text("name: a\n")
    (tmp_path / "manifest.json").write_text(manifest)
    tokens, speed = line.split(", ")
    (tmp_path / "metrics.jsonl").write_text(f'{{"tokens": {tokens}, "tokens_per_second": {speed}}}')
    tables = provenance(origin_of_runs("a", tmp_path / "config.yaml", {"a-1xC": tmp_path})).tables
    texts = [str(cell) for table in tables for row in table.rows for cell in row]
    assert all(text.isprintable() and len(text) < 500 for text in texts)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tiny_model import saved

    return saved(tmp_path_factory.mktemp("model"))


@pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation"])
def test_a_models_config_fetches_no_kernel_of_the_hub(
    key: str, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []
    monkeypatch.setattr(
        "transformers.modeling_utils.load_and_register_attn_kernel",
        lambda *given, **named: asked.append(given),
        raising=False,
    )
    folder = shutil.copytree(model, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, key: "someone/kernel"}))
    with pytest.raises(InputError, match=r"asks for the hub's code 'someone/kernel'; take"):
        load_model(str(folder))
    assert asked == []


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("attn_implementation", "flash_attention_2"),
        ("attn_implementation", {"": "flash_attention_3"}),
        ("experts_implementation", "sonicmoe"),
    ],
)
def test_a_models_config_makes_transformers_fetch_no_kernel_where_it_could(
    key: str, value: object, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(model, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, key: value}))
    monkeypatch.setattr("evaluation.claims.find_spec", lambda name: name == "kernels")
    monkeypatch.setattr("transformers.PreTrainedModel.from_pretrained", None)
    with pytest.raises(InputError, match=rf"asks for the hub's code .*; take {key} out of it"):
        load_model(str(folder))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("head_dim", 2**20),
        ("hidden_size", 2**20),
        ("intermediate_size", 2**20),
        ("vocab_size", 2**22),
        ("num_hidden_layers", 2**20),
    ],
)
def test_a_models_config_asks_for_no_more_than_its_weights_hold(
    key: str, value: int, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(model, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, key: value}))
    monkeypatch.setattr("transformers.PreTrainedModel.from_pretrained", None)
    with pytest.raises(InputError, match=rf"asks for .* numbers, and its|has a {key} of"):
        load_model(str(folder))


@pytest.mark.parametrize("place", ["../else.safetensors", "/else.safetensors", 3])
def test_an_index_of_weights_names_files_beside_it(
    place: object, model: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(model, tmp_path / "model")
    (folder / "model.safetensors").rename(tmp_path / "else.safetensors")
    index = {"metadata": {}, "weight_map": {"weight": place}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(InputError, match=r"index\.json: names .*, no file beside it"):
        load_model(str(folder))


def test_a_large_table_is_verified_a_piece_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = synthetic()
    write_observations(table, tmp_path / "o.parquet")
    monkeypatch.setattr("evaluation.checksums.PIECE", 7)
    monkeypatch.setattr(Path, "read_bytes", lambda path: pytest.fail(f"{path} is read whole"))
    assert np.allclose(read_observations(tmp_path / "o.parquet")["loss"], table["loss"])
    size = os.path.getsize(tmp_path / "o.parquet")
    with (tmp_path / "o.parquet").open("r+b") as file:
        file.seek(size // 3)
        file.write(b"\xff\x00\xfe")
    with pytest.raises(InputError, match="is damaged, not what was written"):
        read_observations(tmp_path / "o.parquet")


SPY = "open('pwned', 'a').write(__name__)\nraise SystemExit(f'took {__name__} of the folder')\n"


@pytest.fixture
def theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with modules in it that a process must not take for its own."""
    (tmp_path / "multiprocessing").mkdir()
    (tmp_path / "multiprocessing" / "__init__.py").write_text(SPY)
    for name in ("numpy", "pyarrow", "tokenizers", "torch", "yaml", "json", "ladder", "pip"):
        (tmp_path / f"{name}.py").write_text(SPY)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_worker_that_trains_takes_no_module_of_the_working_folder(theirs: Path) -> None:
    with cluster._inherited(1):
        process = multiprocessing.get_context("spawn").Process(target=os.getpid)
        process.start()
        process.join()
    assert not (theirs / "pwned").exists()
    assert process.exitcode == 0
    assert "PYTHONSAFEPATH" not in os.environ


def test_a_worker_that_tokenises_takes_no_module_of_the_working_folder(theirs: Path) -> None:
    source = source_of(files=["d.jsonl"])
    job = tokenise.Job(
        source=source, tokenizer=theirs, folder=theirs, held_out=0.0, shard_tokens=100
    )
    process = workers._start(job, 1)
    # Without a unit to read it ends as soon as it has been told of its job.
    said, _ = process.communicate()
    assert not (theirs / "pwned").exists()
    assert process.returncode == 0, said


def test_pip_that_fetches_is_no_module_of_the_working_folder(
    theirs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Out of everyone's reach, so that pip says so at once.
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    with pytest.raises(InputError, match="pip could not download it"):
        olmes._download(theirs)
    assert not (theirs / "pwned").exists()


def test_a_tokenizer_that_makes_its_library_panic_is_one_line(
    model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(model, tmp_path / "model")
    document = json.loads((folder / "tokenizer.json").read_text())
    document["model"] |= {
        "continuing_subword_prefix": "long",
        "vocab": {"a": 0, "b": 1, "ab": 2},
        "merges": [["a", "b"]],
    }
    (folder / "tokenizer.json").write_text(json.dumps(document))
    for load in (load_model, tokenizer.load):
        with pytest.raises(InputError, match=r"cannot be loaded .*\(panic: "):
            load(str(folder))
    assert "panicked" not in capfd.readouterr().err


def test_what_else_is_said_while_a_library_may_panic_is_seen(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with panics_as_errors():
        print("by Python", file=sys.stderr)
        os.write(2, b"by others\n")

    def fail() -> None:
        with panics_as_errors():
            os.write(2, b"before an error\n")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    said = capfd.readouterr().err
    assert set(said.split("\n")) == {"by Python", "by others", "before an error", ""}
