"""Memory that a process keeps for its next large arrays, instead of returning it to the system."""

from __future__ import annotations

import os
import sys

# Parameters of glibc's mallopt (malloc.h; https://man7.org/linux/man-pages/man3/mallopt.3.html).
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -3, -4
LARGEST = 32 << 20  # bytes: the largest M_MMAP_THRESHOLD that glibc takes
# A user who sets one of these has decided already.
VARIABLES = ("MALLOC_MMAP_MAX_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_")
TUNABLES, TUNABLE = "GLIBC_TUNABLES", "glibc.malloc."

_is_kept = False


def keep_freed_memory(at_most: int | None = None) -> bool:
    """Let this process reuse the memory of its freed arrays. Return whether that could be set.

    `at_most`: bytes to keep. Arrays of more than LARGEST bytes are then returned to the system.

    By default glibc maps each array of more than 32 MiB anew, and unmaps it when it is freed: the
    system then clears every page again, in a page fault per 4 KiB. A network on a CPU frees and
    allocates hundreds of megabytes in each step. Results do not change. The peak grows by a few per
    cent, because the heap gets gaps, and the process stays as large as it was at its peak.

    Call it once, early. Without glibc (macOS, Windows, Alpine Linux) or after a user's own
    settings, it does nothing.
    """
    is_decided = any(name in os.environ for name in VARIABLES)
    if is_decided or TUNABLE in os.environ.get(TUNABLES, "") or sys.platform != "linux":
        return False
    import ctypes  # here, because `--help` has no use for it

    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # a static Python, another C library
        return False
    global _is_kept
    if at_most is not None:
        _is_kept = bool(mallopt(M_MMAP_THRESHOLD, LARGEST) and mallopt(M_TRIM_THRESHOLD, at_most))
    else:
        # No mmap for single arrays, and no return of free memory at the heap's end (-1: never).
        _is_kept = bool(mallopt(M_MMAP_MAX, 0) and mallopt(M_TRIM_THRESHOLD, -1))
    return _is_kept


def is_freed_memory_kept() -> bool:
    """Return whether `keep_freed_memory` was called and could be set."""
    return _is_kept
