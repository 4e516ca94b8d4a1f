"""Files that appear whole or not at all, and names that cannot lead out of their folder."""

from __future__ import annotations

import errno
import os
import secrets
import time
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import BinaryIO

from utils.cli import say
from utils.emotions import nfc

try:
    import fcntl
    import resource
except ImportError:  # Windows, where an open file cannot be removed, which serves as well
    fcntl = resource = None

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif")
LONGEST_NAME = 255  # bytes, on every common file system
_FORBIDDEN = set('/\\:*?"<>|')  # a separator or a wildcard somewhere
_RESERVED = {"con", "prn", "aux", "nul"} | {f"{d}{n}" for d in ("com", "lpt") for n in range(1, 10)}

_PART = ".part-"
_ABANDONED = 24 * 3600  # seconds; after these a temporary file is nobody's, where locks are unknown


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


def is_tame(text: str) -> bool:
    """Whether the text can be shown and listed: no line breaks, and nothing a terminal obeys."""
    return not any(unicodedata.category(c) == "Cc" for c in text)


def existing(folder: Path, name: str) -> Path:
    """The file of that name in the folder, also where either is stored decomposed (by a Mac)."""
    found = (path for path in spellings(folder, name) if path.exists())
    return next(found, folder / name)


def spellings(folder: Path, name: str) -> list[Path]:
    """Where a file in a folder of a class may be: both names as they are, or decomposed (NFD)."""
    folders, names = [folder], [name]
    decomposed = unicodedata.normalize("NFD", name)
    if decomposed != name and len(decomposed.encode()) <= LONGEST_NAME:
        names.append(decomposed)
    if _has_decomposed(folder):
        folders.append(_decomposed(folder))
    return [folder / name for folder in folders for name in names]


def _decomposed(folder: Path) -> Path:
    return folder.with_name(unicodedata.normalize("NFD", folder.name))


@cache
def _has_decomposed(folder: Path) -> bool:
    return _decomposed(folder) != folder and _decomposed(folder).is_dir()


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """A binary file to write that gets its name only when all of it is written.

    If the block raises, nothing is left, and whatever had the name before still has it. The file is
    locked meanwhile, so that `clear_parts` can tell it from what a killed process left.
    """
    part = None
    try:
        file = _open_part(path)
        part = Path(file.name)
        with file:
            yield file
            file.flush()
            if fcntl:
                part.replace(path)
        if not fcntl:  # Windows renames no open file
            part.replace(path)
    except OSError as error:
        # A write knows no name, and the temporary one says nothing to anybody.
        if error.filename is None or Path(error.filename).name.startswith(_PART):
            error.filename = str(path)
        raise
    finally:
        if part:
            part.unlink(missing_ok=True)


def _open_part(path: Path) -> BinaryIO:
    while True:
        part = path.parent / f"{_PART}{secrets.token_hex(8)}{path.suffix}"
        file = part.open("xb")
        if fcntl:
            with suppress(OSError):  # a file system without locks
                fcntl.flock(file, fcntl.LOCK_EX)
            if not os.fstat(file.fileno()).st_nlink:
                file.close()  # taken for a leftover in the moment before it was locked
                continue
        return file


def write_tsv(path: Path, rows: Iterable[Iterable[str]]) -> None:
    """Write rows of cells without tabs or line breaks, tab-separated, whole or not at all."""
    with atomic_file(path) as file:
        text = "".join("\t".join(row) + "\n" for row in rows)
        file.write(text.encode(errors="surrogateescape"))


def allow_open_files(count: int) -> None:
    """Let this process hold that many files and connections open, as far as the system allows.

    Some systems begin with 256, which a download with its connections kept alive can reach.
    """
    if resource:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        most = count if hard == resource.RLIM_INFINITY else min(count, hard)
        if soft != resource.RLIM_INFINITY and soft < most:
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def prepare_folder(folder: Path) -> None:
    """Make the folder if need be, and remove what a killed process left in it.

    Raises OSError where it cannot be made, a file being in the way perhaps.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        file = next((path for path in (folder, *folder.parents) if path.is_file()), folder)
        told = "is a file, and a folder is needed"
        raise NotADirectoryError(errno.ENOTDIR, told, str(file)) from None
    clear_parts(folder)


def clear_parts(folder: Path) -> None:
    """Remove the temporary files that a killed process left in the folder; not those in use."""
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(_PART):
                with suppress(OSError):  # gone meanwhile, or open (which Windows tells this way)
                    _remove_if_abandoned(Path(entry.path))


def _remove_if_abandoned(part: Path) -> None:
    if not fcntl:
        part.unlink()
        return
    with part.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        except OSError:
            if time.time() - os.fstat(file.fileno()).st_mtime < _ABANDONED:
                return
        part.unlink()


@contextmanager
def one_at_a_time(path: Path, message: str) -> Iterator[None]:
    """Only one process at a time is in the block; `message` is said where one has to wait.

    `path` is a folder, or an empty file that stays. A process that is killed in the block frees it.
    """
    if not fcntl:
        yield
        return
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR | os.O_CREAT, 0o666)
    try:
        if not _locked(handle):
            say(f"note: {message}")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def lock(path: Path) -> bool:
    """Keep others from locking a folder or file until this process ends, however it ends.

    False where another process has locked it.
    """
    return not fcntl or _locked(os.open(path, os.O_RDONLY))  # which stays open


def _locked(handle: int) -> bool:
    """Lock an open file, without waiting: False where another process has locked it."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        pass
    return True


def stops_the_stage(error: OSError) -> bool:
    """True for an error that every further file would meet too: a full or read-only disk, say."""
    return error.errno in (
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EROFS,
        errno.EFBIG,
        errno.EMFILE,
        errno.ENFILE,
    )
