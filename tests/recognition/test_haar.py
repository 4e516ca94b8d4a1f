"""OpenCV's Haar cascade: read from memory, one for each thread."""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.photos import two_faces
from utils.errors import StageError
from utils.recognition import haar
from utils.recognition.haar import HaarCascade

CASCADE = "haarcascade_frontalface_default.xml"


@pytest.fixture
def cascades(monkeypatch, tmp_path):
    """The folder of OpenCV's cascades, for a thread that has loaded none yet."""
    import cv2

    folder = Path(cv2.data.haarcascades)
    monkeypatch.setattr(cv2.data, "haarcascades", f"{tmp_path}{os.sep}")
    monkeypatch.setattr(haar, "_thread", threading.local())
    return folder


def test_cascade_is_read_without_giving_opencv_its_path(cascades, tmp_path, monkeypatch):
    import cv2

    shutil.copy(cascades / CASCADE, tmp_path)
    expected = cv2.CascadeClassifier(str(cascades / CASCADE))
    monkeypatch.setattr(cv2, "CascadeClassifier", lambda: expected.__class__())
    small = two_faces().resize((600, 360)).convert("L")
    options = {"scaleFactor": 1.1, "minNeighbors": 5, "minSize": (36, 36)}
    expected_faces = expected.detectMultiScale(np.asarray(small), **options)
    faces = HaarCascade()(small, 36.9, 0.5)
    # A set: OpenCV's threads find the faces in any order.
    assert {face.box.xywh for face in faces} == {tuple(face) for face in expected_faces.tolist()}
    assert len(faces) >= 2 and all(face[1:] == (None, ()) for face in faces)


@pytest.mark.parametrize(
    "content", [None, b"", b"no XML", b'<?xml version="1.0"?>\n<opencv_storage><a>1</a>', b"\xff"]
)
def test_cascade_that_cannot_be_read_is_named(cascades, tmp_path, content):
    if content is not None:
        (tmp_path / CASCADE).write_bytes(content)
    with pytest.raises(StageError, match=r"cannot read .*haarcascade.*; install opencv-python"):
        HaarCascade()


def test_no_face_is_smaller_than_the_cascade_knows():
    assert HaarCascade()(Image.new("L", (60, 60)), 0, 0) == []
