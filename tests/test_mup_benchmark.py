"""benchmarks/mup.py: its search finds the best rate, its small form runs and goes on."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest
from benchmark_scripts import script_of


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return script_of("mup")


def test_the_search_ends_at_the_best_rate_of_every_width(script: ModuleType) -> None:
    places = {16: -4.3, 32: -6.8, 64: -7.9, 128: -1.2}
    methods = ["AdamW, standard", "AdamW, muP"]

    def loss(run: object) -> float:
        place = places[16] if run.width == 16 else places[run.width] + ("muP" in run.method)
        return 2 + 0.01 * (run.power - place) ** 2 + 0.001 * run.seed * run.power

    losses: dict = {}
    while runs := script.missing(losses, script.FULL, methods):
        assert not set(runs) & losses.keys()
        losses.update({run: loss(run) for run in runs})
    assert not any(run.width == 16 and "muP" in run.method for run in losses)
    for method in methods:
        for width in places:
            place = places[width] + ("muP" in method and width > 16)
            # Seed s shifts the parabola by -0.05 s; their mean by -0.05.
            found, error = script.optimum(losses, script.FULL, method, width)
            assert found == pytest.approx(place - 0.05)
            assert error == pytest.approx(0.05 / 3**0.5)
    report = script.report(losses, script.FULL, methods)
    assert f"| {places[128] - places[16]:+.2f} ± 0.04 |" in report


def test_runs_that_broke_down_are_no_best_rate(script: ModuleType) -> None:
    inf = float("inf")
    assert script.vertex([-5, -4, -3], [1.0, 0.0, inf], -4) == -4
    assert script.vertex([-5, -4, -3], [1.0, 0.5, 1.0], -4) == pytest.approx(-4)
    assert script.vertex([-5, -4, -3, -2], [1.0, 0.25, 0.0, inf], -3) == pytest.approx(-3)
    assert script.vertex([-5, -4, -3], [0.0, 0.5, 0.0], -5) == -5
    # Two rates tell no place, and one far off none within two steps.
    assert script.vertex([-5, -4], [1.0, 0.5], -4) == -4
    assert script.vertex([-5, -4, -3], [3.0, 2.0, 1.01], -3) == -1


def test_the_small_form_runs_and_does_nothing_twice(script: ModuleType, tmp_path: Path) -> None:
    out, figure, kept = tmp_path / "mup.md", tmp_path / "mup.svg", tmp_path / "mup.jsonl"
    command = ["--small", "--workers", "1"]
    command += ["--methods", "AdamW, standard", "AdamW, muP", "Muon match_rms_adamw, muP"]
    command += ["--folder", str(tmp_path), "--results", str(kept)]
    command += ["--out", str(out), "--figure", str(figure)]
    script.main(command)
    assert "| AdamW, muP | 2^" in out.read_text()
    assert "<svg" in figure.read_text()
    lines = kept.read_text().splitlines()
    kept.write_text("\n".join(lines[:-1]) + "\n" + lines[-1][:9])
    before = out.read_text()
    script.main(command)
    assert out.read_text() == before
    assert sorted(kept.read_text().splitlines()) == sorted(lines)
