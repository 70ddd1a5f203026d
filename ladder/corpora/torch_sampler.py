"""Draws walks of a sparse chain on a torch device, of the same distribution as the numpy sampler.

Training takes the numpy sampler on every device, so that its batches do not depend on where it
runs; a batch of 100 sequences takes numpy about a millisecond. This one is for millions of walks
at once (benchmarks/walk_sampler.md).
"""

from __future__ import annotations

import numpy as np
import torch

from ladder.corpora.sampler import Sampler

TORCH = 15
"""Stream of the seeds of torch's generators."""


class TorchSampler:
    """Walks of a sampler's chain on a device."""

    def __init__(self, sampler: Sampler, device: torch.device | str) -> None:
        self.device = torch.device(device)
        chain = sampler.chain
        self.independent = chain.independent
        self.firsts = self._tensor(sampler.firsts)
        self.nodes, self.starts = self._tensor(chain.nodes), self._tensor(chain.starts)
        self.degrees = self._tensor(chain.degrees)
        self.aliases: tuple[torch.Tensor, torch.Tensor] | None = None
        if not self.independent and not sampler.unbiased:
            tables = sampler.aliases
            self.aliases = self._tensor(tables.shares), self._tensor(tables.nodes)

    def batch(self, seed: int, step: int, sequences: int, length: int) -> torch.Tensor:
        """Sequences of `length` tokens, (B, T): on one kind of device a function of its arguments.

        Needs (B, T) float64 and int64 at once.
        """
        state = np.random.SeedSequence([seed, step, TORCH]).generate_state(1, np.uint64)
        generator = torch.Generator(self.device).manual_seed(int(state[0]) >> 1)
        uniforms = torch.rand(
            (length, sequences), generator=generator, device=self.device, dtype=torch.float64
        )
        if self.independent:
            return torch.searchsorted(self.firsts, uniforms, right=True).T.contiguous()
        walks = torch.empty((length, sequences), dtype=torch.int64, device=self.device)
        walks[0] = torch.searchsorted(self.firsts, uniforms[0], right=True)
        for t in range(1, length):
            now = walks[t - 1]
            scaled = uniforms[t] * self.degrees[now]
            slots = scaled.long()
            places = self.starts[now] + slots
            if self.aliases is None:
                walks[t] = self.nodes[places]
                continue
            shares, others = self.aliases
            own = scaled - slots < shares[places]
            walks[t] = torch.where(own, self.nodes[places], others[places])
        return walks.T.contiguous()

    def _tensor(self, array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(array).to(self.device)
