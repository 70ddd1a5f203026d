"""Chains: who votes, and variances that an independent way confirms."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from conftest import synthetic

from evaluation.records import validate
from predict import TwoStage
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
