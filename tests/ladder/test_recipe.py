"""Each rule, by hand."""

from __future__ import annotations

import pytest

from ladder import recipe


def test_tokens_batch_rate_and_steps() -> None:
    assert recipe.chinchilla_tokens(190_354_176, 5) == 19_035_417_600
    assert recipe.batch_sequences(1_000_000, 40) == 25
    assert recipe.batch_sequences(100, 40) == 2
    assert recipe.learning_rate(16, 0.2) == pytest.approx(0.05)
    assert recipe.steps(1001, 100) == 11
    assert recipe.steps(1000, 100) == 10
    assert recipe.warmup_steps(95, 0.1) == 10


def test_the_published_rules() -> None:
    assert recipe.learning_rate_by_params(108_000_000, 2048) == pytest.approx(0.0047)
    assert recipe.learning_rate_by_params(108_000_000, 512) == pytest.approx(0.0047)
    assert recipe.learning_rate_by_params(864_000_000, 4096) == pytest.approx(0.0047 / 2 / 4)
    assert recipe.batch_sequences_by_params(108_000_000, 2048, 32) == 160
    assert recipe.batch_sequences_by_params(108_000_000, 4096, 32) == 64
    assert recipe.warmup_steps_by_params(190_354_176, 524_288) == 363


def test_a_stable_schedule_stays_at_the_peak_until_it_falls() -> None:
    def rate(step: int) -> float:
        return recipe.scheduled(step, 100, 10, 2.0, "wsd", 0.1, decay=0.2)

    assert recipe.decay_begin(100, 10, 0.2) == 80
    assert recipe.decay_begin(100, 90, 0.2) == 90
    assert recipe.decay_begin(100, 300, 0.2) == 99
    assert rate(5) == pytest.approx(1.0)
    assert {rate(step) for step in (10, 11, 50, 80)} == {2.0}
    assert rate(90) == pytest.approx(2.0 * 0.55)
    assert rate(100) == pytest.approx(0.2)


def test_the_schedule_rises_to_the_peak_and_falls_to_the_end() -> None:
    def rate(step: int, schedule: str, final: float = 0.0) -> float:
        return recipe.scheduled(step, 100, 10, 2.0, schedule, final)

    for schedule in ("linear", "cosine"):
        assert rate(5, schedule) == pytest.approx(1.0)
        assert rate(10, schedule) == pytest.approx(2.0)
        assert rate(55, schedule) == pytest.approx(1.0)
        assert rate(100, schedule) == pytest.approx(0.0, abs=1e-12)
        assert rate(100, schedule, 0.1) == pytest.approx(0.2)
    assert rate(32, "cosine") > rate(32, "linear")
    assert recipe.scheduled(1, 1, 0, 2.0, "linear", 0.5) == pytest.approx(1.0)
