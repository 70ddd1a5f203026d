"""What laws say is best, on published constants and against brute force."""

from __future__ import annotations

import numpy as np
import pytest
from made_curves import EQUAL, HOFFMANN_LAW

from predict.constants import (
    BESIROGLU,
    HOFFMANN,
    HOFFMANN_ENVELOPE,
    KAPLAN,
    KAPLAN_C,
    KAPLAN_D,
    KAPLAN_N,
    KAPLAN_POWERS,
    KAPLAN_STEPS,
    MUENNIGHOFF,
    PF_DAY,
    REPEATS,
    UNITS,
    Kaplan,
    KaplanSteps,
    power_theta,
)
from predict.flops import SIX_ND, Flops, flops_of_runs
from predict.laws import InputError, get_law
from predict.optimum import Surface, chinchilla_params, data_needed, kaplan_steps_params

HOFFMANN_TABLE_3 = (
    (1.92e19, 400e6, 8.0e9),
    (1.21e20, 1e9, 20.2e9),
    (1.23e22, 10e9, 205.1e9),
    (5.76e23, 67e9, 1.5e12),
    (3.85e24, 175e9, 3.7e12),
    (9.90e24, 280e9, 5.9e12),
    (1.27e26, 1e12, 21.2e12),
)


def surface(theta: np.ndarray, law: str = "chinchilla_scaled", flops: Flops = SIX_ND) -> Surface:
    return Surface(get_law(law), theta[None], flops)


@pytest.mark.parametrize(("flops", "params", "tokens"), HOFFMANN_TABLE_3)
def test_hoffmanns_table_of_optimal_sizes_follows_from_one_of_its_rows(
    flops: float, params: float, tokens: float
) -> None:
    found = HOFFMANN_ENVELOPE.params(flops)
    assert found == pytest.approx(params, rel=0.04)
    assert flops / 6 / found == pytest.approx(tokens, rel=0.05)


def test_hoffmanns_third_approach_gives_46_and_54_hundredths_from_its_own_constants() -> None:
    (size,), (data,) = surface(HOFFMANN_LAW).exponents(5.76e23)
    assert size == pytest.approx(0.2849083 / (0.33917084 + 0.2849083), abs=1e-6)
    assert (round(size, 2), round(data, 2)) == (0.46, 0.54)
    (best,) = surface(HOFFMANN_LAW).best_params(5.76e23)
    assert best == pytest.approx(40.4e9, rel=2e-3)
    assert 5.76e23 / 6 / best == pytest.approx(2.38e12, rel=2e-3)


def test_the_replication_gives_51_hundredths_and_about_20_tokens_a_parameter() -> None:
    (size,), _ = surface(BESIROGLU.theta()).exponents(5.76e23)
    assert size == pytest.approx(0.513, abs=5e-4)
    (best,) = surface(BESIROGLU.theta()).best_params(5.76e23)
    assert 15 < 5.76e23 / 6 / best**2 < 25


@pytest.mark.parametrize("theta", [HOFFMANN_LAW, BESIROGLU.theta(), MUENNIGHOFF.theta(), EQUAL])
def test_the_search_finds_the_closed_form(theta: np.ndarray) -> None:
    for flops in (1e18, 1e22, 1e26):
        assert surface(theta).best_params(flops)[0] == pytest.approx(
            chinchilla_params(theta, flops), rel=1e-4
        )


def test_equal_exponents_split_a_budget_evenly() -> None:
    gadre = [*np.log([141.3, 189.5]), 0.1212, 1.508]
    for chosen in (surface(EQUAL), surface(np.array(gadre), "gadre")):
        (size,), (data,) = chosen.exponents(1e22)
        assert size == pytest.approx(0.5, abs=1e-6)
        assert data == pytest.approx(0.5, abs=1e-6)


def test_gadres_law_is_its_codes_form_on_its_constants_for_c4() -> None:
    a, b, eta, floor = 141.3, 189.5, 0.1212, 1.508
    params, tokens = 411.6e6, 20 * 411.6e6
    value = get_law("gadre").value([np.log(a), np.log(b), eta, floor], params, tokens)[0]
    ratio, flops = tokens / params, 6 * params * tokens
    assert value == pytest.approx(floor + (a * ratio**eta + b * ratio**-eta) * flops**-eta)
    codes = a * 6**-eta * params ** (-2 * eta) + b * 6**-eta * (ratio * params) ** (-2 * eta)
    assert value == pytest.approx(floor + codes)


def test_gadres_optimal_tokens_a_parameter_do_not_depend_on_the_budget() -> None:
    theta = np.array([np.log(141.3), np.log(189.5), 0.1212, 1.508])
    for flops in (1e19, 1e24):
        (best,) = surface(theta, "gadre").best_params(flops)
        assert flops / 6 / best**2 == pytest.approx((189.5 / 141.3) ** (1 / 0.2424), rel=1e-3)


def test_kaplans_laws_are_the_published_formulas() -> None:
    for name, constants, x in (
        ("kaplan_n", KAPLAN_N, 1.5e9),
        ("kaplan_d", KAPLAN_D, 2.2e10),
        ("kaplan_c", KAPLAN_C, 1e23),
    ):
        exponent, scale = constants
        value = get_law(name).value(power_theta(constants, UNITS[name]), x)[0]
        assert value == pytest.approx((scale / x) ** exponent)
    joint = get_law("kaplan").value(KAPLAN.theta(), 1.5e9, 2.2e10)[0]
    inner = (6.4e13 / 1.5e9) ** (0.076 / 0.103) + 1.8e13 / 2.2e10
    assert joint == pytest.approx(inner**0.103)
    steps = get_law("kaplan_steps").value(KAPLAN_STEPS.theta(), 1.5e9, 1e5)[0]
    assert steps == pytest.approx((6.5e13 / 1.5e9) ** 0.077 + (2.1e3 / 1e5) ** 0.76)
    assert Kaplan.of(KAPLAN.theta()).tokens == pytest.approx(1.8e13)
    assert KaplanSteps.of(KAPLAN_STEPS.theta()).steps == pytest.approx(2.1e3)


def test_kaplans_bound_on_overfitting_is_about_5000_n_to_the_074() -> None:
    bound = data_needed(KAPLAN)
    assert bound.exponent == pytest.approx(0.738, abs=1e-3)
    assert bound.factor == pytest.approx(5519, abs=1)
    law, params = get_law("kaplan"), 1e9
    at_bound = law.value(KAPLAN.theta(), params, bound.tokens(params))[0]
    endless = law.value(KAPLAN.theta(), params, 1e30)[0]
    assert at_bound / endless == pytest.approx(1.02, abs=1e-6)


def test_kaplans_law_of_n_and_d_has_the_exponent_of_its_alphas() -> None:
    (size,), _ = surface(KAPLAN.theta(), "kaplan").exponents(1e22)
    assert size == pytest.approx(0.103 / (0.076 + 0.103), abs=1e-6)


def test_kaplans_law_of_n_and_s_is_lowest_where_brute_force_finds_it() -> None:
    flops = 100 * PF_DAY
    sizes = np.geomspace(1e9, 1e12, 4001)
    known = KAPLAN_STEPS
    loss = np.full(len(sizes), 3.0)
    for _ in range(500):  # the critical batch depends on the loss that it leads to
        steps = flops / (6 * sizes * known.batch / loss ** (1 / known.alpha_b))
        loss = (known.params / sizes) ** known.alpha_n + (known.steps / steps) ** known.alpha_s
    assert kaplan_steps_params(known, flops) == pytest.approx(sizes[loss.argmin()], rel=2e-3)


def test_kaplans_constants_give_068_where_the_paper_reports_073() -> None:
    sizes = [kaplan_steps_params(KAPLAN_STEPS, c) for c in (PF_DAY, 10 * PF_DAY)]
    assert np.log10(sizes[1] / sizes[0]) == pytest.approx(0.68, abs=0.005)
    sizes = [KAPLAN_POWERS.params(c) for c in (PF_DAY, 10 * PF_DAY)]
    assert sizes[0] == pytest.approx(1.3e9)
    assert sizes[1] / sizes[0] == pytest.approx(10**0.73)


def test_repeated_tokens_are_worth_less_and_no_more_than_r_times_the_unique_ones() -> None:
    theta = np.r_[MUENNIGHOFF.theta(), REPEATS]
    law, plain = get_law("repeated"), get_law("chinchilla_scaled")
    size, unique = 1e9, 1e11
    once = law.value(theta, size, unique, unique)[0]
    assert once == pytest.approx(plain.value(theta[:5], size, unique)[0])
    assert law.value(theta, size, 0.3 * unique, unique)[0] == pytest.approx(
        plain.value(theta[:5], size, 0.3 * unique)[0]
    )
    four = unique * (1 + 15.387756 * (1 - np.exp(-3 / 15.387756)))
    assert law.value(theta, size, 4 * unique, unique)[0] == pytest.approx(
        plain.value(theta[:5], size, four)[0]
    )
    endless = law.value(theta, size, 1e9 * unique, unique)[0]
    assert endless == pytest.approx(plain.value(theta[:5], size, 16.387756 * unique)[0])


def test_a_model_too_big_for_its_unique_tokens_loses_a_part_of_its_size() -> None:
    theta = np.r_[MUENNIGHOFF.theta(), REPEATS]
    unique = 1e10
    a, alpha, b, beta = theta[:4]
    # The params that the unique tokens are compute-optimal for.
    fitting = 1e9 * (alpha / beta * np.exp(a - b) * (unique / 1e11) ** beta) ** (1 / alpha)
    worth = fitting * (1 + 5.309743 * (1 - np.exp(-9 / 5.309743)))
    value = get_law("repeated").value(theta, 10 * fitting, unique, unique)[0]
    assert value == pytest.approx(get_law("chinchilla_scaled").value(theta[:5], worth, unique)[0])


def test_scarce_data_ask_for_a_smaller_model_trained_longer() -> None:
    law, theta = get_law("repeated"), np.r_[MUENNIGHOFF.theta(), REPEATS][None]
    (scarce,) = Surface(law, theta, unique_tokens=1e10).best_params(1e22)
    (plenty,) = Surface(law, theta, unique_tokens=1e13).best_params(1e22)
    assert plenty == pytest.approx(chinchilla_params(theta[0], 1e22), rel=1e-4)
    assert scarce < 0.95 * plenty


def test_the_cheapest_model_is_the_one_that_brute_force_finds() -> None:
    chosen, target, served = surface(HOFFMANN_LAW), 2.1, 3e12
    (size,), (tokens,) = chosen.cheapest(target, served)
    sizes = np.geomspace(1e9, 1e12, 20001)
    many = Surface(chosen.law, np.repeat(HOFFMANN_LAW[None], len(sizes), axis=0))
    data = many.tokens_for(sizes, target)
    cost = 6 * sizes * data + 2 * sizes * served
    assert size == pytest.approx(sizes[cost.argmin()], rel=1e-3)
    assert 6 * size * tokens + 2 * size * served == pytest.approx(cost.min(), rel=1e-6)
    assert chosen.loss(np.array([size]), np.array([tokens]))[0] == pytest.approx(target, abs=1e-9)


def test_a_model_that_serves_nothing_is_the_compute_optimal_one() -> None:
    chosen = surface(HOFFMANN_LAW)
    best = chosen.best_params(1e23)
    loss = float(chosen.loss(best, 1e23 / 6 / best)[0])
    (size,), (tokens,) = chosen.cheapest(loss, 0.0)
    assert size == pytest.approx(best[0], rel=1e-4)
    assert 6 * size * tokens == pytest.approx(1e23, rel=1e-6)


def test_the_more_a_model_serves_the_smaller_and_the_longer_trained_it_is() -> None:
    found = [surface(HOFFMANN_LAW).cheapest(2.1, served) for served in (0, 1e11, 1e12, 1e13, 1e14)]
    sizes = [size[0] for size, _ in found]
    tokens = [data[0] for _, data in found]
    assert sizes == sorted(sizes, reverse=True)
    assert tokens == sorted(tokens)
    assert sizes[-1] < sizes[0] / 3


def test_no_model_reaches_a_loss_below_the_floor() -> None:
    assert not np.isfinite(surface(HOFFMANN_LAW).cheapest(HOFFMANN.floor - 0.01, 1e12)[0][0])
    assert np.isfinite(surface(HOFFMANN_LAW).cheapest(HOFFMANN.floor + 0.01, 1e12)[0][0])


def test_any_two_of_params_tokens_and_flops_give_the_third() -> None:
    for flops in (SIX_ND, Flops(9.0, 0.6)):
        spent = float(flops.of(7e9, 4e12))
        assert float(flops.tokens(7e9, spent)) == pytest.approx(4e12)
        assert flops.params(4e12, spent) == pytest.approx(7e9)
    assert float(SIX_ND.of(7e9, 4e12)) == 6 * 7e9 * 4e12


def test_flops_beyond_6nd_are_found_again_and_bad_ones_refused() -> None:
    params, tokens = np.array([1e8, 3e8, 1e9]), np.array([2e9, 6e9, 2e10])
    exact = Flops(float(np.log(2300)), 2 / 3)
    found = flops_of_runs(params, tokens, exact.of(params, tokens))
    assert found.log_excess == pytest.approx(exact.log_excess)
    assert found.power == pytest.approx(2 / 3)
    assert found.name == "table"
    for broken, why in (
        (5.9 * params * tokens, "at or below 6ND"),
        (np.array([np.nan, 1, 1]), "empty"),
    ):
        with pytest.raises(InputError, match=why):
            flops_of_runs(params, tokens, broken)
    with pytest.raises(InputError, match="one size"):
        flops_of_runs(params[[0, 0, 0]], tokens, 7 * params[0] * tokens)
