"""What an operating system's error means for a stage."""

from __future__ import annotations

import errno
import os

import pytest

from utils.errors import describe_os_error, is_fatal_os_error


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/x/y"), "/x/y: No space left on device"),
        (OSError(errno.EIO, "Input/output error"), "Input/output error"),
        (OSError("in words"), "in words"),
        (TimeoutError(), "TimeoutError"),
    ],
)
def test_describe_os_error_is_path_and_reason(error, expected):
    assert describe_os_error(error) == expected


@pytest.mark.parametrize("name", ["ENOSPC", "EDQUOT", "EROFS", "EFBIG", "EMFILE", "ENFILE"])
def test_is_fatal_os_error_for_what_every_file_would_meet(name):
    code = getattr(errno, name)
    assert is_fatal_os_error(OSError(code, os.strerror(code)))


@pytest.mark.parametrize("name", ["ENOENT", "EACCES", "ENAMETOOLONG", "EISDIR", "EIO"])
def test_is_fatal_os_error_not_for_one_file(name):
    code = getattr(errno, name)
    assert not is_fatal_os_error(OSError(code, os.strerror(code)))
