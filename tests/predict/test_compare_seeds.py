"""Two recipes of several seeds a rung: what seeds share, how much they narrow, their target."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from test_compare import TARGET, recipe, row_of, true_loss

from evaluation.records import validate
from predict import Target, TwoStage
from predict.compare import compare, measured_targets
from predict.comparison import PairRow
from predict.gaps import task_gap


def test_more_seeds_make_it_surer() -> None:
    few = compare({"A": recipe(1, 0.01), "B": recipe(2, 0.01)}, [TARGET])
    many = compare({"A": recipe(1, 0.01, seeds=4), "B": recipe(2, 0.01, seeds=4)}, [TARGET])
    narrow, wide = (task_gap_sd(found_models(seeds)) for seeds in (4, 1))
    assert narrow < 0.8 * wide
    assert len(few.pairs) == len(many.pairs) == 3


def found_models(seeds: int) -> list[TwoStage]:
    return [TwoStage().fit(recipe(s, 0.01, seeds=seeds)) for s in (1, 2)]


def task_gap_sd(models: list[TwoStage]) -> float:
    gap = task_gap(*(m.fits_["quiz"] for m in models), TARGET)
    return math.sqrt(gap.loss_only.covariance[0, 0])


def of_seeds(own: float, shared: float, changes: float = 0.0, rng_seed: int = 5) -> pd.DataFrame:
    """Three seeds a rung: noise of a run, and noise that a seed brings to all recipes alike."""
    table = recipe(rng_seed, 0.0, seeds=3, a=changes)
    runs = table.groupby("run", sort=False).ngroup().to_numpy()
    rng, alike = np.random.default_rng(rng_seed), np.random.default_rng(99)
    noise = own * rng.normal(size=runs.max() + 1) + shared * alike.normal(size=runs.max() + 1)
    table["loss"] *= np.exp(noise[runs])
    table["seed"] = table["run"].str.rsplit("-", n=1).str[1].astype(int)
    return validate(table)


def width(row: PairRow) -> float:
    return row.loss.bounds.upper80 - row.loss.bounds.lower80


def test_noise_that_a_seed_brings_to_both_recipes_is_no_noise_of_their_gap() -> None:
    one, two = of_seeds(0.0005, 0.01, -0.02, 1), of_seeds(0.0005, 0.01, 0.0, 2)
    paired = row_of(compare({"A": one, "B": two}, [TARGET]))
    apart = [table.drop(columns="seed") for table in (one, two)]
    unpaired = row_of(compare(dict(zip("AB", apart, strict=True)), [TARGET]))
    assert width(paired) < 0.5 * width(unpaired)
    true = true_loss(6.9e9, 4e12, a=-0.02) - true_loss(6.9e9, 4e12)
    assert paired.loss.bounds.lower95 < true < paired.loss.bounds.upper95
    assert paired.loss.probability > max(0.9, unpaired.loss.probability)
    # Other seeds are other noise, however they are numbered.
    two["seed"] += 3
    assert width(row_of(compare({"A": one, "B": two}, [TARGET]))) == pytest.approx(
        width(unpaired), rel=0.01
    )


def test_seeds_that_share_nothing_are_worth_as_much_with_their_numbers_as_without() -> None:
    one, two = of_seeds(0.005, 0.0, -0.02, 1), of_seeds(0.005, 0.0, 0.0, 2)
    paired = row_of(compare({"A": one, "B": two}, [TARGET]))
    apart = [table.drop(columns="seed") for table in (one, two)]
    unpaired = row_of(compare(dict(zip("AB", apart, strict=True)), [TARGET]))
    assert width(paired) == pytest.approx(width(unpaired), rel=0.25)


def test_more_seeds_of_every_rung_say_more_of_the_recipes() -> None:
    def found(seeds: int) -> PairRow:
        one = recipe(1, 0.01, a=-0.02, seeds=seeds)
        return row_of(compare({"A": one, "B": recipe(2, 0.01, seeds=seeds)}, [TARGET]))

    few, many = found(1), found(6)
    for row in (few, many):
        true = true_loss(6.9e9, 4e12, a=-0.02) - true_loss(6.9e9, 4e12)
        assert row.loss.bounds.lower95 < true < row.loss.bounds.upper95
    known = [abs(row.loss.probability_of_recipe - 0.5) for row in (few, many)]
    assert known[1] > known[0]
    assert few.gain_lower80.factor is not None
    assert many.gain_lower80.factor is not None
    spans = [
        math.log((row.gain_upper80.factor or math.inf) / (row.gain_lower80.factor or 0))
        for row in (few, many)
    ]
    assert spans[1] < 0.85 * spans[0]


def test_the_actual_of_a_target_is_the_mean_of_its_seeds() -> None:
    targets = tuple(Target(f"T-{s}", 6.9e9, 4e12) for s in range(3))
    one = recipe(1, 0.003, targets=targets, a=-0.1)
    two = recipe(2, 0.003, targets=targets)
    row = row_of(compare({"A": one, "B": two}, measured_targets({"A": one, "B": two})))
    means = [
        t.loc[t["final"] & (t["role"] == "target") & (t["task"] == "quiz"), "loss"].mean()
        for t in (one, two)
    ]
    assert row.loss.actual == pytest.approx(means[0] - means[1])
    assert row.accuracy is not None
    assert row.accuracy.actual is not None


def test_a_target_of_several_recipes_and_seeds_is_named_without_them() -> None:
    target = Target("7B-4T-muon-s1", 6.9e9, 4e12)
    table = recipe(targets=(target,)).assign(recipe="muon", seed=1)
    assert [t.name for t in measured_targets({"muon": validate(table)})] == ["7B-4T"]
    plain = recipe(targets=(Target("7B-4T", 6.9e9, 4e12),))
    assert [t.name for t in measured_targets({"A": plain, "B": plain})] == ["7B-4T"]


def test_a_prediction_from_more_seeds_is_closer_and_its_interval_narrower() -> None:
    def found(seeds: int) -> tuple[float, float, float]:
        errors, widths, parameters = [], [], []
        for rng_seed in range(6):
            table = recipe(rng_seed, 0.01, tasks=("quiz",), seeds=seeds)
            table["seed"] = table["run"].str.rsplit("-", n=1).str[1].astype(int)
            model = TwoStage().fit(validate(table))
            row = model.predict_one("quiz", TARGET)
            assert row.loss_lower80 is not None
            assert row.loss_upper80 is not None
            errors.append(abs(row.loss_predicted - true_loss(6.9e9, 4e12)))
            widths.append(row.loss_upper80 - row.loss_lower80)
            parameters.append(model.fits_["quiz"].loss_uncertainty(TARGET).parameters)
        return float(np.mean(errors)), float(np.mean(widths)), float(np.mean(parameters))

    one, many = found(1), found(6)
    assert many[0] < one[0]
    # What the form of the law may be off by, which seeds say nothing about, is most of the width.
    assert many[1] < one[1]
    assert many[2] < 0.75 * one[2]
