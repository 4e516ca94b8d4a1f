"""Open pictures upright, or refuse them with the reason; save pictures whole or not at all."""

from __future__ import annotations

import io
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageCms, UnidentifiedImageError

from utils.files import atomic_file
from utils.imaging.ending import has_end
from utils.imaging.geometry import Box
from utils.parallel import cores

# The formats of IMAGE_SUFFIXES, and no other: Pillow would run Ghostscript on a file that begins
# like PostScript.
FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF", "GIF")
MAX_PIXELS = 200_000_000  # as the largest phone sensors have; more is taken for an attack

ORIENTATION = 0x0112  # the EXIF tag

# How a stored picture of each orientation is turned for display (EXIF 2.32, 4.6.4).
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
SIDEWAYS = (5, 6, 7, 8)

# A JPEG is decoded at reduced size only if it stays this many times larger than needed.
OVERSIZE = 2

_decoding_slots = threading.BoundedSemaphore(cores())


class ImageError(ValueError):
    """A file from which no picture can be read, or to which it cannot be written; the reason."""


@cache
def _configure_pillow() -> None:
    """Make Pillow's settings for the whole process, when the first picture is opened."""
    # Pillow's own limit is lower and warns first; `open_header` checks instead.
    Image.MAX_IMAGE_PIXELS = None
    # Pillow warns about oddities in metadata that are not used here.
    warnings.filterwarnings("ignore", module="PIL")
    # Keep up to four blocks of 16 MB from picture to picture. Otherwise a third of the time of a
    # large photo goes into clearing new pages in the kernel.
    Image.core.set_blocks_max(4)


def open_header(source: Path | BinaryIO) -> Image.Image:
    """Open a picture and read its size and format, but not its pixels.

    Raise ImageError if the file is not an image or has more than MAX_PIXELS pixels.
    """
    _configure_pillow()
    if not isinstance(source, Path):
        source.seek(0)
    try:
        image = Image.open(source, formats=FORMATS)
    except UnidentifiedImageError:
        raise ImageError(_describe_content(source)) from None
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
    """Return the whole picture, decoded and turned upright as its EXIF orientation says.

    If only `side` × `side` pixels of `channels` channels are needed, a JPEG is decoded at 1/2, 1/4
    or 1/8 of its size, and in grey for one channel. Each side stays at least OVERSIZE times as long
    as needed, so that the resized picture hardly differs.

    Raise ImageError if the picture cannot be decoded to the last pixel.
    """
    with open_header(source) as image, _decoder_errors():
        if side:
            image.draft("L" if channels == 1 else "RGB", (OVERSIZE * side, OVERSIZE * side))
        _load(image)
        return _turn_upright(image, _orientation(image))


def verify(file: BinaryIO, complete: bool) -> None:
    """Raise ImageError if a file on disk is not an image, or ends too early.

    Decode it to the last pixel if it is not known that the file is `complete`, or if nothing else
    shows its end. At most as many files as there are cores are decoded at a time, because a large
    photo takes much memory.
    """
    path = Path(file.name)
    with open_header(path) as image:
        image_format = image.format
    ends = has_end(path, image_format)
    if ends is False:
        raise ImageError(f"truncated: the {image_format} has no end")
    if not (complete and ends):
        with _decoding_slots:
            open_image(path).close()


def open_region(source: Path | BinaryIO, region: Callable[[int, int], Box]) -> Image.Image:
    """Return a part of a picture as displayed. Only this part is copied and turned.

    `region(width, height)` returns the part's box for the size of the picture as displayed. Raise
    ImageError if the picture cannot be decoded to the last pixel; errors of `region` pass.
    """
    with open_header(source) as image:
        with _decoder_errors():
            _load(image)
            orientation = _orientation(image)
        part = image.crop(to_stored_box(region(*upright_size(image)), image.size, orientation))
        return _turn_upright(part, orientation)


def to_stored_box(region: Box, size: tuple[int, int], orientation: int) -> Box:
    """Return the box in the stored picture for a region of the picture as displayed.

    `size`: width and height as stored. `orientation`: the EXIF orientation, 1 to 8.
    """
    left, top, right, bottom = region
    width, height = size
    if orientation in SIDEWAYS:
        left, top, right, bottom = top, left, bottom, right
    if orientation in (2, 3, 7, 8):
        left, right = width - right, width - left
    if orientation in (3, 4, 6, 7):
        top, bottom = height - bottom, height - top
    return Box(left, top, right, bottom)


def upright_size(header: Image.Image) -> tuple[int, int]:
    """Return width and height of a picture as displayed, from its header."""
    return header.size[::-1] if _orientation(header) in SIDEWAYS else header.size


def to_channels(image: Image.Image, channels: int) -> Image.Image:
    """Return a picture of any mode as 8-bit grey (1 channel) or RGB (3 channels)."""
    if image.mode.startswith(("I", "F")):  # more than 8 bits, which Pillow would clip, not scale
        values = np.asarray(image, dtype=np.float32)
        top = 65535 if image.mode.startswith("I") else max(float(values.max()), 1e-6)
        image = Image.fromarray(np.clip(values * (255 / top), 0, 255).astype(np.uint8))
    if image.mode in ("P", "LA", "PA"):
        image = image.convert("RGBA")  # Pillow warns if transparency is lost on the way to RGB
    mode = "L" if channels == 1 else "RGB"
    return image if image.mode == mode else image.convert(mode)


def to_srgb(image: Image.Image) -> Image.Image:
    """Return a picture in RGB. A CMYK picture is converted by its colour profile.

    Without a profile, or with a broken one, it is converted as Pillow does. Raise ImageError if
    the picture cannot be converted.
    """
    profile = image.info.get("icc_profile")
    if profile and image.mode == "CMYK":  # the one mode whose colours are wrong without it
        with suppress(ImageCms.PyCMSError, OSError):
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            srgb = ImageCms.createProfile("sRGB")
            converted = ImageCms.profileToProfile(image, source, srgb, outputMode="RGB")
            if converted:  # None only if asked to convert in place
                return converted
    with _decoder_errors():
        return to_channels(image, 3)


def save_image(image: Image.Image, path: Path, **options: object) -> None:
    """Write a picture to a file that appears whole or not at all, in the format of its suffix.

    The format is JPEG if the suffix names none of FORMATS. `options` go to Pillow's encoder. Raise
    ImageError if the format cannot hold the picture, OSError if the disk is full.
    """
    suffix_format = Image.registered_extensions().get(path.suffix.lower())
    content = io.BytesIO()  # Pillow would not notice a write that a full disk cuts short
    try:
        image.save(content, suffix_format if suffix_format in FORMATS else "JPEG", **options)
    except Exception as error:  # an encoder can refuse a picture's shape with any exception
        raise ImageError(f"{path} cannot be written: {error}") from None
    with atomic_file(path) as file:
        file.write(content.getbuffer())


def _load(image: Image.Image) -> None:
    """Decode the pixels. Raise ValueError for a mode that Pillow cannot convert."""
    image.load()
    if not isinstance(image.info.get("icc_profile", b""), bytes):  # a TIFF can hold any type there
        del image.info["icc_profile"]
    if image.mode == "LAB":  # the one mode that Pillow cannot convert
        raise ValueError("its colours are LAB, not RGB")


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation; 1 (upright) if there is none, or none that can be read."""
    try:
        return image.getexif().get(ORIENTATION, 1)
    except Exception:  # hostile bytes again; the pixels may be fine
        return 1


def _turn_upright(image: Image.Image, orientation: int) -> Image.Image:
    return image.transpose(UPRIGHT[orientation]) if orientation in UPRIGHT else image


@contextmanager
def _decoder_errors() -> Iterator[None]:
    """Turn any exception into ImageError: on hostile bytes a decoder can raise anything."""
    try:
        yield
    except MemoryError:
        raise ImageError("there was too little memory to decode it") from None
    except Exception as error:
        raise ImageError(f"broken image: {error or type(error).__name__}") from None


def _describe_content(source: Path | BinaryIO) -> str:
    """Return what a file that is not an image holds instead."""
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
