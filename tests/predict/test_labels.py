"""Names beside points cover neither points nor one another, wherever there is room."""

from __future__ import annotations

import numpy as np

from predict.labels import HEIGHT, WIDTH, Box, Place, place_names

PANEL = (400.0, 300.0)


def box(name: str, point: tuple[float, float], place: Place) -> Box:
    wide = WIDTH * len(name)
    left = point[0] + place.away[0] - (wide if place.side == "right" else 0)
    middle = point[1] + place.away[1]
    return Box(left, middle - HEIGHT / 2, left + wide, middle + HEIGHT / 2)


def around(point: tuple[float, float]) -> Box:
    return Box(point[0] - 4, point[1] - 4, point[0] + 4, point[1] + 4)


def test_a_lone_name_stands_right_of_its_point_and_at_its_height() -> None:
    (place,) = place_names(["arc"], [(100, 100)], [], PANEL)
    assert place.side == "left"
    assert place.away == (5, 0)


def test_at_the_right_edge_a_name_stands_left_of_its_point() -> None:
    (place,) = place_names(["arc_challenge"], [(395, 100)], [], PANEL)
    assert place.side == "right"
    assert place.away[0] < 0


def test_crowded_names_cover_neither_points_nor_each_other() -> None:
    random = np.random.default_rng(0)
    for _ in range(30):
        start = random.uniform(100, 200, 2)
        points = [tuple(start + random.uniform(-12, 12, 2)) for _ in range(4)]
        marks = [around(p) for p in points]
        names = ["mmlu_stem", "arc_easy", "csqa", "piqa"]
        places = place_names(names, points, marks, PANEL)
        drawn = [box(*one) for one in zip(names, points, places, strict=True)]
        overlap = sum(a.shared(b) for i, a in enumerate(drawn) for b in drawn[:i])
        covered = sum(a.shared(b) for a in drawn for b in marks)
        naive = [box(n, p, Place((5, 0), "left")) for n, p in zip(names, points, strict=True)]
        was = sum(a.shared(b) for i, a in enumerate(naive) for b in naive[:i])
        assert overlap + covered <= 0.1 * was + 20
        assert all(b.left >= 0 and b.right <= PANEL[0] for b in drawn)
