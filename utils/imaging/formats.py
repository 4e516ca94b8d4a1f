"""Tell by its first bytes what a file is: an image that can be read, or something else."""

from __future__ import annotations

import codecs
import encodings.cp949  # noqa: F401 - a thread that needs it must not be the one to import it
import importlib.util
from functools import cache
from typing import NamedTuple

HEAD_BYTES = 1024  # of a file tell what it is

# The formats that are read, and no others: Pillow would run Ghostscript on a file that begins like
# PostScript. HEIF is read through the package pillow-heif, which is optional.
FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF", "GIF", "AVIF", "HEIF")
HEIF_ADVICE = "pip install pillow-heif, or convert {}"
CONVERT = "convert {} to JPEG or PNG"


class FileType(NamedTuple):
    """What a file is, by its first bytes."""

    name: str  # such as "a PNG image" or "an HTML page"; empty: not known
    format: str = ""  # Pillow's name of the format; empty if it is not an image that can be read
    is_image: bool = False  # whether it is an image, in a format that is read or in another

    def advice(self, pronoun: str = "it") -> str:
        """Return what to do if it is an image that cannot be read here; empty if it can."""
        if not self.is_image or (self.format and can_read(self.format)):
            return ""
        return (HEIF_ADVICE if self.format == "HEIF" else CONVERT).format(pronoun)

    def refusal(self) -> str:
        """Return why this is not an image that can be read; empty if it is one."""
        if self.is_image:
            return f"{self.name}: {self.advice()}" if self.advice() else ""
        return f"{self.name}, not an image" if self.name else "not an image"


# First bytes, and what begins with them. A longer beginning stands before a shorter one.
_SIGNATURES = (
    (b"\xff\xd8\xff", FileType("a JPEG image", "JPEG", True)),
    (b"\x89PNG\r\n\x1a\n", FileType("a PNG image", "PNG", True)),
    (b"GIF87a", FileType("a GIF image", "GIF", True)),
    (b"GIF89a", FileType("a GIF image", "GIF", True)),
    (b"II*\0", FileType("a TIFF image", "TIFF", True)),
    (b"MM\0*", FileType("a TIFF image", "TIFF", True)),
    (b"II+\0", FileType("a TIFF image", "TIFF", True)),  # BigTIFF
    (b"MM\0+", FileType("a TIFF image", "TIFF", True)),
    (b"\xff\x0a", FileType("a JPEG XL image", is_image=True)),
    (b"\0\0\0\x0cJXL \r\n\x87\n", FileType("a JPEG XL image", is_image=True)),
    (b"\0\0\0\x0cjP  \r\n\x87\n", FileType("a JPEG 2000 image", is_image=True)),
    (b"\xff\x4f\xff\x51", FileType("a JPEG 2000 image", is_image=True)),
    (b"8BPS", FileType("a Photoshop file", is_image=True)),
    (b"\0\0\1\0", FileType("an icon", is_image=True)),
    (b"%PDF-", FileType("a PDF")),
    (b"PK\3\4", FileType("a ZIP archive")),
    (b"PK\5\6", FileType("a ZIP archive")),
    (b"\x1f\x8b", FileType("a gzip archive")),
    (b"7z\xbc\xaf\x27\x1c", FileType("a 7z archive")),
    (b"Rar!\x1a\x07", FileType("a RAR archive")),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", FileType("a document of Microsoft Office")),
    (b"\x1a\x45\xdf\xa3", FileType("a video")),  # Matroska, WebM
    (b"\0\0\1\xba", FileType("a video")),  # MPEG
    (b"FLV\1", FileType("a video")),
    (b"OggS", FileType("a video or sound")),
    (b"ID3", FileType("a sound")),
    (b"\x93NUMPY", FileType("a NumPy array")),
    (b"\0\5\x16\7", FileType("a file of macOS that belongs to another file")),
    (b"version https://git-lfs.github.com/spec/", FileType("a Git LFS pointer (git lfs pull)")),
)
ZEROS = FileType("nothing but zeros")
_AVIF = FileType("an AVIF image", "AVIF", True)
_HEIC = FileType("a HEIC photo", "HEIF", True)
_WEBP = FileType("a WebP image", "WEBP", True)
_BMP = FileType("a BMP image", "BMP", True)
_RIFF = {b"WEBP": _WEBP, b"AVI ": FileType("a video"), b"WAVE": FileType("a sound")}
_AVIF_BRANDS = {b"avif", b"avis"}
# ISO/IEC 23008-12: still images and sequences of HEVC, and the brands that any codec may have.
_HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"}
_HEIF_BRANDS |= {b"mif1", b"msf1", b"heif", b"mif2"}
_DIB_SIZES = (12, 16, 40, 52, 56, 64, 108, 124)  # bytes of the header that follows in a BMP
_HTML = (b"<!doctype html", b"<html", b"<head", b"<body")


def identify(head: bytes) -> FileType:
    """Return what a file is, from its first HEAD_BYTES bytes, or all of them if it is shorter."""
    for start, file_type in _SIGNATURES:
        if head.startswith(start):
            return file_type
    if head[:4] == b"RIFF" and head[8:12] in _RIFF:
        return _RIFF[head[8:12]]
    if head[4:8] == b"ftyp":
        return _identify_iso_media(head)
    if head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in _DIB_SIZES:
        return _BMP
    return _identify_text(head)


@cache
def can_read(format: str) -> bool:
    """Return whether images of one of FORMATS can be read here. Do not import the reader yet."""
    if format == "HEIF":
        return importlib.util.find_spec("pillow_heif") is not None
    return True


def _identify_iso_media(head: bytes) -> FileType:
    """Identify a file of the family of MP4 by its brands: its own, then the compatible ones."""
    end = min(int.from_bytes(head[:4], "big"), len(head))
    brands = [head[8:12], *(head[i : i + 4] for i in range(16, end - 3, 4))]
    if brands[0] in _AVIF_BRANDS | _HEIF_BRANDS:
        # An AVIF may call itself by a brand that any codec may have.
        is_heic = any(brand.startswith(b"he") for brand in brands)
        names_avif = not _AVIF_BRANDS.isdisjoint(brands)
        return _AVIF if brands[0] in _AVIF_BRANDS or (names_avif and not is_heic) else _HEIC
    if brands[0] == b"crx ":
        return FileType("a raw photo of a camera", is_image=True)
    return FileType("a video or sound")


def _identify_text(head: bytes) -> FileType:
    """Identify a file that has no signature: empty, zeros, a web page, other text, or unknown."""
    if not head.strip(b"\0"):
        return ZEROS if head else FileType("an empty file")
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith(_HTML) or (start.startswith(b"<") and any(tag in start for tag in _HTML)):
        return FileType("an HTML page")
    if b"<svg" in start and start.startswith(b"<"):
        return FileType("an SVG drawing", is_image=True)
    return FileType("a text") if _is_text(head) else FileType("")


def _is_text(head: bytes) -> bool:
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):  # UTF-16
        return True
    for encoding in ("utf-8", "cp949"):
        try:
            # The last character may be cut.
            text = codecs.getincrementaldecoder(encoding)().decode(head)
        except UnicodeDecodeError:
            continue
        return all(c.isprintable() or c.isspace() or c in "\x1b\x7f" for c in text)
    return False
