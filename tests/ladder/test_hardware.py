"""GPU-hours by hand, and what is no GPU or no share."""

from __future__ import annotations

import pytest

from evaluation.files import InputError
from ladder.config import load_config
from ladder.hardware import PEAK_FLOPS, gpu_hours
from ladder.plan import Rung, make_plan


@pytest.fixture(scope="module")
def rung() -> Rung:
    return make_plan(load_config("olmo2")).run("190M-1xC")


def test_hours_are_tokens_by_palms_flops_over_the_share_of_the_peak(rung: Rung) -> None:
    # 6 x 190,354,176 + 12 x 12 layers x 768 x 4096 FLOPs a token
    per_token = 1_142_125_056 + 452_984_832
    # 3,807,083,520 tokens at 0.4 x 989e12 FLOPs a second
    seconds = 3_807_083_520 * per_token / 395.6e12
    assert seconds == pytest.approx(15_350.6, abs=0.1)
    assert gpu_hours(rung, "H100", 0.4) == pytest.approx(seconds / 3600)
    assert gpu_hours(rung, "A100", 0.4) == pytest.approx(seconds / 3600 * 989 / 312)
    assert gpu_hours(rung, "H100", 0.2) == pytest.approx(2 * seconds / 3600)


def test_an_unknown_gpu_is_refused_with_the_known_ones(rung: Rung) -> None:
    with pytest.raises(InputError, match=r"--gpu V100: is not known; there are .*A100, H100"):
        gpu_hours(rung, "V100", 0.4)


@pytest.mark.parametrize("mfu", [0.0, -0.1, 1.01, 40.0, float("nan")])
def test_a_utilisation_must_be_a_share_above_0(rung: Rung, mfu: float) -> None:
    with pytest.raises(InputError, match=r"--mfu .*: must be above 0 and at most 1"):
        gpu_hours(rung, "H100", mfu)


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA H100 NVL", 835e12),
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA H200", 989e12),
    ],
)
def test_the_first_name_that_fits_is_the_gpus_own(name: str, peak: float) -> None:
    assert next(flops for known, flops in PEAK_FLOPS.items() if known in name) == peak
