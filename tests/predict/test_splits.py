"""Where a ladder is cut: everywhere if it is small, evenly if it is not, and then it says so."""

from __future__ import annotations

import pandas as pd
import pytest
from conftest import synthetic

from evaluation.records import validate
from predict import splits
from predict.backtest import backtest
from predict.points import RungPoint
from predict.splits import MOST_CUTS, THINNED, find_cuts, make_splits


def grid(sizes: int, multiples: int) -> list[RungPoint]:
    """A ladder of so many sizes, a fifth apart, by so many multiples, a quarter apart."""
    return [
        RungPoint(f"{i}-{j}", 1e8 * 1.2**i, 1e8 * 1.2**i * 20 * 1.25**j, 1.0, 0.5)
        for i in range(sizes)
        for j in range(multiples)
    ]


@pytest.mark.parametrize("shape", [(4, 4), (8, 6), (9, 9), (65, 2)])
def test_a_ladder_of_few_cuts_is_cut_at_every_size_and_multiple_but_the_least(
    shape: tuple[int, int],
) -> None:
    cuts = find_cuts(grid(*shape))
    assert (len(cuts.sizes), len(cuts.multiples)) == (shape[0] - 1, shape[1] - 1)
    assert len(cuts.sizes) * len(cuts.multiples) <= MOST_CUTS
    assert cuts.note == ""


def test_a_ladder_of_many_cuts_is_cut_evenly_from_the_first_to_the_last_and_says_so() -> None:
    rungs = grid(25, 40)
    cuts = find_cuts(rungs)
    assert len(cuts.sizes) == len(cuts.multiples) == THINNED
    assert cuts.sizes == pytest.approx([1e8 * 1.2**i for i in (1, 7, 13, 18, 24)])
    assert "24 sizes by 39 multiples" in cuts.note
    assert "5 by 5" in cuts.note
    assert 5 < len(make_splits(rungs)) <= THINNED**2


def test_what_is_scored_only_makes_no_cut() -> None:
    rungs = grid(4, 4)
    held = [r.run for r in rungs if r.run.startswith("3-")]
    assert len(find_cuts(rungs, held).sizes) == 2


def test_a_thinned_back_test_tells_which_cuts_it_left_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from ladder import tables

    table: pd.DataFrame = validate(synthetic())
    whole = backtest(table, ("own",))
    assert whole.thinned == ""
    monkeypatch.setattr(splits, "MOST_CUTS", 4)
    monkeypatch.setattr(splits, "THINNED", 2)
    thinned = backtest(table, ("own",))
    assert len(thinned.splits) < len(whole.splits)
    assert {s.name for s in thinned.splits} <= {s.name for s in whole.splits}
    assert "evenly spaced" in thinned.document()["thinned"]
    tables.show_backtest(thinned)
    assert f"left out: {thinned.thinned}" in capsys.readouterr().err


def test_multiples_that_lie_close_together_are_cut_apart() -> None:
    """Twenty multiples, each 8% above the last, span a factor of four: they are no one multiple."""
    rungs = [
        RungPoint(f"{n:g}-{k}", n, n * 20 * 1.08**k, 1.0, 0.5)
        for n in (1e8, 2e8, 4e8)
        for k in range(20)
    ]
    cuts = find_cuts(rungs)
    assert len(cuts.multiples) == 9
    for split in make_splits(rungs):
        fitted = [r for r in rungs if r.run in split.fitted]
        # What is fitted is what the cut's name says.
        most = float(split.name.rpartition("<=")[2])
        assert max(r.tokens / r.params for r in fitted) == pytest.approx(most, rel=0.005)
