"""Files that appear whole or not at all, folders, and locks between processes."""

from __future__ import annotations

import csv
import errno
import io
import os
import secrets
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import BinaryIO

from utils.console import note

try:
    import fcntl
except ImportError:  # Windows refuses to remove or rename an open file, which serves as a lock
    fcntl = None  # type: ignore[assignment]

# UTF-8 with a byte order mark, without which Excel takes Hangul for another encoding. Reading in it
# takes files with and without the mark.
CSV_ENCODING = "utf-8-sig"

_TEMPORARY = ".part-"  # how the names of temporary files begin
_ABANDONED = 24 * 3600  # seconds; without locks, an older temporary file counts as abandoned


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """Open a binary file for writing that gets its name when the block ends.

    If the block raises, remove the file and keep an older one of that name. The file is locked
    while it is written, so that `remove_stale_temp_files` can tell it from an abandoned one.
    Raise OSError, with `path` as its file name, if the file cannot be written.
    """
    temporary = None
    try:
        file = _open_temporary(path)
        temporary = Path(file.name)
        with file:
            yield file
            file.flush()
            if fcntl:
                temporary.replace(path)
        if not fcntl:
            temporary.replace(path)
    except OSError as error:
        # The error of a write names no file, and the temporary name means nothing to a user.
        if error.filename is None or Path(error.filename).name.startswith(_TEMPORARY):
            error.filename = str(path)
        raise
    finally:
        if temporary:
            temporary.unlink(missing_ok=True)


def _open_temporary(path: Path) -> BinaryIO:
    while True:
        temporary = path.parent / f"{_TEMPORARY}{secrets.token_hex(8)}{path.suffix}"
        file = temporary.open("xb")
        if fcntl:
            with suppress(OSError):  # a file system without locks
                fcntl.flock(file, fcntl.LOCK_EX)
            if not os.fstat(file.fileno()).st_nlink:
                file.close()  # another process removed it as abandoned before it was locked
                continue
        return file


def write_tsv(path: Path, rows: Iterable[Iterable[str]]) -> None:
    """Write rows of cells as a tab-separated file. No cell may hold a tab or a line break."""
    with atomic_file(path) as file:
        text = "".join("\t".join(row) + "\n" for row in rows)
        file.write(text.encode(errors="surrogateescape"))


def write_csv(path: Path, rows: Iterable[Iterable[object]]) -> None:
    """Write rows of cells as a CSV file, in CSV_ENCODING."""
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    with atomic_file(path) as file:
        file.write(text.getvalue().encode(CSV_ENCODING, errors="surrogateescape"))


def make_folder(folder: Path) -> None:
    """Make the folder and its parents, and remove temporary files that a killed process left.

    Raise OSError if it cannot be made, for example because a file of that name exists.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        file = next((path for path in (folder, *folder.parents) if path.is_file()), folder)
        reason = "is a file, but a folder is needed"
        raise NotADirectoryError(errno.ENOTDIR, reason, str(file)) from None
    remove_stale_temp_files(folder)


@cache
def ignores_case(folder: Path) -> bool:
    """Return whether the disk takes names that differ in upper and lower case only for one.

    Write an empty file to find out. If that fails, return False.
    """
    try:
        with tempfile.NamedTemporaryFile(prefix=f"{_TEMPORARY}case-", dir=folder) as file:
            path = Path(file.name)
            return path.with_name(path.name.swapcase()).exists()
    except OSError:
        return False


def remove_stale_temp_files(folder: Path) -> None:
    """Remove the temporary files that killed processes left in the folder, not those in use."""
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(_TEMPORARY):
                with suppress(OSError):  # already removed, or in use on Windows
                    _remove_if_abandoned(Path(entry.path))


def _remove_if_abandoned(temporary: Path) -> None:
    if not fcntl:
        temporary.unlink()
        return
    with temporary.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        except OSError:
            if time.time() - os.fstat(file.fileno()).st_mtime < _ABANDONED:
                return
        temporary.unlink()


@contextmanager
def file_lock(path: Path, message: str) -> Iterator[None]:
    """Let one process at a time into the block. Print `message` before waiting for another.

    `path` is a folder, or an empty file that is made and stays. The system releases the lock of a
    killed process.
    """
    if not fcntl:
        yield
        return
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR | os.O_CREAT, 0o666)
    try:
        if not _try_lock_handle(handle):
            note(message)
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def try_lock(path: Path) -> bool:
    """Lock a file or folder until this process ends. Return False if another process has it."""
    return not fcntl or _try_lock_handle(os.open(path, os.O_RDONLY))  # the handle stays open


def _try_lock_handle(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        pass
    return True


def package_file(package: str, name: str) -> Path | None:
    """Return a file of an installed package, without importing it, or None if there is none."""
    spec = find_spec(package)
    folders = spec.submodule_search_locations if spec else None
    paths = (Path(folder, name) for folder in folders or ())
    return next((path for path in paths if path.is_file()), None)
