"""Import PyAV, the binding of FFmpeg, when it is needed, with a clear message if it is missing."""

from __future__ import annotations

import threading
from types import ModuleType

from utils import interrupt
from utils.errors import StageError

_import_lock = threading.RLock()  # reentrant: garbage collection can run code that comes here


def import_av() -> ModuleType:
    """Return PyAV. Raise StageError if it is not installed or cannot be loaded."""
    # As for OpenCV: a second thread must not get a module that is half imported.
    with _import_lock, interrupt.importing():
        try:
            import av
            import av.subtitles.stream  # PyAV imports it when it opens a file, in a thread perhaps
        except ImportError as error:
            raise StageError(f"PyAV cannot be loaded ({error}); pip install av") from None
    return av
