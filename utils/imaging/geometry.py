"""Rectangles in pixels: the one type for annotated boxes, detected faces and regions to cut out."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import NamedTuple

SHAPES = ("box", "square")  # of the part of a picture that a network sees, see FaceGeometry
MAX_MARGIN = 2.0  # fraction of a face's size
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


@dataclass(frozen=True)
class FaceGeometry:
    """How a detected face becomes a network's input. It is stored in the model file.

    The defaults are those of models that learn annotators' boxes: their input is the box itself.
    """

    shape: str = "box"  # box: as it is; square: as wide and high as its longer side
    margin: float = 0.0  # fraction of the face's size that is added on each side
    level: bool = False  # turn the face so that its eyes lie on a level line

    def __post_init__(self) -> None:
        """Raise ValueError for an invalid setting; it may come from a model file."""
        if type(self.shape) is not str or self.shape not in SHAPES:
            raise ValueError("shape")
        if type(self.margin) not in (int, float) or not 0 <= self.margin <= MAX_MARGIN:
            raise ValueError("margin")
        if type(self.level) is not bool:
            raise ValueError("level")

    def region(self, face: Box) -> Box:
        """Return the part of the picture that the network sees. It may reach beyond the picture."""
        width, height = face.width, face.height
        if self.shape == "square":
            width = height = max(width, height)
        x, y = (face.left + face.right) / 2, (face.top + face.bottom) / 2
        half_width, half_height = width * (0.5 + self.margin), height * (0.5 + self.margin)
        return Box(x - half_width, y - half_height, x + half_width, y + half_height)

    def describe(self) -> str:
        """Return the settings in a few words."""
        margin = f", margin {self.margin:g}" if self.margin else ""
        return f"{self.shape}{margin}{', eyes level' if self.level else ''}"

    def to_dict(self) -> dict[str, str | float | bool]:
        """Return the settings as plain values, the arguments of an equal FaceGeometry."""
        return asdict(self)


def iou(a: Box, b: Box) -> float:
    """Return the intersection over union of two boxes, from 0 to 1; 0 if both are empty."""
    width = min(a.right, b.right) - max(a.left, b.left)
    height = min(a.bottom, b.bottom) - max(a.top, b.top)
    intersection = max(width, 0) * max(height, 0)
    union = a.width * a.height + b.width * b.height - intersection
    return intersection / union if union > 0 else 0.0


def clip(box: Box, width: int, height: int) -> Box:
    """Return the box in whole pixels, cut off at the borders of a picture of width × height."""
    return add_margin(box, 0, width, height)


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
