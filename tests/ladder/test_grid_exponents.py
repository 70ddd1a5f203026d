"""A ladder that is a grid: its exponents are written, told, reported and compared with others'."""

from __future__ import annotations

import html
import json
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from evaluation.records import read_observations, validate
from ladder import report_context
from ladder.cli import main
from ladder.config import load_config
from ladder.corpora import open_corpus
from ladder.grid_exponents import (
    KEPT,
    GridExponents,
    Known,
    grid_exponents,
    is_grid,
    known_of,
    ratio,
    read_others,
)
from ladder.pipeline import analyse
from ladder.plan import make_plan
from ladder.report import write_report
from ladder.runs import RunsFolder
from predict import TwoStage
from predict.exponents import exponents

ENTROPY = 2.1


@pytest.fixture(scope="module")
def grid_config(tiny_config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four sizes on four token counts of walks over a graph of 12 nodes."""
    document = yaml.safe_load(tiny_config.read_text())
    document["name"] = "grid"
    document["corpus"] = {
        "kind": "graph",
        "erdos_renyi": {"nodes": 12, "edges": 24},
        "kappa": 1.0,
        "validation_walks": 64,
    }
    sizes = {name: {"layers": 1, "heads": 1, "width": w, "hidden": 2 * w} for name, w in SIZES}
    document["model"]["sizes"] = sizes
    document["ladder"] = {"sizes": [*sizes], "tokens": [2_000, 4_000, 8_000, 16_000]}
    document["targets"] = []
    document["evaluation"] = {"at": [0.9]}
    document["recipe"]["batch_divisor"] = 8
    path = tmp_path_factory.mktemp("config") / "grid.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


SIZES = (("a", 4), ("b", 6), ("c", 8), ("d", 12))


@pytest.fixture(scope="module")
def runs(grid_config: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """The runs folder of `ladder run` on the grid, and what it printed."""
    import contextlib
    import io

    folder = tmp_path_factory.mktemp("runs") / "grid"
    said = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(said):
        patch.setattr(report_context, "MOST_REFITS", 0)
        assert main(["run", str(grid_config), "--runs", str(folder), "--workers", "1"]) == 0
    return folder, said.getvalue().splitlines()


def law(params: float, tokens: float) -> float:
    return ENTROPY + 0.4 * (params / 9e3) ** -1.0 + 0.5 * (tokens / 5e5) ** -0.75


def table(loss: object = law, noise: float = 0.002) -> pd.DataFrame:
    """A grid of seven sizes and five token counts that follows a law."""
    rng, rows = np.random.default_rng(0), []
    for params in (9e3, 14e3, 19e3, 25e3, 31e3, 44e3, 76e3):
        for tokens in (5e5, 1e6, 2e6, 4e6, 8e6):
            rows.append(
                {
                    "run": f"{params:g}-{tokens:g}",
                    "role": "ladder",
                    "params": params,
                    "tokens": tokens,
                    "step": 1,
                    "final": True,
                    "task": "held_out",
                    "loss": loss(params, tokens) * np.exp(noise * rng.standard_normal()),
                    "loss_unit": "nats/token",
                    "accuracy": np.nan,
                    "chance": np.nan,
                    "instances": 9,
                }
            )
    return validate(pd.DataFrame(rows))


def slices_only(observations: pd.DataFrame, **more: object) -> GridExponents:
    """The exponents without surfaces, which take most of the time."""
    found = exponents(observations, task="held_out", surrogates=False, replicates=50)
    return GridExponents("mine", "mine", Known(ENTROPY), found, **more)


def report(known: GridExponents, observations: pd.DataFrame, path: Path) -> str:
    """The report's words without its figures."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report_context, "MOST_REFITS", 0)
        result = analyse(TwoStage("published"), observations)
        write_report(replace(result, exponents=known), observations, "title", path)
    text = re.sub(r"<svg.*?</svg>", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", text)))


def point(folder: Path, corpus: object, rate: object, alpha: object = 1.0) -> None:
    """The file that a run on another corpus leaves, as far as it is read."""
    folder.mkdir(parents=True)
    mean = {"name": "alpha_D", "mean": alpha, "sd": 0.1, "slices": 4}
    document = {"version": 1, "corpus": corpus, "entropy_rate": rate, "means": [mean]}
    (folder / KEPT).write_text(json.dumps(document))


def test_a_grid_is_four_sizes_that_share_four_token_counts(
    grid_config: Path, tiny_config: Path
) -> None:
    path = str(grid_config)
    assert is_grid(make_plan(load_config(path)).rungs)
    assert not is_grid(make_plan(load_config(path, ("ladder.sizes=[a, b, c]",))).rungs)
    few = ("ladder.tokens=[2000, 4000, 8000]",)
    assert not is_grid(make_plan(load_config(path, few)).rungs)
    # Multiples of their own size are no common token counts.
    assert not is_grid(make_plan(load_config(str(tiny_config))).rungs)
    assert not is_grid(make_plan(load_config("quickstart")).rungs)
    assert not is_grid(make_plan(load_config("origins-speakers")).rungs)
    assert not is_grid(())
    for name in (
        "walks",
        "er",
        "er-wide",
        "er-biased",
        "ba",
        "bigram",
        "er-8k",
        "t1l",
        "t2l",
        "t4l",
    ):
        assert is_grid(_plan_without_speaker(f"origins-{name}"))


def _plan_without_speaker(name: str) -> tuple:
    """The rungs of a config, a speaker that has not been trained replaced by a graph."""
    document = yaml.safe_load(Path(load_path(name)).read_text())
    graph = "corpus={kind: graph, erdos_renyi: {nodes: 12, edges: 24}}"
    sets = (graph,) if document["corpus"]["kind"] in ("sampled", "ngram") else ()
    return make_plan(load_config(name, sets)).rungs


def load_path(name: str) -> Path:
    return Path(__file__).parents[2] / "configs" / f"{name}.yaml"


def test_one_command_writes_the_exponents_of_a_grid_with_its_corpus_s_entropies(
    runs: tuple[Path, list[str]],
) -> None:
    folder, said = runs
    document = json.loads((folder / KEPT).read_text())
    corpus = open_corpus(load_config(str(folder / "config.yaml")).corpus, folder / "corpus")
    exact = corpus.exact(16)
    assert document["corpus"] == "grid"
    assert document["entropy_rate"] == document["entropy"]["value"] == exact.entropy_rate
    assert document["entropy_se"] is None
    assert document["unigram_entropy"] == exact.unigram_entropy
    assert document["bigram_entropy"] == exact.bigram_entropy
    assert document["task"] == "graph_validation"
    assert document["points"] == 16
    assert [s["variable"] for s in document["slices"]] == ["params"] * 4 + ["tokens"] * 4
    # Lines are wrapped where the terminal ends.
    told = " ".join(" ".join(said).split())
    for mean in document["means"]:
        line = f"{mean['name']} {mean['mean']:.3f}"
        spread = "" if mean["sd"] is None else f" +- {mean['sd']:.3f}"
        slices = f"over {mean['slices']} slices; MSE of an exponential over a power law's "
        assert f"{line}{spread} {slices}" in told
    assert "floor of the law of N and D" in told
    assert f"the entropy {exact.entropy_rate:.4f} nats/token" in told
    table = read_observations(folder / "observations.parquet")
    assert (table.loc[table["final"], "loss"] > exact.entropy_rate).all()


def test_the_report_has_slices_surfaces_the_entropy_and_its_only_corpus(
    runs: tuple[Path, list[str]],
) -> None:
    folder, _ = runs
    text = html.unescape((folder / "report.html").read_text())
    for title in ("Exponents", "Slices", "Surfaces of N and D", "Losses and the entropy"):
        assert re.search(rf"<h\d[^>]*>{title}", text), title
    assert "Only this corpus: no folder beside this one" in text
    assert "L(N), D = 16" in text
    assert "L(D), N = " in text
    assert {"exponents-slices.svg", "exponents-entropy.png"} <= {
        p.name for p in (folder / "figures").iterdir()
    }


def test_a_second_command_does_nothing_and_lost_exponents_are_made_again(
    runs: tuple[Path, list[str]], grid_config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, _ = runs
    plan, before = make_plan(load_config(str(grid_config))), (folder / KEPT).read_bytes()
    assert RunsFolder(folder).is_complete(plan)
    assert main(["run", str(grid_config), "--runs", str(folder)]) == 0
    assert "nothing to do: 16 of 16" in capsys.readouterr().err
    (folder / KEPT).write_text("{}")
    assert not RunsFolder(folder).is_complete(plan)
    (folder / KEPT).unlink()
    assert not RunsFolder(folder).is_complete(plan)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report_context, "MOST_REFITS", 0)
        assert main(["report", str(folder)]) == 0
    assert (folder / KEPT).read_bytes() == before
    assert RunsFolder(folder).is_complete(plan)


def test_the_law_that_made_the_losses_is_the_one_that_won(tmp_path: Path) -> None:
    made = table()
    text = report(slices_only(made), made, tmp_path / "power.html")
    assert "L(N) at a fixed D: the power law fits better, " in text
    assert "L(D) at a fixed N: the power law fits better, " in text
    assert "the test rules the exponential out in 7 and the power law in 0" in text
    assert "no exponent of the losses" not in text

    def other(params: float, tokens: float) -> float:
        return ENTROPY + 0.4 * math.exp(-params / 3e4) + 0.5 * math.exp(-tokens / 3e6)

    made = table(other)
    known = slices_only(made)
    text = report(known, made, tmp_path / "exponential.html")
    assert "L(N) at a fixed D: the exponential fits better, " in text
    assert "L(D) at a fixed N: the exponential fits better, " in text
    ratios = [mean.mse_ratio for mean in known.found.slices.means]
    assert max(ratios) < 0.5
    assert f"the exponential fits better, {1 / ratios[0]:.3g} times less" in text
    assert "from the paper's 1.028 +- 0.129" in text
    assert f"the MSE ratio {ratios[0]:.3g} is below the paper's 5 to 10" in text
    out = known.found.slices.means[1].verdicts["exponential"]
    assert out > 3
    assert f"out in {out} of 7, so that this is no exponent of the losses" in text


def test_the_held_out_point_has_an_interval_that_says_whether_it_leads(tmp_path: Path) -> None:
    made = table(noise=1e-4)
    known = slices_only(made)
    text = report(known, made, tmp_path / "sure.html")
    size, data = known.found.slices.means
    assert size.held_out_lower > 1
    said = f"squared error is {ratio(size.held_out_ratio)} times less (95% "
    assert f"the power law's {said}{ratio(size.held_out_lower)} to " in text
    ends = [s.fit.exponent for s in known.found.slices.slices if s.variable == "params"]
    held = sum(end.lower <= 1.028 <= end.upper for end in ends)
    assert f"the 95% of {held} of 5 slices holds the paper's" in text
    unsure = replace(size, held_out_ratio=2.0, held_out_lower=0.5, held_out_upper=8.0)
    slices = replace(known.found.slices, means=(unsure, data))
    known = replace(known, found=replace(known.found, slices=slices))
    text = report(known, made, tmp_path / "unsure.html")
    assert "is 2 times less, no clear lead: 95% of the ratio 0.5 to 8." in text


def test_exponents_against_entropy_are_those_of_the_folders_beside(tmp_path: Path) -> None:
    made = table()
    point(tmp_path / "low", "origins-ba", 1.5, 0.7)
    point(tmp_path / "high", "<b>evil</b>\x00\u202e", 3.5, 1.4)
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / KEPT).write_text("{")
    others, left_out = read_others(tmp_path / "mine")
    assert [(p.corpus, p.folder, p.entropy_rate) for p in others] == [
        ("origins-ba", "low", 1.5),
        ("<b>evil</b>\ufffd\ufffd", "high", 3.5),
    ]
    known = slices_only(made, others=others, left_out=left_out)
    text = report(known, made, tmp_path / "x.html")
    assert "Read beside this folder: low, high." in text
    assert "origins-ba low 1.5000 0.700 0.100" in text
    mean = known.found.slices.means[0]
    assert f"mine mine 2.1000 {mean.mean:.3f} {mean.sd:.3f}" in text
    assert f"left out: foreign/{KEPT}: not readable as JSON" in text
    page = (tmp_path / "x.html").read_text()
    assert [part for part in ("<b>evil", "\x00", "\u202e") if part in page] == []


def test_a_folder_s_own_file_is_not_read_as_another_s(tmp_path: Path) -> None:
    point(tmp_path / "mine", "mine", 1.5)
    point(tmp_path / "other", "other", 2.5)
    (tmp_path / "again").symlink_to(tmp_path / "mine")
    assert [p.corpus for p in read_others(tmp_path / "mine")[0]] == ["other"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "not readable as JSON"),
        ("[" * 100_000, "not readable"),
        ("[]", "not written by `ladder run` on a grid"),
        ('{"version": 1, "means": []}', "not written by `ladder run` on a grid"),
        ('{"version": 2, "corpus": "x", "entropy_rate": 1}', "not written by `ladder run`"),
        ('{"version": 1, "corpus": "x", "entropy_rate": true}', "not written by `ladder run`"),
        ('{"version": 1, "corpus": "x", "entropy_rate": NaN}', "not written by `ladder run`"),
        (
            '{"version": 1, "corpus": "x", "entropy_rate": 1' + "0" * 400 + "}",
            "not written by `ladder run`",
        ),
        ('{"version": 1, "corpus": "x", "entropy_rate": null}', "entropy of x is not known"),
        ('{"version": 1, "corpus": "x", "entropy_rate": 1, "means": []}', "has no mean exponent"),
        (
            '{"version": 1, "corpus": "x", "entropy_rate": 1, "means": [{"name": "alpha_D", '
            '"mean": "1", "sd": null, "slices": 3}]}',
            "not written by `ladder run`",
        ),
        (
            '{"version": 1, "corpus": "x", "entropy_rate": 1, "means": [{"name": ["alpha_D"]}]}',
            "not written by `ladder run`",
        ),
    ],
    ids=[
        "cut off",
        "too deep",
        "a list",
        "of ladder exponents",
        "of another version",
        "rate true",
        "rate NaN",
        "rate huge",
        "rate null",
        "no means",
        "mean as text",
        "name as a list",
    ],
)
def test_foreign_files_are_left_out_with_a_line(tmp_path: Path, content: str, reason: str) -> None:
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / KEPT).write_text(content)
    (tmp_path / "folder" / KEPT).mkdir(parents=True)
    points, left_out = read_others(tmp_path / "mine")
    assert points == ()
    assert [line.partition(": ")[0] for line in left_out] == [
        f"folder/{KEPT}",
        f"foreign/{KEPT}",
    ]
    assert reason in left_out[1]


def test_too_few_runs_tell_why_there_are_no_exponents(tmp_path: Path) -> None:
    made = table().query("run == '9000-1e+06' or params == 14000.0 and tokens < 4e6")
    known = grid_exponents(made, "held_out", "mine", tmp_path / "mine", Known(ENTROPY))
    assert known.found is None
    assert known.own is None
    assert "train a grid" in known.reason
    assert known.lines() == [f"no exponents: {known.reason}"]


def test_losses_that_do_not_fall_are_written_all_the_same(tmp_path: Path) -> None:
    made = table(lambda params, tokens: 3.0, 0.0)
    known = slices_only(made)
    json.dumps(known.document(), allow_nan=False)
    assert known.lines() == ["alpha_D: no slice bounds it", "beta_N: no slice bounds it"]
    text = report(known, made, tmp_path / "x.html")
    assert "L(D) at a fixed N: no slice bounds its exponent, so no law won." in text


def test_a_corpus_without_known_entropy_has_no_floor_to_check(tmp_path: Path) -> None:
    class Text:
        entropy_rate = None

        def floor(self, length: int) -> None:
            return None

        exact = floor

    known = known_of(Text(), 16)
    assert known == Known()
    made = table()
    text = report(replace(slices_only(made), known=known), made, tmp_path / "x.html")
    assert "The entropy of this corpus is not known" in text
    assert "This corpus has no point" in text
