"""The face detector of Viola and Jones (2001): OpenCV's Haar cascade for frontal faces."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from utils.errors import StageError
from utils.imaging.geometry import Box
from utils.recognition.faces import DetectedFace
from utils.recognition.opencv import import_cv2

CASCADE_SIDE = 24  # pixels, the side of the smallest face that the cascade knows

_thread = threading.local()


class HaarCascade:
    """Find upright frontal faces. It tells neither scores nor landmarks."""

    face_side = 44  # pixels of the smallest face that it should find
    picture_side = 0  # pixels: it does not help to enlarge a small picture

    def __init__(self) -> None:
        """Raise StageError if OpenCV or its cascade cannot be loaded."""
        _cascade()

    def __call__(
        self,
        picture: Image.Image,
        min_side: float,
        min_score: float,  # noqa: ARG002
    ) -> list[DetectedFace]:
        """Return the faces in a picture of at least `min_side` pixels, in its pixels."""
        side = max(CASCADE_SIDE, int(min_side))
        grey = np.asarray(picture.convert("L"))
        faces = _cascade().detectMultiScale(
            grey, scaleFactor=1.1, minNeighbors=5, minSize=(side, side)
        )
        return [DetectedFace(Box.from_xywh(*map(int, face))) for face in faces]


def _cascade() -> Any:
    """Return this thread's cascade. Threads cannot share one: it holds the picture it searches."""
    if not hasattr(_thread, "cascade"):
        _thread.cascade = _load_cascade()
    return _thread.cascade


def _load_cascade() -> Any:
    cv2 = import_cv2()
    path = Path(cv2.data.haarcascades) / "haarcascade_frontalface_default.xml"
    cascade = cv2.CascadeClassifier()
    try:
        # From memory: on Windows, OpenCV cannot open a path with Hangul in it, such as a user's.
        mode = cv2.FILE_STORAGE_READ | cv2.FILE_STORAGE_MEMORY
        storage = cv2.FileStorage(path.read_text(encoding="utf-8"), mode)
        cascade.read(storage.getFirstTopLevelNode())
    except Exception:  # OpenCV documents none for broken files
        cascade = cv2.CascadeClassifier()
    if cascade.empty():
        raise StageError(f"OpenCV {cv2.__version__} cannot read {path}; install opencv-python 4")
    return cascade
