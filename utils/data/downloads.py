"""What lies in AI-Hub's downloads: label files and photos, in ZIPs and folders of any layout.

What a file is shows in its content, not in its name: people rename, unpack and move these files.
"""

from __future__ import annotations

import codecs
import hashlib
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from utils.console import note
from utils.data.aihub import HEAD_BYTES, LabelFile, LabelFiles, is_label_file
from utils.data.annotations import Table
from utils.data.archives import (
    ArchivedFile,
    ArchiveError,
    Files,
    decode_name,
    directory_bytes,
    list_entries,
    open_archive,
    read_checked,
)
from utils.data.official import find_part
from utils.data.photo_index import PhotoIndex, upload_of
from utils.emotions import EMOTIONS
from utils.errors import StageError, describe_os_error
from utils.filenames import IMAGE_SUFFIXES, has_image_suffix, nfc
from utils.imaging.image_files import LeftOut, is_file, walk_files

MAX_PROBLEMS = 1000  # of one archive that are listed

_ZIP_SIGNATURES = (b"PK\3\4", b"PK\5\6")
_PART = re.compile(r"(.+)\.part(\d+)")  # of aihubshell; the number is the part's position
_IMAGE_SUFFIXES = tuple(suffix.encode() for suffix in IMAGE_SUFFIXES)
_SIDE_FILES = (".csv", ".tsv", ".txt", ".log", ".md", ".pdf", ".xlsx", ".docx", ".hwp")


class Downloads:
    """The label files and photos below some paths, and the problems met on the way."""

    def __init__(
        self, paths: Sequence[Path], output: Path | None = None, skip_emotions: bool = False
    ) -> None:
        """Look through files, and folders with all that is in them.

        Leave out the folder `output` and, if `skip_emotions`, the folders of the emotions that lie
        in `paths` themselves. Raise StageError if a path does not exist.
        """
        self.labels: list[LabelFile] = []
        self.photos = PhotoIndex()
        self.problems: list[tuple[str, str]] = []  # file and reason
        self.left_out = LeftOut()
        self._output = output.resolve() if output else None
        self._skip_emotions = skip_emotions
        others = [path for root in paths for path in self._walk(root)]
        for files in without_copies(join_parts(sorted(set(others), key=_by_stem))):
            self._add(files)

    def report(self) -> None:
        """Print how many files are neither labels nor photos, if there are any."""
        if self.left_out:
            note(self.left_out)

    def _walk(self, root: Path) -> Iterator[str]:
        """Add a photo, or the photos in a folder. Yield the paths of all other files."""
        if root.is_dir():
            yield from self._walk_folder(root)
        elif not root.exists():
            raise StageError(f"{root}: no such file or folder")
        elif has_image_suffix(root.name):
            self.photos.add_file(os.fsencode(root))
        else:
            yield str(root)

    def _walk_folder(self, root: Path) -> Iterator[str]:
        resolved, is_skipped, last = root.resolve(), False, ""
        made: set[Path] = set()  # folders in `root` of crops, which have the names of photos
        for entry in walk_files(str(root)):
            folder = entry.path[: -len(entry.name)]
            if folder != last:
                last, relative = folder, Path(folder).relative_to(root)
                is_skipped = self._is_skipped(resolved, relative, made)
            if is_skipped:
                continue
            if not is_file(entry):
                self.left_out["whose link leads nowhere" if entry.is_symlink() else "as pipes"] += 1
            elif crops := folder_of_crops(relative, entry.name):
                if not self._is_skipped(resolved, crops, made) and (root / crops).is_dir():
                    note(f"{root / crops} is not searched for photos: it holds crops")
                made.add(crops)
            elif has_image_suffix(entry.name):
                self.photos.add_file(os.fsencode(entry.path))
            else:
                yield entry.path

    def _is_skipped(self, root: Path, folder: Path, made: set[Path]) -> bool:
        if not made.isdisjoint((folder, *folder.parents)):
            return True
        if self._skip_emotions and len(folder.parts) == 1 and nfc(folder.name) in EMOTIONS:
            return True
        return self._output is not None and (root / folder).is_relative_to(self._output)

    def _add(self, files: Files) -> None:
        """Add what is in a file that is not a photo."""
        try:
            with open_archive(files) as file:
                head = file.read(HEAD_BYTES)
                if _PART.fullmatch(files[0]) or is_archive(file, head):
                    self._add_archive(files, Problems(self.problems, files[0]))
                elif is_label_file(head):
                    path = Path(files[0])
                    part = find_part(reversed(path.parts)) or ""
                    self.labels.append(LabelFile(path, path.name, part))
                elif not files[0].lower().endswith(_SIDE_FILES):
                    self._leave_out(files[0], head)
        except OSError as error:
            self.problems.append((files[0], describe_os_error(error)))

    def _leave_out(self, path: str, head: bytes) -> None:
        suffix = os.path.splitext(path)[1].lower()  # noqa: PTH122
        if suffix == ".zip":
            reason = "empty" if not head.strip(b"\0") else "not a ZIP archive"
            self.problems.append((path, f"{reason}: download it again"))
        elif suffix in (".tar", ".7z", ".rar", ".egg", ".alz", ".gz"):
            self.problems.append((path, f"a {suffix} archive is not read: unpack it"))
        else:
            self.left_out[suffix or "without a suffix"] += 1

    def _add_archive(self, files: Files, problems: Problems) -> None:
        number = self.photos.add_archive(files)
        try:
            with open_archive(files) as file:
                for entry in list_entries(file, problems.add):
                    if is_photo(entry.name):
                        if not entry.is_cut:
                            self.photos.add_entry(number, entry)
                    else:
                        self._add_other(ArchivedFile(files, entry), problems)
        except OSError as error:
            problems.add("", describe_os_error(error))
        problems.end()

    def _add_other(self, archived: ArchivedFile, problems: Problems) -> None:
        """Add an entry of an archive that is not a photo, if it is a label file."""
        name = decode_name(archived.entry.name)
        try:
            with archived.open() as file:
                head = read_checked(file, HEAD_BYTES)
        except ArchiveError as error:
            problems.add(name, str(error))
            return
        if is_label_file(head):
            names = [name.rpartition("/")[2], *reversed(Path(archived.files[0]).parts)]
            self.labels.append(LabelFile(archived, names[0], find_part(names) or ""))
        elif head.startswith(_ZIP_SIGNATURES):
            problems.add(name, "an archive in an archive is not read: unpack it")
        else:
            suffix = os.path.splitext(name)[1].lower()  # noqa: PTH122
            self.left_out[suffix or "without a suffix"] += 1


class Problems:
    """The problems of one archive, of which not more than MAX_PROBLEMS are listed."""

    def __init__(self, problems: list[tuple[str, str]], archive: str) -> None:
        self._problems, self._archive = problems, archive
        self._count = 0

    def add(self, name: str, reason: str) -> None:
        """List a problem of an entry or, without a name, of the archive."""
        self._count += 1
        if self._count <= MAX_PROBLEMS:
            self._problems.append((f"{self._archive}: {name}" if name else self._archive, reason))

    def end(self) -> None:
        """List how many problems were left out."""
        if self._count > MAX_PROBLEMS:
            more = f"{self._count - MAX_PROBLEMS} more problems like these are not listed"
            self._problems.append((self._archive, more))


def is_archive(file: BinaryIO, head: bytes) -> bool:
    """Return whether an open file is a ZIP archive, by its start or, if it is damaged, its end."""
    return head.startswith(_ZIP_SIGNATURES) or bool(directory_bytes(file))


def folder_of_crops(folder: Path, name: str) -> Path | None:
    """Return the folder of crops that a file in `folder` is the manifest of, or None.

    The folder that is searched, whose path is empty, was named by the user and so is not meant.
    """
    if name == "split.tsv":  # of dataPreparation.py
        return folder if folder.parts else None
    match = re.fullmatch(r"(.+)\.parts(\.\d+-of-\d+)?\.tsv", name)
    return folder / match[1] if match else None


def is_photo(name: bytes) -> bool:
    """Return whether an entry is taken for a photo: by its suffix, or a name like a photo's."""
    last = name[-5:].lower()
    return last.endswith(_IMAGE_SUFFIXES) or bool(upload_of(name.rpartition(b"/")[2]))


def join_parts(paths: Iterable[str]) -> Iterator[Files]:
    """Yield each path, but the parts of one archive together, in the order of their numbers."""
    parts: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for path in paths:
        if match := _PART.fullmatch(path):
            parts[match[1]].append((int(match[2]), path))
        else:
            yield (path,)
    for whole, several in parts.items():
        note(f"{whole}: {len(several)} parts are read as one archive")
        yield tuple(path for _, path in sorted(several))


def _by_stem(path: str) -> tuple[str, str]:
    """Return a key that puts `x.zip` before its copy `x (1).zip`."""
    return os.path.splitext(path)  # noqa: PTH122


def without_copies(archives: Iterable[Files]) -> Iterator[Files]:
    """Yield the files without copies of earlier ones, such as `x (1).zip`. Name each in a line."""
    by_size: dict[int, list[Files]] = defaultdict(list)
    digests: dict[Files, bytes] = {}
    for files in archives:
        try:
            twins = by_size[sum(os.stat(path).st_size for path in files)]  # noqa: PTH116
            for candidate in (*twins, files) if twins else ():
                if candidate not in digests:
                    digests[candidate] = _digest(candidate)
        except OSError:  # opening it reports the error
            yield files
            continue
        first = next((twin for twin in twins if digests[twin] == digests[files]), None)
        if first:
            note(f"{files[0]} is a copy of {first[0]} and left out")
            continue
        twins.append(files)
        yield files


def _digest(files: Files) -> bytes:
    """Return a digest of a file: of an archive's list of contents, or of all that is in it.

    The list has the name, size and checksum of every entry.
    """
    digest = hashlib.blake2b()
    with open_archive(files) as file:
        if listed := directory_bytes(file):
            digest.update(listed)
            return digest.digest()
        file.seek(0)
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.digest()


def is_aihub(path: Path) -> bool:
    """Return whether a path is a folder, a ZIP archive or JSON, and so no table."""
    if not path.is_file():
        return path.is_dir()
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError:  # reading the table reports it
        return False
    is_json = head.removeprefix(codecs.BOM_UTF8).lstrip()[:1] in (b"[", b"{")
    return is_json or head.startswith(_ZIP_SIGNATURES) or bool(_PART.fullmatch(path.name))


def open_annotations(path: Path, required: Sequence[str]) -> Table | LabelFiles:
    """Open annotations of any kind: a table with the columns `required`, or AI-Hub's label files.

    These may be a JSON file, a ZIP, or a folder with any of the downloads in it. Raise StageError
    if they cannot be used.
    """
    if not is_aihub(path):
        return Table(path, required)
    return label_files(Downloads([path]), path)


def label_files(downloads: Downloads, path: Path) -> LabelFiles:
    """Return the label files that were found in `path`. Raise StageError if there are none."""
    if not downloads.labels:
        found = [": ".join(problem) for problem in downloads.problems[:1]]
        found += [str(downloads.left_out)] if downloads.left_out else []
        raise StageError(
            f"{path} holds no label file of AI-Hub, which is a JSON list of records with filename "
            f"and annot_A; a table is named as a file{''.join(f'; {text}' for text in found)}"
        )
    return LabelFiles(path, downloads.labels)
