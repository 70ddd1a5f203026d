"""The configs of the origins experiments: what they say holds, and a small ladder on a graph."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml

from evaluation.records import read_observations
from ladder.cli import main
from ladder.config import load_config
from ladder.corpora import open_corpus
from ladder.plan import make_plan

SMALL = (
    "origins-walks",
    "origins-er",
    "origins-er-wide",
    "origins-er-biased",
    "origins-ba",
    "origins-bigram",
)


@pytest.mark.parametrize("name", [*SMALL, "origins-er-8k"])
def test_every_origins_config_is_a_grid_of_sizes_named_by_their_params(name: str) -> None:
    config = load_config(name)
    plan = make_plan(config)
    sizes, tokens = {r.params for r in plan.rungs}, {r.tokens for r in plan.rungs}
    assert len(plan.rungs) == len(sizes) * len(tokens)
    assert min(len(sizes), len(tokens)) >= 5
    for rung in plan.rungs:
        scale = 1e6 if rung.size.endswith("M") else 1e3
        assert abs(rung.params - scale * float(rung.size[:-1])) < 0.006 * scale * 100
    assert config.model.sequence_length == 50


def test_the_paper_s_graph_is_trained_as_far_as_the_paper_is_known() -> None:
    config = load_config("origins-er-8k")
    made, recipe = config.corpus.erdos_renyi, config.recipe
    assert (made.nodes, made.edges) == (8000, 50_000)
    assert {shape.layers for shape in config.model.sizes.values()} == {2}
    assert (recipe.weight_decay, recipe.warmup, recipe.schedule) == (0.01, 0.02, "cosine")
    for rung in make_plan(config).rungs:
        assert (rung.batch_sequences, rung.sequence_length) == (100, 50)
        assert rung.warmup_steps == round(0.02 * rung.steps)


def test_losses_fall_towards_the_exact_floor_and_stay_above_it(
    tiny_config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = yaml.safe_load(tiny_config.read_text())
    document["corpus"] = {
        "kind": "graph",
        "barabasi_albert": {"nodes": 32, "attach": 3},
        "kappa": 1.0,
        "start": "uniform",
        "validation_walks": 16,
        "tasks": [{"name": "next", "items": 50}],
    }
    document["ladder"] = {"sizes": ["a", "c", "big"], "tokens": [6_000, 30_000]}
    document["targets"] = []
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(document))
    runs = tmp_path / "runs"
    assert main(["run", str(path), "--runs", str(runs), "--workers", "1"]) == 0
    assert "irreducible loss: fitted" in capsys.readouterr().out
    table = read_observations(runs / "observations.parquet")
    assert set(table["task"]) == {"graph_validation", "next"}
    losses = table[table["final"] & (table["task"] == "graph_validation")].set_index("run")["loss"]
    floor = open_corpus(load_config(str(path)).corpus, runs / "corpus").floor(16)
    assert (losses > floor).all()
    assert losses["big-30Kt"] == losses.min() < floor + 0.6
    assert losses["a-6Kt"] == losses.max() < np.log(32)
    assert (runs / "corpus" / "graph.json").is_file()
