"""Faces in photos: found, sorted, and not mixed up between threads."""

from __future__ import annotations

import os
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from tests.photos import ASTRONAUT, FACE, two_faces
from utils.errors import StageError
from utils.imaging.geometry import Box, iou
from utils.recognition import face_detection
from utils.recognition.face_detection import detect_faces

CASCADE = "haarcascade_frontalface_default.xml"


@pytest.fixture(scope="module")
def grey():
    return np.asarray(two_faces().convert("L"))


def test_detect_faces_finds_a_real_face():
    grey = ASTRONAUT.mean(2).astype(np.uint8)
    [face] = detect_faces(grey)
    assert iou(face, Box.from_xywh(*FACE)) > 0.5


def test_detect_faces_returns_the_largest_first_in_pixels_of_the_photo(grey):
    large, small = detect_faces(grey)
    assert large.width > small.width and large.right < 800 < 960 < small.left
    for face in (large, small):
        assert 0 <= face.left < face.right <= 1500 and 0 <= face.top < face.bottom <= 900


def test_detect_faces_leaves_out_faces_below_the_minimum(grey):
    assert len(detect_faces(grey, 0.2)) == 1 and len(detect_faces(grey, 0.1)) == 2


def test_detect_faces_in_a_large_photo_are_those_of_the_small_one(grey):
    import cv2

    large = cv2.resize(grey, (4500, 2700))
    for found, expected in zip(detect_faces(large), detect_faces(grey), strict=True):
        assert iou(found, expected.scaled(3)) > 0.7


def test_detect_faces_finds_none_in_a_blank_or_tiny_photo():
    assert detect_faces(np.full((300, 400), 90, np.uint8)) == []
    assert detect_faces(np.zeros((1, 1), np.uint8)) == []
    assert detect_faces(np.zeros((30, 400), np.uint8), min_face=0) == []


@pytest.mark.slow
def test_detect_faces_in_several_threads_does_not_mix_photos(grey):
    photos = [np.ascontiguousarray(np.roll(grey, 40 * i, 1)[:, : 1500 - 60 * i]) for i in range(12)]
    alone = [detect_faces(photo) for photo in photos]
    assert len({str(found) for found in alone}) > 6
    with ThreadPoolExecutor(4) as pool:
        for _ in range(3):
            assert list(pool.map(detect_faces, photos)) == alone


@pytest.fixture
def cascades(monkeypatch, tmp_path):
    """The folder of OpenCV's cascades, for a thread that has loaded none yet."""
    import cv2

    folder = Path(cv2.data.haarcascades)
    monkeypatch.setattr(cv2.data, "haarcascades", f"{tmp_path}{os.sep}")
    monkeypatch.setattr(face_detection, "_thread", threading.local())
    return folder


def test_detect_faces_reads_the_cascade_without_giving_opencv_its_path(
    cascades, tmp_path, monkeypatch, grey
):
    import cv2

    shutil.copy(cascades / CASCADE, tmp_path)
    expected = cv2.CascadeClassifier(str(cascades / CASCADE))
    monkeypatch.setattr(cv2, "CascadeClassifier", lambda: expected.__class__())
    small = cv2.resize(grey, None, fx=0.4, fy=0.4)
    options = {"scaleFactor": 1.1, "minNeighbors": 5, "minSize": (36, 36)}
    found = face_detection._cascade().detectMultiScale(small, **options)
    assert found.tolist() == expected.detectMultiScale(small, **options).tolist()
    assert len(found) >= 2


@pytest.mark.parametrize(
    "content", [None, b"", b"no XML", b'<?xml version="1.0"?>\n<opencv_storage><a>1</a>', b"\xff"]
)
def test_detect_faces_names_a_cascade_that_cannot_be_read(cascades, tmp_path, content):
    if content is not None:
        (tmp_path / CASCADE).write_bytes(content)
    with pytest.raises(StageError, match=r"cannot read .*haarcascade.*; install opencv-python"):
        detect_faces(np.zeros((100, 100), np.uint8))
