"""Numbers as people write them, and nearly equal ones as one."""

from __future__ import annotations

import pytest

from predict.numbers import human, levels


def test_counts_are_written_with_three_figures_and_a_suffix() -> None:
    assert [human(x) for x in (1.9e8, 6.887e9, 4e12, 2500, 12)] == [
        "190M",
        "6.89B",
        "4T",
        "2.5K",
        "12",
    ]


def test_what_rounds_up_to_a_thousand_is_one_of_the_next() -> None:
    values = (999.4, 999.6, 999_499, 999_999.9, 999.96e6, 999.9e9, 999.4e12, 1e15)
    assert [human(x) for x in values] == [
        "999",
        "1K",
        "999K",
        "1M",
        "1B",
        "1T",
        "999T",
        "1e+15",
    ]


def test_values_within_the_ratio_are_the_largest_of_them() -> None:
    assert levels([5, 1, 1.04, 2], 1.05) == [1.04, 2, 5]
    assert levels([], 2) == []


def test_close_values_do_not_run_together_in_a_chain() -> None:
    assert levels([1.05**k for k in range(7)], 1.11) == pytest.approx([1.1025, 1.05**5, 1.05**6])
