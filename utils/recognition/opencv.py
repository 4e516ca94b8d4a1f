"""Import OpenCV when it is needed, with a clear message if it cannot be loaded."""

from __future__ import annotations

import threading
from types import ModuleType

from utils import interrupt
from utils.errors import StageError

_import_lock = threading.Lock()


def import_cv2() -> ModuleType:
    """Return OpenCV. Raise StageError if the system lacks a library that it needs."""
    # The package replaces itself in sys.modules while it is imported. A second thread that imports
    # it at the same time can get a module without its parts.
    with _import_lock, interrupt.importing():
        try:
            import cv2
        except ImportError as error:
            raise StageError(
                f"OpenCV cannot be loaded ({error}); Debian, Ubuntu: apt install libgl1 "
                "libglib2.0-0"
            ) from None
    return cv2
