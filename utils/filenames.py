"""File names: safe on every system, equal in every Unicode form, printable."""

from __future__ import annotations

import os
import unicodedata
from functools import cache
from pathlib import Path

IMAGE_SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".avif",
    ".heic", ".heif",
)  # fmt: skip
MAX_NAME_BYTES = 255  # on every common file system
_FORBIDDEN = set('/\\:*?"<>|')  # separators and wildcards of Linux, macOS and Windows
_RESERVED = {"con", "prn", "aux", "nul"} | {f"{d}{n}" for d in ("com", "lpt") for n in range(1, 10)}


class FileNameError(ValueError):
    """A name that is not safe as a file name, on this system or another."""


def expand_home(path: str) -> str:
    """Return a path with the home folder for a ~ or ~user at its start, as a shell expands it.

    A shell does not expand it within a word such as `--output=~/x`, nor do files and configs.
    """
    return os.path.expanduser(path)  # noqa: PTH111 - pathlib fails for an unknown user


def nfc(text: str) -> str:
    """Return the text in Unicode form NFC: each Hangul syllable is one character."""
    return unicodedata.normalize("NFC", text)


def safe_name(name: str) -> str:
    """Return an image's file name in NFC, unchanged otherwise.

    Raise FileNameError if the name could lead out of its folder, or some file system refuses it.
    Such a name is not repaired, because two names could become one.
    """
    name = nfc(name)
    if not name:
        raise FileNameError("the name is empty")
    unsafe = [c for c in name if c in _FORBIDDEN or not c.isprintable()]
    if unsafe:
        raise FileNameError(f"the name holds {unsafe[0]!r}, which is not safe in a file name")
    if name.startswith(".") or name.split(".")[0].strip().lower() in _RESERVED:
        raise FileNameError("the name is hidden or reserved for the system")
    if not has_image_suffix(name):
        raise FileNameError(f"the name does not end in one of {' '.join(IMAGE_SUFFIXES)}")
    if len(name.encode()) > MAX_NAME_BYTES:
        raise FileNameError(f"the name is longer than {MAX_NAME_BYTES} bytes")
    return name


def has_image_suffix(name: str) -> bool:
    """Return whether the name ends in one of IMAGE_SUFFIXES, in any case of letters."""
    return name.lower().endswith(IMAGE_SUFFIXES)


def is_printable(text: str) -> bool:
    """Return whether the text has no line break and no other control character."""
    return not any(unicodedata.category(c) == "Cc" for c in text)


def find_existing(folder: Path, name: str) -> Path | None:
    """Return the path of the file in the folder, in the Unicode form it is stored in, or None."""
    return next((path for path in unicode_variants(folder, name) if path.exists()), None)


def unicode_variants(folder: Path, name: str) -> list[Path]:
    """Return the paths under which a file may be stored: a Mac decomposes names (NFD).

    Both the folder's name (a class) and the file's name may be decomposed.
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
