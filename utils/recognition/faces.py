"""A detected face, and the part of its picture that a network sees."""

from __future__ import annotations

import math
from typing import NamedTuple

from PIL import Image

from utils.imaging.geometry import Box, FaceGeometry, clip

Point = tuple[float, float]  # x and y, in pixels


class DetectedFace(NamedTuple):
    """A face in a picture, as every detector finds it."""

    box: Box  # in pixels of the picture
    score: float | None = None  # how sure the detector is, from 0 to 1; None: it does not tell
    # The eyes, the nose and the corners of the mouth, each pair from left to right in the picture;
    # empty if the detector does not find them.
    landmarks: tuple[Point, ...] = ()

    def scaled(self, x_factor: float, y_factor: float) -> DetectedFace:
        """Return the face in a picture that is resized by these factors."""
        left, top, right, bottom = self.box
        box = Box(left * x_factor, top * y_factor, right * x_factor, bottom * y_factor)
        points = tuple((x * x_factor, y * y_factor) for x, y in self.landmarks)
        return DetectedFace(box, self.score, points)

    def moved(self, x: float, y: float) -> DetectedFace:
        """Return the face moved to the right and down, in pixels."""
        left, top, right, bottom = self.box
        points = tuple((px + x, py + y) for px, py in self.landmarks)
        return DetectedFace(Box(left + x, top + y, right + x, bottom + y), self.score, points)

    @property
    def size(self) -> float:
        """Return the area of the box in square pixels."""
        return self.box.width * self.box.height

    @property
    def tilt(self) -> float:
        """Return the angle of the line through the eyes in radians; 0 if they are not known."""
        if not self.landmarks:
            return 0.0
        (left_x, left_y), (right_x, right_y) = self.landmarks[:2]
        return math.atan2(right_y - left_y, right_x - left_x)


def cut_out(picture: Image.Image, face: DetectedFace, geometry: FaceGeometry) -> Image.Image:
    """Return the part of a picture that the network sees of a face.

    What would lie outside the picture is left out, or black if the face is turned.
    """
    region = geometry.region(face.box)
    if geometry.level and face.tilt:
        return _cut_turned(picture, region, face.tilt)
    return picture.crop(clip(region, *picture.size))


def _cut_turned(picture: Image.Image, region: Box, angle: float) -> Image.Image:
    """Return a region that is turned around its middle by an angle in radians."""
    width, height = max(1, round(region.width)), max(1, round(region.height))
    x, y = (region.left + region.right) / 2, (region.top + region.bottom) / 2
    cos, sin = math.cos(angle), math.sin(angle)
    # From a pixel of the result to its source in the picture.
    left = x - (cos * width - sin * height) / 2
    top = y - (sin * width + cos * height) / 2
    matrix = (cos, -sin, left, sin, cos, top)
    return picture.transform(
        (width, height), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR
    )
