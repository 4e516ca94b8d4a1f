"""Open pictures upright, or refuse them with the reason; save pictures whole or not at all."""

from __future__ import annotations

import io
import math
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import BinaryIO, NamedTuple, TypeAlias

from PIL import Image, ImageCms, UnidentifiedImageError, features

from utils.files import atomic_file
from utils.imaging.depth import DepthError, check_deep_colour, is_deep_colour, to_8_bits
from utils.imaging.ending import has_end
from utils.imaging.formats import FORMATS, HEAD_BYTES, ZEROS, identify
from utils.imaging.geometry import Box
from utils.imaging.partial_jpeg import JPEG_FORMATS, dct_factor, decode_down_to
from utils.imaging.repair import drop_broken_chunks, drop_metadata, open_without_end_marker
from utils.memory import is_freed_memory_kept
from utils.parallel import cores

MAX_PIXELS = 200_000_000  # as the largest phone sensors have; more is taken for an attack
MAX_METADATA = 64 << 20  # bytes of the texts or of the colour profile of a PNG, decompressed
WRITABLE_FORMATS = tuple(name for name in FORMATS if name != "HEIF")

Source: TypeAlias = Path | BinaryIO | bytes  # a path, an open file that can seek, or the content

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
# Of Pillow's filters the one with which a network's input of 48 pixels differs least.
_REDUCE = Image.Resampling.BICUBIC

_decoding_slots = threading.BoundedSemaphore(cores())
_import_lock = threading.Lock()


class ImageError(ValueError):
    """A file from which no picture can be read, or to which it cannot be written; the reason."""


class UprightImage(NamedTuple):
    """A picture as displayed, which may be decoded at reduced size, and its full size."""

    picture: Image.Image
    size: tuple[int, int]  # width and height of the picture in the file, as displayed


@cache
def _configure_pillow() -> None:
    """Make Pillow's settings for the whole process, when the first picture is opened."""
    from PIL import PngImagePlugin

    # Pillow's own limit is lower and warns first; `open_header` checks instead.
    Image.MAX_IMAGE_PIXELS = None
    # Programs that draw or edit keep their whole work in texts; profiles with tables are large.
    PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY = MAX_METADATA
    # Pillow warns about oddities in metadata that are not used here.
    warnings.filterwarnings("ignore", module="PIL")
    # Keep up to four blocks of 16 MB from picture to picture. Otherwise a third of the time of a
    # large photo goes into clearing new pages in the kernel. A process that keeps its memory needs
    # no blocks: they would lie between the pieces, and take 30 MB more for the same photos.
    Image.core.set_blocks_max(0 if is_freed_memory_kept() else 4)


def load_decoders() -> None:
    """Import Pillow's decoders now. Otherwise the first threads that open pictures import them."""
    import numpy  # noqa: F401 - for pictures of more than 8 bits

    _configure_pillow()
    Image.init()
    with suppress(ImageError):  # pillow-heif may be missing
        _register_heif()


@contextmanager
def open_header(source: Source) -> Iterator[Image.Image]:
    """Open a picture and read its size and format, but not its pixels.

    The first bytes tell the format, not the name. Raise ImageError if the file is not an image that
    can be read, or has more than MAX_PIXELS pixels.
    """
    with _open_file(source) as file, _open_header(file) as image:
        yield image


def _open_header(file: BinaryIO) -> Image.Image:
    """Return what `open_header` does, for an open file."""
    _configure_pillow()
    try:
        file_type = identify(_read(file, HEAD_BYTES))
        if file_type is ZEROS and _read(file).strip(b"\0"):
            raise ImageError("not an image: it begins with zeros")
    except OSError as error:
        raise ImageError(error.strerror or str(error)) from None
    if file_type.refusal():
        raise ImageError(file_type.refusal())
    image = _open(file, file_type.format)
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise ImageError(f"{width}×{height} pixels; {MAX_PIXELS:,} are the most that is decoded")
    return image


def open_image(source: Source, side: int | None = None, channels: int = 3) -> Image.Image:
    """Return the whole picture, decoded and turned upright as its EXIF orientation says.

    If only `side` × `side` pixels of `channels` channels are needed, a JPEG is decoded at 1/2, 1/4
    or 1/8 of its size, and in grey for one channel. Each side stays at least OVERSIZE times as long
    as needed, so that the resized picture hardly differs. Values of more than 8 bits become 8 bits.

    Raise ImageError if the picture cannot be decoded to the last pixel.
    """
    return open_upright(source, side, channels).picture


def open_upright(source: Source, side: int | None = None, channels: int = 3) -> UprightImage:
    """Return what `open_image` does, and the full size of the picture as displayed."""
    draft = ("L" if channels == 1 else "RGB", (OVERSIZE * side, OVERSIZE * side)) if side else None
    with (
        _open_file(source) as file,
        _open_header(file) as header,
        _decoder_errors(header.format),
    ):
        stored = header.size
        image, orientation = _decode(header, file, draft)
        # Pillow turns some formats itself. Only a JPEG is decoded at reduced size, and it is not
        # one of these.
        full = stored if header.format in JPEG_FORMATS else image.size
        size = full[::-1] if orientation in SIDEWAYS else full
        return UprightImage(_turn_upright(image, orientation), size)


def verify(file: BinaryIO, complete: bool) -> None:
    """Raise ImageError if a file on disk is not an image, or ends too early.

    Decode it to the last pixel if it is not known that the file is `complete`, or if nothing else
    shows its end. At most as many files as there are cores are decoded at a time, because a large
    photo takes much memory.
    """
    path = Path(file.name)
    with _open_file(path) as written:
        with _open_header(written) as image:
            image_format = image.format
        ends = has_end(written, image_format)
    if ends is False:
        raise ImageError(f"truncated: the {image_format} has no end")
    if not (complete and ends):
        with _decoding_slots:
            open_image(path).close()


def open_region(
    source: Source, region: Callable[[int, int], Box], longest: int | None = None
) -> Image.Image:
    """Return a part of a picture as displayed. Only this part is copied and turned.

    `region(width, height)` returns the part's box, in whole pixels, for the size of the picture as
    displayed. If its longer side has more than `longest` pixels, the part is reduced to that, in
    grey or RGB. Of a JPEG, rows below the part are not decoded, and the others no larger than
    needed.

    Raise ImageError if the file ends too early or a pixel of the part cannot be decoded; errors of
    `region` pass.
    """
    with _open_file(source) as file:
        with _open_header(file) as header:
            if header.format in JPEG_FORMATS and has_end(file, header.format):
                orientation = _orientation(header)
                box = _stored_region(region, header.size, orientation)
                factor = dct_factor(box, longest)
                if decode_down_to(header, box.bottom, factor):
                    _drop_odd_profile(header)
                    return _turn_upright(_cut(header, box, factor, longest), orientation)
        with _open_header(file) as header:
            with _decoder_errors(header.format):
                image, orientation = _decode(header, file)
            box = _stored_region(region, image.size, orientation)
            return _turn_upright(_cut(image, box, 1, longest), orientation)


def _stored_region(
    region: Callable[[int, int], Box], size: tuple[int, int], orientation: int
) -> Box:
    """Return the box, in the stored picture of this size, of a region of it as displayed."""
    width, height = size[::-1] if orientation in SIDEWAYS else size
    return to_stored_box(region(width, height), size, orientation)


def _cut(image: Image.Image, box: Box, factor: int, longest: int | None) -> Image.Image:
    """Return a part of a picture that is decoded at 1/factor of its size, no longer than `longest`.

    `box` is the part in the picture of full size.
    """
    side = max(box.width, box.height)
    if longest is None or side <= longest:
        return image.crop(box)
    left, top, right, bottom = (value / factor for value in box)
    x, y = math.floor(left), math.floor(top)
    part = image.crop((x, y, math.ceil(right), math.ceil(bottom)))
    if part.mode not in ("L", "RGB"):  # Pillow resizes palettes without antialiasing
        part = to_srgb(part)
        part.info.pop("icc_profile", None)  # that of the CMYK picture
    size = [max(1, round(value * longest / side)) for value in (box.width, box.height)]
    return part.resize(size, _REDUCE, (left - x, top - y, right - x, bottom - y))


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


def to_channels(image: Image.Image, channels: int) -> Image.Image:
    """Return a picture of any mode as 8-bit grey (1 channel) or RGB (3 channels)."""
    image = to_8_bits(image)  # Pillow would clip larger values, not scale them
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
    with _decoder_errors(image.format):
        return to_channels(image, 3)


def save_image(image: Image.Image, path: Path, **options: object) -> None:
    """Write a picture to a file that appears whole or not at all, in the format of its suffix.

    The format is JPEG if the suffix names none of WRITABLE_FORMATS. `options` go to Pillow's
    encoder. Raise ImageError if the format cannot hold the picture, OSError if the disk is full.
    """
    suffix_format = Image.registered_extensions().get(path.suffix.lower())
    content = io.BytesIO()  # Pillow would not notice a write that a full disk cuts short
    try:
        image_format = suffix_format if suffix_format in WRITABLE_FORMATS else "JPEG"
        image.save(content, image_format, **options)
    except Exception as error:  # an encoder can refuse a picture's shape with any exception
        raise ImageError(f"{path} cannot be written: {error}") from None
    with atomic_file(path) as file:
        file.write(content.getbuffer())


@contextmanager
def _open_file(source: Source) -> Iterator[BinaryIO]:
    """Open a file or bytes for reading; leave an open file open. Raise ImageError if it fails."""
    if isinstance(source, Path):
        try:
            file = source.open("rb")
        except OSError as error:
            raise ImageError(error.strerror or str(error)) from None
        with file:
            yield file
    else:
        yield io.BytesIO(source) if isinstance(source, bytes) else source


def _read(file: BinaryIO, count: int = -1) -> bytes:
    """Return the first `count` bytes of a file, or all of it."""
    file.seek(0)
    return file.read(count)


def _open(file: BinaryIO, image_format: str) -> Image.Image:
    """Open a file of one of FORMATS. Raise ImageError if its header is broken."""
    if image_format == "HEIF":
        _register_heif()
    try:
        return Image.open(file, formats=(image_format,))
    except UnidentifiedImageError:
        if image_format == "PNG":
            return _mend_png(file, lambda image: None)
        if image_format == "AVIF" and not features.check("avif"):
            reason = "an AVIF image, which this Pillow cannot read: pip install --upgrade pillow"
            raise ImageError(reason) from None
        reason = f"the header of the {image_format} is broken, or of a kind that is not read"
        raise ImageError(_broken(image_format, reason)) from None
    except OSError as error:
        raise ImageError(error.strerror or _broken(image_format, error)) from None
    except Exception as error:  # hostile bytes can raise anything out of a decoder
        if image_format == "PNG":
            return _mend_png(file, lambda image: None)
        raise ImageError(_broken(image_format, error)) from None


def _register_heif() -> None:
    """Let Pillow read HEIC files. Raise ImageError if the package for it cannot be imported."""
    with _import_lock:
        if "HEIF" in Image.OPEN:
            return
        try:
            import pillow_heif

            pillow_heif.register_heif_opener()
        except Exception as error:  # a broken installation can raise anything
            raise ImageError(f"a HEIC photo, but pillow-heif cannot be loaded: {error}") from None


def _decode(
    header: Image.Image,
    file: BinaryIO,
    draft: tuple[str, tuple[int, int]] | None = None,
) -> tuple[Image.Image, int]:
    """Return the decoded picture, not turned yet, and its EXIF orientation.

    `draft`: decode a JPEG to this mode, and no larger than this size needs. Raise any exception if
    a pixel is missing, or if the values have no known scale.
    """
    if draft:
        header.draft(*draft)
    is_deep = is_deep_colour(header)
    image: Image.Image = header
    try:
        _load(image)
    except MemoryError:
        raise
    except Exception:
        if header.format == "PNG":
            image = _mend_png(file, _load)
        elif header.format in JPEG_FORMATS and (mended := _mend_jpeg(file, draft)):
            image = mended
        else:
            raise
    if is_deep:
        check_deep_colour(image)
    # After decoding: a PNG may name it at its end, and Pillow turns some formats itself.
    orientation = _orientation(image)
    return to_8_bits(image), orientation


def _mend_jpeg(file: BinaryIO, draft: tuple[str, tuple[int, int]] | None) -> Image.Image | None:
    """Return the decoded picture if the file lacks only its end marker, else None."""

    def decode(mended: BinaryIO) -> Image.Image:
        image = Image.open(mended, formats=("JPEG",))
        if draft:
            image.draft(*draft)
        _load(image)
        return image

    with suppress(OSError, SyntaxError):
        return open_without_end_marker(_read(file), decode)
    return None


def _mend_png(file: BinaryIO, load: Callable[[Image.Image], object]) -> Image.Image:
    """Open and `load` a PNG in which a text or a profile is broken.

    Raise ImageError if more than that is broken.
    """
    png = _read(file)
    reason: object = None
    for mend in (drop_broken_chunks, drop_metadata):
        try:
            image = Image.open(io.BytesIO(mend(png)), formats=("PNG",))
            load(image)
            return image
        except UnidentifiedImageError:
            reason = reason or "its header cannot be read"
        except Exception as error:
            reason = error
    raise ImageError(_broken("PNG", reason)) from None


def _load(image: Image.Image) -> None:
    """Decode the pixels. Raise ValueError for a mode that Pillow cannot convert."""
    image.load()
    _drop_odd_profile(image)
    if image.mode == "LAB":  # the one mode that Pillow cannot convert
        raise ValueError("its colours are LAB, not RGB")


def _drop_odd_profile(image: Image.Image) -> None:
    if not isinstance(image.info.get("icc_profile", b""), bytes):  # a TIFF can hold any type there
        del image.info["icc_profile"]


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation; 1 (upright) if there is none, or none that can be read."""
    try:
        return image.getexif().get(ORIENTATION, 1)
    except Exception:  # hostile bytes again; the pixels may be fine
        return 1


def _turn_upright(image: Image.Image, orientation: int) -> Image.Image:
    return image.transpose(UPRIGHT[orientation]) if orientation in UPRIGHT else image


@contextmanager
def _decoder_errors(image_format: str | None) -> Iterator[None]:
    """Turn any exception into ImageError: on hostile bytes a decoder can raise anything."""
    try:
        yield
    except ImageError:
        raise
    except MemoryError:
        raise ImageError("there was too little memory to decode it") from None
    except DepthError as error:
        raise ImageError(str(error)) from None
    except Exception as error:
        raise ImageError(_broken(image_format, error)) from None


def _broken(image_format: str | None, error: object) -> str:
    """Return the reason why a file that begins like an image cannot be decoded."""
    reason = " ".join(str(error).split()) or type(error).__name__  # some have several lines
    return f"a broken PNG: {reason}" if image_format == "PNG" else f"broken image: {reason}"
