"""OpenCV, imported where it is needed, with a clear message where it cannot be loaded."""

from __future__ import annotations

from types import ModuleType

from utils.errors import StageError


def import_cv2() -> ModuleType:
    """Return OpenCV. Raise StageError if the system lacks a library that it needs."""
    try:
        import cv2
    except ImportError as error:
        raise StageError(
            f"OpenCV cannot be loaded ({error}); Debian, Ubuntu: apt install libgl1 libglib2.0-0"
        ) from None
    return cv2
