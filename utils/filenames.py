"""File names: safe on every system, equal in every Unicode form, printable."""

from __future__ import annotations

import os
import re
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


SAME_BUT_FOR_CASE = (
    "differs in upper and lower case only, and this disk does not tell them apart: rename one, or "
    "use another disk"
)
_telling_case: set[Path] = set()  # folders on disks that tell upper from lower case
_stored_names: dict[Path, set[str]] = {}  # of folders on other disks, when they were listed


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


def natural_key(name: str) -> list[tuple[int, str]]:
    """Return a key that sorts names with numbers by these: 9 before 10."""
    return [
        (int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)
    ]


def find_existing(folder: Path, name: str) -> Path | None:
    """Return the path of the file in the folder, in the Unicode form it is stored in, or None.

    Raise FileNameError if another file takes its place: one whose name differs in upper and lower
    case only, on a disk that does not tell them apart.
    """
    for path in unicode_variants(folder, name):
        if os.path.exists(path):  # noqa: PTH110 - like lstat below, which tests replace
            if other := _stored_in_other_case(path):
                raise FileNameError(f"{other} {SAME_BUT_FOR_CASE}")
            return path
    return None


def is_stored(path: Path) -> bool:
    """Return whether the file is there under this name, upper and lower case included."""
    return os.path.lexists(path) and not _stored_in_other_case(path)


def _stored_in_other_case(path: Path) -> Path | None:
    """Return the file that the disk takes an existing path for, if its name differs in case."""
    folder, swapped = path.parent, path.with_name(path.name.swapcase())
    if folder in _telling_case or swapped == path:
        return None
    if not os.path.lexists(swapped):
        _telling_case.add(folder)  # most disks: one look at each folder is enough
        return None
    # One file under both names, or two files? Not every disk says so by numbers of files (inodes).
    name = nfc(path.name)
    if name in _stored_names.get(folder, ()) or name in _list_names(folder):
        return None
    folded = name.casefold()
    other = next((name for name in _stored_names[folder] if name.casefold() == folded), None)
    return folder / other if other else None


def _list_names(folder: Path) -> set[str]:
    """List the names in a folder, in NFC, and keep them."""
    names = _stored_names[folder] = {nfc(name) for name in os.listdir(folder)}  # noqa: PTH208
    return names


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
