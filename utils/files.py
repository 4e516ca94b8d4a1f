"""Files that appear whole or not at all, and names that cannot lead out of their folder."""

from __future__ import annotations

import errno
import hashlib
import itertools
import os
import platform
import time
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from utils.emotions import nfc

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif")
LONGEST_NAME = 255  # bytes, on every common file system
_FORBIDDEN = set('/\\:*?"<>|')  # a separator or a wildcard somewhere
_RESERVED = {"con", "prn", "aux", "nul"} | {f"{d}{n}" for d in ("com", "lpt") for n in range(1, 10)}

_PART = ".part-"
_HOST = hashlib.sha1(platform.node().encode()).hexdigest()[:8]
_counter = itertools.count()
_ABANDONED = 24 * 3600  # seconds after which another machine's temporary file is nobody's


class FileNameError(ValueError):
    """A name that is not safe to write as a file, on this system or another."""


def safe_name(name: str) -> str:
    """An image's file name in NFC, exactly as given otherwise.

    A name that could lead out of its folder, or that some file system would refuse, is not mended
    (two names could become one) but refused: raises FileNameError.
    """
    name = nfc(name)
    if not name:
        raise FileNameError("the name is empty")
    bad = [c for c in name if c in _FORBIDDEN or not c.isprintable()]
    if bad:
        raise FileNameError(f"the name holds {bad[0]!r}, which is not safe in a file name")
    if name.startswith(".") or name.split(".")[0].strip().lower() in _RESERVED:
        raise FileNameError("the name is hidden or reserved for the system")
    if not name.lower().endswith(IMAGE_SUFFIXES):
        raise FileNameError(f"the name does not end as an image's: {' '.join(IMAGE_SUFFIXES)}")
    if len(name.encode()) > LONGEST_NAME:
        raise FileNameError(f"the name is longer than {LONGEST_NAME} bytes")
    return name


def existing(folder: Path, name: str) -> Path:
    """The file of that name in the folder, also where it was stored decomposed (NFD, by a Mac)."""
    path = folder / name
    if path.exists():
        return path
    decomposed = folder / unicodedata.normalize("NFD", name)
    return decomposed if decomposed.exists() else path


def temporary(folder: Path) -> Path:
    """A new name in the folder for a file that is not complete; it is this process's alone."""
    return folder / f"{_PART}{_HOST}-{os.getpid()}-{next(_counter)}"


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """A binary file to write that gets its name only when all of it is written.

    If the block raises, nothing is left, and whatever had the name before still has it.
    """
    part = temporary(path.parent)
    try:
        with part.open("xb") as file:
            yield file
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def clear_parts(folder: Path) -> None:
    """Remove the temporary files that a killed process left in the folder; not those in use."""
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(_PART) and _is_abandoned(entry):
                with suppress(OSError):  # gone meanwhile, or open (which Windows tells this way)
                    Path(entry.path).unlink()


def stops_the_stage(error: OSError) -> bool:
    """True for an error that every further file would meet too: a full or read-only disk, say."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.ENFILE)


def _is_abandoned(entry: os.DirEntry) -> bool:
    host, _, rest = entry.name.removeprefix(_PART).partition("-")
    pid = rest.partition("-")[0]
    if host != _HOST or not pid.isdigit():
        with suppress(OSError):
            return time.time() - entry.stat().st_mtime > _ABANDONED
        return False
    if os.name == "nt" or int(pid) == os.getpid():
        return os.name == "nt"
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError):
        return False
    return False
