"""Pictures from anywhere: opened upright, or refused with the reason, whatever the bytes are."""

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
from utils.imaging.geometry import Box
from utils.parallel import cores

# What the names of IMAGE_SUFFIXES stand for, and no other: Pillow would run Ghostscript on a file
# that begins as PostScript does.
FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF", "GIF")
MAX_PIXELS = 200_000_000  # the largest phone sensors; above, a file is taken for a bomb

ORIENTATION = 0x0112  # the EXIF tag

# How a picture of each orientation is turned to be displayed (EXIF 2.32, 4.6.4).
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

REDUCING = 2  # a JPEG decoded at reduced size stays this many times larger than what is wanted

_decoding = threading.BoundedSemaphore(cores())


class ImageError(ValueError):
    """A file that gives no picture, with the reason."""


@cache
def _configure_pillow() -> None:
    """Set what Pillow keeps for the whole process, when the first picture is opened."""
    # Pillow's own limit is lower and warns first; `open_header` has the only check.
    Image.MAX_IMAGE_PIXELS = None
    # Oddities in metadata that nobody here reads.
    warnings.filterwarnings("ignore", module="PIL")
    # Keep memory from picture to picture, in pieces of 16 MB. Without it a third of the time of a
    # large photo goes into the kernel's clearing of fresh pages.
    Image.core.set_blocks_max(4)  # type: ignore[attr-defined]


def open_header(source: Path | BinaryIO) -> Image.Image:
    """Open a picture: its size and format are known, its pixels are not read yet.

    Raise ImageError for a file that is not an image, or too large to be decoded.
    """
    _configure_pillow()
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
    with open_header(source) as image, _broken():
        if side:
            image.draft("L" if channels == 1 else "RGB", (REDUCING * side, REDUCING * side))
        _load(image)
        return _turned(image, _orientation(image))


def verify(file: BinaryIO, complete: bool) -> None:
    """Raise ImageError for a file on disk that is no image; `complete`: all of it is there.

    Where that is not known, all of it is decoded: of several large photos no more at a time than
    there are cores, as each takes its memory.
    """
    path = Path(file.name)
    if complete:
        open_header(path).close()
    else:
        with _decoding:
            open_image(path).close()


def open_region(source: Path | BinaryIO, region: Callable[[int, int], Box]) -> Image.Image:
    """A part of a picture as it is displayed. Only that part is copied and turned.

    `region` is told the width and height of the picture as displayed. Raises ImageError for what
    cannot be decoded to the last pixel, and what `region` raises.
    """
    with open_header(source) as image:
        with _broken():
            _load(image)
            orientation = _orientation(image)
        part = image.crop(to_stored_box(region(*upright_size(image)), image.size, orientation))
        return _turned(part, orientation)


def to_stored_box(region: Box, size: tuple[int, int], orientation: int) -> Box:
    """Where a region of a picture as displayed lies in the picture as it is stored.

    `size`: width and height as stored.
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
    """Width and height of a picture as it is displayed, from its header alone."""
    return header.size[::-1] if _orientation(header) in SIDEWAYS else header.size


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


def to_srgb(image: Image.Image) -> Image.Image:
    """The picture in RGB as its colour profile means it; without one, or with a broken one, as it
    is commonly understood. Raises ImageError."""
    profile = image.info.get("icc_profile")
    if profile and image.mode == "CMYK":  # the one mode of which nobody guesses the colours right
        with suppress(ImageCms.PyCMSError, OSError):
            space = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            srgb = ImageCms.createProfile("sRGB")
            return ImageCms.profileToProfile(image, space, srgb, outputMode="RGB")
    with _broken():
        return to_channels(image, 3)


def save_image(image: Image.Image, path: Path, **options: object) -> None:
    """Write a picture as a file that appears whole, in the format that its suffix names.

    A suffix that names none of FORMATS gets a JPEG; `options` are those of Pillow's encoder. Raises
    ImageError for a picture that the format cannot hold, OSError where the disk is full.
    """
    kind = Image.registered_extensions().get(path.suffix.lower())
    content = io.BytesIO()  # Pillow does not notice when a full disk takes a part of a piece
    try:
        image.save(content, kind if kind in FORMATS else "JPEG", **options)
    except Exception as error:  # an encoder can refuse a picture's shape with anything
        raise ImageError(f"{path} cannot be written: {error}") from None
    with atomic_file(path) as file:
        file.write(content.getbuffer())


def _load(image: Image.Image) -> None:
    image.load()
    if not isinstance(image.info.get("icc_profile", b""), bytes):  # a TIFF can hold anything there
        del image.info["icc_profile"]
    if image.mode == "LAB":  # the one mode that Pillow itself cannot turn into others
        raise ValueError("its colours are LAB, not RGB")


def _orientation(image: Image.Image) -> int:
    """As EXIF says; 1, upright, where there is none, or none that can be read."""
    try:
        return image.getexif().get(ORIENTATION, 1)
    except Exception:  # hostile bytes again; the pixels may well be fine
        return 1


def _turned(image: Image.Image, orientation: int) -> Image.Image:
    return image.transpose(UPRIGHT[orientation]) if orientation in UPRIGHT else image


@contextmanager
def _broken() -> Iterator[None]:
    """Whatever a decoder raises, on hostile bytes, is that the image is broken."""
    try:
        yield
    except MemoryError:
        raise ImageError("there was too little memory to decode it") from None
    except Exception as error:
        raise ImageError(f"broken image: {error or type(error).__name__}") from None


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
