"""Annotated face boxes: one annotator's cell, and the consensus of three annotators."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from itertools import combinations, product
from typing import Any

from utils.imaging.geometry import Box, BoxError

CORNERS = ("minX", "minY", "maxX", "maxY")
MAX_BOXES = 100  # in one cell; every pair is compared


def parse_boxes(cell: str) -> list[Box]:
    """Return one annotator's boxes, in their order, from a `Task?_result` cell.

    The cell is JSON: `{"boxes": [{"minX": …, "minY": …, "maxX": …, "maxY": …}]}` or the list alone,
    in pixels. Numbers may be strings. A box may be drawn from any corner: its corners are put in
    order.

    Raise BoxError if the cell holds no box, or an entry that is not a box.
    """
    try:
        content = json.loads(cell)
    except (ValueError, RecursionError):
        raise BoxError("is not JSON" if cell else "is empty") from None
    boxes = content.get("boxes") if isinstance(content, dict) else content
    if not isinstance(boxes, list) or not boxes:
        raise BoxError("has no box")
    if len(boxes) > MAX_BOXES:
        raise BoxError(f"has {len(boxes)} boxes; the limit is {MAX_BOXES}")
    return [_parse_box(entry) for entry in boxes]


def _parse_box(entry: Any) -> Box:
    try:
        x1, y1, x2, y2 = (float(entry[corner]) for corner in CORNERS)
    except (KeyError, TypeError, ValueError, OverflowError):
        raise BoxError(f"has a box without the numbers {', '.join(CORNERS)}") from None
    if not all(map(math.isfinite, (x1, y1, x2, y2))):
        raise BoxError("has a box with a coordinate that is not a finite number")
    return Box(min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2))


def consensus(annotators: Sequence[Sequence[Box]]) -> Box:
    """Return the face region: the mean of the two boxes of different annotators that are closest.

    The distance is Euclidean over the four coordinates. One careless annotator of three therefore
    does no harm, and in a photo of several people the face is the one on which two annotators agree
    best. Of equally close pairs the first counts.
    """
    pairs = (pair for two in combinations(annotators, 2) for pair in product(*two))
    first, second = min(pairs, key=lambda pair: math.dist(*pair))
    return Box(*((a + b) / 2 for a, b in zip(first, second, strict=True)))
