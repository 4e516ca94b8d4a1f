"""Finding faces in a photo with OpenCV's Haar cascade."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from types import ModuleType

import numpy as np

from utils.cli import StageError

Rect = tuple[int, int, int, int]  # x, y, width, height in pixels

# Of the photo's shorter side: what is smaller is rarely a face, and slow to look for.
SMALLEST = 0.1


def find_faces(grey: np.ndarray) -> list[Rect]:
    """Faces in a grey photo, uint8 (height, width); largest first, none if there are none."""
    side = max(24, int(min(grey.shape) * SMALLEST))
    found = _cascade().detectMultiScale(grey, scaleFactor=1.1, minNeighbors=5, minSize=(side, side))
    rects = [tuple(int(value) for value in rect) for rect in found]
    return sorted(rects, key=lambda rect: (-rect[2] * rect[3], rect))


def import_cv2() -> ModuleType:
    """OpenCV. Raises StageError where the system lacks what it needs."""
    try:
        import cv2
    except ImportError as error:
        raise StageError(
            f"OpenCV cannot be loaded ({error}); Debian, Ubuntu: apt install libgl1 libglib2.0-0"
        ) from None
    return cv2


@cache
def _cascade():
    cv2 = import_cv2()
    path = Path(cv2.data.haarcascades) / "haarcascade_frontalface_default.xml"
    cascade = cv2.CascadeClassifier(str(path))
    if cascade.empty():
        raise StageError(f"OpenCV {cv2.__version__} cannot read {path}; install opencv-python 4")
    return cascade
