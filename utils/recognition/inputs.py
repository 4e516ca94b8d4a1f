"""Pictures by whatever the user names them: files, folders, patterns, lists, addresses, stdin."""

from __future__ import annotations

import glob
import io
import os
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from utils.errors import StageError, describe_os_error
from utils.filenames import IMAGE_SUFFIXES, FileNameError, safe_name
from utils.imaging.image_io import ImageError

STDIN = "-"
TIMEOUT = 30.0  # seconds for a server to answer
MAX_BYTES = 256 << 20  # of a picture on stdin


@dataclass(frozen=True)
class ImageSource:
    """One picture that the user asked for."""

    name: str  # as the user would write it
    output_name: str  # the name of a file that is made of it, below some folder

    @property
    def is_file(self) -> bool:
        """Whether it is a file, there or not, and not the bytes of stdin or of an address."""
        return self.name != STDIN and not is_address(self.name)

    def open(self) -> Path | BinaryIO:
        """The file, or the bytes. Raises ImageError where an address gives none."""
        if self.is_file:
            return Path(self.name)
        if self.name == STDIN:
            return io.BytesIO(sys.stdin.buffer.read(MAX_BYTES))
        from utils.download import (  # which takes its time to import
            DownloadError,
            DownloadLimits,
            download,
        )

        file = io.BytesIO()
        try:
            download(self.name, file, DownloadLimits(TIMEOUT, retries=1))
        except DownloadError as error:
            raise ImageError(str(error)) from None
        return file


def is_address(word: str) -> bool:
    return word.lower().startswith(("http://", "https://"))


def expand_inputs(words: list[str]) -> tuple[list[ImageSource], bool]:
    """All pictures that the words name, in their order; and whether they name just one as such.

    A folder stands for the images in it and in its folders, by name; a pattern like `*.jpg` for
    what matches; `@list.txt` for its lines, which are words too; `-` for the bytes on stdin.
    Raises StageError for a word that names none.
    """
    sources: list[ImageSource] = []
    counts: Counter[str] = Counter()
    taken: set[str] = set()
    for source in (source for word in words for source in _expand(word, inner=False)):
        path, name = Path(source.output_name), source.output_name
        while name in taken:  # a file that is made of it may not be over another's
            counts[source.output_name] += 1
            name = str(path.with_stem(f"{path.stem}-{counts[source.output_name] + 1}"))
        taken.add(name)
        sources.append(replace(source, output_name=name))
    plain = len(words) == 1 and [source.name for source in sources] == words
    return sources, plain


def _expand(word: str, inner: bool) -> Iterator[ImageSource]:
    path = Path(word)
    if word == STDIN:
        yield ImageSource(word, "stdin.jpg")
    elif is_address(word):
        yield ImageSource(word, _name_of_address(word))
    elif word.startswith("@") and not inner and not path.exists():
        for line in _lines(Path(word[1:])):
            yield from _expand(line, inner=True)
    elif path.is_dir():
        found = sorted(_images_below(path))
        if not found:
            raise StageError(f"--img {word}: no image in this folder")
        for file in found:
            yield ImageSource(str(file), str(file.relative_to(path)))
    elif not path.exists() and glob.has_magic(word):
        found = sorted(glob.glob(word, recursive=True))  # noqa: PTH207
        if not found:
            raise StageError(f"--img {word}: nothing matches")
        for name in found:
            yield ImageSource(name, Path(name).name)
    else:
        yield ImageSource(word, path.name)


def _images_below(folder: Path) -> Iterator[Path]:
    for root, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            if name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith("."):
                yield Path(root) / name


def _lines(path: Path) -> list[str]:
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


def _name_of_address(address: str) -> str:
    last = address.split("?")[0].split("#")[0].rstrip("/").rpartition("/")[2]
    try:
        return safe_name(last)
    except FileNameError:
        return "download.jpg"
