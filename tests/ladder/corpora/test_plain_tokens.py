"""Losses against the entropy on plain sampled tokens, which know nothing of the exact floor."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import yaml

from evaluation.models import load_model
from evaluation.records import read_observations
from ladder import pipeline
from ladder.config import load_config
from ladder.corpora.graph import Graph
from ladder.runs import RunsFolder
from ladder.score import ModelScorer

LENGTH, WALKS = 16, 6000


def trained(tiny_config: Path, folder: Path, start: str) -> tuple[ModelScorer, Graph, float]:
    """A model that has nearly learned a small graph, its corpus and its exact held-out loss."""
    document = yaml.safe_load(tiny_config.read_text())
    document["corpus"] = {
        "kind": "graph",
        "erdos_renyi": {"nodes": 12, "edges": 24},
        "kappa": 1.0,
        "start": start,
        "validation_walks": 4096,
    }
    document["model"]["sizes"] = {"big": {"layers": 1, "heads": 1, "width": 24, "hidden": 48}}
    document["ladder"] = {"sizes": ["big"], "tokens": [10_000, 20_000, 40_000, 80_000, 120_000]}
    document["targets"] = []
    document["predict"] = {"method": "published"}
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump(document))
    config, runs = load_config(str(path)), RunsFolder(folder / "runs")
    pipeline.train(config, runs.path, ["big-120Kt"], engine="here")
    rung = runs.rung("big-120Kt")
    table = read_observations(rung.scores)
    loss = float(table.loc[table["final"], "loss"].iloc[0])
    newest = max(rung.checkpoints.glob("step-*"), key=lambda p: int(p.name[5:]))
    return ModelScorer(load_model(str(newest)).model), Graph(config.corpus, runs.corpus), loss


@pytest.mark.parametrize("start", ["stationary", "uniform"])
def test_mean_surprise_of_sampled_walks_is_the_exact_loss_and_never_below_the_entropy(
    tiny_config: Path, tmp_path: Path, start: str
) -> None:
    scorer, corpus, exact_loss = trained(tiny_config, tmp_path, start)
    floor = corpus.floor(LENGTH)
    # One token more than a sequence: as many are predicted as the floor is taken over.
    walks = corpus.batch(987_654, 1, WALKS, LENGTH + 1)
    walk_means = scorer.nats(walks).mean(axis=1)
    mean, error = walk_means.mean(), walk_means.std(ddof=1) / math.sqrt(WALKS)
    assert error < 0.01
    assert mean > floor - 3 * error
    assert mean == pytest.approx(exact_loss, abs=3 * error)
    # The model has learned the graph, so that the entropy is near enough to be passed.
    assert floor < exact_loss < floor + 0.25
    # Walks' own surprise under the true chain: the floor is that of these walks, not another's.
    chain = corpus.chain
    truth = -np.log(chain.dense()[walks[:, :-1], walks[:, 1:]]).mean(axis=1)
    assert truth.mean() == pytest.approx(floor, abs=3 * truth.std(ddof=1) / math.sqrt(WALKS))
    # The difference has less noise than either: no luck of the walks hides a loss that is too low.
    excess = walk_means - truth
    assert excess.mean() > 3 * excess.std(ddof=1) / math.sqrt(WALKS)
    assert excess.mean() == pytest.approx(
        exact_loss - floor, abs=4 * excess.std(ddof=1) / math.sqrt(WALKS)
    )
