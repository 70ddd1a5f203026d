"""Networks and kernels of L(N, D), the curve read from them, and every method side by side."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest
from scipy.optimize import minimize

from evaluation.records import InputError
from predict.kernel import fit_kernel
from predict.slices import Point
from predict.surrogate import (
    Shape,
    choose_decay,
    fit_network,
    forward,
    initial,
    limits,
    standardise,
    train,
)
from predict.surrogate_curve import exponents, hull, optimal_curve, optimal_sizes, stretch
from predict.surrogate_methods import compare_methods

SIZES, TOKENS = np.geomspace(1e4, 1e6, 6), np.geomspace(1e6, 1e8, 6)
N, D = (a.ravel() for a in np.meshgrid(SIZES, TOKENS, indexing="ij"))
FOLDS = [size == N for size in SIZES]
Law = Callable[[np.ndarray, np.ndarray], np.ndarray]


def chinchilla(alpha: float, beta: float) -> Law:
    return lambda n, d: 1.7 + 0.4 * (n / 1e5) ** -alpha + 0.4 * (d / 1e7) ** -beta


def broken(n: np.ndarray, d: np.ndarray) -> np.ndarray:
    """The exponent of N goes from .2 to .8 in the middle of the runs."""
    n, d = n / 1e5, d / 1e7
    return 1.7 + 0.5 * n**-0.2 * (1 + n**2) ** -0.3 + 0.5 * d**-0.5


def joined(n: np.ndarray, d: np.ndarray) -> np.ndarray:
    """A term of N and D together."""
    n, d = n / 1e5, d / 1e7
    return 1.7 + 0.3 * n**-0.5 + 0.3 * d**-0.5 + 0.4 * n**-0.6 * d**-0.15


def points(law: Law, noise: float = 0.0, seed: int = 0) -> list[Point]:
    errors = np.exp(noise * np.random.default_rng(seed).standard_normal(len(N)))
    return [Point(*row, 1) for row in zip(N, D, law(N, D) * errors, strict=True)]


@pytest.mark.parametrize("shape", [Shape(4), Shape(4, monotone=True), Shape(3, log=False)])
def test_gradients_are_those_of_finite_differences(shape: Shape) -> None:
    rng = np.random.default_rng(0)
    theta, z = initial(shape, 3, rng), rng.standard_normal((5, 2))
    _, gradient = forward(shape, theta, z)
    for i in range(shape.size):
        step = np.zeros(shape.size)
        step[i] = 1e-6
        up, down = (forward(shape, theta + s * step, z, False)[0] for s in (1, -1))
        assert gradient[..., i] == pytest.approx((up - down) / 2e-6, abs=1e-8)


def test_training_ends_as_low_as_scipys_l_bfgs_from_the_same_start() -> None:
    shape, rng = Shape(), np.random.default_rng(0)
    losses = chinchilla(0.5, 0.5)(N, D) * np.exp(0.002 * rng.standard_normal(len(N)))
    scaler = standardise(N, D, losses)
    z, y = scaler.inputs(N, D), scaler.targets(losses)
    begin, decay = initial(shape, 3, rng), 1e-3
    rows = np.broadcast_to(y, (3, len(y)))
    theta, ours, settled = train(shape, z, rows, np.ones_like(rows), np.full(3, decay), begin)
    weights = np.arange(shape.size) < 3 * shape.hidden

    def cost(t: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = forward(shape, t[None], z)
        off = value[0] - y
        return (
            float(off @ off + decay * (weights * t) @ t),
            2 * (off @ gradient[0] + decay * weights * t),
        )

    assert settled.all()
    assert [cost(t)[0] for t in theta] == pytest.approx(ours)
    theirs = [
        minimize(cost, b, jac=True, method="L-BFGS-B", options={"maxiter": 2000}).fun for b in begin
    ]
    # With fewer units starts end in valleys of their own; with these in one.
    assert max(ours) <= min(theirs) * 1.05


def test_signs_that_are_held_make_a_loss_that_falls_with_n_and_d() -> None:
    shape = Shape(6, monotone=True, log=False)
    losses = chinchilla(0.5, 0.3)(N, D)
    net = fit_network(N, D, losses, FOLDS, shape, 2, decay=1e-5)
    lower, upper = limits(shape)
    assert (net.theta >= lower).all()
    assert (net.theta <= upper).all()
    found = net.loss(*np.meshgrid(np.geomspace(1e3, 1e7, 9), np.geomspace(1e5, 1e9, 9)))
    assert (np.diff(found, axis=1) <= 1e-9).all()
    assert (np.diff(found, axis=2) <= 1e-9).all()


def test_signs_that_are_held_cannot_follow_the_logarithm_of_a_sum_of_powers() -> None:
    """Why they are free: across N and D log(E + A N^-a + B D^-b) bends as no such unit can."""
    losses = chinchilla(1.0, 0.75)(N, D)
    held, free = (
        fit_network(N, D, losses, FOLDS, Shape(6, monotone=m), 2, decay=1e-5).loss(N, D)
        for m in (True, False)
    )
    rms = [np.sqrt((np.log(f / losses) ** 2).mean()) for f in (held, free)]
    assert rms[0] > 10 * rms[1]


def test_a_network_is_the_law_between_the_runs_that_it_saw() -> None:
    law = chinchilla(0.5, 0.5)
    net = fit_network(N, D, law(N, D), FOLDS, members=3, decay=1e-5)
    between = np.sqrt(SIZES[:-1] * SIZES[1:])[:, None], np.sqrt(TOKENS[:-1] * TOKENS[1:])[None]
    found = np.exp(np.log(net.loss(*between)).mean(axis=0))
    assert found == pytest.approx(law(*between), rel=3e-3)
    assert net.settled == 1.0


def test_the_weight_decay_is_the_one_that_errs_least_on_sizes_left_out() -> None:
    losses = np.array([p.loss for p in points(chinchilla(0.5, 0.5), 0.005)])
    net = fit_network(N, D, losses, FOLDS, Shape(4), 2, seed=1)
    assert net.decay == min(net.scores, key=lambda d: net.scores[d])
    again = fit_network(N, D, losses, FOLDS, Shape(4), 2, seed=1)
    assert np.array_equal(net.theta, again.theta)
    scaler = standardise(N, D, losses)
    (large,) = choose_decay(
        Shape(4), scaler, N, D, losses, FOLDS, members=1, decays=(100.0,)
    ).values()
    assert large > 2 * net.scores[net.decay]


def test_a_kernel_is_the_law_between_runs_and_predicts_each_from_the_others() -> None:
    law = chinchilla(0.5, 0.5)
    found = fit_kernel(N, D, law(N, D))
    between = np.sqrt(SIZES[:-1] * SIZES[1:])[:, None], np.sqrt(TOKENS[:-1] * TOKENS[1:])[None]
    assert found.loss(*between)[0] == pytest.approx(law(*between), rel=5e-3)
    i = 14
    kept = np.arange(len(N)) != i
    # The closed form of leave-one-out is the fit without that run, the scales held.
    noisy = np.array([p.loss for p in points(law, 0.01)])
    whole = fit_kernel(N, D, noisy)
    from predict.kernel import _smoother

    solve, _, _ = _smoother(whole.z[kept], whole.lengths, whole.noise)
    weights = solve @ whole.scaler.targets(noisy)[kept]
    apart = (whole.z[i] - whole.z[kept]) / np.array(whole.lengths)
    value = np.r_[np.exp(-0.5 * (apart**2).sum(axis=1)), 1, whole.z[i]] @ weights
    off = whole.scaler.targets(noisy)[i] - value
    assert whole.left_out[i] == pytest.approx(off * whole.scaler.sd, rel=1e-6)


def test_the_hull_of_a_grid_is_its_corners_and_budgets_cross_it() -> None:
    corners = hull(np.stack((np.log(N), np.log(D)), axis=-1))
    assert len(corners) == 4
    over = stretch(N, D)
    sizes, tokens = over.places()
    assert sizes.min() >= 1e4 * 0.999
    assert sizes.max() <= 1e6 * 1.001
    assert tokens.min() >= 1e6 * 0.999
    assert tokens.max() <= 1e8 * 1.001
    assert (6 * sizes * tokens).std(axis=1) == pytest.approx(0, abs=1e-3 * over.flops.max())
    # With 20 to 40 tokens a parameter the hull is a band and no wider.
    multiples = np.concatenate([20 * SIZES, 40 * SIZES])
    band, _ = stretch(np.tile(SIZES, 2), multiples).places()
    ratio = stretch(np.tile(SIZES, 2), multiples).flops[:, None] / 6 / band**2
    assert ratio.min() >= 19.9
    assert ratio.max() <= 40.1


def test_runs_of_one_ratio_have_no_inside() -> None:
    with pytest.raises(InputError, match="lie on one line"):
        stretch(SIZES, 20 * SIZES)


@pytest.mark.parametrize(("alpha", "beta"), [(0.34, 0.28), (0.5, 0.5), (1.0, 0.749)])
def test_the_curve_of_a_law_has_its_closed_exponent(alpha: float, beta: float) -> None:
    law, over = chinchilla(alpha, beta), stretch(N, D)
    curve = optimal_curve(lambda n, d: law(n, d)[None], over)
    assert curve.exponent == pytest.approx(beta / (alpha + beta), abs=2e-3)
    seen = np.isfinite(curve.params)
    best = 1e5 * (alpha / beta * (curve.flops / 6e12) ** beta) ** (1 / (alpha + beta))
    assert curve.params[seen] == pytest.approx(best[seen], rel=0.01)


def test_a_best_size_outside_the_runs_is_none_and_says_so() -> None:
    def falling(n: np.ndarray, d: np.ndarray) -> np.ndarray:
        return (2 + (n / 1e5) ** -0.5 + 0 * d)[None]

    curve = optimal_curve(falling, stretch(N, D))
    assert np.isnan(curve.params).all()
    assert np.isnan(curve.exponent)
    assert "0 of 31 budgets have their best size inside the runs" in curve.reason
    found = compare_methods(
        [Point(n, d, float(falling(n, d)[0]), 1) for n, d in zip(N, D, strict=True)],
        0,
        methods=("kernel",),
    )
    method = found.named("kernel")
    assert (method.status, method.exponent) == ("no_exponent", None)
    assert set(method.optimal_params) == {None}


@pytest.mark.parametrize(("alpha", "beta"), [(0.34, 0.28), (1.0, 0.75)])
def test_neural_and_parametric_exponents_agree_where_the_law_is_right(
    alpha: float, beta: float
) -> None:
    found = compare_methods(points(chinchilla(alpha, beta), 0.001), 20, held_out=False)
    neural, parametric = found.named("neural").exponent, found.named("parametric").exponent
    assert parametric.value == pytest.approx(beta / (alpha + beta), abs=0.01)
    assert neural.value == pytest.approx(beta / (alpha + beta), abs=0.03)
    assert neural.lower80 <= parametric.upper80
    assert neural.upper80 >= parametric.lower80


@pytest.mark.parametrize("law", [broken, joined])
def test_the_network_errs_less_than_the_parametric_law_where_that_is_wrong(law: Law) -> None:
    found = compare_methods(points(law, 0.001), 0, methods=("parametric", "neural"), held_out=False)
    over = stretch(N, D)
    best = optimal_sizes(law(*over.places())[None], over)[0]
    errors = {}
    for method in found.methods:
        own = np.log([v or np.nan for v in method.optimal_params])
        errors[method.name] = np.sqrt(np.nanmean((own - best) ** 2))
    assert errors["neural"] < 0.6 * errors["parametric"]
    true = float(exponents(best[None], over.flops, np.ones(len(best), dtype=bool))[0])
    assert found.named("neural").exponent.value == pytest.approx(true, abs=0.05)


def test_on_runs_held_out_the_wrong_law_errs_most() -> None:
    found = compare_methods(points(joined, 0.001), 0)
    parametric, neural, kernel = found.methods
    assert neural.held_out_run < 0.5 * parametric.held_out_run
    assert kernel.held_out_run < 0.5 * parametric.held_out_run
    assert neural.held_out_largest < 0.5 * parametric.held_out_largest


def test_the_laws_floor_has_an_interval_that_holds_the_truth() -> None:
    found = compare_methods(points(chinchilla(0.5, 0.5), 0.002), 60, methods=("parametric",))
    floor, low, high = found.named("parametric").floor
    assert low < floor < high
    assert low < 1.7 < high
    assert high - low < 0.2


def test_too_little_to_fit_is_one_clear_line() -> None:
    with pytest.raises(InputError, match="2 sizes: a fit of N and D needs 3"):
        compare_methods([p for p in points(broken) if p.params < 3e4])
    few = [p for p in points(broken) if p.params < 7e4 and p.tokens < 3e6]
    found = compare_methods(few, 0)
    assert found.named("neural").status == "impossible"
    assert "needs 9 or more" in found.named("neural").reason
    with pytest.raises(InputError, match="methods forest: unknown"):
        compare_methods(points(broken), methods=("forest",))
    with pytest.raises(InputError, match="one size, one token count or one loss"):
        standardise(N, np.full(len(N), 1e6), np.ones(len(N)))


def test_the_document_is_json() -> None:
    found = compare_methods(points(broken, 0.002), 10, methods=("parametric", "kernel"))
    document = json.loads(json.dumps(found.document(), allow_nan=False))
    assert [m["name"] for m in document["methods"]] == ["parametric", "kernel"]
    assert len(document["methods"][0]["optimal_params"]) == len(document["flops"])
    assert "surface" not in document["methods"][0]
