"""Find the image files in a folder and in its subfolders: one rule for all scripts.

A file with the suffix of an image is taken unopened. Of any other file, the first bytes decide. So
half a million photos are listed without opening one, and no photo is left out for its name.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from utils.filenames import IMAGE_SUFFIXES
from utils.imaging.formats import HEAD_BYTES, can_read, identify

HEIF_SUFFIXES = (".heic", ".heif")
MAX_REASONS = 8  # named in a message
# Files that systems or these scripts put beside photos; hidden ones are ignored too.
_SIDE_FILES = {
    "thumbs.db", "ehthumbs.db", "desktop.ini", "split.tsv", "copies.tsv", "index.html",
    "annotators.json",
}  # fmt: skip
_LOG_SUFFIX = ".error.log"
_SUFFIX = re.compile(r"\.\w{1,10}")
_NOWHERE = "whose link leads nowhere"
_SPECIAL = "as pipes or devices"
_NO_SUFFIX = "without a suffix"


class LeftOut(Counter[str]):
    """How many files were left out for each reason, as a phrase for a message."""

    def __str__(self) -> str:
        """Return for example "12 files left out: 4 .heic (…), 8 .txt"; empty if there are none."""
        if not self:
            return ""
        # Photos for which something can be done come first: their reasons end in an advice.
        order = sorted((not reason.endswith(")"), -n, reason) for reason, n in self.items())
        reasons = [f"{-n} {reason}" for _, n, reason in order[:MAX_REASONS]]
        if rest := -sum(n for _, n, _ in order[MAX_REASONS:]):
            reasons.append(f"{rest} of {len(order) - MAX_REASONS} other kinds")
        files = "1 file" if self.total() == 1 else f"{self.total()} files"
        return f"{files} left out: {', '.join(reasons)}"


def find_images(folder: Path) -> tuple[list[str], LeftOut]:
    """Return the paths of the image files in a folder and its subfolders, sorted, and the rest.

    Links are followed; a folder that is reached twice counts once. Hidden files and folders are
    ignored. Raise OSError if a folder cannot be opened.
    """
    images: list[str] = []
    left_out = LeftOut()
    # Without a reader of HEIC, the first bytes tell: such a file may hold a JPEG.
    opened = () if can_read("HEIF") else HEIF_SUFFIXES
    suffixes = tuple(suffix for suffix in IMAGE_SUFFIXES if suffix not in opened)
    for entry in walk_files(os.fspath(folder)):
        name = entry.name.lower()
        if name.endswith(suffixes) and is_file(entry):
            images.append(entry.path)
        elif name in _SIDE_FILES or name.endswith(_LOG_SUFFIX):
            continue
        elif reason := _reason_to_leave_out(entry):
            left_out[reason] += 1
        else:
            images.append(entry.path)
    return sorted(images), left_out


def walk_files(folder: str) -> Iterator[os.DirEntry[str]]:
    """Yield what is in a folder and its subfolders and is no folder, unless it is hidden.

    Links are followed; a folder that is reached twice counts once. Folders come before links to
    folders, so that a file has the path of the folder it lies in.
    """
    seen: set[object] = set()
    folders = [folder]
    links: list[str] = []
    while folders or links:
        path = folders.pop() if folders else links.pop()
        folder_id = _folder_id(path)
        if folder_id in seen:
            continue
        seen.add(folder_id)
        with os.scandir(path) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                try:
                    is_folder = entry.is_dir()
                except OSError:  # a symbolic link to itself
                    is_folder = False
                if not is_folder:
                    yield entry
                elif entry.is_symlink():
                    links.append(entry.path)
                else:
                    folders.append(entry.path)
        links.sort(reverse=True)


def _folder_id(path: str) -> object:
    """Return what is equal for two paths of one folder."""
    state = os.stat(path)  # noqa: PTH116
    # Some disks of other systems give no number.
    return (state.st_dev, state.st_ino) if state.st_ino else os.path.realpath(path)


def _reason_to_leave_out(entry: os.DirEntry[str]) -> str:
    """Return why a file is left out; empty if it is an image that can be read."""
    if not is_file(entry):
        return _NOWHERE if entry.is_symlink() else _SPECIAL
    try:
        with open(entry.path, "rb", buffering=0) as file:  # noqa: PTH123
            file_type = identify(file.read(HEAD_BYTES))
    except OSError as error:
        return f"that cannot be opened ({error.strerror})"
    if file_type.is_image and not file_type.advice():
        return ""
    suffix = os.path.splitext(entry.name)[1].lower()  # noqa: PTH122
    kind = suffix if _SUFFIX.fullmatch(suffix) else _NO_SUFFIX
    return f"{kind} ({file_type.advice('them')})" if file_type.advice() else kind


def is_file(entry: os.DirEntry[str]) -> bool:
    """Return whether an entry of a folder is a regular file, or a link to one."""
    try:
        return entry.is_file()
    except OSError:  # a symbolic link to itself
        return False
