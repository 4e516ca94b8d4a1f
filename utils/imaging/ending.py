"""Whether a picture's file goes on to its end, found without decoding it."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from mmap import ACCESS_READ, mmap
from typing import BinaryIO, TypeAlias

Content: TypeAlias = "mmap | bytes"

# A JPEG's marker. Within pixels, 0xff is followed by zero or by a restart marker (0xd0 to 0xd7).
_JPEG_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]", re.DOTALL)
_START, _END, _SCAN = 0xD8, 0xD9, 0xDA  # JPEG markers
_HEIF_BOXES = (b"ftyp", b"meta", b"mdat", b"moov", b"free", b"skip", b"uuid")
_PADDING = b"\0\r\n \xff"  # that some programs write behind a picture


def has_end(file: BinaryIO, image_format: str | None) -> bool | None:
    """Return whether an open file, which opens as an image of this format, goes on to its end.

    Return None if only decoding can tell.
    """
    check = _CHECKS.get(image_format or "")
    if not check:
        return None
    with _content(file) as content:
        return check(content)


@contextmanager
def _content(file: BinaryIO) -> Iterator[Content]:
    """Give the content of a file. Of a file on disk only the pages that are looked at are read."""
    if isinstance(file, io.BufferedReader) and isinstance(file.raw, io.FileIO):
        with mmap(file.fileno(), 0, access=ACCESS_READ) as mapped:
            yield mapped
    elif isinstance(file, io.BytesIO):
        yield file.getvalue()  # which copies nothing
    else:
        file.seek(0)
        yield file.read()


def _jpeg_has_end(content: Content) -> bool:
    """Return whether an end marker follows the pixels. What comes after it does not matter."""
    tail = content[-64:].rstrip(_PADDING)
    position = 2
    while marker := _JPEG_MARKER.search(content, position):
        position = marker.end()
        kind = content[position - 1]
        # An end marker at the end of the file spares the search through the pixels. Before the
        # pixels it would belong to the thumbnail in the file's head.
        if kind == _END or (kind == _SCAN and tail.endswith(bytes((0xFF, _END)))):
            return True
        if kind != _START:
            position += int.from_bytes(content[position : position + 2], "big")
    return False


def _png_has_end(content: Content) -> bool:
    """Return whether the chunks go on to IEND."""
    position = 8
    while len(head := content[position : position + 8]) == 8:
        if head[4:] == b"IEND":
            return True
        position += 12 + int.from_bytes(head[:4], "big")
    return False


def _webp_has_end(content: Content) -> bool:
    """Return whether the file is as long as its head says."""
    return len(content) >= 8 + int.from_bytes(content[4:8], "little")


def _heif_has_end(content: Content) -> bool:
    """Return whether no box of an AVIF or HEIC file goes beyond the file's end."""
    position = 0
    while len(head := content[position : position + 16]) >= 8:
        size = int.from_bytes(head[:4], "big")
        if size == 1:  # the size follows, in 64 bits
            size = int.from_bytes(head[8:], "big")
        # 0: up to the file's end. Another kind: not a box, but something behind the picture.
        if size < 8 or head[4:8] not in _HEIF_BOXES:
            return True
        position += size
    return position <= len(content)


_CHECKS: dict[str, Callable[[Content], bool]] = {
    "JPEG": _jpeg_has_end,
    "MPO": _jpeg_has_end,
    "PNG": _png_has_end,
    "WEBP": _webp_has_end,
    "AVIF": _heif_has_end,
    "HEIF": _heif_has_end,
}
