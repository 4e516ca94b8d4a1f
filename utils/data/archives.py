"""The entries of ZIP archives: listed in little memory, read one by one, never unpacked to disk.

An archive may be larger than 4 GB, in parts as aihubshell downloads it, damaged or hostile. A
damaged one is read as far as it goes. An entry is refused if it could lead out of a folder, is
encrypted or a link, or grows out of all proportion. (Python's zipfile keeps every entry of an open
archive in memory, half a kilobyte each, and opens no damaged archive.)
"""

from __future__ import annotations

import io
import os
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import BinaryIO, NamedTuple

from utils.errors import is_fatal_os_error

Files = tuple[str, ...]  # the paths of an archive: one, or its parts in their order
Refuse = Callable[[str, str], None]  # gets the name of an entry, empty for the archive; the reason

MAX_GROWTH = 200  # of an entry when it is decompressed; JSON grows some 30 times
FREE_BYTES = 16 << 20  # that an entry may have whatever its growth is
MAX_BYTES = 4 << 30  # of an entry, decompressed
OPEN_ARCHIVES = 8  # in one process

# The numbers of APPNOTE.TXT, the specification of ZIP, sections 4.3 and 4.4.
_LOCAL = struct.Struct("<4s5H3L2H")
_CENTRAL = struct.Struct("<4sxB2x2H4x3L3H4x2L")  # what is needed of it
_END = struct.Struct("<4s4H2LH")
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR = struct.Struct("<4sLQL")
_LOCAL_SIGNATURE, _CENTRAL_SIGNATURE, _DESCRIPTOR = b"PK\3\4", b"PK\1\2", b"PK\7\x08"
_END_SIGNATURE, _END64_SIGNATURE, _LOCATOR_SIGNATURE = b"PK\5\6", b"PK\6\6", b"PK\6\7"
_IN_EXTRA = 0xFFFFFFFF  # a number that stands in the ZIP64 extra field
_ENCRYPTED, _HAS_DESCRIPTOR = 1, 8  # flags
_UNIX, _LINK = 3, 0o12  # system that made the entry; the type in its mode (S_IFLNK)
_STORED, _DEFLATED = 0, 8
# Not read: their decompressors in zipfile cannot be told where to stop, and a kilobyte of bzip2 may
# become a gigabyte.
_METHOD_NAMES = {9: "Deflate64", 12: "bzip2", 14: "LZMA", 93: "Zstandard", 95: "XZ", 98: "PPMd"}
_MAX_COMMENT = 1 << 16
_CHUNK = 1 << 20


class ArchiveError(ValueError):
    """The reason why an entry of an archive cannot be read."""


class Entry(NamedTuple):
    """A file in an archive."""

    name: bytes  # as stored, see `decode_name`; with slashes
    header: int  # position of its local header in the archive
    compressed: int  # bytes
    size: int  # bytes, decompressed
    method: int  # of compression
    crc: int
    is_cut: bool = False  # whether the archive ends within it


class ArchivedFile(NamedTuple):
    """Where a file lies in an archive. It can be sent to another process."""

    files: Files
    entry: Entry

    def __str__(self) -> str:
        return self.files[0]

    def read(self, limit: int) -> bytes:
        """Return the content. Raise ArchiveError if it is damaged or has more bytes than that."""
        if self.entry.size > limit:
            raise ArchiveError(f"{self.entry.size:,} bytes; {limit:,} are the most that is read")
        with _archive_errors():
            archive = _open_again(self.files)
        with _open_entry(archive, self.entry) as file:
            # Without a count, zipfile would decompress all, however small the stated size is.
            return read_checked(file, self.entry.size + 1)

    def open(self) -> BinaryIO:
        """Open the content for reading. Raise ArchiveError if the entry is not where it should be.

        The file that is returned ends at the size that the archive states, and checks the CRC.
        """
        with _archive_errors():
            archive = open_archive(self.files)
        return _open_entry(archive, self.entry, close=True)


def read_checked(file: BinaryIO, count: int) -> bytes:
    """Return the next `count` bytes of an archived file. Raise ArchiveError if it is damaged."""
    try:
        with _archive_errors():
            return file.read(count)
    except (EOFError, zipfile.BadZipFile, zlib.error) as error:
        reason = "its checksum is wrong" if "CRC" in str(error) else str(error) or "it is cut short"
        raise ArchiveError(f"damaged in the archive: {reason}") from None


@contextmanager
def _archive_errors() -> Iterator[None]:
    """Turn an error of the system into ArchiveError."""
    try:
        yield
    except OSError as error:
        if is_fatal_os_error(error):
            raise
        raise ArchiveError(error.strerror or str(error)) from None


def open_archive(files: Files) -> BinaryIO:
    """Open an archive, whose parts are read as one file. Raise OSError if it cannot be opened."""
    if len(files) == 1:
        return open(files[0], "rb")  # noqa: PTH123 - who opens it closes it
    return io.BufferedReader(_JoinedFile(files), _CHUNK)


@lru_cache(OPEN_ARCHIVES)
def _open_again(files: Files) -> BinaryIO:
    """Return an open archive, which stays open for the next entry."""
    return open_archive(files)


class _JoinedFile(io.RawIOBase):
    """Several files, read as one."""

    def __init__(self, files: Files) -> None:
        self._parts = [open(path, "rb", buffering=0) for path in files]  # noqa: SIM115, PTH123
        ends = [os.fstat(part.fileno()).st_size for part in self._parts]
        self._starts = [sum(ends[:i]) for i in range(len(ends) + 1)]
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._starts[-1]}
        self._position = base[whence] + offset
        return self._position

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Read from the part at the position, up to its end."""
        for part, start, end in zip(self._parts, self._starts, self._starts[1:], strict=False):
            if start <= self._position < end:
                part.seek(self._position - start)
                count = part.readinto(buffer) or 0
                self._position += count
                return count
        return 0

    def close(self) -> None:
        for part in self._parts:
            part.close()
        super().close()


def list_entries(file: BinaryIO, refuse: Refuse) -> Iterator[Entry]:
    """Yield the files in an open archive, without those that macOS and others hide.

    Call `refuse` for each that is not safe to read. If the archive's own list is missing or broken,
    as in one whose download was cut, look for the entries themselves.
    """
    reached, problem = 0, "its list of contents, which is at its end, is missing: it is cut short"
    if found := _find_directory(file):
        start, end, shift = found
        try:
            for entry in _read_directory(file, start, end, shift, refuse):
                if entry.header + entry.compressed <= start:
                    reached = max(reached, entry.header + entry.compressed)
                yield entry
            return
        except ArchiveError as error:
            problem = str(error)
    refuse("", f"damaged: {problem}; the entries that can be found in it are read")
    yield from _scan(file, reached, refuse)


def directory_bytes(file: BinaryIO) -> bytes:
    """Return the list of contents of an archive with its end; empty if it has none."""
    found = _find_directory(file)
    if not found:
        return b""
    file.seek(found[0])
    return file.read()


def decode_name(raw: bytes) -> str:
    """Return the name of an entry as text.

    Names are UTF-8, with the flag that says so or, from a Mac, without it; or CP949, from Windows
    in Korea.
    """
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("cp949", "replace")


def local_name(archived: ArchivedFile) -> bytes:
    """Return the name that stands before the content of an entry; empty if it cannot be read."""
    try:
        archive = _open_again(archived.files)
        archive.seek(archived.entry.header)
        *_, name_length, _ = _LOCAL.unpack(archive.read(_LOCAL.size))
        return archive.read(name_length)
    except (OSError, struct.error):
        return b""


def _open_entry(archive: BinaryIO, entry: Entry, close: bool = False) -> BinaryIO:
    """Open an entry of an open archive, which is closed with it if `close`."""
    with _archive_errors():
        archive.seek(entry.header)
        head = archive.read(_LOCAL.size)
        if len(head) < _LOCAL.size or not head.startswith(_LOCAL_SIGNATURE):
            raise ArchiveError("damaged: nothing is at its place in the archive")
        data = entry.header + _LOCAL.size + sum(_LOCAL.unpack(head)[-2:])
        left = archive.seek(0, os.SEEK_END) - data if entry.is_cut else entry.compressed
        archive.seek(data)
    info = zipfile.ZipInfo("entry")
    info.compress_type, info.compress_size = entry.method, max(left, 0)
    info.file_size, info.CRC = entry.size, entry.crc
    return zipfile.ZipExtFile(archive, "r", info, close_fileobj=close)  # type: ignore[call-overload]


def _find_directory(file: BinaryIO) -> tuple[int, int, int] | None:
    """Return start and end of the list of contents, and how far positions in it are shifted.

    They are if something stands before the archive. Return None if the list is not there.
    """
    total = file.seek(0, os.SEEK_END)
    start = file.seek(max(0, total - _END.size - _MAX_COMMENT))
    tail = file.read()
    at = _find_end(tail)
    if at < 0:
        return None
    *_, size, offset, _ = _END.unpack_from(tail, at)
    end = start + at
    if at >= _LOCATOR.size and tail.startswith(_LOCATOR_SIGNATURE, at - _LOCATOR.size):
        _, _, position, _ = _LOCATOR.unpack_from(tail, at - _LOCATOR.size)
        for end64 in (end - _LOCATOR.size - _END64.size, position):
            file.seek(min(max(0, end64), total))
            record = file.read(_END64.size)
            if len(record) == _END64.size and record.startswith(_END64_SIGNATURE):
                *_, size, offset = _END64.unpack(record)
                end = end64
                break
    first = end - size
    if first < 0 or first < offset:
        return None
    file.seek(first)
    if size and file.read(len(_CENTRAL_SIGNATURE)) != _CENTRAL_SIGNATURE:
        return None
    return first, end, first - offset


def _find_end(tail: bytes) -> int:
    """Return where the end record is in the last bytes of an archive, or -1."""
    last_start = max(0, len(tail) - _END.size + len(_END_SIGNATURE))
    last = at = tail.rfind(_END_SIGNATURE, 0, last_start)
    while at >= 0:
        if at + _END.size + _END.unpack_from(tail, at)[-1] == len(tail):  # the comment ends there
            return at
        at = tail.rfind(_END_SIGNATURE, 0, at)
    return last


def _read_directory(
    file: BinaryIO, start: int, end: int, shift: int, refuse: Refuse
) -> Iterator[Entry]:
    """Yield the entries of a list of contents. Raise ArchiveError where it is broken."""
    file.seek(start)
    unpack, read, position, size_of_head = _CENTRAL.unpack, file.read, start, _CENTRAL.size
    while position < end:  # half a million times
        head = read(size_of_head)
        if len(head) < size_of_head or head[:4] != _CENTRAL_SIGNATURE:
            raise ArchiveError("its list of contents is broken")
        _, system, flags, method, crc, compressed, size, *lengths, attributes, header = unpack(head)
        rest = read(sum(lengths))
        position += size_of_head + len(rest)
        name = rest[: lengths[0]]
        if _IN_EXTRA in (compressed, size, header):
            extra = rest[lengths[0] : lengths[0] + lengths[1]]
            size, compressed, header = _zip64(extra, (size, compressed, header))
        is_link = system == _UNIX and attributes >> 28 == _LINK
        header = min(header + shift, end)  # it may be any number of 64 bits
        entry = Entry(name, header, compressed, size, method, crc)
        if _is_wanted(entry, flags, is_link, refuse):
            yield entry


def _is_wanted(entry: Entry, flags: int, is_link: bool, refuse: Refuse) -> bool:
    """Return whether to read an entry. Call `refuse` if it is not safe."""
    name, _, compressed, size, method, *_ = entry
    is_safe = not (
        b"\\" in name
        or b".." in name
        or name[:1] == b"/"
        or name[1:2] == b":"
        or is_link
        or flags & _ENCRYPTED
        or method not in (_STORED, _DEFLATED)
        or size > compressed + FREE_BYTES
        or size > MAX_BYTES
    )
    if not is_safe and (reason := _refusal(entry, flags, is_link)):
        refuse(decode_name(name), f"refused: {reason}")
        return False
    folder, _, last = name.rpartition(b"/")
    # Folders; hidden files; the files that macOS adds.
    return not (not last or last[:1] == b"." or folder[:8] == b"__MACOSX")


def _refusal(entry: Entry, flags: int, is_link: bool) -> str:
    """Return why an entry must not be read; empty if it may."""
    name, _, compressed, size, method, *_ = entry
    if b"\\" in name:
        return "its name has a back-slash"
    if name.startswith(b"/") or name[1:2] == b":":
        return "its name is an absolute path"
    if b".." in name.split(b"/"):
        return "its name leads out of the folder (..)"
    if is_link:
        return "it is a symbolic link"
    if flags & _ENCRYPTED:
        return "it is encrypted: unpack it with its password"
    if size > MAX_BYTES or size > MAX_GROWTH * compressed + FREE_BYTES:
        return f"{compressed:,} bytes would become {size:,}"
    if method not in (_STORED, _DEFLATED):
        kind = _METHOD_NAMES.get(method, f"method {method}")
        return f"its compression ({kind}) cannot be read: unpack it with another program"
    return ""


def _zip64(extra: bytes, numbers: tuple[int, ...]) -> Iterator[int]:
    """Yield the numbers, each from the ZIP64 extra field if it stands there."""
    field, position = b"", 0
    while position + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, position)
        if kind == 1:
            field = extra[position + 4 : position + 4 + length]
            break
        position += 4 + length
    position = 0
    for number in numbers:
        if number == _IN_EXTRA and position + 8 <= len(field):
            (number,) = struct.unpack_from("<Q", field, position)
            position += 8
        yield number


def _scan(file: BinaryIO, position: int, refuse: Refuse) -> Iterator[Entry]:
    """Yield the entries of a damaged archive, by their local headers, from a position on."""
    total = file.seek(0, os.SEEK_END)
    while (position := _find(file, _LOCAL_SIGNATURE, position, total)) >= 0:
        file.seek(position)
        head = file.read(_LOCAL.size)
        if len(head) < _LOCAL.size:
            return
        _, version, flags, method, _, _, crc, compressed, size, *lengths = _LOCAL.unpack(head)
        raw, extra = file.read(lengths[0]), file.read(lengths[1])
        if version & 0xFF > 63 or not raw or len(raw) < lengths[0]:  # not a header
            position += len(_LOCAL_SIGNATURE)
            continue
        if _IN_EXTRA in (compressed, size):
            size, compressed = _zip64(extra, (size, compressed))
        data = position + _LOCAL.size + sum(lengths)
        if flags & _HAS_DESCRIPTOR and not compressed:
            compressed, size, crc = _measure(file, data, method, total)
        compressed = min(compressed, total)  # it may be any number of 64 bits
        is_cut = data + compressed > total
        if is_cut:
            refuse(decode_name(raw), "the archive is cut short within it")
        entry = Entry(raw, position, compressed, size, method, crc, is_cut)
        file.seek(data + compressed)
        # If nothing follows, some bytes of it are missing, and other entries may be in it.
        is_followed = not is_cut and file.read(2) in (b"PK", b"")
        position = data + compressed if is_followed else data
        if _is_wanted(entry, flags, False, refuse):
            yield entry


def _measure(file: BinaryIO, start: int, method: int, total: int) -> tuple[int, int, int]:
    """Return compressed size, size and CRC of an entry that states them only behind its data.

    If they are not found, return sizes that reach beyond the end of the archive.
    """
    position = start
    while (position := _find(file, _DESCRIPTOR, position, total)) >= 0:
        file.seek(position + len(_DESCRIPTOR))
        numbers = file.read(20)
        for form in ("<3L", "<LQQ"):
            if len(numbers) >= struct.calcsize(form):
                crc, compressed, size = struct.unpack_from(form, numbers)
                if compressed == position - start and (method != _STORED or size == compressed):
                    return compressed, size, crc
        position += len(_DESCRIPTOR)
    return total, min(total if method == _STORED else MAX_GROWTH * total, MAX_BYTES), 0


def _find(file: BinaryIO, signature: bytes, position: int, total: int) -> int:
    """Return the next position of a signature in the file, or -1."""
    overlap = len(signature) - 1
    while position < total:
        file.seek(position)
        chunk = file.read(min(_CHUNK, total - position))
        if (at := chunk.find(signature)) >= 0:
            return position + at
        if len(chunk) <= overlap:
            return -1
        position += len(chunk) - overlap
    return -1
