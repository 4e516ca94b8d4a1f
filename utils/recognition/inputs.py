"""The images that a user names: files, folders, patterns, lists, addresses, stdin."""

from __future__ import annotations

import glob
import io
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from utils.console import note
from utils.errors import StageError, describe_os_error
from utils.filenames import FileNameError, expand_home, has_image_suffix, nfc, safe_name
from utils.imaging.image_files import HEIF_SUFFIXES, LeftOut, find_images
from utils.imaging.image_io import ImageError

STDIN = "-"
TIMEOUT = 30.0  # seconds for a server to answer
MAX_STDIN_BYTES = 256 << 20


@dataclass(frozen=True)
class ImageSource:
    """One image that the user names."""

    name: str  # as the user would write it
    output_name: str  # path of a file that is made from it, relative to an output folder

    @property
    def is_file(self) -> bool:
        """Return whether this is a path, existing or not, rather than stdin or an address."""
        return self.name != STDIN and not is_address(self.name)

    def open(self) -> Path | BinaryIO:
        """Return the path, or the bytes of stdin or of an address.

        Raise ImageError if an address cannot be downloaded.
        """
        if self.is_file:
            return Path(self.name)
        if self.name == STDIN:
            return io.BytesIO(sys.stdin.buffer.read(MAX_STDIN_BYTES))
        from utils.download import DownloadError, DownloadLimits, download

        file = io.BytesIO()
        try:
            download(self.name, file, DownloadLimits(TIMEOUT, retries=1))
        except DownloadError as error:
            raise ImageError(str(error)) from None
        return file


def is_address(word: str) -> bool:
    """Return whether a word is an http or https address."""
    return word.lower().startswith(("http://", "https://"))


def expand_inputs(words: list[str]) -> tuple[list[ImageSource], bool]:
    """Return all images that the words name, in order, and whether they are one image's name.

    A folder stands for the images in it and in its subfolders, sorted by name; a pattern such as
    `*.jpg` for its matches; `@list.txt` for its lines, each a word; `-` for the bytes on stdin. A ~
    at the start of a path is the home folder. Print how many other files a folder holds.

    Raise StageError if a folder, pattern or list names no image, or if an address is named and the
    environment holds a proxy or certificates that cannot be used.
    """
    words = [expand_home(word) for word in words]
    sources: list[ImageSource] = []
    repeats: Counter[str] = Counter()
    used: set[str] = set()
    for source in (source for word in words for source in _expand(word)):
        path, output_name = Path(source.output_name), source.output_name
        # Two inputs must not be saved under one name, nor under two that a disk takes for one.
        while nfc(output_name).casefold() in used:
            repeats[source.output_name] += 1
            stem = f"{path.stem}-{repeats[source.output_name] + 1}"
            output_name = str(path.with_stem(stem))
        used.add(nfc(output_name).casefold())
        sources.append(replace(source, output_name=output_name))
    if any(is_address(source.name) for source in sources):
        # Here, because only addresses need it and it takes time to import; and not in the threads
        # that open them.
        from utils.download import check_settings

        check_settings()
    is_single = len(words) == 1 and [source.name for source in sources] == words
    return sources, is_single


def _expand(word: str) -> Iterator[ImageSource]:
    """Yield the images that a word of the command line names."""
    if word.startswith("@") and not Path(word).exists():
        for line in _read_list(Path(expand_home(word[1:]))):
            yield from _expand_item(expand_home(line))
    else:
        yield from _expand_item(word)


def _expand_item(word: str) -> Iterator[ImageSource]:
    """Yield the images that a word names which is not a list."""
    path = Path(word)
    if word == STDIN:
        yield ImageSource(word, "stdin.jpg")
    elif is_address(word):
        yield ImageSource(word, _file_name_of(word))
    elif path.is_dir():
        sources, left_out = _expand_folder(path)
        if not sources:
            seen = f": {left_out}" if left_out else ""
            raise StageError(f"--img {path}: no image in this folder{seen}")
        yield from sources
    elif not path.exists() and glob.has_magic(word):
        yield from _expand_pattern(word)
    else:
        yield ImageSource(word, _output_name(Path(path.name)))


def _expand_folder(folder: Path) -> tuple[list[ImageSource], LeftOut]:
    """Return the images in a folder and its subfolders, sorted. Print what else is there."""
    found, left_out = find_images(folder)
    if found and left_out:
        note(f"--img {folder}: {left_out}")
    files = sorted(map(Path, found))
    names = (_output_name(file.relative_to(folder)) for file in files)
    return [ImageSource(str(file), name) for file, name in zip(files, names, strict=True)], left_out


def _expand_pattern(pattern: str) -> Iterator[ImageSource]:
    """Yield the files that match, and the images in the folders that match."""
    matches = sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207 - Path.glob takes no absolute one
    if not matches:
        raise StageError(f"--img {pattern}: nothing matches")
    for path in map(Path, matches):
        if not path.is_dir():
            yield ImageSource(str(path), _output_name(Path(path.name)))
        elif "**" not in pattern:  # which matches what is in it, too
            sources, left_out = _expand_folder(path)
            if left_out and not sources:
                note(f"--img {path}: no image in this folder: {left_out}")
            yield from sources


def _output_name(path: Path) -> str:
    """Return the name to save a photo under: with .jpg if its own format cannot be written."""
    is_written = has_image_suffix(path.name) and not path.name.lower().endswith(HEIF_SUFFIXES)
    return str(path) if is_written else f"{path}.jpg"


def _read_list(path: Path) -> list[str]:
    """Return the lines of a list file that are not blank."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise StageError(f"--img @{path} is not UTF-8 text") from None
    except OSError as error:
        raise StageError(f"--img @{describe_os_error(error)}") from None
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        raise StageError(f"--img @{path} is empty")
    return lines


def _file_name_of(address: str) -> str:
    """Return the last part of an address as a file name, if it is one of an image."""
    last = address.split("?")[0].split("#")[0].rstrip("/").rpartition("/")[2]
    try:
        return safe_name(last)
    except FileNameError:
        return "download.jpg"
