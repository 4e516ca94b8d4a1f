"""Pictures from anywhere: opened upright, or refused with the reason, whatever the bytes are."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

# What the names of IMAGE_SUFFIXES stand for, and no other: Pillow would run Ghostscript on a file
# that begins as PostScript does.
FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF", "GIF")
MAX_PIXELS = 200_000_000  # the largest phone sensors; above, a file is taken for a bomb

ORIENTATION = 0x0112  # the EXIF tag

REDUCING = 2  # a JPEG decoded at reduced size stays this many times larger than what is wanted

# Oddities in metadata that nobody here reads.
warnings.filterwarnings("ignore", module="PIL")

# PIL's own limit is below that and warns before it refuses: the check here is the only one.
Image.MAX_IMAGE_PIXELS = None


class ImageError(ValueError):
    """A file that gives no picture, with the reason."""


def open_header(source: Path | BinaryIO) -> Image.Image:
    """A picture whose size and format are known and whose pixels are not read yet.

    Raises ImageError for what is no image, or too large to be decoded.
    """
    if not isinstance(source, Path):
        source.seek(0)
    try:
        image = Image.open(source, formats=FORMATS)
    except UnidentifiedImageError:
        raise ImageError(_what_it_is(source)) from None
    except OSError as error:
        raise ImageError(error.strerror or f"broken image: {error}") from None
    except Exception as error:  # hostile bytes can raise anything out of a decoder
        raise ImageError(f"broken image: {error or type(error).__name__}") from None
    width, height = image.size
    if width * height > MAX_PIXELS:
        image.close()
        raise ImageError(f"{width}×{height} pixels; {MAX_PIXELS:,} are the most that is decoded")
    return image


def open_image(source: Path | BinaryIO, side: int | None = None, channels: int = 3) -> Image.Image:
    """The whole picture, decoded, and turned as its EXIF orientation says it is displayed.

    Where only `side` × `side` pixels of `channels` channels will be wanted of it, a JPEG is decoded
    at 1/2, 1/4 or 1/8 of its size, and in grey: each side remains at least twice as long as wanted,
    so that hardly a difference can be seen once it is resized.

    Raises ImageError for what cannot be decoded to the last pixel.
    """
    with open_header(source) as image:
        try:
            if side:
                image.draft("L" if channels == 1 else "RGB", (REDUCING * side, REDUCING * side))
            image.load()
            if image.mode == "LAB":  # the one mode that Pillow itself cannot turn into others
                raise ValueError("its colours are LAB, not RGB")
            turned = image.getexif().get(ORIENTATION, 1) != 1
            return ImageOps.exif_transpose(image) if turned else image
        except Exception as error:
            raise ImageError(f"broken image: {error or type(error).__name__}") from None


def upright_size(header: Image.Image) -> tuple[int, int]:
    """Width and height of a picture as it is displayed, from its header alone."""
    turned = header.getexif().get(ORIENTATION) in (5, 6, 7, 8)
    return header.size[::-1] if turned else header.size


def to_channels(image: Image.Image, channels: int) -> Image.Image:
    """The picture as 8-bit grey (1 channel) or RGB (3), from whatever mode it is in."""
    if image.mode.startswith(("I", "F")):  # more than 8 bits: PIL would clip, not scale
        values = np.asarray(image, dtype=np.float32)
        top = 65535 if image.mode.startswith("I") else max(float(values.max()), 1e-6)
        image = Image.fromarray(np.clip(values * (255 / top), 0, 255).astype(np.uint8))
    if image.mode in ("P", "LA", "PA"):
        image = image.convert("RGBA")  # a palette's transparency has to survive until it is dropped
    mode = "L" if channels == 1 else "RGB"
    return image if image.mode == mode else image.convert(mode)


def _what_it_is(source: Path | BinaryIO) -> str:
    if isinstance(source, Path):
        with source.open("rb") as file:
            head = file.read(512)
    else:
        source.seek(0)
        head = source.read(512)
    if not head:
        return "an empty file, not an image"
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<!doctype html", b"<html", b"<head", b"<body")):
        return "an HTML page, not an image"
    if start.startswith((b"<", b"{", b"[")) or head.isascii():
        return "a text, not an image"
    return "not an image"
