"""benchmarks/equilibrium.py: its slopes and Adam's random walk are right, its small form runs."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest
from benchmark_scripts import script_of


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return script_of("equilibrium")


def test_a_power_law_has_its_exponent_for_a_slope(script: ModuleType) -> None:
    x = [0.1, 0.5, 1.0, 4.0]
    assert script.slope(x, [3 * v**0.7 for v in x]) == pytest.approx((0.7, 0.0), abs=1e-6)
    found, error = script.slope(x, [3 * v**0.7 * (1.1 if v == 1 else 1) for v in x])
    assert abs(found - 0.7) < 2 * error


def test_adamw_on_noise_is_a_random_walk_with_decay(script: ModuleType) -> None:
    """Its RMS goes as sqrt(rate / decay), 1/sqrt(2) of it but for what Adam's scale adds."""
    sizes = {s: script.walk(s * 0.1, 0.1 / s, 300, seed=0) for s in (0.1, 1.0)}
    assert script.slope(list(sizes), list(sizes.values()))[0] == pytest.approx(1, abs=0.01)
    assert sizes[1.0] == pytest.approx(0.5**0.5, rel=0.12)


def test_the_small_form_prints_its_table_and_draws(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script.main(["--small", "--figure", str(tmp_path / "equilibrium.svg")])
    said = capsys.readouterr().out
    assert "| down_proj |" in said
    assert "AdamW on noise" in said
    assert "</svg>" in (tmp_path / "equilibrium.svg").read_text()
