"""Names and files of others lead nowhere: not out of their folder, into a shell, or to a screen."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from conftest import synthetic
from pydantic import ValidationError

from evaluation import hub
from evaluation.files import InputError, is_file_name, whole_digest, write_text
from evaluation.hub import check_cached
from evaluation.plain import plain
from evaluation.prompts import read_prompted
from evaluation.records import read_observations, write_observations
from evaluation.store import Store
from evaluation.tasks import read_task
from ladder import slurm
from ladder.cli import main
from ladder.config import load_config
from ladder.corpora.shards import Shard
from ladder.kept_tasks import KeptTasks
from ladder.plan import make_plan
from ladder.runs import RunsFolder

LEAVING = (
    *("../up", "..", ".", "/etc/passwd", "a/b", "a\\b", "..\\up", "~", "a\x00b", "a\nb", "", " "),
    *("CON", "nul.txt", "com1", "a.", "a ", "C:x", "a:stream", "a*", "-" * 300, ".hidden"),
)
FINE = ("190M-5xC", "tests; rm -rf x", "$(touch pwned)", "näme", "a.b", "console", "`id`", "~x")
ESCAPES = ("\x1b[31mred", "\x1b]0;title\x07", "a\rb", "a\nb", "\x9b2J", "\u202etxt.exe", "\x00")
MARKUP = ("[red]x[/red]", "[/x]", "[link=file:///etc/passwd]x", ":smile:")


@pytest.mark.parametrize("name", LEAVING)
def test_a_name_that_would_lead_out_of_its_folder_is_none(name: str, tmp_path: Path) -> None:
    if name != "~":
        assert not is_file_name(name)
        with pytest.raises(InputError, match="no name of a run's folder"):
            RunsFolder(tmp_path).rung(name)
    with pytest.raises(ValidationError):
        Shard(file=f"{name}/x", tokens=1, documents=1, largest=1, sha256="")


@pytest.mark.parametrize("name", FINE)
def test_a_name_may_hold_whatever_else_people_write(name: str) -> None:
    assert is_file_name(name)


@pytest.mark.parametrize("key", ["name", "targets.0.name"])
@pytest.mark.parametrize("name", ["../up", "/abs", "a\x00b", "CON", "aux.x", "dot."])
def test_no_name_in_a_config_leads_out_of_the_runs_folder(
    tiny_config: Path, tmp_path: Path, key: str, name: str
) -> None:
    document = yaml.safe_load(tiny_config.read_text())
    (document["targets"][0] if "." in key else document)["name"] = name
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump(document))
    with pytest.raises(InputError, match=r"name: .*(pattern|Windows)|not readable as YAML"):
        load_config(str(path))


def test_no_run_is_named_as_what_the_runs_folder_holds(tiny_config: Path) -> None:
    sets = ("targets=[{size: big, multiple: 4, train: true, name: tasks}]",)
    with pytest.raises(InputError, match="tasks: is a name of the runs folder's own"):
        make_plan(load_config(str(tiny_config), sets))


@pytest.mark.parametrize("name", ["../../secret", "/etc/passwd", "..", "a\x00", ""])
@pytest.mark.parametrize("has_digests", [False, True])
def test_an_index_of_tasks_names_none_elsewhere(
    tmp_path: Path, name: str, has_digests: bool
) -> None:
    document = {"version": 1, "tasks": {name: "0" * 64}} if has_digests else [name]
    runs = RunsFolder(tmp_path)
    runs.tasks.mkdir()
    (runs.tasks / "index.json").write_text(json.dumps(document))
    with pytest.raises(InputError, match=r"index\.json: is damaged"):
        _ = runs.task_files
    with pytest.raises(InputError, match=r"index\.json: is damaged"):
        KeptTasks(runs.tasks).mend(list)


@pytest.mark.parametrize("name", ["../rows.csv", "/etc/passwd.csv", "a/../../rows.csv"])
def test_rows_of_a_task_lie_beside_its_yaml(tmp_path: Path, name: str) -> None:
    path = tmp_path / "own.yaml"
    prompt = {"data": name, "context": "{q}", "choices": [" {a}"]}
    path.write_text(yaml.safe_dump(prompt))
    with pytest.raises(InputError, match="must be a file beside it"):
        read_prompted(path)


def test_scores_of_a_task_of_any_name_stay_in_the_store(tmp_path: Path) -> None:
    item = json.dumps({"id": "a", "context": "c", "choices": [" x"], "gold": 0})
    for name in ("...jsonl", "; rm -rf x.jsonl", "[red].jsonl", "\x1b[31m.jsonl"):
        (tmp_path / name).write_text(item)
        task = read_task(tmp_path / name)
        path = Store(tmp_path / "store", {}).path(task.name)
        assert path.resolve().parent == (tmp_path / "store").resolve()


def test_a_file_is_written_in_the_place_of_a_link_and_not_through_it(tmp_path: Path) -> None:
    secret, link = tmp_path / "secret", tmp_path / "folder" / "report.html"
    secret.write_text("mine")
    link.parent.mkdir()
    link.symlink_to(secret)
    write_text(link, "theirs")
    assert secret.read_text() == "mine"
    assert link.read_text() == "theirs"
    assert not link.is_symlink()


@pytest.mark.parametrize("name", [*ESCAPES, "\ud800"])
def test_what_a_terminal_acts_on_is_told_as_its_escape(name: str) -> None:
    shown = plain(f"x{name}y")
    assert shown.isprintable()
    shown.encode()
    assert str(InputError(f"x{name}y")) == shown


def test_words_of_any_language_stay_as_they_are_and_endless_ones_are_cut() -> None:
    for text in ("déjà vu — 你好, мир 🙂", "می‌خواهم", "👩‍👩‍👧", "a\u00a0b"):
        assert plain(text) == text
    assert len(plain("x" * 10**6)) < 2100


def test_names_on_a_terminal_are_neither_escapes_nor_markup(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = synthetic(tasks=tuple(f"quiz {n} {m}" for n in ESCAPES[:2] for m in MARKUP[:1]))
    runs = dict(zip(sorted(table["run"].unique()), (*ESCAPES, *MARKUP), strict=False))
    table["run"] = table["run"].map(lambda run: f"{runs.get(run, '')}{run}")
    path = tmp_path / "o.parquet"
    write_observations(table, path)
    commands = (
        ["predict", str(path), "--target", "\x1b[31mT:7e9:4e12"],
        ["audit", str(path)],
        ["noise", str(path)],
        ["predict", str(path), "--tasks", "\x1b[31mnone"],
        ["predict", str(tmp_path / "\x1b[31mnone.parquet")],
    )
    for command in commands:
        main(command)
        said = capsys.readouterr()
        text = said.out + said.err
        assert text
        assert all(letter == "\n" or letter.isprintable() for letter in text), repr(text)
    main(["audit", str(path)])
    assert MARKUP[0] in capsys.readouterr().out


def test_a_table_with_names_of_controls_is_read_and_written_as_it_is(tmp_path: Path) -> None:
    table = synthetic(tasks=("\x1b[31mquiz",))
    write_observations(table, tmp_path / "o.parquet")
    assert set(read_observations(tmp_path / "o.parquet")["task"]) == {"\x1b[31mquiz"}


WORDS = "; rm -rf x; $(touch pwned) `touch pwned` 'a\" & touch pwned | touch pwned > pwned"


def test_a_rung_called_rm_rf_x_is_one_word_of_its_script(tiny_config: Path, tmp_path: Path) -> None:
    victim = tmp_path / "x"
    victim.write_text("still here")
    config = load_config(str(tiny_config))
    fake = tmp_path / "py'thon; touch pwned"
    fake.write_text(f'#!/bin/bash\nprintf "%s\\n" "$@" > {tmp_path}/said\n')
    fake.chmod(0o755)
    cluster = config.cluster.model_copy(update={"python": str(fake), "account": WORDS})
    config = config.model_copy(update={"cluster": cluster})
    name = WORDS.replace("/", "").replace("|", "").replace(">", "").replace('"', "")
    rung = replace(make_plan(config).runs[0], name=name)
    runs = RunsFolder(tmp_path / WORDS.replace("/", ""))
    text = slurm.rung_script(config, rung, runs)
    done = subprocess.run(
        ["bash", "-c", text], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert name in (tmp_path / "said").read_text().splitlines()
    assert victim.read_text() == "still here"
    assert not list(tmp_path.glob("pwned*"))
    for line in text.splitlines():
        if line.startswith("#SBATCH") and "account" in line:
            assert line == f"#SBATCH {slurm.shlex.quote(f'--account={WORDS}')}"


def test_a_rung_whose_name_breaks_the_line_has_no_script(tiny_config: Path, tmp_path: Path) -> None:
    config = load_config(str(tiny_config))
    rung = replace(make_plan(config).runs[0], name="a\ntouch pwned")
    with pytest.raises(InputError, match=r"'a\\ntouch pwned': is no name"):
        slurm.rung_script(config, rung, RunsFolder(tmp_path))


def test_yaml_makes_no_objects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "c.yaml"
    path.write_text("name: !!python/object/apply:os.system ['touch pwned']\n")
    with pytest.raises(InputError, match="not readable as YAML"):
        load_config(str(path))
    with pytest.raises(InputError, match="not readable as YAML"):
        read_prompted(path)
    with pytest.raises(InputError, match="--set"):
        load_config("quickstart", ("name=!!python/object/apply:os.system ['touch pwned']",))
    assert not (tmp_path / "pwned").exists()


PICKLE = b"cposix\nsystem\n(S'touch pwned'\ntR."
"""A pickle that runs a command where it is loaded."""


@pytest.mark.parametrize("as_zip", [False, True])
def test_pickled_weights_and_arrays_run_nothing(
    as_zip: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import io
    import zipfile

    from tiny_model import saved

    from evaluation.models import load_model
    from ladder.corpora.shards import open_arrays

    monkeypatch.chdir(tmp_path)
    folder = saved(tmp_path / "model")
    (folder / "model.safetensors").unlink()
    content = PICKLE
    if as_zip:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("archive/data.pkl", PICKLE)
            archive.writestr("archive/version", "3\n")
        content = buffer.getvalue()
    (folder / "pytorch_model.bin").write_bytes(content)
    with pytest.raises(InputError, match="cannot be loaded as a causal language model"):
        load_model(str(folder))
    header = b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }".ljust(117) + b"\n"
    array = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + PICKLE
    (tmp_path / "a.npy").write_bytes(array)
    with pytest.raises(InputError, match="not readable as an array of tokens"):
        open_arrays("own", [tmp_path / "a.npy"], "uint16", 100)
    assert not (tmp_path / "pwned").exists()


def test_code_beside_a_model_or_tokenizer_is_not_run_unasked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tiny_model import saved

    from evaluation.models import load_model
    from ladder.corpora import tokenizer

    monkeypatch.chdir(tmp_path)
    folder = saved(tmp_path / "model")
    code = "open('pwned', 'w')\nclass Own: pass\n"
    (folder / "own.py").write_text(code)
    for name in ("config.json", "tokenizer_config.json"):
        document = json.loads((folder / name).read_text())
        document |= {"model_type": "own", "tokenizer_class": "Own"}
        document["auto_map"] = {
            "AutoConfig": "own.Own",
            "AutoModelForCausalLM": "own.Own",
            "AutoTokenizer": ["own.Own", "own.Own"],
        }
        (folder / name).write_text(json.dumps(document))
    for load in (load_model, tokenizer.load):
        with pytest.raises(InputError, match="cannot be loaded"):
            load(str(folder))
    assert not (tmp_path / "pwned").exists()


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model as the hub's client keeps it: blobs by their hashes, and links to them."""
    import huggingface_hub.constants
    from tiny_model import saved

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("TASK_LADDER_CACHE", str(tmp_path / "ours"))
    folder = tmp_path / "hub" / "models--someone--model"
    snapshot, blobs = folder / "snapshots" / ("a" * 40), folder / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("a" * 40)
    for path in saved(tmp_path / "model").iterdir():
        content = path.read_bytes()
        is_large = path.suffix == ".safetensors"
        git = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        name = hashlib.sha256(content).hexdigest() if is_large else git
        shutil.copy(path, blobs / name)
        (snapshot / path.name).symlink_to(Path("../../blobs") / name)
    return snapshot


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_a_file_of_the_hub_that_is_not_what_the_hub_stated_is_refused(
    cached: Path, name: str
) -> None:
    check_cached("someone/model")
    blob = (cached / name).resolve()
    content = bytearray(blob.read_bytes())
    content[len(content) // 2] ^= 1
    blob.write_bytes(content)
    os.utime(blob, ns=(1, 1))
    with pytest.raises(InputError, match=rf"{name}: is damaged, not what the hub stated"):
        check_cached("someone/model")


def test_weights_are_read_once_a_version_however_many_processes_load_them(
    cached: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []

    def reads(path: Path) -> str:
        read.append(path)
        time.sleep(0.05)
        return whole_digest(path)

    def ranks() -> int:
        """Each its own look, at the same time."""
        hub._is_as_stated.cache_clear()
        before = len(read)
        with ThreadPoolExecutor(4) as pool:
            for done in [pool.submit(check_cached, "someone/model") for _ in range(4)]:
                done.result()
        return len(read) - before

    monkeypatch.setattr(hub, "whole_digest", reads)
    monkeypatch.setattr(hub, "NOTED", 1000)
    blob = (cached / "model.safetensors").resolve()
    assert ranks() == 1
    assert set(read) == {blob}
    assert ranks() == 0
    times, content = blob.stat().st_mtime_ns, blob.read_bytes()
    blob.write_bytes(content)
    assert ranks() == 1
    # Of the same size and time, as an accident or a copy that keeps times would leave it.
    blob.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    os.utime(blob, ns=(times, times))
    for _ in range(2):
        with pytest.raises(InputError, match="is damaged, not what the hub stated"):
            ranks()
    blob.write_bytes(content)
    # Without a place for notes each process reads for itself.
    (cached.parents[3] / "file").write_text("")
    monkeypatch.setenv("TASK_LADDER_CACHE", str(cached.parents[3] / "file"))
    assert ranks() == 4


def test_a_cached_model_is_verified_before_it_is_used(
    cached: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from evaluation.models import load_model
    from ladder.corpora import tokenizer

    monkeypatch.setattr("evaluation.models.is_out_of_reach", lambda name: True)
    monkeypatch.setattr("ladder.corpora.tokenizer.is_out_of_reach", lambda name: True)
    assert load_model("someone/model").vocabulary > 0
    blob = (cached / "tokenizer.json").resolve()
    blob.write_bytes(blob.read_bytes() + b" ")
    for load in (load_model, tokenizer.load):
        with pytest.raises(InputError, match="not what the hub stated"):
            load("someone/model")


@pytest.mark.parametrize(
    ("name", "content", "arguments"),
    [
        ("c.yaml", b"a: [", ("plan",)),
        ("c.yaml", b"\xff\xfe\x00", ("plan",)),
        ("o.csv", b"run,step\n\xff", ("predict",)),
        ("o.parquet", b"PAR1\x00\x00PAR1", ("predict",)),
        ("q.jsonl", b'{"id": ' + b"[" * 10**5, ("evaluate", "quickstart", "--tasks")),
        ("s.json", b'{"sha256": NaN}', ("audit", "o.csv", "--sealed")),
    ],
)
def test_the_command_says_one_line_and_ends_with_2(
    name: str,
    content: bytes,
    arguments: tuple[str, ...],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    assert main([*arguments, str(path)]) == 2
    said = capfd.readouterr().err
    assert said.startswith("ladder: ")
    assert said.count("\n") == 1
    assert said[:-1].isprintable()
