"""File names: safe to write, equal in every Unicode form, printable."""

from __future__ import annotations

import unicodedata
from functools import cache
from pathlib import Path

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif")
MAX_NAME_BYTES = 255  # on every common file system
_FORBIDDEN = set('/\\:*?"<>|')  # a separator or a wildcard on one system or another
_RESERVED = {"con", "prn", "aux", "nul"} | {f"{d}{n}" for d in ("com", "lpt") for n in range(1, 10)}


class FileNameError(ValueError):
    """A name that is not safe as a file name, on this system or another."""


def nfc(text: str) -> str:
    """Return text with each Hangul syllable as one character, in whatever form it came."""
    return unicodedata.normalize("NFC", text)


def safe_name(name: str) -> str:
    """Return an image's file name in NFC, unchanged otherwise.

    Raise FileNameError for a name that could lead out of its folder or that some file system
    refuses. Such a name is not mended, because two names could become one.
    """
    name = nfc(name)
    if not name:
        raise FileNameError("the name is empty")
    bad = [c for c in name if c in _FORBIDDEN or not c.isprintable()]
    if bad:
        raise FileNameError(f"the name holds {bad[0]!r}, which is not safe in a file name")
    if name.startswith(".") or name.split(".")[0].strip().lower() in _RESERVED:
        raise FileNameError("the name is hidden or reserved for the system")
    if not has_image_suffix(name):
        raise FileNameError(f"the name does not end like an image's: {' '.join(IMAGE_SUFFIXES)}")
    if len(name.encode()) > MAX_NAME_BYTES:
        raise FileNameError(f"the name is longer than {MAX_NAME_BYTES} bytes")
    return name


def has_image_suffix(name: str) -> bool:
    """Return whether the name ends like an image's."""
    return name.lower().endswith(IMAGE_SUFFIXES)


def is_printable(text: str) -> bool:
    """Return whether the text can be listed: no line breaks, no other control characters."""
    return not any(unicodedata.category(c) == "Cc" for c in text)


def find_existing(folder: Path, name: str) -> Path | None:
    """Return the path of a name in the folder, in the form in which it is stored, or None."""
    return next((path for path in unicode_variants(folder, name) if path.exists()), None)


def unicode_variants(folder: Path, name: str) -> list[Path]:
    """Return the paths under which a Mac may have stored a file: composed or decomposed (NFD).

    The folder's own name (a class) and the file's may each be decomposed.
    """
    folders, names = [folder], [name]
    decomposed = unicodedata.normalize("NFD", name)
    if decomposed != name and len(decomposed.encode()) <= MAX_NAME_BYTES:
        names.append(decomposed)
    if _has_decomposed(folder):
        folders.append(_decomposed(folder))
    return [folder / name for folder in folders for name in names]


def _decomposed(folder: Path) -> Path:
    return folder.with_name(unicodedata.normalize("NFD", folder.name))


@cache
def _has_decomposed(folder: Path) -> bool:
    return _decomposed(folder) != folder and _decomposed(folder).is_dir()
