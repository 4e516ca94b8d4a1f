"""Detected faces, and the part of a picture that a network sees of them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from PIL import Image

from utils.imaging.geometry import Box, FaceGeometry
from utils.recognition.faces import DetectedFace, cut_out

FACE = DetectedFace(Box(20, 10, 40, 50), 0.9, ((24, 20), (36, 20), (30, 30), (25, 40), (35, 40)))


def test_face_moves_and_scales_with_its_landmarks():
    moved = FACE.moved(5, -2)
    assert moved.box == Box(25, 8, 45, 48) and moved.landmarks[0] == (29, 18)
    scaled = FACE.scaled(2, 0.5)
    assert scaled.box == Box(40, 5, 80, 25) and scaled.landmarks[2] == (60, 15)
    assert moved.score == scaled.score == 0.9 and FACE.size == 800


def test_tilt_is_the_angle_of_the_eyes():
    assert FACE.tilt == 0 and DetectedFace(FACE.box).tilt == 0
    tilted = FACE._replace(landmarks=((24, 20), (34, 30), (0, 0), (0, 0), (0, 0)))
    assert tilted.tilt == pytest.approx(math.pi / 4)


@pytest.mark.parametrize(
    ("geometry", "expected"),
    [
        (FaceGeometry(), (20, 10, 40, 50)),
        (FaceGeometry("square"), (10, 10, 50, 50)),
        (FaceGeometry("box", 0.25), (15, 0, 45, 60)),
        (FaceGeometry("square", 0.5), (0, 0, 70, 70)),  # ends at the borders
        (FaceGeometry("box", 0, level=True), (20, 10, 40, 50)),  # its eyes are level
    ],
)
def test_cut_out_is_the_region_of_the_geometry(geometry, expected):
    pixels = np.random.default_rng(0).integers(0, 256, (80, 100, 3), np.uint8)
    left, top, right, bottom = expected
    part = np.asarray(cut_out(Image.fromarray(pixels), FACE, geometry))
    assert np.array_equal(part, pixels[top:bottom, left:right])


@pytest.mark.parametrize("degrees", [-30, 12, 90])
def test_cut_out_levels_the_eyes(degrees):
    """A picture that is turned around the middle of the face is turned back."""
    upright = Image.new("L", (120, 120))
    upright.paste(255, (40, 45, 50, 55))  # the eye on the left
    upright.paste(120, (70, 45, 80, 55))
    upright.paste(60, (50, 75, 70, 80))
    turned = upright.rotate(-degrees, Image.Resampling.BILINEAR)  # clockwise
    angle = math.radians(degrees)
    cos, sin = math.cos(angle), math.sin(angle)

    def turn(x: float, y: float) -> tuple[float, float]:
        return 60 + cos * (x - 60) - sin * (y - 60), 60 + sin * (x - 60) + cos * (y - 60)

    eyes = turn(45, 50), turn(75, 50)
    face = DetectedFace(Box(30, 30, 90, 90), 1.0, (*eyes, (0, 0), (0, 0), (0, 0)))
    assert face.tilt == pytest.approx(angle)
    level = np.asarray(cut_out(turned, face, FaceGeometry(level=True)), float)
    expected = np.asarray(upright.crop((30, 30, 90, 90)), float)
    assert np.abs(level - expected).mean() < 3
    plain = np.asarray(cut_out(turned, face, FaceGeometry()), float)
    assert np.abs(plain - expected).mean() > 8
