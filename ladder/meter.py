"""How fast a rung trains: tokens a second, share of the hardware's arithmetic, memory."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ladder.hardware import PEAK_FLOPS
from ladder.parallel import Parallel
from ladder.plan import Rung
from ladder.settings import Execution
from ladder.shapes import model_flops_per_token


class Meter:
    """Time of the steps alone, from when it is made: scoring and saving are not counted."""

    def __init__(self, rung: Rung, execution: Execution, parallel: Parallel) -> None:
        self.rung = rung
        self.parallel = parallel
        self.steps = 0
        self.spent = 0.0
        self.told = (0, 0.0)  # Steps and seconds as they were at the last reading.
        self.last = self.reported = time.monotonic()
        self.peak = execution.peak_flops or _known_peak(parallel.device)

    def stepped(self) -> None:
        """Note that a step has ended."""
        now = time.monotonic()
        self.spent += now - self.last
        self.last = now
        self.steps += 1

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Around what is not training."""
        yield
        self.last = time.monotonic()

    def due(self, seconds: float) -> bool:
        """Whether so many seconds have passed since this was last true."""
        if self.last - self.reported < seconds:
            return False
        self.reported = self.last
        return True

    @property
    def tokens_per_second(self) -> float:
        """Tokens of all ranks a second, since training began or went on."""
        return self.steps * self.rung.batch_tokens / max(self.spent, 1e-9)

    def read(self) -> dict[str, float]:
        """What metrics.jsonl says of speed since the last reading, so that its lines add up.

        MFU where the hardware's peak is known.
        """
        steps, spent = self.steps - self.told[0], self.spent - self.told[1]
        self.told = self.steps, self.spent
        speed = steps * self.rung.batch_tokens / max(spent, 1e-9)
        found = {"tokens_per_second": round(speed, 1)}
        if self.peak:
            per_token = model_flops_per_token(
                self.rung.params, self.rung.shape, self.rung.sequence_length
            )
            found["mfu"] = speed * per_token / (self.peak * self.parallel.world)
        if self.parallel.device.type == "cuda":
            found["memory_gib"] = torch.cuda.max_memory_allocated() / 2**30
        return found


def _known_peak(device: torch.device) -> float | None:
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((peak for known, peak in PEAK_FLOPS.items() if known in name), None)
