"""Ctrl-C in one line and never as a traceback, from a script's first import to its end.

A library that is interrupted while it is imported may raise anything, an ImportError for instance.
So during imports Ctrl-C ends a script at once. In `main` it raises KeyboardInterrupt, so that the
script can finish its files.

Until this module is imported, Ctrl-C prints Python's traceback. So it imports next to nothing:
`signal`, `typing` and `contextlib` would take as long as Python's own start.
"""

from __future__ import annotations

import _signal  # what `signal` is made of
import atexit
import os
import sys

STATUS = 130  # as shells report it
ADVICE = "run it again to finish"


def exit_at_once() -> None:
    """Let Ctrl-C end this process in one line from now on.

    A process that ignores or handles Ctrl-C already stays as it is.
    """
    if _swap(_signal.default_int_handler, _exit):
        # When Python ends, it would give Ctrl-C back to the system, which kills without a status.
        atexit.register(_swap, _exit, _signal.SIG_IGN)


def raising() -> _Handler:
    """Return a `with` block in which Ctrl-C raises KeyboardInterrupt, after `exit_at_once`."""
    return _Handler(_exit, _signal.default_int_handler)


def importing() -> _Handler:
    """Return a `with` block in which Ctrl-C ends the process at once: imports of large libraries.

    In a thread it changes nothing: Ctrl-C interrupts only the main thread.
    """
    return _Handler(_signal.default_int_handler, _exit)


def line(advice: object = ADVICE) -> str:
    """Return the line that an interrupted script prints."""
    return f"{os.path.basename(sys.argv[0])}: interrupted; {advice}\n"  # noqa: PTH119 - see above


class _Handler:
    """A block in which a handler of Ctrl-C replaces another, if that is the handler before it."""

    def __init__(self, old: object, new: object) -> None:
        self._old, self._new = old, new

    def __enter__(self) -> None:
        self._swapped = _swap(self._old, self._new)

    def __exit__(self, *_: object) -> None:
        if self._swapped:
            _swap(self._new, self._old)


def _swap(old: object, new: object) -> bool:
    """Replace a handler of Ctrl-C by another. Return False if it was not the handler."""
    if _signal.getsignal(_signal.SIGINT) is not old:
        return False
    try:
        _signal.signal(_signal.SIGINT, new)
    except ValueError:  # this is not the main thread
        return False
    return True


def _exit(*_: object) -> None:
    """Print one line and end the process: a handler of Ctrl-C."""
    try:
        if os.environ.get("RANK", "0") == "0":  # of the processes that torchrun starts, only one
            os.write(2, line().encode(errors="backslashreplace"))
        sys.stdout.flush()
    finally:
        os._exit(STATUS)
