"""Every registered law: gradients, bounds and starts."""

from __future__ import annotations

import numpy as np
import pytest

from predict.fit import Objective, fit
from predict.laws import INPUTS, LAWS, InputError, get_law, law_inputs, register

POINTS = {
    "params": np.geomspace(1e8, 1e10, 7),
    "tokens": np.geomspace(4e9, 4e12, 7),
    "loss": np.linspace(0.4, 1.6, 7),
    "flops": np.geomspace(1e19, 1e23, 7),
    "steps": np.geomspace(1e3, 1e6, 7),
    "unique_tokens": np.geomspace(3e9, 3e10, 7),
}
THETA = {
    "chinchilla": [5.0, 0.3, 6.0, 0.28, 0.7],
    "chinchilla_scaled": [-1.0, 0.3, -0.8, 0.28, 0.7],
    "compute": [8.0, 0.2, 0.7],
    "single_step": [0.5, 0.4, 0.4, 0.3, -2.5, -0.7, 0.95],
    "sigmoid": [-0.7, 0.9, 5.0, 0.95],
    "log_sigmoid": [-0.1, 0.8, 6.0],
    "log_logistic": [-0.7, 0.9, 5.0, 0.95],
    "weibull": [-0.7, 0.9, 5.0, 0.95],
    "kaplan_n": [0.9, 0.076],
    "kaplan_d": [0.6, 0.095],
    "kaplan_c": [0.8, 0.05],
    "kaplan": [0.84, 0.076, -0.31, 0.103],
    "kaplan_steps": [0.9, 0.077, 0.2, 0.76],
    "gadre": [4.95, 5.24, 0.1212, 1.508],
    "gadre_error": [2.079, 0.756, 0.85],
    "repeated": [-1.05, 0.35, -1.6, 0.37, 1.87, 15.4, 5.3],
    "krajewski": [-1.5, 0.3, -1.4, 0.25],
    "krajewski_compute": [-0.2, 0.15],
}


@pytest.mark.parametrize("name", LAWS)
def test_the_gradient_is_that_of_the_value(name: str) -> None:
    law, theta = LAWS[name], np.array(THETA[name])
    inputs = [POINTS[i] for i in law.inputs]
    _, gradient = law.evaluate(theta, inputs)
    for i in range(len(theta)):
        step = np.zeros_like(theta)
        step[i] = 1e-6 * max(1, abs(theta[i]))
        upper, lower = law.value(theta + step, *inputs), law.value(theta - step, *inputs)
        assert gradient[:, i] == pytest.approx((upper - lower) / (2 * step[i]), rel=1e-5, abs=1e-9)


@pytest.mark.parametrize("name", LAWS)
def test_the_law_is_recovered_from_its_own_values(name: str) -> None:
    law, theta = LAWS[name], np.array(THETA[name])
    rng = np.random.default_rng(0)
    inputs = [np.repeat(POINTS[i], 6) * np.exp(0.3 * rng.standard_normal(42)) for i in law.inputs]
    objective = Objective(delta=1e-3, log=True) if "params" in law.inputs else Objective()
    found = fit(law, [x[None] for x in inputs], law.value(theta, *inputs)[None], objective)[0]
    assert found.theta == pytest.approx(theta, rel=0.01)
    assert found.certified


def test_links_fall_from_a_ceiling_and_are_one_at_the_ideal_point() -> None:
    for name in ("sigmoid", "log_sigmoid", "log_logistic", "weibull"):
        law, theta = LAWS[name], list(THETA[name])
        if "b" in law.names:
            theta[law.names.index("b")] = 1.0
        values = law.value(theta, np.linspace(0, 3, 50))
        assert (np.diff(values) <= 0).all()
        assert values[0] == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("name", LAWS)
def test_parameters_are_named_bounded_and_explained(name: str) -> None:
    law = LAWS[name]
    assert len(set(law.names)) == len(law.names)
    assert law.source
    for parameter in law.parameters:
        assert parameter.lower < parameter.upper
        assert parameter.meaning
        assert parameter.linear != (parameter.grid is not None)


def test_the_laws_are_the_published_formulas() -> None:
    loss = LAWS["chinchilla"].value([np.log(400), 0.34, np.log(410), 0.28, 1.69], 7e10, 1.4e12)
    assert loss[0] == pytest.approx(400 / 7e10**0.34 + 410 / 1.4e12**0.28 + 1.69)
    accuracy = LAWS["sigmoid"].value([-0.73, 0.77, 12.74, 0.99], 0.67)
    assert accuracy[0] == pytest.approx(-0.73 / (1 + np.exp(-12.74 * (0.67 - 0.77))) + 0.99)


def test_an_unknown_law_and_a_second_one_of_a_name_are_refused() -> None:
    with pytest.raises(InputError, match="there are chinchilla"):
        get_law("chinchila")
    with pytest.raises(ValueError, match="twice"):
        register(LAWS["chinchilla"])


def test_inputs_are_taken_by_name_flops_follow_and_what_lacks_is_named() -> None:
    given = {"params": np.array([1e9]), "tokens": np.array([2e10])}
    assert law_inputs(LAWS["kaplan_c"], given)[0] == pytest.approx(1.2e20)
    assert law_inputs(LAWS["kaplan_c"], {**given, "flops": np.array([7.0])})[0] == 7.0
    assert [x[0] for x in law_inputs(LAWS["kaplan"], given)] == [1e9, 2e10]
    with pytest.raises(InputError, match="law kaplan_steps: takes steps"):
        law_inputs(LAWS["kaplan_steps"], given)
    assert {name for law in LAWS.values() for name in law.inputs} <= set(INPUTS)


def test_the_error_law_is_gadres_on_its_constants() -> None:
    accuracy = LAWS["gadre_error"].value([2.079, 0.756, 0.85], 2.5)[0]
    assert 1 - accuracy == pytest.approx(0.85 - 2.079 * np.exp(-0.756 * 2.5))


def test_krajewskis_two_forms_are_one_along_a_fixed_ratio() -> None:
    flops = np.geomspace(1e19, 1e23, 5)
    size = np.sqrt(flops / 120)
    direct = LAWS["krajewski"].value([0.1, 0.4, -0.2, 0.4], size, 20 * size)
    logs = np.polyfit(np.log(flops / 1e21), np.log(direct), 1)
    alone = LAWS["krajewski_compute"].value([logs[1], -logs[0]], flops)
    assert alone == pytest.approx(direct, rel=1e-9)
