"""Chains: who votes, and variances that an independent way confirms."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import synthetic

from evaluation.records import validate
from predict import Target, TwoStage
from predict.bootstrap import bootstrap
from predict.chains import ChainFit, who_votes
from predict.shared import WEAK


@pytest.fixture(scope="module")
def chains() -> tuple[ChainFit, ...]:
    table = validate(synthetic(tasks=("a", "b"), targets=()))
    rng = np.random.default_rng(0)
    table["loss"] *= np.exp(0.003 * rng.standard_normal(len(table)))
    return TwoStage().fit(table).fits_["a"].chains


def test_all_three_vote_where_the_shared_loss_fits_as_well(chains: tuple[ChainFit, ...]) -> None:
    assert who_votes(chains, 2 * WEAK) == ("own", "shared", "direct")


def test_a_weak_own_loss_has_no_vote_beside_others(chains: tuple[ChainFit, ...]) -> None:
    assert who_votes(chains, WEAK - 1) == ("shared", "direct")
    assert who_votes(chains[:1], WEAK - 1) == ("own",)


def test_a_shared_loss_that_fits_worse_leaves_the_own_one_alone(
    chains: tuple[ChainFit, ...],
) -> None:
    own, shared, direct = chains
    worse = replace(shared.step2, relative_rms=2 * own.step2.relative_rms)
    assert who_votes((own, replace(shared, step2=worse), direct), 2 * WEAK) == ("own",)
    assert who_votes((own, direct), 2 * WEAK) == ("own",)


@pytest.mark.parametrize("kind", ["own", "shared", "direct"])
def test_the_delta_method_is_what_draws_of_the_parameters_give(
    chains: tuple[ChainFit, ...], kind: str
) -> None:
    (chain,) = [c for c in chains if c.kind == kind]
    rng = np.random.default_rng(0)

    def drawn(fitted):  # type: ignore[no-untyped-def]
        shrunk = 1e-4 * np.array(fitted.covariance)
        values = rng.multivariate_normal(fitted.theta, shrunk, size=4000, check_valid="ignore")
        names = fitted.parameters
        return [replace(fitted, parameters=dict(zip(names, v, strict=True))) for v in values]

    firsts = drawn(chain.step1)
    seconds = drawn(chain.step2) if chain.step2 else [None] * len(firsts)
    values = [
        replace(chain, step1=one, step2=two).accuracy(3e9, 3e11)
        for one, two in zip(firsts, seconds, strict=True)
    ]
    expected = 1e-2 * np.sqrt(chain.accuracy_variance(3e9, 3e11))
    assert np.std(values) == pytest.approx(expected, rel=0.1)


def quality_ladder() -> pd.DataFrame:
    """Accuracies whose -log Q is exactly 0.4 (N/1e9)^-0.3 + 0.3 (D/1e11)^-0.25, chance 0.25."""
    table = validate(synthetic(tasks=("a", "b")))
    size, data = table["params"] / 1e9, table["tokens"] / 1e11
    quality = np.exp(-(0.4 * size**-0.3 + 0.3 * data**-0.25))
    return table.assign(accuracy=0.25 + 0.75 * quality)


def test_a_direct_chain_through_log_q_finds_the_law_that_made_the_accuracies() -> None:
    table = quality_ladder()
    model = TwoStage("krajewski").fit(table)
    target = table[table["role"] == "target"].iloc[0]
    (prediction, *_) = model.predict_targets([Target("T", target["params"], target["tokens"])])
    assert prediction.predicted == pytest.approx(target["accuracy"], abs=1e-4)
    direct = model.fits_["a"].chains[1]
    assert direct.step1.parameters["alpha"] == pytest.approx(0.3, abs=1e-3)
    assert direct.chance == 0.25


def test_its_variance_is_that_of_resampled_ladders_in_size() -> None:
    table = quality_ladder()
    rng = np.random.default_rng(0)
    runs = {run: np.exp(0.01 * rng.standard_normal()) for run in table["run"].unique()}
    table["accuracy"] = (table["accuracy"] * table["run"].map(runs)).clip(upper=0.999)
    model = TwoStage("krajewski").fit(table)
    target = Target("T", 5e9, 1e12)
    drawn = bootstrap(model, [target], replicates=200)
    spread = drawn.loc[drawn["task"] == "a", "predicted"].std()
    direct = model.fits_["a"].chains[1]
    deviation = np.sqrt(direct.accuracy_variance(target.params, target.tokens))
    assert 0.4 < spread / deviation < 2.5


def test_log_q_leaves_out_rungs_near_chance_and_wants_a_chance() -> None:
    table = quality_ladder()
    small = table["params"] == table["params"].min()
    table.loc[small, "accuracy"] = 0.26
    model = TwoStage("krajewski").fit(table)
    assert model.fits_["a"].chains[1].step1.points == 12
    without = TwoStage("krajewski").fit(table.assign(chance=np.nan))
    assert [c.kind for c in without.fits_["a"].chains] == ["own"]


def test_a_fit_through_log_q_is_saved_and_read_with_its_chance(tmp_path: Path) -> None:
    model = TwoStage("krajewski").fit(quality_ladder())
    model.save(tmp_path / "fit.json")
    again = TwoStage.load(tmp_path / "fit.json")
    assert again.fits_ == model.fits_
    assert again.predict(7e9, 1e12).equals(model.predict(7e9, 1e12))
