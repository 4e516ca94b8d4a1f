"""Where photos lie, in folders and in ZIP archives, by their names: some 50 bytes for each."""

from __future__ import annotations

import filecmp
import os
import re
import struct
import unicodedata
import zlib
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from utils import interrupt
from utils.data.archives import ArchivedFile, ArchiveError, Entry, Files, decode_name, local_name
from utils.emotions import posed_emotion
from utils.filenames import nfc

if TYPE_CHECKING:
    import numpy as np

Photo: TypeAlias = Path | ArchivedFile

MAX_PHOTO_BYTES = 256 << 20  # 200 million pixels, uncompressed, would be more; JPEGs are far less

_FILE = 0xFFFF  # as a method: a file in a folder
_MOST = 0xFFFFFFFF
_STAMP = re.compile(rb"\d{14}")  # year to second, and more
_RECORD = struct.Struct("<qqIQIIHI")
_FIELDS = [
    ("name", "<i8"),  # hash of the name
    ("upload", "<i8"),  # hash of `upload_of` the name; 0: it has none
    ("source", "<u4"),  # number of the archive or folder
    ("position", "<u8"),  # of the local header in the archive, or of the name in `_names`
    ("compressed", "<u4"),
    ("size", "<u4"),  # of the file, or of the name in `_names`
    ("method", "<u2"),
    ("crc", "<u4"),
]


class AmbiguousNameError(ValueError):
    """Two photos that differ have one name."""


class PhotoIndex:
    """Finds photos by name: first by the exact name, in any encoding, then by its ASCII parts.

    Nothing can be added after the first search.
    """

    def __init__(self) -> None:
        self._archives: list[Files] = []
        self._folders: list[bytes] = []
        self._records = bytearray()
        self._names = bytearray()  # of files in folders
        self._table: np.ndarray | None = None
        self._met = bytearray()  # 1 for each photo that a search has met

    def __len__(self) -> int:
        return len(self._records) // _RECORD.size

    def add_archive(self, files: Files) -> int:
        """Return the number under which `add_entry` adds the photos of an archive."""
        self._archives.append(files)
        return len(self._archives) - 1

    def add_entry(self, archive: int, entry: Entry) -> None:
        """Add a photo in an archive."""
        name, header, compressed, size, method, crc, _ = entry
        numbers = (archive, header, min(compressed, _MOST), min(size, _MOST), method, crc)
        self._add(name.rpartition(b"/")[2], numbers)

    def add_file(self, path: bytes) -> None:
        """Add a photo in a folder. Add those of one folder one after the other."""
        folder, name = os.path.split(path)
        if not self._folders or self._folders[-1] != folder:
            self._folders.append(folder)
        numbers = (len(self._folders) - 1, len(self._names), 0, len(name), _FILE, 0)
        self._names += name
        self._add(name, numbers)

    def _add(self, name: bytes, numbers: tuple[int, ...]) -> None:
        self._records += _RECORD.pack(hash(name), hash(upload_of(name)), *numbers)

    def find(self, name: str) -> Photo | None:
        """Return the photo of this name (NFC), or None.

        Raise AmbiguousNameError if there are several that differ. If there is none, return the one
        photo whose name has the same subject's hash and time stamp, and no other emotion.
        """
        exact, found = self._look_up(name)
        photos = sorted({self._photo(i) for i in found}, key=str)
        for other in photos[1:]:
            if not _are_equal(photos[0], other):
                if not exact:
                    return None
                raise AmbiguousNameError(f"two photos have this name: {photos[0]} and {other}")
        return photos[0] if photos else None

    def find_any(self, name: str) -> Photo | None:
        """Return a photo of this name, or None, without comparing it with others of the name."""
        _, found = self._look_up(name)
        return self._photo(found[0]) if found else None

    @property
    def unmet(self) -> int:
        """The number of photos that no search has met."""
        return len(self) - self._met.count(1)

    def _look_up(self, name: str) -> tuple[bool, list[int]]:
        """Return the positions of the photos of a name, and whether it is exactly theirs."""
        if self._table is None:
            with interrupt.importing():  # only now: the worker processes have no use for it
                import numpy as np

            self._table = np.frombuffer(self._records, _FIELDS)
            self._by_name = _SortedKeys(self._table["name"])
            self._by_upload = _SortedKeys(self._table["upload"])
            self._met = bytearray(len(self))
        exact = self._by_name.find(_hashes(name))
        found = exact or self._find_upload(name)
        for i in found:
            self._met[i] = 1
        return bool(exact), found

    def _find_upload(self, name: str) -> list[int]:
        upload = upload_of(name.encode(errors="surrogateescape"))
        if not upload:
            return []
        asked = posed_emotion(name)
        found = self._by_upload.find([hash(upload)])
        return [i for i in found if posed_emotion(_name_of(self._photo(i))) in (asked, None)]

    def _photo(self, i: int) -> Photo:
        assert self._table is not None
        _, _, source, position, compressed, size, method, crc = self._table[i].item()
        if method == _FILE:
            name = bytes(self._names[position : position + size])
            return Path(os.fsdecode(os.path.join(self._folders[source], name)))  # noqa: PTH118
        entry = Entry(b"", position, compressed, size, method, crc)
        return ArchivedFile(self._archives[source], entry)


class _SortedKeys:
    """Numbers in sorted order, and the positions that they had before."""

    def __init__(self, keys: np.ndarray) -> None:
        self._order = keys.argsort(kind="stable").astype("uint32")
        self._keys = keys[self._order]

    def find(self, keys: list[int]) -> list[int]:
        """Return the positions of the numbers that equal one of `keys`."""
        starts = self._keys.searchsorted(keys, "left")
        found: list[int] = []
        for start, key in zip(starts.tolist(), keys, strict=True):
            end = start
            while end < len(self._keys) and self._keys[end] == key:
                end += 1
            found += self._order[start:end].tolist()
        return sorted(found)


def upload_of(name: bytes) -> bytes:
    """Return what tells a photo from all others in ASCII: the subject's hash and the time stamp.

    Return nothing if the name has no such parts: `<16 or more digits>_…_<14 digits>….<suffix>`.
    """
    subject, _, rest = name.partition(b"_")
    stamp = rest.rpartition(b"_")[2].partition(b".")[0]
    if len(subject) < 16 or not (subject.isalnum() and _STAMP.match(stamp)):
        return b""
    return subject.lower() + stamp


def _name_of(photo: Photo) -> str:
    """Return the name under which a photo is stored."""
    raw = os.fsencode(photo.name) if isinstance(photo, Path) else local_name(photo)
    return nfc(decode_name(raw))


def _hashes(name: str) -> list[int]:
    """Return the hashes of a name (NFC) in every form in which it may be stored."""
    forms = [name.encode(errors="surrogateescape")]
    if not name.isascii():
        forms.append(unicodedata.normalize("NFD", name).encode(errors="surrogateescape"))
        with suppress(UnicodeEncodeError):
            forms.append(name.encode("cp949"))
    return [hash(form) for form in dict.fromkeys(forms)]


def _are_equal(a: Photo, b: Photo) -> bool:
    """Return whether two photos have the same content. One that cannot be read differs."""
    try:
        if isinstance(a, Path) and isinstance(b, Path):
            return filecmp.cmp(a, b, shallow=False)
        return _sum_of(a) == _sum_of(b)
    except (OSError, ArchiveError):
        return False


def _sum_of(photo: Photo) -> tuple[int, int]:
    """Return size and CRC of a photo."""
    if isinstance(photo, ArchivedFile):
        return photo.entry.size, photo.entry.crc
    with photo.open("rb") as file:
        size = crc = 0
        while chunk := file.read(1 << 20):
            size, crc = size + len(chunk), zlib.crc32(chunk, crc)
    return size, crc
