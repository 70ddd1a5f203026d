"""Loops tell how far they are to whoever listens, and run the same when nobody does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from predict.watch import Tell, each, listening


class Diary:
    """A listener that writes down what it hears."""

    def __init__(self) -> None:
        self.heard: list[object] = []

    @contextmanager
    def __call__(self, name: str, count: int) -> Iterator[Tell]:
        self.heard.append((name, count))
        yield self.heard.append
        self.heard.append("end")


def test_a_loop_is_told_of_item_by_item() -> None:
    diary = Diary()
    with listening(diary):
        assert list(each("ab", "letters")) == ["a", "b"]
        assert list(each([], "none")) == []
    assert diary.heard == [("letters", 2), 1, 2, "end", ("none", 0), "end"]
    assert list(each("ab", "letters")) == ["a", "b"]
    assert len(diary.heard) == 6


def test_a_loop_inside_another_one_is_silent() -> None:
    diary = Diary()
    with listening(diary):
        for _ in each("ab", "outer"):
            assert list(each("xyz", "inner")) == ["x", "y", "z"]
    assert diary.heard == [("outer", 2), 1, 2, "end"]


def test_a_loop_that_is_left_does_not_silence_the_next() -> None:
    diary = Diary()

    def fails() -> None:
        for _ in each("ab", "left"):
            raise ValueError("inside")

    with listening(diary):
        with pytest.raises(ValueError, match="inside"):
            fails()
        for _ in each("ab", "also left"):
            break
        list(each("c", "next"))
    assert ("next", 1) in diary.heard


def test_an_error_that_leaves_everything_is_that_error() -> None:
    def fails() -> None:
        with listening(Diary()):
            for _ in each("ab", "left"):
                raise ValueError("inside")

    with pytest.raises(ValueError, match="inside"):
        fails()
    diary = Diary()
    with listening(diary):
        list(each("c", "next"))
    assert diary.heard[0] == ("next", 1)
