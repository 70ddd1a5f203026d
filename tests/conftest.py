"""Shared fixtures: a synthetic ladder with known laws, the real logs, a ladder of seconds."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import HealthCheck, settings

# A machine that does other work beside the tests is slow, which is no failure.
settings.register_profile(
    "patient", settings.default, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("patient")

LAW = {"a": 5.0, "alpha": 0.3, "b": 6.0, "beta": 0.3, "E": 0.5}
LINK = {"a": -0.7, "L0": 0.95, "k": 6.0, "b": 0.98}

LONGEST = (
    "test_quickstart.py",
    "test_slurm_real.py",
    "test_pipeline.py",
    "test_parallel.py",
    "test_kills.py",
    "test_text_ladder.py",
)
"""Files of half a minute or more, longest first."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Processes that share the files out take the longest first, and so end together."""
    if hasattr(config, "workerinput"):
        rank = {name: place for place, name in enumerate(LONGEST)}
        items.sort(key=lambda item: rank.get(item.path.name, len(LONGEST)))


def true_loss(params: float, tokens: float) -> float:
    return (
        np.exp(LAW["a"]) * params ** -LAW["alpha"]
        + np.exp(LAW["b"]) * tokens ** -LAW["beta"]
        + LAW["E"]
    )


def true_accuracy(loss: float) -> float:
    return LINK["a"] / (1 + np.exp(-LINK["k"] * (loss - LINK["L0"]))) + LINK["b"]


def synthetic(
    sizes: tuple[float, ...] = (1.9e8, 3.7e8, 7.6e8, 1.28e9),
    multiples: tuple[float, ...] = (1, 2, 5, 10),
    targets: tuple[tuple[float, float], ...] = ((6.9e9, 4e12),),
    tasks: tuple[str, ...] = ("quiz",),
) -> pd.DataFrame:
    """Observations that follow LAW and LINK without noise; three checkpoints a run."""
    rows = []
    runs = [
        (f"{n / 1e6:.0f}M-{m:g}xC", "ladder", n, 20 * n * m) for n in sizes for m in multiples
    ] + [(f"T{i}", "target", n, d) for i, (n, d) in enumerate(targets)]
    for run, role, params, tokens in runs:
        for task in tasks:
            for step in (1, 2, 3):
                loss = true_loss(params, tokens)
                rows.append(
                    {
                        "run": run,
                        "role": role,
                        "params": params,
                        "tokens": tokens,
                        "step": step,
                        "final": step == 3,
                        "task": task,
                        "loss": loss,
                        "loss_unit": "bits/byte",
                        "accuracy": true_accuracy(loss),
                        "chance": 0.25,
                        "instances": 1000,
                    }
                )
    return pd.DataFrame(rows)


@pytest.fixture
def observations() -> pd.DataFrame:
    return synthetic()


@pytest.fixture
def table(tmp_path: Path, observations: pd.DataFrame) -> Path:
    """The same as a file."""
    from evaluation.records import write_observations

    path = tmp_path / "obs.parquet"
    write_observations(observations, path)
    return path


@pytest.fixture(scope="session")
def olmo_ladder() -> Path:
    """The published logs; CI must have them, a user's machine may not."""
    here = Path(__file__).parent.parent
    places = [os.environ.get("OLMO_LADDER"), here.parent / "shared" / "olmo-ladder"]
    for place in places:
        if place and Path(place).is_dir():
            return Path(place)
    if os.environ.get("CI"):
        pytest.fail("CI needs the OLMo-ladder logs in ../shared/olmo-ladder or $OLMO_LADDER")
    pytest.skip("no OLMo-ladder logs in ../shared/olmo-ladder or $OLMO_LADDER")


@pytest.fixture(scope="session")
def olmo_observations(olmo_ladder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The published logs as a table of observations."""
    from ladder.cli import main

    path = tmp_path_factory.mktemp("olmo") / "obs.parquet"
    assert main(["import", "olmo-ladder", str(olmo_ladder), "--out", str(path)]) == 0
    return path


@pytest.fixture(scope="session")
def olmes() -> Path:
    """The fetched OLMES requests; CI must get them, a machine without a network may not."""
    from evaluation.files import InputError
    from evaluation.olmes import fetch

    try:
        return fetch()
    except InputError as error:
        if os.environ.get("CI"):
            pytest.fail(f"CI needs the OLMES requests: {error}")
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def tiny_config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole experiment that trains in seconds; too small to predict anything well."""
    size = {"layers": 1, "heads": 1}
    document = {
        "name": "tiny",
        "corpus": {
            "kind": "walks",
            "nodes": 32,
            "validation_walks": 16,
            "tasks": [
                {"name": "next", "choices": 4, "answer_rank": [1, 4], "ratio": [2, 50], "items": 50}
            ],
        },
        "model": {
            "sequence_length": 16,
            "sizes": {
                "a": {**size, "width": 4, "hidden": 8},
                "b": {**size, "width": 6, "hidden": 12},
                "c": {**size, "width": 8, "hidden": 16},
                "big": {**size, "width": 12, "hidden": 24},
            },
        },
        "ladder": {"sizes": ["a", "b", "c"], "multiples": [1, 2, 4]},
        "targets": [{"size": "big", "multiple": 4, "train": True}],
        "recipe": {"batch_divisor": 20},
        "evaluation": {"at": [0.5, 0.8, 0.9]},
        "predict": {"method": "published"},
    }
    path = tmp_path_factory.mktemp("config") / "tiny.yaml"
    path.write_text(yaml.safe_dump(document))
    return path
