"""Face detection with OpenCV's Haar cascade."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np

from utils.errors import StageError
from utils.imaging.geometry import Box, add_margin
from utils.recognition.opencv import import_cv2

MIN_FACE = 0.1  # of a photo's shorter side: smaller faces are rare and slow to search for
CASCADE_SIDE = 24  # pixels, the side of the smallest face that the cascade knows
MIN_SEARCH_SIDE = 44  # pixels of the smallest face; a larger photo is searched in a reduced copy

_thread = threading.local()


def detect_faces(grey: np.ndarray, min_face: float = MIN_FACE) -> list[Box]:
    """Return the faces in a grey photo, uint8 (height, width), the largest first.

    `min_face` is the side of the smallest face, as a fraction of the photo's shorter side. Raise
    StageError if OpenCV or its cascade cannot be loaded.
    """
    cv2 = import_cv2()
    height, width = grey.shape
    min_side = min_face * min(height, width)
    factor = max(1.0, min_side / MIN_SEARCH_SIDE)
    if factor > 1:
        size = max(1, round(width / factor)), max(1, round(height / factor))
        grey = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
    side = max(CASCADE_SIDE, int(min_side / factor))
    faces = _cascade().detectMultiScale(grey, scaleFactor=1.1, minNeighbors=5, minSize=(side, side))
    boxes = [
        add_margin(Box.from_xywh(*(round(v * factor) for v in face)), 0, width, height)
        for face in faces
    ]
    return sorted(boxes, key=lambda box: (-box.width * box.height, box.xywh))


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
