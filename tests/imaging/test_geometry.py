"""Rectangles: overlap, clipping, margins."""

from __future__ import annotations

import pytest

from utils.imaging.geometry import Box, BoxError, add_margin, iou, to_pixels


def test_box_from_xywh_and_back():
    box = Box.from_xywh(3, 4, 10, 20)
    assert box == Box(3, 4, 13, 24) and (box.width, box.height) == (10, 20)
    assert box.xywh == (3, 4, 10, 20)


def test_box_scaled_rounds_to_whole_pixels():
    assert Box(1, 2, 11, 12).scaled(2.5) == Box.from_xywh(2, 5, 25, 25)
    assert Box(10, 20, 30, 40).scaled(0.5) == Box(5, 10, 15, 20)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (Box(0, 0, 10, 10), Box(0, 0, 10, 10), 1),
        (Box(0, 0, 10, 10), Box(0, 5, 10, 10), 1 / 2),
        (Box(0, 0, 10, 10), Box(5, 5, 15, 15), 25 / 175),
        (Box(0, 0, 10, 10), Box(5, 0, 15, 10), 1 / 3),
        (Box(0, 0, 10, 10), Box(10, 0, 20, 10), 0),
        (Box(0, 0, 10, 10), Box(20, 20, 30, 30), 0),
        (Box(5, 5, 5, 5), Box(5, 5, 5, 5), 0),
    ],
)
def test_iou(a, b, expected):
    assert iou(a, b) == iou(b, a) == pytest.approx(expected)


def test_to_pixels_clips_and_rounds():
    assert to_pixels(Box(-5, 3.4, 99.6, 300), 100, 80) == (0, 3, 100, 80)
    assert to_pixels(Box(0.4, 0.6, 10, 10), 100, 80) == (0, 1, 10, 10)


@pytest.mark.parametrize(
    "box", [Box(200, 0, 300, 50), Box(5, 5, 5, 50), Box(-50, -50, -1, -1), Box(5.1, 5, 5.3, 9)]
)
def test_to_pixels_refuses_a_box_outside_of_the_photo(box):
    with pytest.raises(BoxError, match="100×80"):
        to_pixels(box, 100, 80)


def test_add_margin_ends_at_the_borders_of_the_photo():
    assert add_margin(Box(20, 30, 40, 70), 0.1, 100, 100) == Box(18, 26, 42, 74)
    assert add_margin(Box(20, 30, 40, 70), 2, 70, 100) == Box(0, 0, 70, 100)
    assert add_margin(Box(0, 0, 10, 10), 0.5, 12, 100) == Box(0, 0, 12, 15)
    assert add_margin(Box(20, 30, 40, 70), 0, 100, 100) == Box(20, 30, 40, 70)
