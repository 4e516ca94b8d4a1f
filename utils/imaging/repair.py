"""Open files that viewers show though a strict decoder refuses them, if every pixel is there."""

from __future__ import annotations

import io
import random
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

from PIL import Image

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_KEPT = (b"eXIf", b"tRNS")  # parts beside the picture that change how it looks
END_OF_IMAGE = b"\xff\xd9"  # the end marker of a JPEG
# Stand for missing data. Where data is missing, a decoder makes other pixels of each of them.
_FILLERS = (
    b"",
    b"\xfe" * 64,
    *(random.Random(i).randbytes(64).replace(b"\xff", b"") for i in range(6)),
)
_LAST_COEFFICIENT = 63  # of the 64 in a block of a JPEG


class _Chunk(NamedTuple):
    """A part of a PNG."""

    kind: bytes
    content: bytes  # the whole part: length, kind, data and checksum
    is_sound: bool  # whether it is complete and its checksum is right

    @property
    def is_needed(self) -> bool:
        """Return whether the picture cannot be shown without it."""
        return self.kind[:1].isupper()


def drop_broken_chunks(png: bytes) -> bytes:
    """Return a PNG without the parts beside the picture (texts, profiles) that are broken.

    Raise ValueError if a part of the picture itself is broken.
    """
    return _with_chunks(png, lambda chunk: chunk.is_sound)


def drop_metadata(png: bytes) -> bytes:
    """Return a PNG without texts and profiles, but with its orientation and transparency.

    Raise ValueError if a part of the picture itself is broken.
    """
    return _with_chunks(png, lambda chunk: chunk.is_sound and chunk.kind in _KEPT)


def _with_chunks(png: bytes, is_kept: Callable[[_Chunk], bool]) -> bytes:
    chunks = list(_chunks(png))
    for chunk in chunks:
        if chunk.is_needed and not chunk.is_sound:
            raise ValueError(f"its {chunk.kind.decode('latin-1')} is damaged")
    kept = (chunk.content for chunk in chunks if chunk.is_needed or is_kept(chunk))
    return PNG_SIGNATURE + b"".join(kept)


def _chunks(png: bytes) -> Iterator[_Chunk]:
    position = len(PNG_SIGNATURE)
    while position + 8 <= len(png):
        length, kind = struct.unpack(">I4s", png[position : position + 8])
        content = png[position : position + 12 + length]
        checksum = struct.pack(">I", zlib.crc32(content[4:-4]))
        yield _Chunk(kind, content, len(content) == 12 + length and content[-4:] == checksum)
        position += 12 + length


def open_without_end_marker(
    jpeg: bytes, decode: Callable[[io.BytesIO], Image.Image]
) -> Image.Image | None:
    """Return a JPEG that lacks only its end marker, or None if other data is missing too.

    `decode` returns a decoded picture; it is called several times.
    """
    jpeg = jpeg.rstrip(b"\xff")  # half a marker, or data whose second half is missing
    if not _has_all_scans(jpeg):
        return None
    pictures = (decode(io.BytesIO(jpeg + filler + END_OF_IMAGE)) for filler in _FILLERS)
    first = next(pictures)
    pixels = first.tobytes()
    return first if all(picture.tobytes() == pixels for picture in pictures) else None


def _has_all_scans(jpeg: bytes) -> bool:
    """Return whether a JPEG has data for every coefficient, down to the last bit.

    A progressive JPEG sends them in many scans; without the last ones it is blurred.
    """
    missing: dict[int, set[int]] = {}  # component → coefficients that are not complete
    for marker, segment in _segments(jpeg):
        if marker in (0xC0, 0xC1, 0xC2, 0xC9, 0xCA):  # frame
            components = segment[6::3]
            missing = {component: set(range(_LAST_COEFFICIENT + 1)) for component in components}
        elif marker == 0xDA and len(segment) >= 4 + 2 * segment[0]:  # scan
            start, end, bits = segment[-3:]
            if not bits & 15:  # the scan goes down to the last bit
                for component in segment[1:-3:2]:
                    missing.get(component, set()).difference_update(range(start, end + 1))
    return bool(missing) and not any(missing.values())


def _segments(jpeg: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield each marker of a JPEG with its data, without the compressed pixels."""
    position = 2
    while 0 <= (position := jpeg.find(b"\xff", position)) < len(jpeg) - 3:
        marker = jpeg[position + 1]
        if marker == 0xFF:  # a byte that fills up
            position += 1
        elif marker == 0 or 0xD0 <= marker <= 0xD9:  # pixels, or a marker without data
            position += 2
        else:
            length = int.from_bytes(jpeg[position + 2 : position + 4], "big")
            yield marker, jpeg[position + 4 : position + 2 + length]
            position += 2 + length
