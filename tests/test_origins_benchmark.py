"""benchmarks/origins.py: what is kept of the trained grids is what the tables and sentences say."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from benchmark_scripts import BENCHMARKS, script_of

from evaluation.records import read_observations
from ladder.config import load_config
from ladder.corpora import open_corpus
from ladder.plan import make_plan
from predict.slices import find_slices, points_of
from predict.surrogate_methods import compare_methods

EXACT = ("origins-walks", "origins-er", "origins-ba")
"""Corpora whose entropy is computed in a moment."""


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return script_of("origins")


@pytest.fixture(scope="module")
def tables() -> ModuleType:
    return script_of("origins_tables")


@pytest.fixture(scope="module")
def mup() -> ModuleType:
    return script_of("origins_mup")


def test_the_page_is_what_the_command_prints_today(script: ModuleType) -> None:
    assert script.report(script.kept()) == (BENCHMARKS / "origins.md").read_text(encoding="utf-8")


def test_the_page_on_mup_is_what_the_command_prints_today(
    mup: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["origins_mup.py"])
    mup.main()
    assert capsys.readouterr().out == (BENCHMARKS / "origins_mup.md").read_text("utf-8") + "\n"


def test_the_tables_of_the_docs_are_rows_of_the_page(script: ModuleType) -> None:
    docs = (BENCHMARKS.parent / "docs" / "origins.md").read_text(encoding="utf-8")
    found = docs[docs.index("## What was found") : docs.index("## `ladder exponents`: fits")]
    rows = [line for line in found.splitlines() if line.startswith("| origins-")]
    page = (BENCHMARKS / "origins.md").read_text(encoding="utf-8").splitlines()
    pages = {*page, *(BENCHMARKS / "origins_mup.md").read_text(encoding="utf-8").splitlines()}
    assert len(rows) >= 5 * len(script.kept())
    assert [row for row in rows if row not in pages] == []


def test_what_is_kept_are_the_whole_grids_of_the_configs(script: ModuleType) -> None:
    corpora = {c.name: c for c in script.kept()}
    assert set(EXACT) <= set(corpora)
    for name in EXACT:
        planned = {(r.name, float(r.params)) for r in make_plan(load_config(name)).rungs}
        rows = corpora[name].losses
        assert set(zip(rows["run"], rows["params"], strict=True)) == planned


def test_no_loss_lies_below_the_entropy_which_is_the_corpus_s_own(
    script: ModuleType, tmp_path: Path
) -> None:
    for c in script.kept():
        # The divergence is measured as an expectation, which sampling cannot make negative.
        assert (c.losses["loss"] > c.entropy - 3 * c.entropy_se).all(), c.name
        if c.name in EXACT:
            assert (c.losses["loss"] > c.entropy).all()
            config = load_config(c.name)
            floor = open_corpus(config.corpus, tmp_path).floor(config.model.sequence_length)
            assert c.entropy == pytest.approx(floor, rel=1e-9)


@pytest.mark.parametrize("name", EXACT)
def test_the_kept_fits_are_those_of_the_kept_losses(tables: ModuleType, name: str) -> None:
    corpus = tables.read(name)
    rows = read_observations(tables.RESULTS / f"{name}.parquet")
    points = points_of(rows[rows["task"] == corpus.document["task"]])
    found = find_slices(points, replicates=0, drop=0)
    assert len(found.slices) == len(corpus.document["slices"])
    for now, then in zip(found.slices, corpus.document["slices"], strict=True):
        power = now.fit.forms["power"]
        assert power.rate == pytest.approx(then["fit"]["forms"]["power"]["rate"], rel=1e-5)
        lead = then["fit"]["lead"]
        assert now.fit.lead.mse_ratio == pytest.approx(lead["mse_ratio"], rel=1e-4)
        assert now.fit.lead.held_out_ratio == pytest.approx(lead["held_out_ratio"], rel=1e-3)
    # The fitted floor holds the entropy where a power law of N is right, and only there.
    (law,) = compare_methods(points, 100, 0, ("parametric",), held_out=False).methods
    value, low, high = law.floor
    check = corpus.document["entropy"]
    assert value == pytest.approx(check["floor"], abs=1e-4)
    assert (low <= corpus.entropy <= high) == check["holds"] == (name == "origins-walks")


def test_a_lead_is_clear_only_where_its_interval_leaves_one_out(tables: ModuleType) -> None:
    rng = np.random.default_rng(0)
    ahead = tables.ratio_of(np.exp(2 + 0.1 * rng.standard_normal(6)).tolist())
    assert (ahead.winner, ahead.above, ahead.slices) == ("power law", 6, 6)
    assert ahead.lower < ahead.value < ahead.upper
    assert tables.ratio_of([0.1, 0.2, 0.15]).winner == "exponential"
    assert tables.ratio_of([0.1, 10.0, 1.0]).winner == "no clear lead"
    assert tables.ratio_of([3.0]) is None


def test_the_slope_above_the_entropy_is_the_exponent_of_a_power_law(tables: ModuleType) -> None:
    x = np.geomspace(1e3, 1e5, 6)
    corpus = SimpleNamespace(entropy=2.0)
    part = {"x": x.tolist(), "losses": (2 + 30 * x**-0.6).tolist()}
    assert tables.below_floor(corpus, part) == pytest.approx(0.6)
    assert tables.below_floor(corpus, {"x": [1, 2], "losses": [2.1, 1.9]}) is None


def losses(mup_factor: float, noise: float = 0.0) -> pd.DataFrame:
    """Two parametrisations whose excess loss falls as N^-1, muP's with so many times the params."""
    rng, rows = np.random.default_rng(0), []
    for kind, factor in (("sp", 1.0), ("mup", mup_factor)):
        for rate, worse in (("0.4", 1.3), ("0.8", 1.0)):
            for params in (1e4, 2e4, 4e4, 8e4, 16e4):
                for seed in (0, 1):
                    off = math.exp(noise * rng.standard_normal())
                    excess = worse * off * (1e3 * factor / params)
                    rows.append((kind, rate, params, "1Mt", seed, excess))
    return pd.DataFrame(rows, columns=["kind", "rate", "params", "tokens", "seed", "excess"])


@pytest.mark.parametrize("factor", [0.8, 1.25])
def test_the_params_that_mup_needs_are_read_between_the_sizes(
    mup: ModuleType, factor: float
) -> None:
    chosen = mup.best_rate(losses(factor))
    assert set(chosen["rate"]) == {"0.8"}
    said = mup.mup_report(losses(factor))[-1]
    word = "fewer" if factor < 1 else "more"
    assert f"muP needs {abs(100 * (factor - 1)):.1f}% {word} params" in said
    assert "no clear difference" not in said
    assert "no clear difference" in mup.mup_report(losses(1.0, 0.1))[-1]


def test_params_outside_the_sizes_are_not_guessed(mup: ModuleType) -> None:
    curve = mup.best_rate(losses(1.0)).query("kind == 'sp'").sort_values("params")
    assert mup.needed(curve, 0, 1e3 / 3e4) == pytest.approx(3e4)
    assert mup.needed(curve, 0, 1.0) is None
    assert mup.needed(curve, 0, 1e-9) is None
