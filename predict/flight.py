"""A run in flight: what it is, where it will end, and which of its checkpoints are looked at."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pandas as pd

from evaluation.records import InputError
from predict.numbers import human
from predict.task_fit import Target

ROUNDED = 0.01
"""Share of a run by which a checkpoint's step may at most have been rounded past its place."""


@dataclass(frozen=True)
class Flight:
    """A run in flight: what it is, where it will end, and how much of it is looked at."""

    run: str
    params: float
    tokens: float
    """Where it will end."""
    share: float = 1.0
    """Share of those tokens up to which its checkpoints are used."""
    horizon: float | None = None
    """Tokens at which its learning-rate schedule was set to end; by default where it ends."""

    @property
    def target(self) -> Target:
        """What the ladder predicts."""
        return Target(self.run, self.params, self.tokens)

    def seen(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Those of the run's rows that its share holds.

        A share of 70% holds the checkpoint at 70%, whose step may have been rounded up: by half a
        step, and never by more than ROUNDED of the run, where `step` only counts checkpoints.
        """
        half = (rows["tokens"] / (2 * rows["step"].clip(lower=1))).fillna(0.0)
        slack = half.clip(lower=1e-6 * self.tokens, upper=ROUNDED * self.tokens)
        until = self.share * self.tokens + slack
        return rows[(rows["tokens"] > 0) & (rows["tokens"] <= until)]


def flight_of(
    observations: pd.DataFrame,
    run: str,
    tokens: float | None = None,
    share: float | None = None,
    horizon: float | None = None,
) -> Flight:
    """The flight of a run in the table, checked.

    `tokens` is where it will end, by default, for a run that has ended and a `share` of it, its
    last; `share` in (0, 1] leaves later checkpoints out. Raises InputError for a run that is not
    in the table or has ended, an end before its last checkpoint, or a share or horizon that makes
    no sense.
    """
    rows = observations[observations["run"] == run]
    if not len(rows):
        known = ", ".join(map(str, observations["run"].unique()[:6]))
        raise InputError(f"--run {run}: no such run in the table; there are {known}, ...")
    params, last = float(rows["params"].iloc[0]), float(rows["tokens"].max())
    if share is not None and not 0 < share <= 1:
        raise InputError(f"--share {share:g}: must be above 0 and at most 1")
    ended = bool(rows["final"].any())
    if tokens is None:
        if not ended:
            raise InputError(f"--run {run}: has not ended; say with --tokens where it will")
        if share is None:
            raise InputError(
                f"--run {run}: has ended, at {human(last)} tokens; say with --tokens where it goes "
                "on to, or with --share how much of it to use"
            )
        tokens = last
    if not (tokens > 0 and math.isfinite(tokens)):
        raise InputError(f"--tokens {tokens:g}: must be above 0 and finite")
    if tokens < last and share is None:
        raise InputError(
            f"--tokens {human(tokens)}: lies before the last checkpoint of {run}, at "
            f"{human(last)}; give its end, or --share to leave later checkpoints out"
        )
    if horizon is not None and not (horizon >= tokens and math.isfinite(horizon)):
        raise InputError(f"--horizon {human(horizon)}: must be {human(tokens)}, the end, or more")
    return Flight(run, params, tokens, 1.0 if share is None else share, horizon)
