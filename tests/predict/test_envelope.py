"""Chinchilla's first two approaches on curves whose law is known."""

from __future__ import annotations

import numpy as np
import pytest
from made_curves import EQUAL, HOFFMANN_LAW, isoflop_runs, made

from predict.constants import BESIROGLU
from predict.envelope import (
    BETWEEN,
    LossTable,
    Optima,
    envelope,
    isoflop,
    isoflop_lines,
    lowest_point,
    power_through,
)
from predict.flops import SIX_ND
from predict.laws import InputError
from predict.optimum import chinchilla_params
from predict.run_curves import RunCurve, run_curves, smoothed

LAWS = {"hoffmann": HOFFMANN_LAW, "replication": BESIROGLU.theta(), "equal": EQUAL}


def curves(theta: np.ndarray, **design: object) -> list[RunCurve]:
    return run_curves(made(theta, **design))


def approach_1(runs: list[RunCurve]) -> Optima:
    return envelope(LossTable(runs, SIX_ND, checkpoints=True), range(len(runs)))


def approach_2(runs: list[RunCurve]) -> Optima:
    lines = isoflop_lines(runs, SIX_ND)
    table = LossTable(runs, SIX_ND, False, BETWEEN) if len(lines) < 2 else None
    return isoflop(runs, SIX_ND, lines, table, range(len(runs)))


@pytest.mark.parametrize("name", LAWS)
@pytest.mark.parametrize("approach", [approach_1, approach_2])
def test_both_find_the_laws_own_exponent_and_sizes_on_curves_made_from_it(
    name: str, approach: object
) -> None:
    theta = LAWS[name]
    true = theta[3] / (theta[1] + theta[3])
    found = power_through(approach(curves(theta)))  # type: ignore[operator]
    assert found.slope == pytest.approx(true, abs=2e-3)
    assert found.params(1e21) == pytest.approx(chinchilla_params(theta, 1e21), rel=0.02)


def test_a_law_of_equal_exponents_gives_50_hundredths_and_hoffmanns_own_46() -> None:
    for approach in (approach_1, approach_2):
        assert round(power_through(approach(curves(EQUAL))).slope, 2) == 0.50
        assert round(power_through(approach(curves(HOFFMANN_LAW))).slope, 2) == 0.46


def test_runs_of_equal_flops_are_found_and_give_the_exponent() -> None:
    budgets = (6e18, 3e19, 1e20, 6e20, 3e21)
    runs = run_curves(isoflop_runs(HOFFMANN_LAW, budgets))
    assert len(isoflop_lines(runs, SIX_ND)) == len(budgets)
    optima = approach_2(runs)
    assert optima.how == "runs of equal FLOPs"
    assert optima.flops == pytest.approx(np.array(budgets))
    assert power_through(optima).slope == pytest.approx(0.4565, abs=1e-3)


def test_the_winning_sizes_of_a_coarse_ladder_are_a_staircase_too_flat_its_draws_are_not() -> None:
    runs = curves(HOFFMANN_LAW, sizes=(1e8, 3e8, 9e8, 2.7e9, 8.1e9))
    table = LossTable(runs, SIX_ND, checkpoints=True)
    losses = table.losses(range(len(runs)))
    winners = np.where(np.isfinite(losses), losses, np.inf).argmin(axis=0)
    inner = (winners > 0) & (winners < len(table.sizes) - 1)
    sizes = np.array(table.sizes)[winners[inner]]
    staircase = np.polyfit(np.log(table.budgets[inner]), np.log(sizes), 1)[0]
    # Three steps: too flat by a share of one in nine.
    assert staircase == pytest.approx(0.4565 * (1 - 1 / 9), abs=5e-3)
    assert power_through(approach_1(runs)).slope == pytest.approx(0.4565, abs=3e-3)


def test_a_parabola_is_read_at_its_lowest_point_and_only_between_the_sizes() -> None:
    sizes = np.geomspace(1e8, 8e8, 5)
    for best in (2e8, 5e8):
        losses = 2 + 0.1 * (np.log(sizes) - np.log(best)) ** 2
        assert lowest_point(sizes, losses) == pytest.approx(best)
    for best in (5e7, 2e9):
        assert lowest_point(sizes, 2 + 0.1 * (np.log(sizes) - np.log(best)) ** 2) is None
    assert lowest_point(sizes, 2 - 0.1 * (np.log(sizes) - np.log(3e8)) ** 2) is None


def test_a_few_finished_runs_are_no_isoflop_line() -> None:
    with pytest.raises(InputError, match="no budget has finished runs of 3 sizes"):
        approach_2(curves(HOFFMANN_LAW, sizes=(1e8, 4e8, 1.6e9), multiples=(1, 2)))


def test_optima_outside_the_sizes_are_counted_and_a_line_wants_two() -> None:
    # Twenty times too many tokens: the best size at every budget is above the largest.
    runs = curves(HOFFMANN_LAW, sizes=(1e8, 1.3e8, 1.7e8), multiples=(400, 800, 1600, 3200))
    optima = approach_2(runs)
    assert not len(optima.flops)
    assert optima.outside > 0
    with pytest.raises(InputError, match="0 budgets with an optimum inside the sizes"):
        power_through(optima)


def test_a_size_that_merely_runs_out_of_checkpoints_is_no_draw() -> None:
    runs = curves(HOFFMANN_LAW, sizes=(1e8, 1.3e8, 1.7e8), multiples=(0.01, 0.02))
    optima = approach_1(runs)
    assert optima.outside + len(optima.flops) <= 2
    for flops, size in zip(optima.flops, optima.params, strict=True):
        assert size == pytest.approx(chinchilla_params(HOFFMANN_LAW, flops), rel=0.1)


def test_smoothing_takes_noise_off_and_does_not_lag_behind_a_falling_loss() -> None:
    tokens = np.linspace(1e9, 1e10, 200)
    clean = 3 * (tokens / 1e9) ** -0.2
    assert smoothed(tokens, clean) == pytest.approx(clean, rel=1e-4)
    rng = np.random.default_rng(0)
    noisy = clean * np.exp(0.01 * rng.standard_normal(len(tokens)))
    before, after = (np.std(np.log(y / clean)) for y in (noisy, smoothed(tokens, noisy)))
    assert after < 0.6 * before


def test_reruns_count_as_their_mean() -> None:
    table = made(HOFFMANN_LAW, sizes=(1e8, 2e8, 4e8), checkpoints=1)
    again = table.assign(run=table["run"] + "-rerun", loss=table["loss"] * 1.02)
    both = run_curves(type(table)(np.r_[table.to_numpy(), again.to_numpy()], columns=table.columns))
    losses = LossTable(both, SIX_ND, False, 2.0).losses(range(len(both)))
    alone = LossTable(run_curves(table), SIX_ND, False, 2.0).losses(range(len(both) // 2))
    assert losses == pytest.approx(alone * 1.01, nan_ok=True)
