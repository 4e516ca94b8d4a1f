"""Photos stored turned, as phones do, in every format that can say so."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import pillow_heif
from PIL import Image

from utils.imaging.image_io import ORIENTATION, UPRIGHT

# How an upright picture is stored for each orientation: the opposite of UPRIGHT.
STORED = dict(UPRIGHT) | {6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}
FORMATS = ("TIFF", "JPEG", "PNG", "PNG, at its end", "WEBP", "MPO", "AVIF", "HEIF")


def write_turned(path: Path, picture: Image.Image, name: str, orientation: int) -> Path:
    """Store a picture so that this EXIF orientation brings it upright, in one of FORMATS."""
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    stored = picture.transpose(STORED[orientation]) if orientation in STORED else picture
    if name == "PNG, at its end":
        stored.save(path, "PNG")
        data = exif.tobytes().removeprefix(b"Exif\0\0")
        chunk = struct.pack(">I", len(data)) + b"eXIf" + data
        chunk += struct.pack(">I", zlib.crc32(chunk[4:]))
        png = path.read_bytes()
        path.write_bytes(png[:-12] + chunk + png[-12:])
    elif name == "MPO":
        stored.save(path, name, exif=exif, quality=95, save_all=True, append_images=[stored])
    elif name == "HEIF":
        pillow_heif.from_pillow(stored).save(path, quality=95, exif=exif.tobytes())
    else:
        options = {"quality": 95} if name in ("JPEG", "WEBP", "AVIF") else {}
        stored.save(path, name, exif=exif, **options)
    return path
