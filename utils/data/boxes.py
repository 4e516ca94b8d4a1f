"""Face boxes: reading one annotator's cell, the consensus of three, and its pixels in a photo."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from itertools import combinations, product
from typing import NamedTuple

CORNERS = ("minX", "minY", "maxX", "maxY")
MOST_BOXES = 100  # in one cell; every pair is compared


class BoxError(ValueError):
    """A cell or a set of boxes that gives no face region."""


class Box(NamedTuple):
    """A rectangle in pixels of the photo as displayed: x to the right, y down."""

    min_x: float
    min_y: float
    max_x: float
    max_y: float


def parse_boxes(cell: str) -> list[Box]:
    """One annotator's boxes, in their order, from a `Task?_result` cell.

    The cell is JSON, `{"boxes": [{"minX": …, "minY": …, "maxX": …, "maxY": …}]}` or the bare list,
    numbers possibly as strings. A box drawn from another corner than the top left is the same
    rectangle: its corners are put in order.

    Raises BoxError where the cell holds no box, or anything that is none.
    """
    try:
        content = json.loads(cell)
    except (ValueError, RecursionError):
        raise BoxError("is not JSON" if cell else "is empty") from None
    boxes = content.get("boxes") if isinstance(content, dict) else content
    if not isinstance(boxes, list) or not boxes:
        raise BoxError("has no box")
    if len(boxes) > MOST_BOXES:
        raise BoxError(f"has {len(boxes)} boxes; {MOST_BOXES} is the most")
    return [_box(entry) for entry in boxes]


def _box(entry: dict) -> Box:
    try:
        x1, y1, x2, y2 = (float(entry[corner]) for corner in CORNERS)
    except (KeyError, TypeError, ValueError, OverflowError):
        raise BoxError(f"has a box without the numbers {', '.join(CORNERS)}") from None
    if not all(map(math.isfinite, (x1, y1, x2, y2))):
        raise BoxError("has a box with a coordinate that is no finite number")
    return Box(min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2))


def consensus(annotators: Sequence[Sequence[Box]]) -> Box:
    """The face region: of the annotators' boxes, the two that lie closest together, averaged.

    Closest is by Euclidean distance over the four coordinates, between boxes of two different
    annotators: of three, one careless one does no harm, and where there are several people in the
    photo the face is the one on which two agree best. Of equally close pairs the first is taken.
    """
    pairs = (pair for two in combinations(annotators, 2) for pair in product(*two))
    first, second = min(pairs, key=lambda pair: math.dist(*pair))
    return Box(*((a + b) / 2 for a, b in zip(first, second, strict=True)))


def iou(a: Box, b: Box) -> float:
    """Intersection over union of two boxes, from 0 to 1; 0 where both are empty."""
    width = min(a.max_x, b.max_x) - max(a.min_x, b.min_x)
    height = min(a.max_y, b.max_y) - max(a.min_y, b.min_y)
    common = max(width, 0) * max(height, 0)
    both = sum((box.max_x - box.min_x) * (box.max_y - box.min_y) for box in (a, b)) - common
    return common / both if both > 0 else 0.0


def pixels(box: Box, width: int, height: int) -> tuple[int, int, int, int]:
    """The box clamped to a photo of width × height pixels and rounded, as PIL's crop takes it.

    Raises BoxError where nothing of it is left.
    """
    left, right = (round(min(max(x, 0), width)) for x in (box.min_x, box.max_x))
    top, bottom = (round(min(max(y, 0), height)) for y in (box.min_y, box.max_y))
    if left >= right or top >= bottom:
        corners = ", ".join(f"{value:g}" for value in box)
        raise BoxError(f"no face region: ({corners}) leaves nothing of a {width}×{height} photo")
    return left, top, right, bottom
