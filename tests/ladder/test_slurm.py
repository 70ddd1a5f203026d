"""Slurm's scripts as text: what the section cluster says of them, and what they refuse."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest

from evaluation.files import InputError
from ladder import slurm
from ladder.cli import main
from ladder.config import differences, load_config
from ladder.plan import make_plan
from ladder.runs import RunsFolder
from ladder.settings import limit_seconds


def scripts(config: Path, path: Path, *sets: str) -> dict[str, str]:
    experiment = load_config(str(config), sets)
    return slurm.scripts(experiment, make_plan(experiment), (), RunsFolder(path))


def options(script: str) -> dict[str, str]:
    """The #SBATCH lines, read as a shell would."""
    lines = [line[8:] for line in script.splitlines() if line.startswith("#SBATCH ")]
    pairs = [" ".join(shlex.split(line)).removeprefix("--").partition("=") for line in lines]
    return {key: value for key, _, value in pairs}


def test_a_script_says_what_the_cluster_section_says(tiny_config: Path, tmp_path: Path) -> None:
    script = scripts(
        tiny_config,
        tmp_path / "runs",
        'cluster={partition: big, account: me, qos: low, constraint: "a&b", time: "2-00:30:00", '
        "cpus: 4, memory: 64G, signal_seconds: 120, extra: [--mail-type=FAIL], "
        "setup: [module load cuda, source venv/bin/activate], python: /opt/python}",
    )["a-1xC"]
    assert options(script) == {
        "job-name": "tiny.a-1xC",
        "partition": "big",
        "account": "me",
        "qos": "low",
        "constraint": "a&b",
        "time": "2-00:30:00",
        "nodes": "1",
        "ntasks-per-node": "1",
        "cpus-per-task": "4",
        "mem": "64G",
        "open-mode": "append",
        "requeue": "",
        "signal": "B:USR1@120",
        "output": f"{tmp_path}/runs/a-1xC/slurm-%j.out",
        "mail-type": "FAIL",
    }
    runs = tmp_path / "runs"
    train = f"train {runs}/config.yaml --rung a-1xC --runs {runs} --engine here &\n"
    assert f"\n/opt/python -P -m ladder.cli {train}" in script
    assert script.index("module load cuda\n") < script.index("source venv") < script.index(train)
    assert "srun" not in script
    assert '[ "$status" -eq 85 ]' in script


def test_a_bare_config_asks_for_one_node_and_nothing_else(
    tiny_config: Path, tmp_path: Path
) -> None:
    found = options(scripts(tiny_config, tmp_path)["a-1xC"])
    assert set(found) == {
        "job-name",
        "nodes",
        "ntasks-per-node",
        "open-mode",
        "requeue",
        "signal",
        "output",
    }


def test_a_size_overrides_what_it_names(tiny_config: Path, tmp_path: Path) -> None:
    found = scripts(
        tiny_config,
        tmp_path,
        'cluster={gpus: 1, cpus: 6, time: "60", sizes: {big: {nodes: 2, gpus: 4, time: "1-0"}}}',
    )
    assert options(found["c-4xC"])["gpus-per-node"] == "1"
    assert "srun" not in found["c-4xC"]
    big = options(found["big-4xC"])
    asked = {k: big[k] for k in ("nodes", "gpus-per-node", "ntasks-per-node", "time")}
    assert asked == {"nodes": "2", "gpus-per-node": "4", "ntasks-per-node": "4", "time": "1-0"}
    assert big["cpus-per-task"] == "6"
    assert "srun --nodes=2 --ntasks-per-node=4 --cpus-per-task=6 " in found["big-4xC"]
    assert "export WORLD_SIZE=8 LOCAL_WORLD_SIZE=4\n" in found["big-4xC"]


def test_the_costliest_is_first_and_the_report_last(tiny_config: Path, tmp_path: Path) -> None:
    experiment = load_config(str(tiny_config))
    flops = {r.name: r.flops for r in make_plan(experiment).runs}
    names = list(scripts(tiny_config, tmp_path))
    assert names == [*sorted(flops, key=lambda name: -flops[name]), "report"]
    report = scripts(tiny_config, tmp_path)["report"]
    commands = [line for line in report.splitlines() if line and line[0] != "#"]
    assert [line.split()[4:] for line in commands] == [
        ["status", str(tmp_path)],
        ["report", str(tmp_path)],
    ]
    assert "gpus-per-node" not in options(report)


@pytest.mark.parametrize("name", ["; touch pwned", "$(touch pwned)", "a'b\"c `id` #d %j é"])
def test_a_folder_with_a_wicked_name_is_only_a_name(
    tiny_config: Path, tmp_path: Path, name: str
) -> None:
    """Bash runs the real script, with stand-ins for Python and Slurm's commands."""
    runs = tmp_path / name
    recorder = tmp_path / "python"
    recorder.write_text(f'#!/bin/bash\nprintf "%s\\n" "$@" >{tmp_path}/said\n')
    recorder.chmod(0o755)
    for rung, more in (("a-1xC", ["--rung", "a-1xC"]), ("report", [])):
        script = scripts(tiny_config, runs, f"cluster.python={recorder}")[rung]
        subprocess.run(["bash", "-c", script], cwd=tmp_path, check=True)
        said = (tmp_path / "said").read_text().splitlines()
        assert set(more) <= set(said)
        assert str(runs) in said
        assert not (tmp_path / "pwned").exists()
        output = options(script)["output"]
        assert (
            output.replace("%%", "\0").replace("%j", "7").replace("\0", "%").startswith(str(runs))
        )


def test_a_folder_that_slurm_would_read_otherwise_is_refused(
    tiny_config: Path, tmp_path: Path
) -> None:
    for name in ("a\nb", "a\\b"):
        with pytest.raises(InputError, match="no backslash, tab or line break"):
            scripts(tiny_config, tmp_path / name)


def test_more_processes_than_sequences_are_refused(tiny_config: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="8 processes are more than the 7 sequences of a batch"):
        scripts(tiny_config, tmp_path, "cluster={nodes: 2, gpus: 4}")


def test_a_dry_run_prints_and_writes_nothing(
    tiny_config: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "/nowhere")
    before = sorted(tmp_path.rglob("*"))
    assert main(["train", str(tiny_config), "--engine", "slurm", "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert said.count("#!/bin/bash") == 11
    assert "--dependency=afterany:<big-4xC>:<c-4xC>:" in said
    assert main(["train", str(tiny_config), "--dry-run"]) == 0
    assert sorted(tmp_path.rglob("*")) == before
    assert main(["train", str(tiny_config), "--engine", "here", "--workers", "2"]) == 2


def test_the_cluster_makes_no_other_experiment(tiny_config: Path) -> None:
    one, other = (load_config(str(tiny_config), (f"cluster.nodes={n}",)) for n in (1, 2))
    assert differences(one, other) == []


@pytest.mark.parametrize(
    ("limit", "seconds"),
    [("90", 5400), ("1:30", 90), ("1:00:00", 3600), ("2-3", 183600), ("1-0:0:1", 86401)],
)
def test_time_limits_read_as_slurm_reads_them(limit: str, seconds: int) -> None:
    assert limit_seconds(limit) == seconds


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("cluster.time=1:30:00", "must be quoted"),
        ("cluster.time=soon", "must be minutes"),
        ("cluster={time: '4', signal_seconds: 300}", "no longer than signal_seconds"),
        ("cluster={sizes: {a: {time: '5'}}}", "no longer than signal_seconds"),
        ("cluster={sizes: {nobody: {nodes: 2}}}", "nobody"),
        ('cluster={partition: "a\\nb"}', "partition"),
        ('cluster={extra: ["--a\\nrm"]}', "extra"),
        ("cluster={extra: [rm]}", "extra"),
        ("cluster={partitoin: a}", "did you mean 'partition'?"),
    ],
)
def test_a_mistake_in_the_section_is_named(tiny_config: Path, setting: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        load_config(str(tiny_config), (setting,))
