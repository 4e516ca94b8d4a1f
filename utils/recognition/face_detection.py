"""Finding faces in a photo with OpenCV's Haar cascade."""

from __future__ import annotations

import threading
from pathlib import Path
from types import ModuleType

import numpy as np

from utils.cli import StageError

Rect = tuple[int, int, int, int]  # x, y, width, height in pixels

SMALLEST = 0.1  # of a photo's shorter side: what is smaller is rarely a face, and slow to look for
CASCADE = 24  # pixels, the smallest face that the cascade knows
ENOUGH = 44  # pixels of the smallest face: in a larger photo a reduced copy is searched

_own = threading.local()


def find_faces(grey: np.ndarray, smallest: float = SMALLEST) -> list[Rect]:
    """Faces in a grey photo, uint8 (height, width); largest first, none if there are none.

    `smallest`: side of the smallest that is looked for, as share of the photo's shorter side.
    """
    cv2 = import_cv2()
    height, width = grey.shape
    least = smallest * min(height, width)
    factor = max(1.0, least / ENOUGH)
    if factor > 1:
        size = max(1, round(width / factor)), max(1, round(height / factor))
        grey = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
    side = max(CASCADE, int(least / factor))
    found = _cascade().detectMultiScale(grey, scaleFactor=1.1, minNeighbors=5, minSize=(side, side))
    rects = [widen(tuple(round(v * factor) for v in rect), 0, width, height) for rect in found]
    return sorted(rects, key=lambda rect: (-rect[2] * rect[3], rect))


def widen(rect: tuple[float, ...], margin: float, width: int, height: int) -> Rect:
    """A rectangle with a share of its size added on each side, as far as the photo goes."""
    x, y, w, h = rect
    left, top = max(0, round(x - margin * w)), max(0, round(y - margin * h))
    right, bottom = min(width, round(x + w + margin * w)), min(height, round(y + h + margin * h))
    return left, top, right - left, bottom - top


def import_cv2() -> ModuleType:
    """OpenCV. Raises StageError where the system lacks what it needs."""
    try:
        import cv2
    except ImportError as error:
        raise StageError(
            f"OpenCV cannot be loaded ({error}); Debian, Ubuntu: apt install libgl1 libglib2.0-0"
        ) from None
    return cv2


def _cascade():
    """This thread's own: a cascade holds the picture that it searches."""
    if not hasattr(_own, "cascade"):
        _own.cascade = _load_cascade()
    return _own.cascade


def _load_cascade():
    cv2 = import_cv2()
    path = Path(cv2.data.haarcascades) / "haarcascade_frontalface_default.xml"
    cascade = cv2.CascadeClassifier(str(path))
    if cascade.empty():
        raise StageError(f"OpenCV {cv2.__version__} cannot read {path}; install opencv-python 4")
    return cascade
