"""The error that stops a stage, and which of the system's errors stop it."""

from __future__ import annotations

import errno


class StageError(Exception):
    """A problem that stops a stage. The message is one line: what, where, what to do."""


class TransientError(StageError):
    """A problem that may be gone if the same is tried again."""


class LostProcessError(TransientError):
    """Another process of the training has ended, or cannot be reached any more."""


def describe_os_error(error: OSError) -> str:
    """Return the system's error as `path: reason`, without its number."""
    reason = error.strerror or str(error) or type(error).__name__
    return f"{error.filename}: {reason}" if error.filename else reason


def is_fatal_os_error(error: OSError) -> bool:
    """Return whether every further file would meet this error too, as on a full disk."""
    return error.errno in (
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EROFS,
        errno.EFBIG,
        errno.EMFILE,
        errno.ENFILE,
    )
