"""Rectangles in pixels: the one type for annotated boxes, detected faces and regions to cut out."""

from __future__ import annotations

from typing import NamedTuple

MIN_INSIDE = 0.5  # of the area of an annotated box lies in its photo


class BoxError(ValueError):
    """A box that covers nothing of a picture, or a text that is not a box."""


class Box(NamedTuple):
    """A rectangle in pixels of a picture as displayed: x to the right, y down.

    The corners have the order of Pillow's `crop`; right and bottom are exclusive.
    """

    left: float
    top: float
    right: float
    bottom: float

    @classmethod
    def from_xywh(cls, x: float, y: float, width: float, height: float) -> Box:
        """Return the rectangle with this top left corner, width and height."""
        return cls(x, y, x + width, y + height)

    @property
    def width(self) -> float:
        """Return the width in pixels."""
        return self.right - self.left

    @property
    def height(self) -> float:
        """Return the height in pixels."""
        return self.bottom - self.top

    @property
    def xywh(self) -> tuple[int, int, int, int]:
        """Return the top left corner, width and height of a box of whole pixels, as OpenCV does."""
        return int(self.left), int(self.top), int(self.width), int(self.height)

    def scaled(self, factor: float) -> Box:
        """Return the box in a picture `factor` times as large, in whole pixels."""
        return Box.from_xywh(*(round(value * factor) for value in self.xywh))


def iou(a: Box, b: Box) -> float:
    """Return the intersection over union of two boxes, from 0 to 1; 0 if both are empty."""
    width = min(a.right, b.right) - max(a.left, b.left)
    height = min(a.bottom, b.bottom) - max(a.top, b.top)
    intersection = max(width, 0) * max(height, 0)
    union = a.width * a.height + b.width * b.height - intersection
    return intersection / union if union > 0 else 0.0


def to_pixels(box: Box, width: int, height: int) -> Box:
    """Clip a box to a photo of width × height pixels and round it to whole pixels.

    Raise BoxError if nothing of it is left.
    """
    left, right = (round(min(max(x, 0), width)) for x in (box.left, box.right))
    top, bottom = (round(min(max(y, 0), height)) for y in (box.top, box.bottom))
    if left >= right or top >= bottom:
        corners = ", ".join(f"{value:g}" for value in box)
        raise BoxError(
            f"no face region: ({corners}) leaves nothing of a {width}×{height} photo: is it the "
            f"one annotated?"
        )
    return Box(left, top, right, bottom)


def face_region(box: Box, width: int, height: int) -> Box:
    """Clip an annotated box to the photo as `to_pixels` does.

    Raise BoxError if less than MIN_INSIDE of its area is left: the photo may be a smaller copy of
    the one annotated, or another one.
    """
    region = to_pixels(box, width, height)
    inside = (min(box.right, width) - max(box.left, 0)) * (
        min(box.bottom, height) - max(box.top, 0)
    )
    part = inside / (box.width * box.height)
    if part < MIN_INSIDE:
        raise BoxError(
            f"{int(100 * part)} % of the box lies in this {width}×{height} photo: is it the one "
            f"annotated?"
        )
    return region


def add_margin(box: Box, margin: float, width: int, height: int) -> Box:
    """Return the box with a fraction of its size added on each side, in whole pixels.

    It ends at the borders of the photo of width × height pixels.
    """
    x, y = margin * box.width, margin * box.height
    return Box(
        max(0, round(box.left - x)),
        max(0, round(box.top - y)),
        min(width, round(box.right + x)),
        min(height, round(box.bottom + y)),
    )
