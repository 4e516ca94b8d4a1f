"""PyAV is imported when it is needed, and once."""

from __future__ import annotations

import gc
import sys
import threading

import pytest

from utils.errors import StageError
from utils.recognition.pyav import import_av


def test_import_av_returns_pyav():
    assert import_av().open is import_av().open


def test_import_av_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(StageError, match=r"PyAV cannot be loaded \(.*\); pip install av"):
        import_av()


def test_import_av_can_be_reached_by_garbage_collection_within_it(monkeypatch):
    """A generator that is collected runs its `finally`, whatever this thread holds."""

    def generator():
        try:
            yield
        finally:
            import_av()

    class Collector:
        def __enter__(self) -> None:
            cycle = [generator()]
            next(cycle[0])
            cycle.append(cycle)
            del cycle
            gc.collect()

        def __exit__(self, *error: object) -> None:
            pass

    monkeypatch.setattr("utils.recognition.pyav.interrupt.importing", Collector)
    thread = threading.Thread(target=import_av, daemon=True)
    thread.start()
    thread.join(5)
    assert not thread.is_alive()
