"""Numbers as people write them, and nearly equal ones as one."""

from __future__ import annotations

from predict.numbers import human, levels


def test_counts_are_written_with_three_figures_and_a_suffix() -> None:
    assert [human(x) for x in (1.9e8, 6.887e9, 4e12, 2500, 12)] == [
        "190M",
        "6.89B",
        "4T",
        "2.5K",
        "12",
    ]


def test_values_within_the_ratio_are_the_largest_of_them() -> None:
    assert levels([5, 1, 1.04, 2], 1.05) == [1.04, 2, 5]
    assert levels([], 2) == []
