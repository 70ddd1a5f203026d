"""What GPUs can do, and the hours that training needs of them at a stated MFU; no torch."""

from __future__ import annotations

from evaluation.files import InputError
from ladder.plan import Rung
from ladder.shapes import model_flops_per_token

PEAK_FLOPS = {
    "H100 PCIe": 756e12,
    "H100 NVL": 835e12,
    "A100": 312e12,
    "H100": 989e12,
    "H200": 989e12,
    "B200": 2250e12,
}
"""Dense bf16 FLOPs a second by what the GPU's name holds, the first that fits (NVIDIA's data
sheets)."""

USUAL_GPU = "H100"
"""The GPU that hours are told of where none is named."""


def gpu_hours(rung: Rung, gpu: str, mfu: float) -> float:
    """Hours of one GPU for the rung's tokens, its trunk's included, at an MFU of `mfu`.

    tokens x (6N + 12 L d S) / (mfu x peak) / 3600 (PaLM, arXiv 2204.02311, appendix B); scoring and
    saving not counted. Raises InputError where the GPU is unknown or `mfu` is no share above 0.
    """
    if gpu not in PEAK_FLOPS:
        raise InputError(f"--gpu {gpu}: is not known; there are {', '.join(PEAK_FLOPS)}")
    if not 0 < mfu <= 1:
        raise InputError(f"--mfu {mfu:g}: must be above 0 and at most 1, such as 0.4")
    per_token = model_flops_per_token(rung.params, rung.shape, rung.sequence_length)
    return rung.tokens * per_token / (mfu * PEAK_FLOPS[gpu]) / 3600
