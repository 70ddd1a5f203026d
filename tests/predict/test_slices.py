"""Slices of a table: found, fitted by every law, compared, averaged; and what resamples say."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from evaluation.records import InputError
from predict.slices import Point, find_slices, geometric_mean, groups, points_of, read_between
from predict.slices_bootstrap import bca, draw, resampled
from predict.slices_compare import Lead, fit_slice
from predict.slices_fit import POWER

SIZES = np.geomspace(1e4, 1e6, 6)
TOKENS = np.geomspace(1e6, 1e8, 6)


def law(params: float, tokens: float) -> float:
    return 1.7 + 0.3 * (params / 1e5) ** -1.028 + 0.3 * (tokens / 1e7) ** -0.749


def grid(noise: float = 0.0, seed: int = 0) -> list[Point]:
    rng = np.random.default_rng(seed)
    return [
        Point(n, d, law(n, d) * np.exp(noise * rng.standard_normal()), 1)
        for n in SIZES
        for d in TOKENS
    ]


def rows(**changes: list[object]) -> pd.DataFrame:
    """Runs of four sizes at one token count, two seeds each."""
    found = pd.DataFrame(
        {
            "run": [f"{n}-{s}" for n in "abcd" for s in (0, 1)],
            "params": np.repeat([1e4, 2e4, 4e4, 8e4], 2),
            "tokens": np.tile([1e6, 1.004e6], 4),
            "step": 100,
            "final": True,
            "loss": [3.0, 3.2, 2.6, 2.5, 2.4, 2.2, 2.1, 2.3],
        }
    )
    return found.assign(**changes)


def test_mean_exponents_in_the_papers_naming_are_the_laws_own() -> None:
    found = find_slices(grid(), replicates=40)
    assert [m.name for m in found.means] == ["alpha_D", "beta_N"]
    size, data = found.means
    assert size.mean == pytest.approx(1.028, abs=1e-6)
    assert data.mean == pytest.approx(0.749, abs=1e-6)
    assert size.sd == pytest.approx(0, abs=1e-6)
    assert (size.slices, data.slices, size.left_out) == (6, 6, 0)
    assert size.verdicts == {"power": 6}
    assert size.without_floor < 0.5
    for part in found.slices:
        # What the other variable still costs is part of a slice's floor.
        rest = law(1e300, part.fixed) if part.variable == "params" else law(part.fixed, 1e300)
        assert part.fit.floor.boot.value == pytest.approx(rest, abs=1e-6)
        assert part.fit.forms["power"].certified


def test_noise_makes_an_interval_a_spread_and_a_debiased_exponent() -> None:
    found = find_slices(grid(0.002), replicates=100)
    for mean, true in zip(found.means, (1.028, 0.749), strict=True):
        assert mean.mean == pytest.approx(true, abs=0.05)
        assert mean.sd is not None
        assert 0 < mean.sd < 0.1
        assert mean.debiased == pytest.approx(mean.mean, abs=0.05)
        assert mean.mse_ratio_lower < mean.mse_ratio < mean.mse_ratio_upper
        assert mean.held_out_lower < mean.held_out_ratio < mean.held_out_upper
    held = [s.fit.floor.lower <= s.fit.floor.boot.value <= s.fit.floor.upper for s in found.slices]
    assert all(held)


def test_a_mean_ratio_is_geometric_with_student_s_interval() -> None:
    # Logarithms 0, 1 and 2: mean 1, standard error 1/sqrt(3), t of 2 degrees of freedom 4.303.
    mean, low, high = geometric_mean(np.exp([0.0, 1.0, 2.0]).tolist())
    assert np.log([mean, low, high]) == pytest.approx(
        [1, 1 - 4.302653 / 3**0.5, 1 + 4.302653 / 3**0.5]
    )
    assert geometric_mean([7.0]) == (pytest.approx(7.0), None, None)
    assert geometric_mean([1e-300, 1e300])[1:] == (None, None)
    largest = np.finfo(float).max
    assert geometric_mean([largest] * 3)[0] == largest
    assert geometric_mean([5e-324] * 3)[0] == 5e-324


@pytest.mark.parametrize("kind", ["power", "exponential"])
def test_the_law_that_made_the_data_wins_in_sample_and_on_held_out_points(kind: str) -> None:
    x = np.geomspace(1, 30, 7)
    shape = x**-0.7 if kind == "power" else np.exp(-x / 6)
    for seed in range(2):
        rng = np.random.default_rng(seed)
        lead = fit_slice(x, (2 + 0.8 * shape) * (1 + 1e-3 * rng.standard_normal(7)), 200).lead
        assert lead.verdict == kind
        assert (lead.mse_ratio > 1) == (kind == "power")
        assert (lead.held_out_ratio > 1) == (kind == "power")
        assert lead.lower < lead.mse_ratio * 1.5
        assert lead.upper > lead.mse_ratio / 1.5


def test_the_wrong_law_rarely_wins_where_noise_hides_the_shape() -> None:
    x = np.geomspace(1, 30, 6)
    said = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        losses = (2 + 0.2 * x**-0.7) * (1 + 0.05 * rng.standard_normal(6))
        said.append(fit_slice(x, losses, 60, drop=0).lead.verdict)
    assert said.count("undecided") >= 12
    assert said.count("exponential") + said.count("neither") <= 4


def test_the_verdict_says_when_both_laws_are_ruled_out() -> None:
    assert Lead(1.0, None, None, None, 0.01, 0.02).verdict == "neither"
    assert Lead(1.0, None, None, None, 0.01, 0.5).verdict == "power"
    assert Lead(1.0, None, None, None, 0.5, 0.01).verdict == "exponential"
    assert Lead(1.0, None, None, None, 0.5, 0.5).verdict == "undecided"
    assert Lead(1.0, None, None, None, None, None).verdict == "undecided"


def test_criteria_follow_from_the_mean_square() -> None:
    x = np.geomspace(1, 30, 7)
    losses = 2 + 0.8 * x**-0.7 + 0.01 * np.sin(5 * x)
    fit = fit_slice(x, losses, 10)
    power, bare = fit.forms["power"], fit.forms["no_floor"]
    assert power.aic == pytest.approx(7 * np.log(power.mse) + 8)
    assert power.aicc == pytest.approx(power.aic + 2 * 4 * 5 / 2)
    assert bare.aic == pytest.approx(7 * np.log(bare.mse) + 6)
    assert fit_slice(x[:5], losses[:5], 10).forms["power"].aicc is None
    assert fit.forms["exponential"].mse / power.mse == pytest.approx(fit.lead.mse_ratio)


def test_windows_leave_four_points_and_move_no_exponent_of_an_exact_law() -> None:
    x = np.geomspace(1, 30, 6)
    fit = fit_slice(x, 2 + 0.8 * x**-0.7, 10, drop=2)
    assert {(a, b) for a, b, _ in fit.windows} == {(0, 1), (0, 2), (1, 0), (1, 1), (2, 0)}
    low, high = fit.window_spread
    assert high - low < 1e-6
    bent = fit_slice(x, 2 + 0.8 * x**-0.7 + 0.02 * np.log(x) ** 2, 10)
    assert np.ptp(bent.window_spread) > 0.1


def test_held_out_points_are_not_seen() -> None:
    x = np.geomspace(1, 30, 7)
    losses = 2 + 0.8 * x**-0.7
    spoilt = losses.copy()
    spoilt[-1] += 0.1
    held = fit_slice(x, spoilt, 2).forms["power"].held_out_mse
    assert held == pytest.approx(0.01, rel=1e-3)
    assert fit_slice(x[:4], losses[:4], 2).forms["power"].held_out_mse is None


def test_seeds_count_as_their_mean_or_their_best() -> None:
    mean, best = points_of(rows()), points_of(rows(), seeds="best")
    assert [p.loss for p in mean] == pytest.approx([3.1, 2.55, 2.3, 2.2])
    assert [p.loss for p in best] == pytest.approx([3.0, 2.5, 2.2, 2.1])
    assert {p.runs for p in mean} == {2}
    assert len(points_of(rows(), tolerance=1.001)) == 8


def test_checkpoints_count_only_where_they_are_asked_for() -> None:
    table = rows(final=[True, False] * 4)
    assert [p.loss for p in points_of(table)] == pytest.approx([3.0, 2.6, 2.4, 2.1])
    assert {p.runs for p in points_of(table, checkpoints=True)} == {2}


def test_groups_do_not_run_together_in_a_chain() -> None:
    values = 1.005 ** np.arange(10)
    assert list(groups(values, 1.0101)) == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3]
    assert list(groups(values[::-1], 1.0101)) == [3, 2, 2, 2, 1, 1, 1, 0, 0, 0]


def test_sizes_that_share_no_token_count_are_read_between_their_runs() -> None:
    points = [Point(n, 20 * n * m, law(n, 20 * n * m), 1) for n in SIZES for m in (1, 4, 16, 64)]
    apart = find_slices(points, replicates=5)
    assert {s.variable for s in apart.slices} == {"tokens"}
    found = find_slices(points, between=True, replicates=5)
    sized = [s for s in found.slices if s.variable == "params"]
    assert sized
    for part in sized:
        # Read losses are interpolated; the exponent is the law's to a few per cent.
        assert part.fit.exponent.boot.value == pytest.approx(1.028, rel=0.1)
    for point in read_between(points):
        assert 19.9 <= point.tokens / point.params <= 64.1 * 20


def test_what_cannot_be_sliced_is_one_line() -> None:
    with pytest.raises(InputError, match="no 4 sizes share a token count"):
        find_slices(grid()[:3])
    with pytest.raises(InputError, match="must be mean or best"):
        points_of(rows(), seeds="worst")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="must be a ratio above 1"):
        points_of(rows(), tolerance=0.5)
    with pytest.raises(InputError, match="3 token counts to read losses between"):
        read_between(grid()[:2])


def test_the_document_is_json_without_infinities_even_for_exact_data() -> None:
    found = find_slices(grid()[:6], replicates=40)
    text = json.dumps(found.document(), allow_nan=False)
    assert json.loads(text)["slices"][0]["fit"]["lead"]["verdict"] == "power"


@pytest.mark.parametrize("scheme", ["residual", "pairs", "normal"])
def test_resamples_repeat_with_their_seed_and_centre_on_the_fit(scheme: str) -> None:
    x = np.geomspace(1, 100, 8)
    y = 2 + 0.8 * x**-0.7 + 0.003 * np.random.default_rng(0).standard_normal(8)
    first, again, other = (
        resampled(draw(POWER, x, y, 200, s, scheme), "rate")  # type: ignore[arg-type]
        for s in (0, 0, 1)
    )
    assert first == again
    assert first != other
    assert first.lower < first.value < first.upper
    assert first.debiased == pytest.approx(first.value, abs=first.upper - first.lower)


def test_bias_correction_moves_an_interval_against_the_bias() -> None:
    drawn = np.random.default_rng(0).standard_normal(20_000)
    assert bca(0.0, drawn) == pytest.approx((-1.96, 1.96), abs=0.06)
    low, high = bca(-0.5, drawn)
    # z0 = -0.5: the ends are the quantiles at -1.96 - 1 and 1.96 - 1 (Efron 1987, eq. 2.3).
    assert (low, high) == pytest.approx((-2.96, 0.96), abs=0.25)


def test_no_resamples_without_a_point_to_spare() -> None:
    with pytest.raises(InputError, match="3 points for the 3 parameters"):
        draw(POWER, np.array([1.0, 2, 3]), np.array([3.0, 2, 1.5]), 5, 0)


def test_sizes_whose_means_lie_within_the_tolerance_are_read_as_one() -> None:
    """1.000, 1.010 and 1.012: the first two are one group, whose mean the third lies close to."""
    sizes = (1e8, 1.01e8, 1.012e8, 2e8, 4e8, 8e8)
    table = pd.DataFrame(
        [(n, d, law(n, d)) for n in sizes for d in (1e9, 2e9, 4e9, 8e9)],
        columns=["params", "tokens", "loss"],
    ).assign(step=100, final=True)
    table["run"] = [f"{n:.6g}-{d:g}" for n, d in zip(table["params"], table["tokens"], strict=True)]
    found = read_between(points_of(table))
    assert len({p.params for p in found}) == 4
    assert all(p.loss == pytest.approx(law(p.params, p.tokens), rel=0.01) for p in found)
