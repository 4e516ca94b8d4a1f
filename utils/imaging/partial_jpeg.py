"""Decode no more of a JPEG than a part of it needs: the rows down to it, at reduced scale."""

from __future__ import annotations

import math
import random
from contextlib import suppress
from typing import cast

from PIL import Image, ImageFile

from utils.imaging.geometry import Box

JPEG_FORMATS = ("JPEG", "MPO")  # Pillow's names; a phone's photo may hold a second picture (MPO)
FACTORS = (8, 4, 2)  # by which libjpeg reduces a JPEG while it decodes it


def dct_factor(box: Box, longest: int | None) -> int:
    """Return by how much a JPEG may be reduced so that the box keeps `longest` pixels or more.

    That is for the longer side of the box. Without `longest` return 1: full size.
    """
    if longest is None:
        return 1
    side = max(box.width, box.height)
    return next((factor for factor in FACTORS if side >= factor * longest), 1)


def decode_down_to(header: Image.Image, bottom: float, factor: int = 1) -> bool:
    """Decode the rows of a JPEG above `bottom`, reduced by `factor`. Return whether that worked.

    `header` is an opened JPEG. Afterwards it is a picture that ends at this row. If it did not work
    (the JPEG is broken, or too thin for the factor), it can no longer be used.
    """
    jpeg = cast(ImageFile.ImageFile, header)
    width, height = jpeg.size
    if factor > min(width, height):
        return False
    try:
        if factor > 1:
            jpeg.draft(None, (width // factor, height // factor))
        rows = math.ceil(bottom / factor)
        if rows >= jpeg.height:
            jpeg.load()
            return True
        return _decode_rows(jpeg, rows)
    except Exception:  # hostile bytes can raise anything; who decodes it all learns the reason
        return False


def _decode_rows(jpeg: ImageFile.ImageFile, rows: int) -> bool:
    """Decode the first rows. Return whether they are complete.

    The decoder is given a picture of so many rows. When that is full it ends with an error, because
    the file has more rows. It would end with the same error if the data were broken. So the last
    row holds noise before: rows are written from the top, and another last row means that all of
    them are written.
    """
    width = jpeg.width
    picture = Image.new(jpeg.mode, (width, rows), None)  # not cleared
    noise = random.Random(0).randbytes(width * len(jpeg.getbands()))
    last_row = (0, rows - 1, width, rows)
    picture.paste(Image.frombytes(jpeg.mode, (width, 1), noise), last_row)
    # These are the attributes that plugins of Pillow set; see "Writing your own image plugin".
    jpeg.tile = [tile._replace(extents=(0, 0, width, rows)) for tile in jpeg.tile]
    jpeg._size, jpeg.im = picture.size, picture.im
    with suppress(OSError):
        jpeg.load()
    return jpeg.crop(last_row).tobytes() != noise
