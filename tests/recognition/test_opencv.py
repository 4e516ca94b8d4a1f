"""The import of OpenCV, and what is said if it fails."""

from __future__ import annotations

import sys

import pytest

from utils.errors import StageError
from utils.recognition.opencv import import_cv2


def test_import_cv2_returns_opencv():
    assert import_cv2().__name__ == "cv2"


def test_import_cv2_names_the_missing_library_and_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)  # as a failed import leaves it
    with pytest.raises(StageError, match=r"OpenCV cannot be loaded .*apt install libgl1"):
        import_cv2()
