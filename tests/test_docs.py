"""README and docs hold: every command and Python block runs, output and links are as they say."""

from __future__ import annotations

import contextlib
import doctest
import importlib
import io
import json
import os
import re
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import true_accuracy, true_loss
from tiny_model import saved

from evaluation.records import read_observations, write_observations
from ladder.cli import main
from ladder.commands import COMMANDS
from ladder.config import load_config, parse_config
from ladder.layout import WIDTH
from ladder.runs import RunsFolder
from ladder.usage import example
from predict.laws import LAWS

ROOT = Path(__file__).parent.parent
PAGES = ["README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]

EVALUATE = "tests/ladder/test_evaluate.py::test_tasks_texts_and_limits_stand_side_by_side"
REPORT = "tests/test_slurm_real.py::test_branches_wait_for_their_trunk_and_the_report_for_all"
SLURM = "tests/test_slurm_real.py::test_a_ladder_trains_on_a_slurm_that_takes_jobs_back"
RANKS = "tests/ladder/test_parallel.py::test_two_ranks_have_the_losses_of_one"
FETCH = "tests/evaluation/test_olmes.py::test_every_task_has_the_published_number_of_items"
GRID = (
    "tests/ladder/test_grid_exponents.py::"
    "test_one_command_writes_the_exponents_of_a_grid_with_its_corpus_s_entropies"
)
SPEAKER = (
    "tests/ladder/corpora/test_sampled.py::"
    "test_a_run_of_this_project_speaks_by_its_newest_checkpoint"
)
INSTALL = ".ci/run"

ELSEWHERE = {
    # command: (why it is not run here, the test, or the script of CI, that does)
    'pip install ".[train]" -c constraints.txt && ladder run configs/quickstart.yaml': (
        "installs, trains for minutes",
        "tests/test_quickstart.py::test_the_irreducible_loss_and_the_targets_excess_are_found",
    ),
    'pip install -e ".[train,test]" -c constraints.txt && pytest': ("installs", INSTALL),
    'pip install ".[train]" -c constraints.txt': ("installs", INSTALL),
    "python -m venv ~/ladder && . ~/ladder/bin/activate": ("installs", INSTALL),
    "git clone https://github.com/allenai/OLMo-ladder": (
        "network",
        "tests/predict/test_audit.py::test_the_published_predictions_are_reproduced",
    ),
    "ladder tasks fetch": ("network", FETCH),
    "ladder evaluate MODEL --tasks paper8 --keep scores": ("needs a model and the tasks", EVALUATE),
    "ladder evaluate MODEL --tasks arc_easy_test_rc_5shot 'mmlu_*_val_mc_5shot' quiz.yaml "
    "news.txt": (
        "needs a model and the tasks",
        EVALUATE,
    ),
    "ladder evaluate MODEL --tasks quiz.jsonl": ("needs a model", EVALUATE),
    "pip install gguf accelerate && python benchmarks/smollm2.py smollm2": ("network", EVALUATE),
    "ladder evaluate smollm2 --tasks arc_easy_test_rc_5shot piqa_val_rc_5shot": (
        "needs the model, minutes",
        EVALUATE,
    ),
    "torchrun --nproc-per-node 8 --no-python ladder evaluate MODEL --tasks paper8 --dtype bfloat16 "
    "--keep scores": ("needs GPUs", EVALUATE),
    "ladder run text": (
        "trains for minutes",
        "tests/test_text_ladder.py::test_a_task_and_the_held_out_loss_are_predicted_and_audited",
    ),
    "ladder run recipes": (
        "trains for an hour",
        "tests/ladder/test_recipes.py::test_each_recipe_is_fitted_by_itself_and_all_are_compared",
    ),
    "ladder run origins-er": ("trains for long", GRID),
    "ladder run origins-ba": ("trains for long", GRID),
    "ladder report runs/origins-er": (
        "needs trained rungs",
        "tests/ladder/test_grid_exponents.py::"
        "test_a_second_command_does_nothing_and_lost_exponents_are_made_again",
    ),
    "ladder train origins-speakers": ("trains for long", SPEAKER),
    "ladder run origins-t1l": ("needs a speaker, trains for long", SPEAKER),
    "ladder items RUNS": (
        "needs trained rungs",
        "tests/ladder/test_item_margins.py::test_the_json_has_every_way_and_its_error",
    ),
    "ladder coordinates quickstart --set 'targets=[]' --set 'ladder.sizes=[7K]' "
    "--set recipe.learning_rate_base=0.04 --set recipe.parametrisation=mup "
    "--set recipe.optimizer=muon": (
        "trains",
        "tests/ladder/test_coordinates.py::test_the_command_prints_one_document_and_writes_a_figure",
    ),
    "torchrun --nproc-per-node 8 -m ladder.cli train mine.yaml --rung 1.3B-10xC --engine here": (
        "needs GPUs",
        RANKS,
    ),
    "torchrun --nproc-per-node 8 -m ladder.cli train mine.yaml --rung 91M-5xC --engine here": (
        "needs GPUs",
        RANKS,
    ),
    "ladder doctor --runs /scratch/$USER/runs": (
        "tells of this machine, which may have faults of its own",
        "tests/ladder/test_doctor.py::test_what_is_there_is_told_with_its_version",
    ),
    "ladder tokenise mine.yaml --runs /scratch/$USER/runs/mine": (
        "needs text",
        "tests/ladder/test_preparing.py::test_text_is_tokenised_once_before_anything_trains",
    ),
    "ladder train mine.yaml --engine slurm --rung 13M-1xC --runs /scratch/$USER/runs/mine": (
        "needs Slurm",
        SLURM,
    ),
    "ladder train mine.yaml --engine slurm --runs /scratch/$USER/runs/mine": ("needs Slurm", SLURM),
    "ladder report /scratch/$USER/runs/mine": ("needs trained rungs", REPORT),
}
"""Commands that this file does not run, each with the reason and what runs it, or the same verb."""

TRAINS = ("run", "train", "evaluate", "coordinates", "items")
"""Verbs whose commands take minutes, unless they are a --dry-run."""

STANDS_FOR = {
    "allocate": {"OBS": "obs.parquet"},
    "exponents": {"OBS": "grid.parquet"},
}
"""What the placeholder of a verb's commands stands for."""

HERE = ("/scratch/$USER", "scratch")
"""The folder of a cluster's user, and what it is called here."""


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    language: str
    text: str
    line: int
    file: str | None
    """What it is kept as: named by a comment above it, `<!-- file: mine.yaml -->`."""

    @property
    def commands(self) -> list[str]:
        """Its shell commands, a line each, comments and continuations resolved."""
        lines = re.sub(r"\\\n", " ", self.text).splitlines()
        bare = [re.split(r"(?:^|\s)#\s", line)[0] for line in lines]
        return [" ".join(line.split()) for line in bare if line.strip()]


def blocks(page: str) -> list[Block]:
    """Every fenced block of a page; indented lines that begin with `ladder` are shell too."""
    found, inside, start, file = [], None, 0, None
    kept: list[str] = []
    for number, line in enumerate((ROOT / page).read_text(encoding="utf-8").splitlines(), 1):
        fence = re.match(r"```(\w*)$", line)
        if fence and inside is None:
            inside, start, kept = fence[1], number, []
        elif fence:
            found.append(Block(inside or "", "\n".join(kept) + "\n", start, file))
            inside, file = None, None
        elif inside is not None:
            kept.append(line)
        elif named := re.match(r"<!-- file: (\S+) -->$", line):
            file = named[1]
        elif line.startswith("    ladder "):
            found.append(Block("sh", re.split(r"\s{2,}", line.strip())[0], number, None))
    return found


def all_commands(page: str) -> list[str]:
    return [c for block in blocks(page) if block.language == "sh" for c in block.commands]


def rows_of(
    run: str,
    role: str,
    params: float,
    tokens: float,
    task: str,
    evaluations: int = 12,
    until: float = 1.0,
    off: float = 1.0,
) -> list[dict]:
    """A run of the synthetic ladder whose checkpoints stand above its end, with a little noise."""
    random = np.random.default_rng([*task.encode(), int(params) % 2**31, int(tokens) % 2**31])
    rows = []
    for step in range(1, evaluations + 1):
        share = step / evaluations
        if share > until:
            break
        clean = off * true_loss(params, share * tokens) * (1 + 0.05 * (1 - share))
        row = {
            "run": run,
            "role": role,
            "params": params,
            "tokens": share * tokens,
            "step": step,
            "final": step == evaluations,
            "task": task,
            "loss": clean * np.exp(0.003 * random.normal()),
            "loss_unit": "bits/byte",
        }
        if not task.startswith("c4"):
            accuracy = true_accuracy(clean) + 0.004 * random.normal()
            row |= {"accuracy": min(accuracy, 1), "chance": 0.25, "instances": 2000}
        else:
            row["loss_unit"] = "nats/token"
        rows.append(row)
    return rows


SIZES = {"190M": 190_354_176, "370M": 371_262_464, "760M": 758_220_288, "1B": 1_279_395_840}
LADDER = [
    (f"{s}-{m}xC", "ladder", n, 20.0 * n * m) for s, n in SIZES.items() for m in (1, 2, 5, 10)
]
BIG = ("7B-4T", "target", 6_887_575_552, 3.945e12)


def table(runs: list[tuple], tasks: tuple[str, ...], **options: float) -> pd.DataFrame:
    return pd.DataFrame(
        [row for run in runs for task in tasks for row in rows_of(*run, task, **options)]
    )


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that the pages' commands name."""
    folder = tmp_path_factory.mktemp("docs")
    tasks = ("arc_easy_test_rc_5shot", "c4_en-validation")
    larger = [(f"3B-{m}xC", "extra", 3_169_537_280, 20.0 * m * 3_169_537_280) for m in (1, 10)]
    flight = pd.DataFrame(
        [
            row
            for task in tasks
            for row in rows_of("7B-4T-stage1", "extra", BIG[2], 5e12, task, 24, until=0.5)
        ]
    )
    whole = pd.concat([table([*LADDER, *larger, BIG], tasks), flight], ignore_index=True)
    whole["flops"] = 6.3 * whole["params"] * whole["tokens"]
    write_observations(whole, folder / "obs.parquet")
    mine = table(LADDER, ("arc_easy",), evaluations=6)
    write_observations(mine, folder / "mine.csv")
    with_target = pd.concat([mine, table([BIG], ("arc_easy",), evaluations=6)], ignore_index=True)
    write_observations(with_target, folder / "with-7B.csv")
    theirs = with_target.rename(columns={"run": "model", "params": "N"})
    theirs["arc_bpb"], theirs["arc_acc"] = theirs["loss"], 100 * theirs["accuracy"]
    theirs[["model", "N", "tokens", "step", "arc_bpb", "arc_acc"]].to_csv(
        folder / "theirs.csv", index=False
    )
    for name, off in (("adamw", 1.0), ("muon", 0.99)):
        one = table([*LADDER, BIG], ("arc_easy",), evaluations=6, off=off)
        write_observations(one.assign(recipe=name), folder / f"{name}.parquet")
    recipes = pd.concat(
        [
            read_observations(folder / f"{n}.parquet").assign(run=lambda t, n=n: t["run"] + f"-{n}")
            for n in ("adamw", "muon")
        ],
        ignore_index=True,
    )
    write_observations(recipes, folder / "runs.parquet")
    for letter, name in (("A", "adamw"), ("B", "muon")):
        shutil.copy(folder / f"{name}.parquet", folder / f"{letter}.parquet")
    grid = [
        (f"{n:.1g}-{d:.1g}", "ladder", n, d)
        for n in (1e8, 2e8, 4e8, 8e8)
        for d in (2e9, 4e9, 8e9, 1.6e10)
    ]
    losses = table(grid, ("c4_en-validation",), evaluations=1, off=3)
    write_observations(losses, folder / "grid.parquet")
    config = next(b for b in blocks("docs/cluster.md") if b.file == "mine.yaml")
    (folder / "mine.yaml").write_text(config.text, encoding="utf-8")
    _charts(folder / "charts")
    _lm_eval(folder / "results")
    runs = RunsFolder(folder / "scratch" / "runs" / "mine")
    runs.prepare(load_config("quickstart"))
    clusters = [
        (f"{size}-{m}xC", "ladder", n, 20.0 * n * m)
        for size, n in (("13M", 12_544_320), ("32M", 32_391_936), ("91M", 91_263_744))
        for m in (1, 2, 5)
    ]
    clusters.append(("1.3B-200B", "target", 1_090_652_160, 2e11))
    write_observations(table(clusters, ("arc_easy",)), runs.path / "observations.parquet")
    return folder


def _charts(folder: Path) -> None:
    folder.mkdir()
    for metric, values in (("arc_bpb", (1.2, 1.1)), ("arc_acc", (0.35, 0.4))):
        names = [f"{run} - eval/{metric}" for run in ("190M-1xC", "190M-2xC")]
        lines = [f"{step},{v},{v - 0.02}" for step, v in zip((100, 200), values, strict=True)]
        quoted = ",".join(f'"{name}"' for name in names)
        (folder / f"{metric}.csv").write_text("\n".join([f"Step,{quoted}", *lines]) + "\n")


def _lm_eval(folder: Path) -> None:
    """What lm-eval wrote of 190M-1xC, and the same under the name of 7B-4T."""
    shutil.copytree(ROOT / "tests/data/lm_eval", folder)
    for old in list(folder.iterdir()):
        new = folder / old.name.replace("190M-1xC", "7B-4T")
        shutil.copytree(old, new)
        for file in new.glob("results_*.json"):
            file.write_text(file.read_text("utf-8").replace("190M-1xC", "7B-4T"), encoding="utf-8")


@pytest.fixture
def place(workshop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of one's own with those files; what is printed is as wide whatever the screen."""
    folder = tmp_path / "here"
    shutil.copytree(workshop, folder)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLUMNS", "200")
    laws = dict(LAWS)
    yield folder
    # A page registers a law, which other tests need not know.
    LAWS.clear()
    LAWS.update(laws)


def run(command: str, page: str) -> str:
    """Run a command of a page in this process; what it printed."""
    words = [
        STANDS_FOR.get(command.split()[1], {}).get(word, word.replace(*HERE))
        for word in shlex.split(command)
    ]
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main(words[1:])
    assert status == 0, f"{page}: {command}: {err.getvalue()}"
    assert out.getvalue() or err.getvalue(), f"{page}: {command}: prints nothing"
    if not {"--json", "--dry-run"} & set(words):
        wide = [line for line in out.getvalue().splitlines() if len(line) > WIDTH]
        assert not wide, f"{page}: {command}: {wide[0]!r} is wider than {WIDTH} columns"
    return out.getvalue()


def in_order(words: list[str], text: list[str]) -> str | None:
    """The first of the words that the text does not have behind those before it."""
    rest = iter(text)
    return next((word for word in words if word not in rest), None)


@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_tells_to_type_works_from_top_to_bottom(
    page: str, place: Path, olmo_logs: Path | None
) -> None:
    if olmo_logs:
        (place / "OLMo-ladder").symlink_to(olmo_logs)
    names: dict[str, object] = {"__name__": "page"}
    printed = ""
    for block in blocks(page):
        where = f"{page}, line {block.line}"
        if block.file:
            (place / block.file).write_text(block.text, encoding="utf-8")
        if block.language == "python":
            said = io.StringIO()
            with contextlib.redirect_stdout(said):
                exec(compile(block.text, where, "exec"), names)
        elif block.language == "sh":
            for command in block.commands:
                if command in ELSEWHERE:
                    continue
                assert command.startswith("ladder "), (
                    f"{where}: {command!r}: is no ladder command; name in ELSEWHERE what runs it"
                )
                assert command.split()[1] not in TRAINS or "--dry-run" in command, (
                    f"{where}: {command!r}: takes long; name in ELSEWHERE what runs it"
                )
                if "olmo-ladder" in command:
                    if olmo_logs:
                        run(command.replace("obs.parquet", "olmo.parquet"), page)
                    continue
                printed = run(command, page)
        elif block.language == "text":
            missing = in_order(block.text.split(), printed.split())
            assert missing is None, (
                f"{where}: {missing!r} is not what the command prints:\n{printed}"
            )
        elif block.language == "console" and olmo_logs:
            command, _, shown = block.text.removeprefix("$ ").partition("\n")
            printed = run(command.replace("obs.parquet", "olmo.parquet"), page)
            kept = [word for word in shown.split() if word != "..."]
            missing = in_order(kept, printed.split())
            assert missing is None, f"{where}: {missing!r} is not printed:\n{printed}"
        elif block.language == "json":
            for line in block.text.splitlines():
                json.loads(line)
        elif block.language == "yaml":
            document = yaml.safe_load(block.text)
            if {"name", "corpus", "model"} <= set(document):
                parse_config(document, where)


@pytest.fixture
def olmo_logs(request: pytest.FixtureRequest) -> Path | None:
    """The published logs where a machine has them, which CI must."""
    try:
        return request.getfixturevalue("olmo_ladder")
    except pytest.skip.Exception:
        return None


def test_commands_that_run_elsewhere_are_on_a_page_and_their_tests_exist() -> None:
    written = {command for page in PAGES for command in all_commands(page)}
    assert not set(ELSEWHERE) - written
    for command, (reason, place) in ELSEWHERE.items():
        file, _, test = place.partition("::")
        assert reason, command
        assert f"def {test}(" in (ROOT / file).read_text() if test else (ROOT / file).is_file(), (
            place
        )


BY_HAND = {
    "run": "ladder run quickstart --runs runs/mine",
    "train": "ladder train quickstart --rung '3K-*'",
    "scales": "ladder scales runs/recipes",
    "coordinates": "ladder coordinates quickstart --set recipe.parametrisation=mup",
    "doctor": "ladder doctor --runs /scratch/me/runs",
    "items": "ladder items runs/quickstart",
    "completion": "ladder completion bash > ~/.local/share/bash-completion/completions/ladder",
}
"""Examples of helps that no page has; each verb's own tests run their like."""


@pytest.mark.parametrize("verb", COMMANDS)
def test_the_example_of_a_commands_help_works(verb: str, place: Path) -> None:
    shown = example(COMMANDS[verb])
    written = {command for page in PAGES for command in all_commands(page)}
    if shown not in written and BY_HAND.get(verb) != shown:
        run(shown.replace("runs/quickstart", "scratch/runs/mine"), f"ladder {verb} --help")


INLINE = re.compile(r"`(ladder [^`]+)`")


@pytest.mark.parametrize("page", PAGES)
def test_commands_within_a_sentence_have_verbs_and_options_that_exist(page: str) -> None:
    text = re.sub(r"```.*?```", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.DOTALL)
    for found in INLINE.findall(text):
        words = found.replace("\n", " ").replace("\\|", "|").split()
        verb = words[1]
        if verb == "COMMAND":
            continue
        assert verb in COMMANDS, f"{page}: `{found}`"
        options = [re.match(r"--[a-z0-9-]+", word) for word in words]
        wanted = {option[0] for option in options if option}
        if wanted:
            assert wanted <= options_of(verb), f"{page}: `{found}`"


def test_the_readme_lists_every_command_and_tells_which_take_json() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    start = readme.index("| command | what it does |")
    listed = re.findall(r"`ladder (\w+)", readme[start : readme.index("## Gallery")])
    assert set(COMMANDS) <= set(listed)
    without = re.search(r"All but ([^.]+) take `--json`", readme)
    assert without
    assert set(re.findall(r"`(\w+)`", without[1])) == {
        verb for verb in COMMANDS if "--json" not in options_of(verb)
    }


def options_of(verb: str) -> set[str]:
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        assert main([verb, "--help"]) == 0
    return set(re.findall(r"--[a-z0-9-]+", said.getvalue()))


def anchors(page: str) -> set[str]:
    """What a page's headings are called in links to them, as GitHub does it."""
    found: set[str] = set()
    text = re.sub(r"```.*?```", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.DOTALL)
    for heading in re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE):
        bare = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        count = 0
        while (name := f"{bare}-{count}" if count else bare) in found:
            count += 1
        found.add(name)
    return found


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files_and_headings_that_exist(page: str) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", (ROOT / page).read_text(encoding="utf-8")):
        if re.match(r"https?://", target):
            continue
        path, _, anchor = target.partition("#")
        file = (ROOT / page).parent / path if path else ROOT / page
        assert file.exists(), f"{page}: {target}"
        if anchor:
            assert anchor in anchors(os.path.relpath(file, ROOT)), f"{page}: {target}"


def test_every_page_is_linked_from_the_readme() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [page for page in PAGES[1:] if f"]({page}" not in readme] == []


@pytest.mark.parametrize("page", PAGES)
def test_files_of_the_repository_that_a_page_names_exist(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    named = r"`(?:python )?((?:benchmarks|tests|ladder|predict|evaluation|configs)/[\w/.-]+\.\w+)"
    assert [path for path in re.findall(named, text) if not (ROOT / path).exists()] == []


DOCUMENTED = (
    *("predict.two_stage", "predict.audit", "predict.backtest", "predict.fit", "predict.watch"),
    *("evaluation.records", "evaluation.metrics", "evaluation.plain"),
)
"""Modules of the Python API whose docstrings have examples."""


@pytest.mark.parametrize("name", DOCUMENTED)
def test_the_examples_of_docstrings_print_what_they_say(name: str, place: Path) -> None:
    found = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    assert found.attempted
    assert not found.failed


def test_every_module_with_an_example_is_among_those_that_run() -> None:
    folders = ("evaluation", "predict", "ladder")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    with_examples = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in files
        if re.search(r"^\s*>>> ", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert with_examples == set(DOCUMENTED)


def test_the_sessions_of_a_page_print_what_they_say(place: Path) -> None:
    saved(place / "my-model")
    asked = 0
    for page in PAGES:
        session = "\n".join(block.text for block in blocks(page) if block.language == "pycon")
        examples = doctest.DocTestParser().get_doctest(session, {}, page, page, 0)
        runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
        assert not runner.run(examples).failed, page
        asked += len(examples.examples)
    assert asked > 40
