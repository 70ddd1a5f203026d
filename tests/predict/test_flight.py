"""Which run is in flight, where it ends, and which of its checkpoints a share of it holds."""

from __future__ import annotations

import math

import pandas as pd
import pytest
from flights import in_flight

from predict import InputError
from predict.flight import Flight, flight_of


def checkpoints(*steps: int, batch: float = 1e6) -> pd.DataFrame:
    return pd.DataFrame({"step": steps, "tokens": [step * batch for step in steps]})


def test_a_share_holds_the_checkpoint_whose_step_was_rounded_up_to_it() -> None:
    """70% of 54 steps is step 37.8, and the checkpoint there has 38."""
    flight = Flight("run", 1e8, 54e6, share=0.7)
    assert list(flight.seen(checkpoints(0, 20, 38, 39, 54))["step"]) == [20, 38]


def test_a_share_holds_no_checkpoint_after_it_where_steps_only_count_checkpoints() -> None:
    flight = Flight("run", 1e8, 10e6, share=0.65)
    assert list(flight.seen(checkpoints(*range(1, 11)))["step"]) == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"run": "nope"}, "no such run"),
        ({"run": "big"}, "has not ended; say with --tokens"),
        ({"run": "1.9e+08-1xC"}, "has ended"),
        ({"run": "big", "tokens": 1e9}, "before the last checkpoint"),
        ({"run": "big", "tokens": 1e13, "share": 1.5}, "above 0 and at most 1"),
        ({"run": "big", "tokens": math.inf}, "finite"),
        ({"run": "big", "tokens": 1e13, "horizon": 1e12}, "the end, or more"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(
    arguments: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        flight_of(in_flight(until=0.5), **arguments)
    assert "\n" not in str(caught.value)
